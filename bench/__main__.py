"""`python -m bench [--quick] [SECTION…]`: every budget beside its floor and its peers, as a table.

`python -m bench peers --install DIR` puts the peers into environments of their own.
"""

import argparse
import dataclasses
import http.client
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench import measure, peers, table
from bench.rows import fleet, logs, resources, run, scale, soak, submit
from bench.rows.size import QUICK, Size

SECTIONS: Final[dict[str, Callable[[Size], Iterator[table.Row]]]] = {
    "submit": submit.submit,
    "latency": run.latency,
    "throughput": run.throughput,
    "noop": scale.noop_rows,
    "flat": scale.flat,
    "pending": scale.pending,
    "backlog": scale.backlog,
    "dag": scale.dag,
    "running": fleet.running,
    "idle": resources.idle_agents,
    "memory": resources.memory,
    "start": resources.starting,
    "logs": logs.logs,
    "cli": resources.command_line,
    "soak": soak.soak,
}
BY_NAME: Final = {"soak"}  # takes longer than all others together
# What a crash of the product, or of a peer, looks like from here: the row says so, and the run goes on.
BROKEN: Final = (OSError, RuntimeError, http.client.HTTPException, subprocess.SubprocessError)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["peers"]:
        return peers.main(arguments[1:])
    given = _parser().parse_args(arguments)
    if unknown := set(given.sections) - SECTIONS.keys():
        sys.exit(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    base = QUICK if given.quick else Size()
    asked = {f.name: getattr(given, f.name) for f in dataclasses.fields(Size)}
    size = dataclasses.replace(base, **{k: v for k, v in asked.items() if v is not None})
    peers.use(None if given.no_peers else given.peers)
    # What is measured is a program that has run before, as everywhere but in a sandbox.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    machine = _machine(size)
    print(f"{machine}\n\n{table.heading()}", flush=True)
    sections: list[table.Section] = []
    found = table.raw(machine, dataclasses.asdict(size), sections)
    for name, section in SECTIONS.items():
        if name not in (given.sections or SECTIONS.keys() - BY_NAME):
            continue
        sections.append(_measured(name, section, size))
        found = table.raw(machine, dataclasses.asdict(size), sections)
        if given.json:  # at once: what is cut short keeps what it has
            given.json.write_text(json.dumps(found, indent=1))
        if given.write:
            table.write(given.write, table.markdown(machine, sections))
    print(f"\n{table.noise(sections)}")
    if given.against:
        return table.against(given.against, found)
    return 1 if any(row.name == "broken" for section in sections for row in section.rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: some eight minutes with all peers"
    )
    parser.add_argument(
        "--peers", type=Path, default=peers.DIRECTORY, help="where they are installed"
    )
    parser.add_argument("--no-peers", action="store_true", help="without them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the raw figures")
    parser.add_argument(
        "--against", type=Path, metavar="FILE",
        help="print how ratios moved since that run; 1 if one did by more than 20 %%",
    )  # fmt: skip
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into that page")
    for field in dataclasses.fields(Size):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=int,
            metavar="N",
            help=f"instead of {field.default:,}",
        )
    return parser


def _measured(
    name: str, section: Callable[[Size], Iterator[table.Row]], size: Size
) -> table.Section:
    before_s, started = measure.spin_s(), time.perf_counter()
    rows: list[table.Row] = []
    try:
        for row in section(size):
            rows.append(row)
            print(table.line(row, name), flush=True)
    except BROKEN as error:
        rows.append(table.Row("broken", "the section broke off", "", None, note=f"{error!r}"[:500]))
        print(table.line(rows[-1], name), flush=True)
    return table.Section(name, rows, before_s, measure.spin_s(), time.perf_counter() - started)


def _machine(size: Size) -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    sizes = ", ".join(f"{k} {v:,}" for k, v in dataclasses.asdict(size).items())
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores ({model}), {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.release()}; load before: {os.getloadavg()[0]:.1f}. Sizes: {sizes}."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
