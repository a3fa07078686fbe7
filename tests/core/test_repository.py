"""What names a git repository, and what could be an option of git, or another way to fetch."""

import pytest

from styx.core import repository
from styx.core.repository import Repository
from styx.core.units import Expected


@pytest.mark.parametrize(
    ("url", "ref"),
    [
        ("https://github.com/team/tool.git", "main"),
        ("https://me@host:8443/tool", "feature/x-1"),
        ("ssh://git@host:22/team/tool", "v1.2"),
        ("git@github.com:team/tool.git", "0" * 40),
        ("file:///srv/tool.git", ""),
    ],
)
def test_addresses(url: str, ref: str) -> None:
    assert repository.read({"git": url, "ref": ref or None}) == Repository(url, ref)


@pytest.mark.parametrize(
    "url",
    [
        *("--upload-pack=/bin/sh", "-oProxyCommand=x", "ssh://-oProxyCommand=x/y", "git@-x:y"),
        *("git@host:-x", "ext::sh -c x", "http://host/x", "file://host/x", "/srv/tool", "https://"),
        *("https://me:word@host/x", "https://host/a b", "https://host/a\n", 7, None),
    ],
)
def test_addresses_that_are_none(url: object) -> None:
    with pytest.raises(Expected):
        repository.read({"git": url})


@pytest.mark.parametrize(
    "ref", ["-x", "--all", "+main", "a:b", "a..b", "a b", "a\nb", "HEAD^", "x@{1}"]
)
def test_refs_that_are_none(ref: str) -> None:
    with pytest.raises(Expected):
        repository.read({"git": "https://host/x", "ref": ref})


def test_nothing_else_is_said() -> None:
    with pytest.raises(Expected, match="without 'branch'"):
        repository.read({"git": "https://host/x", "branch": "main"})
