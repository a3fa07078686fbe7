"""T-7: an agent in a network namespace of its own, and a cable that is pulled: bytes vanish without a word."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from typing import Any, Final

from tests.chaos import rig
from tests.chaos.report import Report
from tests.chaos.rig import Agent, Rig
from tests.support.site import until

LOST_AFTER_S: Final = 30
SHORT_S: Final = 20.0
ADOPTED_S: Final = 20.0
OLD_GONE_S: Final = 95.0
LONG_S: Final = 180.0
HERE: Final = "10.213.7.1"
THERE: Final = "10.213.7.2"
SETTINGS: Final = f"""
[server]
behind_tls_proxy = true
allowed_hosts = ["{HERE}"]
[scheduler]
suspect_after_s = 8
lost_after_s = {LOST_AFTER_S}
retry_base_s = 0.2
"""
SLEEPER: Final = 'echo "$STYX_ATTEMPT_KEY" >>"$LEDGER"; exec sleep 100000'


class Namespace:
    """One end of a cable is here, the other in the namespace."""

    def __init__(self) -> None:
        self.name = f"styx-{os.getpid()}"
        self._cable = f"sx{os.getpid()}"

    def make(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "up0", "netns", self.name)
        _ip("addr", "add", f"{HERE}/24", "dev", self._cable)
        _ip("link", "set", self._cable, "up")
        _ip("-n", self.name, "addr", "add", f"{THERE}/24", "dev", "up0")
        _ip("-n", self.name, "link", "set", "up0", "up")
        _ip("-n", self.name, "link", "set", "lo", "up")

    def cut(self) -> None:
        _ip("link", "set", self._cable, "down")

    def heal(self) -> None:
        _ip("link", "set", self._cable, "up")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._cable], check=False, capture_output=True)


def possible() -> str:
    """Why it cannot be done here; "" if it can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need root and iproute2"
    if subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode:
        return "network namespaces are forbidden here"
    return ""


def run(*, seed: int, tasks: int) -> Report:
    """A cut that heals before `lost_after`, then one that does not."""
    if why := possible():
        sys.stdout.write(f"partition: skipped, {why}\n")
        sys.exit(0)
    space = Namespace()
    try:
        space.make()
        with rig.running("partition", seed, SETTINGS) as site:
            return _scenarios(site, space, seed, tasks)
    finally:
        space.remove()


def _scenarios(site: Rig, space: Namespace, seed: int, tasks: int) -> Report:
    report = Report("partition", seed, site.directory)
    site.server_host = HERE
    site.start(1)
    far = Agent(site, "far", "--cpus", "100")
    far.within = ("ip", "netns", "exec", space.name)
    site.agents.append(far)
    far.start()
    until(lambda: site.ready_agents() == 1, "the far agent is ready")
    job_id = _sleepers(site, tasks)
    space.cut()
    time.sleep(SHORT_S)
    space.heal()
    adopted_s = _measure(lambda: site.ready_agents() == 1)
    report.figure("tasks on the far agent", tasks)
    report.limit(f"adopted after a cut of {SHORT_S:g} s", adopted_s, ADOPTED_S)
    report.promise("restarted by the short cut", [k for k in _keys(site) if not k.endswith(".1.0")])

    site.join(1, "--cpus", "100")
    space.cut()
    until(lambda: len(_keys(site)) == 2 * tasks, "all run elsewhere", deadline_s=LONG_S)
    space.heal()
    gone_s = _measure(lambda: not [key for key, _ in site.task_processes() if key.endswith(".1.0")])
    report.limit("old processes gone after a cut beyond lost_after", gone_s, OLD_GONE_S)
    time.sleep(5.0)  # for a second retry that must not be
    expected = Counter({1: tasks, 2: tasks})
    tries = Counter(int(key.split(".")[1]) for key in _keys(site))
    wrong = [] if tries == expected else [f"attempts by number: {dict(tries)}"]
    report.promise("other than one retry", wrong + _not_running(site, job_id))
    return report


def _measure(condition: Any) -> float:
    began = time.monotonic()
    until(condition, "healed", deadline_s=LONG_S)
    return time.monotonic() - began


def _sleepers(site: Rig, tasks: int) -> str:
    env = {"LEDGER": str(site.directory / "ledger")}
    resources = {"cpus": 0.1}
    task = {"run": SLEEPER, "env": env, "array": tasks, "resources": resources, "grace": 1}
    with site.client() as client:
        answer = client.settle("POST", "/api/v1/jobs", {"tasks": {"sleeper": task}})
        assert answer.status == 201, answer.body
    until(lambda: len(_keys(site)) == tasks, "all run", deadline_s=LONG_S)
    return str(answer.json()["job_id"])


def _keys(site: Rig) -> list[str]:
    ledger = site.directory / "ledger"
    return ledger.read_text().split() if ledger.exists() else []


def _not_running(site: Rig, job_id: str) -> list[str]:
    with site.client() as client:
        listed = client.pages(f"/api/v1/tasks?job={job_id}&limit=1000")
    return [f"{task['id']}: {task['status']}" for task in listed if task["status"] != "running"]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
