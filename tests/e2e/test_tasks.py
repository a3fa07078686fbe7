"""Real servers, real agents, real commands: what a user submits is what runs."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.site import ROOT, Site, until


def test_run_prints_the_output_and_nothing_else(site: Site) -> None:
    done = site.cli("run", "--name", "hello", "echo", "Hello Styx!")
    assert (done.stdout, done.returncode) == (b"Hello Styx!\n", 0)


@pytest.mark.parametrize(
    "curl",
    [
        pytest.param(
            "curl -sS --fail-with-body",
            marks=pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here"),
        ),
        f"'{sys.executable}' '{ROOT}/tests/docs/curl.py'",
    ],
    ids=["curl", "as curl"],
)
def test_the_four_curl_calls_of_the_readme(site: Site, curl: str) -> None:
    """Word for word, but for the port; without a token, as the server's own user."""
    calls = re.findall(r"^curl .*", (ROOT / "README.md").read_text(), re.MULTILINE)[:4]
    assert len(calls) == 4

    def run(call: str):
        command = call.replace("curl", curl, 1).replace(":8080", f":{site.port}")
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
        return json.loads(done.stdout)

    assert set(run(calls[0])) == {"status", "version", "service"}
    accepted = run(calls[1])
    assert accepted["status"] == "submitted"
    assert set(accepted) == {"task_id", "status"}
    task_id = accepted["task_id"]
    assert task_id in [task["id"] for task in run(calls[2])]
    site.finished(task_id)
    task = run(calls[3].replace("TASK_ID", task_id))
    assert (task["name"], task["status"], task["exit_code"]) == ("test", "succeeded", 0)
    assert site.output(task_id) == b"Hello\n"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 37", 37), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_the_exit_code_is_the_tasks_own(site: Site, script: str, code: int) -> None:
    assert site.cli("run", "sh", "-c", script).returncode == code


def test_a_killed_task_says_its_signal(site: Site) -> None:
    task = site.finished(site.submit(run="kill -9 $$"))
    assert (task["status"], task["exit_code"], task["signal"]) == ("failed", None, 9)
    assert task["reason"] == "signal"


def test_a_command_that_does_not_exist_says_so(site: Site) -> None:
    task = site.finished(site.submit(command="no-such-program"))
    assert (task["status"], task["reason"]) == ("failed", "spawn_error")
    assert "no-such-program" in task["detail"]


def test_50_mb_of_binary_output_arrive_byte_for_byte(site: Site) -> None:
    program = (
        "import random, sys\n"
        "noise = random.Random(7)\n"
        "for _ in range(50):\n"
        "    sys.stdout.buffer.write(noise.randbytes(1_000_000))\n"
        "sys.stderr.write('beside\\n')\n"
    )
    expected = hashlib.sha256(
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    )
    done = site.cli("run", "--name", "noise", sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 50_000_000
    assert hashlib.sha256(done.stdout).digest() == expected.digest()
    assert b"beside\n" in done.stderr
    task_id = site.get("/api/v1/tasks?name=noise&limit=1")[0]["id"]
    assert site.output(task_id, "err") == b"beside\n"


def test_environment_of_a_task(site: Site) -> None:
    task_id = site.submit(
        name="env", run='echo "$STYX_TASK_ID $STYX_ATTEMPT $STYX_TASK_NAME $X"', env={"X": "y"}
    )
    assert site.output(task_id).decode().split() == [task_id, "1", "env", "y"]


def test_diamond(site: Site, tmp_path: Path) -> None:
    """Each vertex writes its name, and so the file is one of the two right orders."""
    say = f"echo $STYX_TASK_NAME >> {tmp_path}/order"
    job_id, _ = site.job(
        {
            "d": {"run": say, "needs": ["b", "c"]},
            "b": {"run": say, "needs": ["a"]},
            "c": {"run": say, "needs": ["a"]},
            "a": {"run": say},
        }
    )
    assert site.job_finished(job_id)["status"] == "succeeded"
    order = (tmp_path / "order").read_text().split()
    assert (order[0], set(order[1:3]), order[3:]) == ("a", {"b", "c"}, ["d"])


def test_array_of_1000_over_3_agents(site: Site, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    job_id, ids = site.job(
        [{"name": "many", "run": f"echo $STYX_ARRAY_INDEX >> {ledger}", "array": 1000}]
    )
    job = site.job_finished(job_id)
    assert job["counts"] == {"succeeded": 1000}
    assert Counter(ledger.read_text().split()) == Counter(map(str, range(1000)))
    assert len(ids["many"]) == 1000
    tasks = site.get(f"/api/v1/tasks?job={job_id}&limit=1000")
    assert {task["agent"] for task in tasks} == {"alpha", "beta", "gamma"}


def test_chain_of_200(site: Site, tmp_path: Path) -> None:
    """Each link sees what the one before it wrote."""
    count = f"n=$(cat {tmp_path}/n); echo $((n + 1)) > {tmp_path}/n"
    (tmp_path / "n").write_text("0\n")
    links = [
        {"name": f"t{n}", "run": count, "needs": [f"t{n - 1}"] if n else []} for n in range(200)
    ]
    job_id, _ = site.job(links)
    assert site.job_finished(job_id)["status"] == "succeeded"
    assert (tmp_path / "n").read_text() == "200\n"


def test_gang_of_two_meets(site: Site, tmp_path: Path) -> None:
    """Each member waits for the other's file: only members that run at once can end."""
    meet = (
        f'echo "$STYX_NODE_IPS" > {tmp_path}/rank-$STYX_NODE_RANK\n'
        f"other=$((1 - STYX_NODE_RANK))\n"
        f"until [ -e {tmp_path}/rank-$other ]; do sleep 0.02; done\n"
        "echo $STYX_NODE_RANK of $STYX_NUM_NODES\n"
    )
    task = site.finished(site.submit(run=meet, num_nodes=2, resources={"cpus": 2}, timeout=60))
    assert task["status"] == "succeeded"
    assert sorted(member["rank"] for member in task["attempts"]) == [0, 1]
    assert len({member["agent"] for member in task["attempts"]}) == 2
    assert (tmp_path / "rank-0").read_text() == (tmp_path / "rank-1").read_text()


def test_a_gang_member_that_fails_ends_the_others(site: Site) -> None:
    script = "[ $STYX_NODE_RANK = 0 ] && exit 5; sleep 1000"
    task = site.finished(site.submit(run=script, num_nodes=2, grace=1))
    assert (task["status"], task["exit_code"]) == ("failed", 5)
    assert site.strays(task["id"]) == []


def test_descendants_of_a_failure_are_skipped(site: Site) -> None:
    job_id, ids = site.job(
        {
            "bad": {"run": "exit 3"},
            "child": {"run": "true", "needs": ["bad"]},
            "grandchild": {"run": "true", "needs": ["child"]},
            "cleaner": {"run": "true", "needs": [{"task": "bad", "on": "done"}]},
            "alarm": {"run": "true", "needs": [{"task": "bad", "on": "failure"}]},
            "other": {"run": "true"},
        }
    )
    assert site.job_finished(job_id)["status"] == "failed"
    statuses = {name: site.status(task_id) for name, task_id in ids.items()}
    assert statuses == {
        "bad": "failed",
        "child": "skipped",
        "grandchild": "skipped",
        "cleaner": "succeeded",
        "alarm": "succeeded",
        "other": "succeeded",
    }
    assert site.task(ids["grandchild"])["reason"] == "need_unmet"


def test_cancel_leaves_nothing_of_a_tree_that_ignores_the_polite_signal(
    site: Site, tmp_path: Path
) -> None:
    """Daemons of two generations, a session of their own, every signal ignored that can be."""
    tree = (
        "trap '' TERM INT HUP\n"
        f"setsid sh -c \"trap '' TERM INT HUP; (sleep 1000 & echo ready > {tmp_path}/ready; sleep 1000) & sleep 1000\" &\n"
        "sleep 1000 & wait\nsleep 1000\n"
    )
    task_id = site.submit(run=tree, grace=0.5)
    until((tmp_path / "ready").exists, "the tree stands")
    assert len(site.strays(task_id)) >= 4
    assert site.call("POST", f"/api/v1/tasks/{task_id}/cancel").status == 202
    assert site.finished(task_id)["status"] == "cancelled"
    assert site.strays(task_id) == []


def test_cancel_of_what_waits_is_immediate(site: Site) -> None:
    task_id = site.submit(command="true", resources={"cpus": 4000})
    site.post(f"/api/v1/tasks/{task_id}/cancel")
    assert site.status(task_id) == "cancelled"


def test_timeout(site: Site) -> None:
    task = site.finished(site.submit(run="sleep 1000", timeout=0.5, grace=1))
    assert (task["status"], task["reason"]) == ("failed", "timeout")
    assert site.strays(task["id"]) == []


def test_retries_with_backoff(site: Site, tmp_path: Path) -> None:
    """The third try is the first to find two marks."""
    script = f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) = 3 ] || exit 9"
    task = site.finished(site.submit(run=script, retries=2))
    assert (task["status"], task["attempt"], task["exit_code"]) == ("succeeded", 3, 0)
    tries = sorted(task["attempts"], key=lambda attempt: attempt["n"])
    assert [attempt["exit_code"] for attempt in tries] == [9, 9, 0]
    ends = [datetime.fromisoformat(attempt["ended_at"]) for attempt in tries]
    starts = [datetime.fromisoformat(attempt["assigned_at"]) for attempt in tries]
    assert all(start >= end for end, start in zip(ends, starts[1:], strict=False))


def test_retries_are_for_the_named_exit_codes(site: Site) -> None:
    task = site.finished(site.submit(run="exit 4", retries=5, retry_on=[5]))
    assert (task["status"], task["attempt"]) == ("failed", 1)


def test_a_retry_by_hand_is_a_new_task(site: Site) -> None:
    first = site.finished(site.submit(name="again", run="exit 2"))
    answer = site.post(f"/api/v1/tasks/{first['id']}/retry")
    second = site.finished(answer["task_id"])
    assert second["id"] != first["id"]
    assert (second["name"], second["exit_code"]) == ("again", 2)
    assert site.task(first["id"])["status"] == "failed"
