"""Other schedulers at the same work, in the same run. Each lives in an environment of its own, below one
directory, and never in Styx's; one that is not there says how to get it.

Those that run tasks have a script here that prints what it read, those that are only asked for their start,
their memory and a submit are in `servers`.
"""

import argparse
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.measure import Cost, figure
from bench.table import Beside, Budget

DIRECTORY: Final = Path(os.environ.get("STYX_BENCH_PEERS", "~/.cache/styx-bench")).expanduser()
PACKAGES: Final = {
    "hyperqueue": ("hyperqueue", "psutil"),
    "procrastinate": ("procrastinate", "psycopg[binary]", "psutil"),
    "prefect": ("prefect", "psutil"),
    "dstack": ("dstack[server]", "psutil"),
}
NAMES: Final = {
    "hyperqueue": "HyperQueue", "procrastinate": "Procrastinate", "slurm": "Slurm",
    "prefect": "Prefect", "dstack": "dstack",
}  # fmt: skip
CAN: Final = {  # what each can be asked to run
    "hyperqueue": {"one", "chain", "fan", "array", "pending"},
    "procrastinate": {"one", "chain", "array", "pending", "submit"},
    "slurm": {"one", "submit"},
}
LONGEST_S: Final = 420.0
_in: Path | None = DIRECTORY


class Where(NamedTuple):
    """A database that a peer may use, beside ours in the same Postgres."""

    url: str
    postmaster: int


def use(directory: Path | None) -> None:
    """Look for them there; None is to do without."""
    global _in  # noqa: PLW0603 - of the whole run, like the command line
    _in = directory


def missing(name: str) -> str:
    """Why it cannot be had; "" if it can."""
    if name == "slurm":
        absent = [p for p in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(p)]
        if absent:
            return f"no {absent[0]}: `apt-get install slurm-wlm munge`"
        return "" if os.geteuid() == 0 else "its daemons want root"
    if _python(name).exists():
        return ""
    return "not installed: `python -m bench peers --install DIR`"


def run(what: str, name: str, tasks: int, slots: int, times: int, where: Where) -> list[Cost] | str:
    """Readings of a peer at `what`, or why there are none."""
    if why := missing(name):
        return why
    python = sys.executable if name == "slurm" else str(_python(name))
    given = [what, str(tasks), str(slots), str(times), where.url, str(where.postmaster)]
    answer = _ask([python, "-m", f"bench.peers.{name}", *given])
    return answer if isinstance(answer, str) else [Cost(*reading) for reading in answer]


def each(
    what: str, tasks: int, slots: int, times: int, where: Where, *, scale: float = 1.0
) -> tuple[Beside, ...]:
    """Median wall time of every peer that can do it."""
    besides: list[Beside] = []
    for name, can in CAN.items() if _in else ():
        if what in can:
            read = run(what, name, tasks, slots, times, where)
            if isinstance(read, str):
                besides.append(Beside(NAMES[name], None, missing=read, peer=True))
            else:
                median = figure((cost.wall_s for cost in read), scale).value
                besides.append(Beside(NAMES[name], median, peer=True))
    return tuple(besides)


def submits(times: int, where: Where) -> tuple[Beside, ...]:
    """Milliseconds of one submit, by every peer."""
    return (*each("submit", 1, 1, times, where, scale=1e3), *idle("submit_ms"))


def costs(what: str, tasks: int, slots: int, where: Where) -> dict[str, Cost | str]:
    found: dict[str, Cost | str] = {}
    for name, can in CAN.items() if _in else ():
        if what in can:
            read = run(what, name, tasks, slots, 1, where)
            found[NAMES[name]] = read if isinstance(read, str) else read[0]
    return found


def besides(
    found: Mapping[str, Cost | str],
    of: Callable[[Cost], float],
    budgets: Mapping[str, Budget] | None = None,
) -> tuple[Beside, ...]:
    return tuple(
        Beside(name, None, missing=cost, peer=True)
        if isinstance(cost, str)
        else Beside(name, of(cost), (budgets or {}).get(name), peer=True)
        for name, cost in found.items()
    )


def idle(what: str) -> tuple[Beside, ...]:
    """start_s, memory_mib or submit_ms of the peers that are only servers here."""
    return tuple(
        Beside(
            NAMES[name],
            read.get(what) if isinstance(read := _server(name), dict) else None,
            missing=read if isinstance(read, str) else "not measured",
            peer=True,
        )
        for name in (("prefect", "dstack") if _in else ())
    )


@functools.cache
def _server(name: str) -> dict[str, float] | str:
    if why := missing(name):
        return why
    return _ask([str(_python(name)), "-m", "bench.peers.servers", name])


def _ask(program: list[str]) -> Any:
    """What the script prints last, or in a line why it could not."""
    env = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with tempfile.TemporaryDirectory(prefix="styx-bench-peer-") as directory:
        try:
            done = subprocess.run(
                program, cwd=directory, env=env, capture_output=True, check=True, text=True,
                timeout=LONGEST_S,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            return f"broke off: {(error.stderr.strip().splitlines() or ['no word'])[-1][:200]}"
        except subprocess.TimeoutExpired:
            return f"not done after {LONGEST_S:.0f} s"
    return json.loads(done.stdout.splitlines()[-1])


def _python(name: str) -> Path:
    assert _in is not None
    return _in / name / "bin" / "python"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("bench peers", description=__doc__)
    parser.add_argument("--install", type=Path, metavar="DIR", help=f"e.g. {DIRECTORY}")
    parser.add_argument("names", nargs="*", help="; ".join(PACKAGES))
    given = parser.parse_args(arguments)
    use(given.install or DIRECTORY)
    if unknown := set(given.names) - PACKAGES.keys():
        parser.error(f"{', '.join(unknown)}: there are {', '.join(PACKAGES)}; Slurm is apt's")
    for name in (given.names or PACKAGES) if given.install else ():
        folder = given.install / name
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q"]
        with contextlib.suppress(subprocess.CalledProcessError):  # the list below tells
            subprocess.run([*pip, *PACKAGES[name]], check=True)
    for name, shown in NAMES.items():
        print(f"{shown}: {missing(name) or 'there'}")
    return 0
