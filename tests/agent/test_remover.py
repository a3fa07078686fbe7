"""What an engine may still have of an attempt, by a stand-in for its `rm`: when it is asked, and waited for."""

from pathlib import Path

import pytest

from styx.agent import home
from tests.support.supervised import Supervised, until


def removal(script: str) -> list[str]:
    return ["sh", "-c", script]


def tries(sup: Supervised) -> int:
    made: Path = sup.directory / "tries"
    return len(made.read_bytes()) if made.exists() else 0


def test_an_attempt_is_not_over_before_its_container_is_gone(sup: Supervised) -> None:
    sup.sh("k", "exec sleep 1000", remove=removal("printf x >> tries; test -e go"))
    sup.wait("k", "pid")
    sup.stop("k", grace=0)
    until(lambda: tries(sup) >= 2)
    assert b'"exit"' not in (sup.directory / home.JOURNAL).read_bytes()
    (sup.directory / "go").touch()
    assert sup.end("k")["signal"] == 9


@pytest.mark.parametrize(("code", "asked"), [(0, 0), (3, 0), (125, 1)])
def test_only_an_end_that_the_client_saw_needs_no_removal(
    sup: Supervised, code: int, asked: int
) -> None:
    assert (
        sup.run("k", *removal(f"exit {code}"), remove=removal("printf x >> tries"))["code"] == code
    )
    assert tries(sup) == asked


def test_the_next_supervisor_removes_what_the_one_before_had_started(sup: Supervised) -> None:
    sup.sh("k", "while [ ! -e go ]; do sleep 0.02; done", remove=removal("printf x >> tries"))
    sup.wait("k", "pid")
    sup.kill()
    sup.revive()
    assert tries(sup) == 0, "it lives, and is watched"
    (sup.directory / "work" / "go").touch()
    assert sup.end("k")["reason"] == "exit_status_lost"
    assert tries(sup) == 1
