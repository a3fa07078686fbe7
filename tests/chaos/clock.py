"""T-17: wall clocks that are a day off and jump while work is under way; nothing may depend on them.

A library of a few lines, loaded before libc, adds to the time of day what a mapped file says at the moment.
"""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.chaos import campaign, rig, workload
from tests.chaos.report import Report
from tests.chaos.rig import Agent, Rig, Server
from tests.chaos.submitter import Submitters
from tests.support.site import until

SHIM: Final = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset_s;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) offset_s = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    int failed = syscall(SYS_clock_gettime, clock, t);
    if (!failed && clock == CLOCK_REALTIME && offset_s) t->tv_sec += *offset_s;
    return failed;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
"""
SETTINGS: Final = """
[scheduler]
suspect_after_s = 8
lost_after_s = 30
retry_base_s = 0.2
retry_cap_s = 0.5
"""
LONGEST_S: Final = 5.0  # of a task
JUMP_EVERY_S: Final = 1.5
AGENT_OFF_S: Final = 86_400  # at most, in both directions
SERVER_OFF_S: Final = 3_600


def run(*, seed: int, tasks: int, agents: int, seconds: float) -> Report:
    """Random work for so long, under clocks that jump, and then the oracle."""
    if shutil.which("cc") is None:
        sys.stdout.write("clock: skipped, there is no C compiler\n")
        sys.exit(0)
    dice = random.Random(seed)
    with rig.running("clock", seed, SETTINGS) as site:
        ledger = site.directory / "ledger"
        ledger.touch()
        plans = workload.plans(dice, tasks, ledger, longest_s=LONGEST_S)
        clocks = _start(site, agents)
        submitters = Submitters(site, plans, 0.8 * seconds)
        jumps = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(JUMP_EVERY_S)
            path, most_s = dice.choice(clocks)
            _set(path, dice.randint(-most_s, most_s))
            jumps += 1
        submitters.join()
        report = Report("clock", seed, site.directory)
        verdict = campaign.harvest(site, report, submitters, [], [])
        report.figure("jumps of clocks", jumps)
        report.figure("tasks / agents", f"{tasks} / {agents}")
        report.promise("clocks that did not jump", _steady(site, clocks))
        campaign.judged(report, verdict)
        return report


def _start(site: Rig, agents: int) -> list[tuple[Path, int]]:
    """Everything, each process under a clock of its own; the files of the clocks, and how far off."""
    library = site.directory / "clock.so"
    source = library.with_suffix(".c")
    source.write_text(SHIM)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    site.postgres.start()
    server = Server(site, 1)
    site.servers = [server]
    clocks = [(site.directory / "clock-server", SERVER_OFF_S)]
    parts: list[Server | Agent] = [server]
    for number in range(agents):
        agent = Agent(site, f"a{number + 1}", "--cpus", "4")
        site.agents.append(agent)
        parts.append(agent)
        clocks.append((site.directory / f"clock-{agent.name}", AGENT_OFF_S))
    for part, (path, most_s) in zip(parts, clocks, strict=True):
        _set(path, most_s)  # ahead, so that the first jump goes back
        part.env = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(path)}
        part.start()
    until(lambda: site.ready_agents() == agents, "the agents are ready")
    return clocks


def _set(path: Path, seconds: int) -> None:
    """In place: it is mapped."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


def _steady(site: Rig, clocks: list[tuple[Path, int]]) -> list[str]:
    """Processes that do not map their clock: then nothing was tested."""
    pids = [server.process.pid for server in site.servers if server.process is not None]
    pids += [pid for agent in site.agents for pid in agent.pids()]
    maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in pids}
    return [
        f"process {pid}"
        for pid, mapped in maps.items()
        if not any(str(path) in mapped for path, _ in clocks)
    ]
