"""`on`: whom a job tells of its end, in every way to write it, and every refusal with its path."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.core import form, hook
from styx.core.job import JobState
from styx.core.spec import Ending, Hook
from styx.core.units import Expected
from styx.errors import InvalidSpec

URL = "https://example.org/hook"


def notified(on: object) -> tuple[Hook, ...]:
    return form.check_job({"tasks": [{"command": "x"}], "on": on}).notify


def refused(on: object) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        notified(on)
    return {error.path: error.message for error in caught.value.errors}


def test_every_way_to_write_it() -> None:
    other = URL + "/2"
    assert notified({}) == ()
    assert notified({"failed": URL, "done": None}) == (Hook(Ending.FAILED, URL),)
    assert notified({"succeeded": {"url": URL}}) == (Hook(Ending.SUCCEEDED, URL),)
    assert notified({"done": [URL, {"url": other}, URL]}) == (
        Hook(Ending.DONE, URL),
        Hook(Ending.DONE, other),
    )


def test_a_task_that_stands_alone_has_it_too() -> None:
    alone = form.check_alone({"command": "x", "on": {"cancelled": URL}})
    assert alone.notify == (Hook(Ending.CANCELLED, URL),)
    assert alone.tasks[0].argv == ("x",)
    with pytest.raises(InvalidSpec, match="no such key"):
        form.check_job({"tasks": [{"command": "x", "on": {"done": URL}}]})


@pytest.mark.parametrize(
    ("on", "path", "says"),
    [
        (URL, "on", "an object"),
        ({"lost": URL}, "on.lost", "no such key"),
        ({"failed": "ftp://example.org"}, "on.failed", "https://"),
        ({"failed": 1}, "on.failed", "https://"),
        ({"failed": ""}, "on.failed", "https://"),
        ({"failed": {}}, "on.failed.url", "missing"),
        ({"failed": {"url": URL, "method": "GET"}}, "on.failed.method", "no such key"),
        ({"failed": [URL, "https://"]}, "on.failed[1]", "https://"),
        ({"failed": "https://me:pw@example.org/"}, "on.failed", "without a user"),
        ({"done": [f"{URL}/{n}" for n in range(11)]}, "on", "at most 10"),
    ],
)
def test_refusals(on: object, path: str, says: str) -> None:
    errors = refused(on)
    assert list(errors) == [path]
    assert says in errors[path]
    assert "pw@" not in errors[path]


@pytest.mark.parametrize(
    "url",
    [
        "https://0x7f000001/",
        "https://2130706433/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://1.2.3.4.5/",
        "https://example.org\\@10.0.0.1/",
        "https://exam ple.org/",
        "https://example.org/\n",
        "https://example.org/#part",
        "https://bücher.example/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://example.org:99999/",
        "https://example.org:0/",
        "https:///path",
        "https://-a.example/",
        "https://" + "a" * 254 + "/",
        "https://example.org/" + "a" * 2_048,
    ],
)
def test_what_readers_of_urls_may_take_for_different_things(url: str) -> None:
    with pytest.raises(Expected):
        hook.url(url)


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "HTTPS://Example.org:8443?a=b&c=%20",
        "http://hooks.internal./x",
        "https://[2606:4700::1111]:443/",
        "https://1.1.1.1/",
        "https://a_b.example/~x/(y);z",
    ],
)
def test_what_is_taken(url: str) -> None:
    assert hook.url(url) == url


@given(st.text(max_size=30).map("https://{}".format) | st.text())
def test_whatever_is_taken_has_a_host_and_no_user(text: str) -> None:
    try:
        taken = hook.url(text)
    except Expected:
        return
    parts = urlsplit(taken)
    assert parts.hostname
    assert "@" not in parts.netloc
    assert taken.isascii()
    assert taken.isprintable()


def test_which_ends_concern_whom() -> None:
    concerned = {on: {state for state in JobState if hook.concerns(on, state)} for on in Ending}
    assert concerned == {
        Ending.SUCCEEDED: {JobState.SUCCEEDED},
        Ending.FAILED: {JobState.FAILED, JobState.LOST},
        Ending.CANCELLED: {JobState.CANCELLED},
        Ending.DONE: {*JobState} - {JobState.RUNNING},
    }
