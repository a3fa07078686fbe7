"""`python -m tests.chaos KIND`: real processes under real faults. See `--help` for kinds and sizes."""

import argparse
import secrets
import sys
import traceback
from pathlib import Path

from tests.chaos import campaign, clock, dbfaults, exhaust, oracle, partition, rig, storm
from tests.chaos.evidence import Evidence
from tests.chaos.report import Report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)

    chaos = kinds.add_parser("chaos", help="kill -9 of everything under work, then the oracle")
    chaos.add_argument("--tasks", type=int, default=300)
    chaos.add_argument("--server-kills", type=int, default=3)
    chaos.add_argument("--agent-kills", type=int, default=8)
    chaos.add_argument("--postgres-kills", type=int, default=1)
    chaos.add_argument("--servers", type=int, default=1)
    chaos.add_argument("--agents", type=int, default=4)
    chaos.add_argument("--seconds", type=float, default=0.0)
    chaos.add_argument("--longest-s", type=float, default=8.0)
    chaos.set_defaults(run=campaign.run)

    links = kinds.add_parser("restarts", help="kill -9 of agents' links alone, then the oracle")
    links.add_argument("--tasks", type=int, default=300)
    links.add_argument("--kills", type=int, default=100)
    links.add_argument("--agents", type=int, default=4)
    links.add_argument("--longest-s", type=float, default=8.0)
    links.set_defaults(run=campaign.restarts)

    storms = kinds.add_parser(
        "storm", help="leaders, links, supervisors killed under running tasks"
    )
    storms.add_argument("--tasks", type=int, default=2_000)
    storms.add_argument("--agents", type=int, default=20)
    storms.add_argument("--rounds", type=int, default=20)
    storms.add_argument("--servers", type=int, default=1)
    storms.add_argument("--agent-kills", type=int, default=40)
    storms.set_defaults(run=storm.run)

    faults = kinds.add_parser("dbfaults", help="Postgres stopped, frozen, its sessions cut")
    faults.add_argument("--seconds", type=float, default=60.0)
    faults.add_argument("--agents", type=int, default=2)
    faults.set_defaults(run=dbfaults.run)

    cuts = kinds.add_parser("partition", help="lines are cut, in both directions or in one, or bad")
    names = (*partition.CUTS, *partition.LINES)
    cuts.add_argument("scenarios", nargs="*", choices=[[], *names], metavar="SCENARIO")
    cuts.add_argument("--tasks", type=int, default=20)
    cuts.add_argument("--rounds", type=int, default=1)
    cuts.set_defaults(run=partition.run)

    full = kinds.add_parser("exhaust", help="files, disks, memory and patience used up")
    full.add_argument("parts", nargs="*", choices=[[], *exhaust.PARTS], metavar="PART")
    full.add_argument("--connections", type=int, default=1_000)
    full.add_argument("--seconds", type=float, default=5.0)
    full.add_argument("--line-mib", type=int, default=1_024)
    full.add_argument("--streams", type=int, default=50)
    full.add_argument("--tasks", type=int, default=100_000)
    full.set_defaults(run=exhaust.run)

    clocks = kinds.add_parser("clock", help="wall clocks that are off and jump, then the oracle")
    clocks.add_argument("--tasks", type=int, default=60)
    clocks.add_argument("--agents", type=int, default=2)
    clocks.add_argument("--seconds", type=float, default=30.0)
    clocks.set_defaults(run=clock.run)

    check = kinds.add_parser("check", help="judge the evidence of an earlier run again")
    check.add_argument("directory", type=Path)
    check.set_defaults(run=_check)

    for each in kinds.choices.values():
        each.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    given = vars(parser.parse_args())
    run, kind = given.pop("run"), given.pop("kind")
    sys.stdout.write(f"{kind} --seed {given['seed']}\n")
    sys.stdout.flush()
    try:
        report: Report = run(**given)
    except (AssertionError, OSError):
        traceback.print_exc()
        sys.stdout.write(
            f"{kind}: FAILED, not carried through; repeat with --seed {given['seed']}\n"
        )
        sys.stdout.write(f"evidence: below {rig.RUNS}\n")
        return 1
    return report.finish()


def _check(*, directory: Path, seed: int) -> Report:
    report = Report("check", seed, Path("/nonexistent"))
    campaign.judged(report, oracle.judge(Evidence.read(directory)))
    return report


if __name__ == "__main__":
    sys.exit(main())
