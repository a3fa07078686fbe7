"""T-7: lines that are cut, in both directions or in one, for short or for long, and lines that are bad."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos import badlines, cuts, network, rig
from tests.chaos.network import Network
from tests.chaos.report import Report


@dataclass(frozen=True)
class Sizes:
    tasks: int
    dice_seed: int


Scenario = Callable[[rig.Rig, Report, Sizes], None]
Cut = Callable[[rig.Rig, Network, Report, Sizes], None]

# These need machines on a network of their own.
CUTS: Final[dict[str, Cut]] = {
    "cut": lambda site, net, report, sizes: cuts.short(site, net, report, sizes.tasks, "cut"),
    "unheard": lambda site, net, report, sizes: cuts.short(
        site, net, report, sizes.tasks, "unheard"
    ),
    "unanswered": lambda site, net, report, sizes: cuts.short(
        site, net, report, sizes.tasks, "unanswered"
    ),
    "flapping": lambda site, net, report, sizes: cuts.flapping(site, net, report, sizes.tasks),
    "long": lambda site, net, report, sizes: cuts.long(site, net, report, sizes.tasks, "cut"),
    "long-unanswered": lambda site, net, report, sizes: cuts.long(
        site, net, report, sizes.tasks, "unanswered"
    ),
    "exclusive": lambda site, net, report, sizes: cuts.exclusive(site, net, report, sizes.tasks),
    "database": lambda site, net, report, sizes: cuts.database(site, net, report, sizes.tasks),
    "leader": lambda site, net, report, sizes: cuts.leader(site, net, report, sizes.tasks),
}
LINES: Final[dict[str, Scenario]] = {
    kind: lambda site, report, sizes, kind=kind: badlines.run(
        site, report, kind, 3 * sizes.tasks, sizes.dice_seed
    )
    for kind in badlines.KINDS
}


def run(*, seed: int, scenarios: Sequence[str], tasks: int, rounds: int) -> Report:
    """Each scenario has a Styx of its own, in each round."""
    report = Report("partition", seed, rig.RUNS / f"partition-{seed}")
    why = network.missing()
    for number in range(rounds):
        for name in scenarios or (*CUTS, *LINES):
            if name in CUTS and why:
                sys.stdout.write(f"… {name}: skipped, {why}\n")
                continue
            with report.part(name):
                _one(report, name, f"partition-{seed}/{number}-{name}", Sizes(tasks, seed + number))
    return report


def _one(report: Report, name: str, kind: str, sizes: Sizes) -> None:
    if name in LINES:
        with rig.running(kind, sizes.dice_seed, badlines.SETTINGS) as site:
            LINES[name](site, report, sizes)
    else:
        with network.made() as net, rig.running(kind, sizes.dice_seed, cuts.SETTINGS) as site:
            CUTS[name](site, net, report, sizes)
