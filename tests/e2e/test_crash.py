"""`kill -9` of each part while work is under way: everything finishes, nothing runs twice, no byte is lost."""

import sys
from collections import Counter
from pathlib import Path

from tests.support.site import Site, until

TALK_LINES = 100_000
TALK = f"""
import time
for number in range({TALK_LINES}):
    print(number)
    if number % 500 == 0:
        time.sleep(0.02)
"""
THROUGH = [b"through %d\n" % number for number in range(6)]


def test_kill_of_the_server(own: Site, tmp_path: Path) -> None:
    """500 tasks running and queued. Each writes its id to a ledger, so a second run would show."""
    own.start()
    own.agent("one")
    own.agent("two")
    ledger = tmp_path / "ledger"
    script = f'echo "$STYX_TASK_ID" >> {ledger}; sleep 0.02; echo "line of $STYX_ARRAY_INDEX"'
    talker = own.submit(command=[sys.executable, "-c", TALK], priority="high")
    job_id, ids = own.job([{"name": "many", "run": script, "array": 500}])
    until(lambda: len(told(ledger)) >= 100, "100 tasks have started")
    own.kill()
    # The agents go on with what they hold.
    own.start()
    job = own.job_finished(job_id, deadline_s=120)
    assert job["counts"] == {"succeeded": 500}
    assert Counter(told(ledger)) == Counter(ids["many"])
    for index, task_id in enumerate(ids["many"]):
        assert own.output(task_id) == f"line of {index}\n".encode()
    # It talked before, during and after the outage.
    assert own.finished(talker)["attempt"] == 1
    assert own.output(talker) == "".join(f"{n}\n" for n in range(TALK_LINES)).encode()


def test_an_accepted_task_survives_the_server(own: Site) -> None:
    own.start()
    task_id = own.submit(run="echo still here")
    own.kill()
    own.start()
    own.agent("late")
    assert own.finished(task_id)["status"] == "succeeded"
    assert own.output(task_id) == b"still here\n"


def test_kill_of_the_agents_link(own: Site, tmp_path: Path) -> None:
    own.start()
    agent = own.agent("one", cpus=8)
    ids = gated(own, tmp_path)
    agent.kill_link()
    (tmp_path / "gate-0").touch()  # ends while nobody is there to tell
    until(lambda: told(tmp_path / "ended") == ["0"], "the first has ended")
    agent.restart()
    open_gates(tmp_path)
    ended = [own.finished(task_id) for task_id in ids]
    assert [task["exit_code"] for task in ended] == [0, 1, 2, 3, 4, 5]
    assert [own.output(task_id) for task_id in ids] == THROUGH
    assert Counter(told(tmp_path / "ledger")) == Counter(ids)


def test_kill_of_the_agents_supervisor(own: Site, tmp_path: Path) -> None:
    """The tasks go on to their end. Only their parent could learn how it was: so they are tried again."""
    own.start()
    agent = own.agent("one", cpus=8)
    ids = gated(own, tmp_path)
    agent.kill_supervisor()
    open_gates(tmp_path)
    ended = [own.finished(task_id) for task_id in ids]
    assert [task["exit_code"] for task in ended] == [0, 1, 2, 3, 4, 5]
    for task in ended:
        first, second = sorted(task["attempts"], key=lambda attempt: attempt["n"])
        assert (first["status"], first["reason"]) == ("failed", "exit_status_lost")
        assert second["exit_code"] == task["exit_code"]
    assert Counter(told(tmp_path / "ended")) == Counter(list("012345") * 2)


def test_kill_of_both_halves_repeats_nothing_that_must_not_be(own: Site, tmp_path: Path) -> None:
    own.start()
    agent = own.agent("one", cpus=8)
    ids = gated(own, tmp_path, delivery="at_most_once")
    agent.kill_link()
    agent.kill_supervisor()
    agent.restart()
    until(lambda: own.agent_status("one") == "ready", "the agent is back")
    assert {own.status(task_id) for task_id in ids} == {"running"}
    open_gates(tmp_path)
    ended = [own.finished(task_id) for task_id in ids]
    assert {(task["status"], task["reason"]) for task in ended} == {("lost", "exit_status_lost")}
    assert [own.output(task_id) for task_id in ids] == THROUGH
    assert sorted(told(tmp_path / "ended")) == list("012345")
    assert Counter(told(tmp_path / "ledger")) == Counter(ids)


def gated(site: Site, tmp_path: Path, **spec: str) -> list[str]:
    """Six running tasks; number n waits for its gate, writes a line, and exits with n."""
    script = (
        f'echo "$STYX_TASK_ID" >> {tmp_path}/ledger\n'
        f"until [ -e {tmp_path}/gate-$STYX_ARRAY_INDEX ]; do sleep 0.02; done\n"
        "echo through $STYX_ARRAY_INDEX\n"
        f"echo $STYX_ARRAY_INDEX >> {tmp_path}/ended\n"
        "exit $STYX_ARRAY_INDEX\n"
    )
    _, ids = site.job([{"name": "gated", "run": script, "array": 6} | spec])
    until(lambda: len(told(tmp_path / "ledger")) == 6, "all six run")
    return list(ids["gated"])


def open_gates(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"gate-{number}").touch()


def told(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []
