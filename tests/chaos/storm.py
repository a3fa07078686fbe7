"""T-8 and T-9: thousands of running tasks while leaders, links and supervisors are killed again and again."""

import random
import time
from collections import Counter
from typing import Any, Final

from tests.chaos import rig
from tests.chaos.report import Report
from tests.chaos.rig import Rig
from tests.support.site import until

BACK_ALONE_S: Final = 5.0
BACK_WITH_STANDBY_S: Final = 12.0
ADOPTED_S: Final = 20.0  # after the API is back
SLEEPER: Final = 'echo "$STYX_ATTEMPT_KEY" >>"$LEDGER"; exec sleep 100000'
POLL_S: Final = 0.05
LONG_S: Final = 600.0  # only a hang takes so long


def run(
    *, seed: int, tasks: int, agents: int, rounds: int, servers: int, agent_kills: int
) -> Report:
    """`rounds` kills of the leader, then `agent_kills` of links and supervisors."""
    dice = random.Random(seed)
    with rig.running("storm", seed, "") as site:
        site.start(servers)
        site.join(agents, "--cpus", str(tasks), timeout_s=LONG_S)
        job_id = _sleepers(site, tasks)
        back_s: list[float] = []
        adopted_s: list[float] = []
        for _ in range(rounds):
            back, adopted = _kill_leader(site, agents, job_id, tasks)
            back_s.append(back)
            adopted_s.append(adopted)
        report = Report("storm", seed, site.directory)
        report.figure("running tasks / agents / servers", f"{tasks} / {agents} / {servers}")
        report.figure("leaders killed", rounds)
        allowed_s = BACK_ALONE_S if servers == 1 else BACK_WITH_STANDBY_S
        if rounds:
            report.limit("API back, the slowest", max(back_s), allowed_s)
            report.limit("all adopted after that, the slowest", max(adopted_s), ADOPTED_S)
        report.promise("restarted by a leader's death", _restarted(site, job_id, tasks))
        _kill_agents(site, dice, agent_kills, agents)
        report.figure("links and supervisors killed", agent_kills)
        report.promise("restarted by an agent's death", _restarted(site, job_id, tasks))
        with site.client() as client:
            client.settle("POST", f"/api/v1/jobs/{job_id}/cancel?force=true")
        until(lambda: not list(site.task_processes()), "all gone", deadline_s=LONG_S)
        return report


def _sleepers(site: Rig, tasks: int) -> str:
    ledger = site.directory / "ledger"
    sleeper = {
        "run": SLEEPER,
        "env": {"LEDGER": str(ledger)},
        "array": tasks,
        "resources": {"cpus": 0.1},
    }
    with site.client() as client:
        answer = client.settle("POST", "/api/v1/jobs", {"tasks": {"sleeper": sleeper}})
        assert answer.status == 201, answer.body
    job_id = str(answer.json()["job_id"])
    until(lambda: _running(site, job_id) == tasks, "all run", deadline_s=LONG_S)
    return job_id


def _kill_leader(site: Rig, agents: int, job_id: str, tasks: int) -> tuple[float, float]:
    """How long the API was away, and how long after that every task was adopted."""
    leader = until(site.leader, "a leader")
    leader.kill(reap=len(site.servers) == 1)
    killed = time.monotonic()
    if len(site.servers) == 1:
        leader.start()
    until(site.leader, "a server is ready", deadline_s=LONG_S)
    back = time.monotonic()
    until(lambda: site.ready_agents() == agents, "agents are back", deadline_s=LONG_S)
    until(lambda: _running(site, job_id) == tasks, "all adopted", deadline_s=LONG_S)
    adopted = time.monotonic()
    if len(site.servers) > 1:
        leader.start()
        until(leader.alive, "the standby is back", deadline_s=LONG_S)
    return back - killed, adopted - back


def _kill_agents(site: Rig, dice: random.Random, kills: int, agents: int) -> None:
    for _ in range(kills):
        agent = dice.choice(site.agents)
        part = dice.choice(["link", "supervisor", "both"])
        if part != "link":
            agent.kill_supervisor()
        if part != "supervisor":
            agent.kill_link()
            agent.start()
        time.sleep(POLL_S)
    until(lambda: site.ready_agents() == agents, "agents are back", deadline_s=LONG_S)


def _running(site: Rig, job_id: str) -> int:
    with site.client() as client:
        counts: dict[str, Any] = client.get(f"/api/v1/jobs/{job_id}")["counts"]
    return int(counts.get("running", 0))


def _restarted(site: Rig, job_id: str, tasks: int) -> list[str]:
    """Tasks that the ledger or the API saw start again, or that no longer run."""
    starts = Counter((site.directory / "ledger").read_text().split())
    found = [f"{key} started {count} times" for key, count in starts.items() if count > 1]
    if len(starts) != tasks:
        found.append(f"{len(starts)} attempts were started for {tasks} tasks")
    with site.client() as client:
        listed = client.pages(f"/api/v1/tasks?job={job_id}&limit=1000")
    found += [
        f"{task['id']}: {task['status']} in attempt {task['attempt']}"
        for task in listed
        if task["attempt"] != 1 or task["status"] != "running"
    ]
    alive = {key for key, _ in site.task_processes()}
    found += [f"{key} has no process" for key in starts.keys() - alive]
    return found
