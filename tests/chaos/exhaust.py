"""T-14: whatever a client or a task can use up is used up, and Styx still answers, within its memory."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos import floods, graphs, pressure, rig
from tests.chaos.report import Report
from tests.chaos.rig import Rig


@dataclass(frozen=True)
class Sizes:
    connections: int
    seconds: float
    line_mib: int
    streams: int
    tasks: int


Part = Callable[[Rig, Report, Sizes], None]
PARTS: Final[dict[str, Part]] = {
    "body": lambda site, report, _: pressure.body(site, report),
    "slow": lambda site, report, sizes: pressure.slow(
        site, report, sizes.connections, sizes.seconds
    ),
    "files": lambda site, report, _: pressure.files(site, report),
    "line": lambda site, report, sizes: floods.line(site, report, sizes.line_mib),
    "streams": lambda site, report, sizes: floods.streams(
        site, report, sizes.streams, int(sizes.seconds)
    ),
    "server-disk": lambda site, report, _: floods.server_disk(site, report),
    "agent-disk": lambda site, report, _: floods.agent_disk(site, report),
    "chain": lambda site, report, sizes: graphs.chain(site, report, sizes.tasks),
    "fan": lambda site, report, sizes: graphs.fan(site, report, sizes.tasks),
    "cycle": lambda site, report, sizes: graphs.cycle(site, report, sizes.tasks),
}


def run(
    *,
    seed: int,
    parts: Sequence[str],
    connections: int,
    seconds: float,
    line_mib: int,
    streams: int,
    tasks: int,
) -> Report:
    """Each part has a Styx of its own."""
    sizes = Sizes(connections, seconds, line_mib, streams, tasks)
    report = Report("exhaust", seed, rig.RUNS / f"exhaust-{seed}")
    for part in parts or PARTS:
        if part.endswith("disk") and (why := floods.no_disks()):
            sys.stdout.write(f"… {part}: skipped, {why}\n")
            continue
        with report.part(part), rig.running(f"exhaust-{seed}/{part}", seed, "") as site:
            PARTS[part](site, report, sizes)
    return report
