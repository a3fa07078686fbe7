"""Bad lines between agents and their server: each reaches it only through a proxy of the harness."""

import random
import threading
from typing import Final

from tests.chaos import campaign, workload
from tests.chaos.proxy import Proxy
from tests.chaos.report import Report
from tests.chaos.rig import Agent, Rig
from tests.chaos.submitter import Submitters
from tests.support.site import until

SETTINGS: Final = """
[scheduler]
suspect_after_s = 8
retry_base_s = 0.2
retry_cap_s = 0.5
"""
AGENTS: Final = 2
SECONDS: Final = 25.0  # the line is bad for so long
HALF_OPEN_EVERY_S: Final = 6.0
LONGEST_S: Final = 5.0  # of a task
LATE_S: Final = 0.3
SHARE: Final = 0.05
KINDS: Final = ("late", "lossy", "torn", "forgotten-by-server", "forgotten-by-agent")


def run(site: Rig, report: Report, kind: str, tasks: int, seed: int) -> None:
    """Random work over such a line, and then the oracle."""
    dice = random.Random(seed)
    ledger = site.directory / "ledger"
    ledger.touch()
    plans = workload.plans(dice, tasks, ledger, longest_s=LONGEST_S)
    site.start(1)
    proxy = Proxy((site.servers[0].host, site.servers[0].port), dice)
    try:
        for number in range(AGENTS):
            agent = Agent(site, f"a{number + 1}", "--cpus", "4")
            agent.url = proxy.url
            site.agents.append(agent)
            agent.start()
        until(lambda: site.ready_agents() == AGENTS, "the agents are ready")
        submitters = Submitters(site, plans, 0.8 * SECONDS)
        _disturb(proxy, kind)
        submitters.join()
        verdict = campaign.harvest(site, report, submitters, [], [])
    finally:
        proxy.close()
    report.figure(f"{kind}: tasks / connections", f"{tasks} / {proxy.opened}")
    calm = kind != "late" and proxy.opened <= AGENTS
    report.promise(f"{kind}: no connection was ended", ["the line was good"] if calm else [])
    lost = verdict.figures.get("attempts whose exit was lost", 0)
    report.promise(f"{kind}: exits lost", [f"{lost}"] if lost else [])
    for promise, found in verdict.violations.items():
        if found:
            report.promise(f"{kind}: {promise}", found)


def _disturb(proxy: Proxy, kind: str) -> None:
    pause = threading.Event()
    match kind:
        case "late":
            proxy.delay_s = LATE_S
        case "lossy":
            proxy.loss = SHARE
        case "torn":
            proxy.tear = SHARE
        case _:
            side = "server" if kind.endswith("server") else "client"
            for _ in range(int(SECONDS / HALF_OPEN_EVERY_S)):
                pause.wait(HALF_OPEN_EVERY_S)
                proxy.forget(side)
            return
    pause.wait(SECONDS)
    proxy.delay_s = proxy.loss = proxy.tear = 0.0
