"""Cuts of every kind between an agent, the servers and the database: bytes vanish, and nobody is told."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from tests.chaos.heart import Heart
from tests.chaos.network import HERE, Machine, Network
from tests.chaos.postgres import Postgres
from tests.chaos.report import Report
from tests.chaos.rig import Agent, Rig, Server
from tests.support.site import free_port, until

LOST_AFTER_S: Final = 30
EXCLUSIVE_LOST_AFTER_S: Final = 95  # not shorter: its margin, its grace and a minute are below that
SHORT_S: Final = 20.0
ADOPTED_S: Final = 20.0
OLD_GONE_S: Final = 95.0
LAST_ACK_S: Final = 8.0  # a lease may be trusted for so long
TAKEN_OVER_S: Final = 12.0
LONG_S: Final = 240.0
SECOND_TRY_S: Final = 5.0  # for one that must not be
FLAPS: Final = ((1.0, 5.0), (5.0, 1.0))  # seconds without and with a line
SETTINGS: Final = f"""
[server]
behind_tls_proxy = true
allowed_hosts = ["{HERE}", "10.213.7.10", "10.213.7.11", "10.213.7.12"]
[scheduler]
suspect_after_s = 8
lost_after_s = {LOST_AFTER_S}
retry_base_s = 0.2
"""
SLEEPER: Final = 'echo "$STYX_ATTEMPT_KEY" >>"$LEDGER"; exec sleep 100000'
BEATER: Final = 'while :; do echo "$STYX_ATTEMPT_KEY" >>"$LEDGER"; sleep 0.2; done'
Act = Callable[[], None]


def short(site: Rig, net: Network, report: Report, tasks: int, how: str) -> None:
    """A cut that heals before `lost_after`: nothing is restarted."""
    far = _far(site, net)
    _submit(site, tasks, SLEEPER)
    cut, heal = _line(net, far, how)
    cut()
    time.sleep(SHORT_S)
    heal()
    _adopted(site, report, f"{how}: for {SHORT_S:g} s, adopted after", 1)
    report.promise(f"{how}: restarted", _restarted(site, tasks))


def flapping(site: Rig, net: Network, report: Report, tasks: int) -> None:
    """A line that comes and goes, for longer than `lost_after` in sum."""
    far = _far(site, net)
    _submit(site, tasks, SLEEPER)
    cut, heal = _line(net, far, "cut")
    for off_s, on_s in FLAPS:
        for _ in range(6):
            cut()
            time.sleep(off_s)
            heal()
            time.sleep(on_s)
        what = f"flapping: {off_s:g} s off and {on_s:g} s on, six times, adopted after"
        _adopted(site, report, what, 1)
        report.promise(f"flapping: restarted by {off_s:g} s off", _restarted(site, tasks))


def long(site: Rig, net: Network, report: Report, tasks: int, how: str) -> None:
    """A cut beyond `lost_after`: each task is run elsewhere once, and its old process is ended."""
    what = f"long {how}"
    far = _far(site, net)
    job_id = _submit(site, tasks, SLEEPER)
    site.join(1, "--cpus", "100")
    cut, heal = _line(net, far, how)
    cut()
    until(lambda: len(_keys(site)) == 2 * tasks, "all run elsewhere", deadline_s=LONG_S)
    heal()
    gone_s = _measure(lambda: not [key for key, _ in site.task_processes() if key.endswith(".1.0")])
    report.limit(f"{what}: old processes gone after", gone_s, OLD_GONE_S)
    time.sleep(SECOND_TRY_S)
    tries = Counter(key.split(".")[1] for key in _keys(site))
    wrong = [] if tries == {"1": tasks, "2": tasks} else [f"starts by number: {dict(tries)}"]
    report.promise(f"{what}: other than one retry", wrong + _not_running(site, job_id))


def exclusive(site: Rig, net: Network, report: Report, tasks: int) -> None:
    """Cut from everybody, the old process of an exclusive task is gone before the new one begins (I-8)."""
    settings = SETTINGS.replace(f"= {LOST_AFTER_S}\n", f"= {EXCLUSIVE_LOST_AFTER_S}\n")
    site.configure(settings)
    far = _far(site, net)
    _submit(site, tasks, BEATER, exclusive=True)
    site.join(1, "--cpus", "100")
    cut, heal = _line(net, far, "cut")
    cut()
    second = lambda: {key for key in _keys(site) if key.endswith(".2.0")}  # noqa: E731
    until(lambda: len(second()) == tasks, "all run elsewhere", deadline_s=LONG_S)
    heal()
    _adopted(site, report, "exclusive: adopted after", 2)
    last: dict[str, int] = {}
    first: dict[str, int] = {}
    for position, key in enumerate(_keys(site)):
        first.setdefault(key, position)
        last[key] = position
    overlaps = [key for key in second() if last[key.replace(".2.0", ".1.0")] > first[key]]
    report.promise("exclusive: overlapping", overlaps)


def database(site: Rig, net: Network, report: Report, tasks: int) -> None:
    """The only server is cut from its database, not from its agents."""
    far = _database_apart(site, net)
    site.start(1)
    site.join(2, "--cpus", "100")
    _submit(site, tasks, SLEEPER)
    net.deafen(far)
    far.drop(HERE)
    until(lambda: _refused(site.servers[0]), "it knows")
    time.sleep(SHORT_S)
    net.undeafen(far)
    far.pass_on(HERE)
    report.limit("database: leads again after", _measure(site.leader), ADOPTED_S)
    _adopted(site, report, "database: adopted after that", 2)
    report.promise("database: restarted", _restarted(site, tasks))


def leader(site: Rig, net: Network, report: Report, tasks: int) -> None:
    """The leader is cut from the database only: it stops to act as one before another one begins."""
    far = _database_apart(site, net)
    machine = net.machine()
    site.postgres.start()
    first, second = Server(site, 1), Server(site, 2)
    first.host, first.within = machine.address, machine.within
    site.servers = [first, second]
    for server in site.servers:
        server.start()
        until(server.alive, f"{server.name} answers")
        until(site.leader, "a server leads")
    assert first.leads(), "the first to come leads"
    site.join(2, "--cpus", "100")
    _submit(site, tasks, SLEEPER)
    heart = Heart(first.url, site.token)
    until(lambda: heart.answered_s, "the leader acknowledges")
    cut = time.monotonic()
    machine.drop(far.address)
    far.drop(machine.address)
    until(second.leads, "the other takes over", deadline_s=LONG_S)
    report.limit("leader: taken over after", time.monotonic() - cut, TAKEN_OVER_S)
    _adopted(site, report, "leader: adopted by the other after that", 2)
    report.limit(
        "leader: the last heartbeat acknowledged after", heart.answered_s - cut, LAST_ACK_S
    )
    heart.stop()
    report.promise("leader: heart", [heart.failed] if heart.failed else [])
    report.promise("leader: still says that it leads", ["yes"] if first.leads() else [])
    machine.pass_on(far.address)
    far.pass_on(machine.address)
    until(first.alive, "it is there again")
    time.sleep(SECOND_TRY_S)
    _adopted(site, report, "leader: with the second, after the first is back", 2)
    report.promise("leader: restarted", _restarted(site, tasks))
    changed = [] if second.leads() and not first.leads() else ["the lead has moved"]
    report.promise("leader: the one that comes back stands by", changed)


# --- places -----------------------------------------------------------------------------------


def _far(site: Rig, net: Network) -> Machine:
    """A server here, and one agent on a machine of its own."""
    site.server_host = HERE
    site.start(1)
    machine = net.machine()
    agent = Agent(site, "far", "--cpus", "100")
    agent.within = machine.within
    site.agents.append(agent)
    agent.start()
    until(lambda: site.ready_agents() == 1, "the far agent is ready")
    return machine


def _database_apart(site: Rig, net: Network) -> Machine:
    machine = net.machine()
    site.server_host = HERE
    site.postgres = Postgres(
        site.directory, free_port(), listen=machine.address, within=machine.within
    )
    site.database_url = site.postgres.url(machine.address)
    return machine


def _line(net: Network, far: Machine, how: str) -> tuple[Act, Act]:
    """How to cut the line to that machine, and how to heal it."""
    match how:
        case "unheard":  # what it says is lost
            return lambda: far.drop(HERE), lambda: far.pass_on(HERE)
        case "unanswered":  # what it is told is lost
            return lambda: net.deafen(far), lambda: net.undeafen(far)
        case _:
            return far.unplug, far.plug


# --- work -------------------------------------------------------------------------------------


def _submit(site: Rig, tasks: int, script: str, **fields: Any) -> str:
    env = {"LEDGER": str(site.directory / "ledger")}
    resources = {"cpus": 0.1}
    task = {"run": script, "env": env, "array": tasks, "resources": resources, "grace": 1}
    with site.client() as client:
        answer = client.settle("POST", "/api/v1/jobs", {"tasks": {"sleeper": task | fields}})
        assert answer.status == 201, answer.body
    until(lambda: len(set(_keys(site))) == tasks, "all run", deadline_s=LONG_S)
    return str(answer.json()["job_id"])


def _adopted(site: Rig, report: Report, what: str, agents: int) -> None:
    """Every agent is known to be there, and a task comes to its end on one."""
    began = time.monotonic()
    until(lambda: site.ready_agents() == agents, "the agents are back", deadline_s=LONG_S)
    with site.client(20.0) as client:
        task = {"name": "small", "run": "true", "resources": {"cpus": 0.1}}
        task_id = client.settle("POST", "/api/v1/tasks", task).json()["task_id"]
        path = f"/api/v1/tasks/{task_id}?wait=5"
        until(lambda: client.get(path)["status"] == "succeeded", "it works", deadline_s=LONG_S)
    report.limit(what, time.monotonic() - began, ADOPTED_S)


def _refused(server: Server) -> bool:
    with server.client() as client, suppress(OSError):
        task = {"name": "small", "run": "true", "resources": {"cpus": 0.1}}
        return client.ask("POST", "/api/v1/tasks", task).status == 503
    return False


def _measure(condition: Any) -> float:
    began = time.monotonic()
    until(condition, "healed", deadline_s=LONG_S)
    return time.monotonic() - began


def _keys(site: Rig) -> list[str]:
    ledger = site.directory / "ledger"
    return ledger.read_text().split() if ledger.exists() else []


def _restarted(site: Rig, tasks: int) -> list[str]:
    keys = _keys(site)
    found = [key for key in keys if not key.endswith(".1.0")]
    found += [f"{len(keys)} starts of {tasks}"] if len(keys) != tasks else []
    gone = set(keys) - {key for key, _ in site.task_processes()}
    return found + [f"{key} has no process" for key in gone]


def _not_running(site: Rig, job_id: str) -> list[str]:
    with site.client() as client:
        listed = client.pages(f"/api/v1/tasks?job={job_id}&limit=1000")
    return [f"{task['id']}: {task['status']}" for task in listed if task["status"] != "running"]
