"""Other schedulers at the same work, in the same run. Each lives in an environment of its own, below one
directory, and never in Styx's; one that is not there says how to get it.

Each has a script here that reads once whenever it is asked, so that peers and Styx are read in turn, on the same
machine in the same state. Those that are only asked for their start, their memory and a submit are in `servers`.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from bench.asked import Asked
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
CAN: Final = {  # what each can be asked for
    "hyperqueue": {"one", "chain", "fan", "array", "pending"},
    "procrastinate": {"one", "chain", "array", "pending", "submit"},
    "slurm": {"one", "submit"},
    "prefect": {"submit", "start", "memory"},
    "dstack": {"submit", "start", "memory"},
}
SERVERS: Final = {"prefect", "dstack"}  # which share a script
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
    if Path(_python(name)).exists():
        return ""
    return "not installed: `python -m bench peers --install DIR`"


class Peer:
    """One of them at one kind of work. One that breaks off keeps its readings, and says why there are no more."""

    def __init__(self, name: str, what: str, tasks: int, slots: int, where: Where | None) -> None:
        self.name = NAMES[name]
        self.why = missing(name)
        self.readings: list[Cost] = []
        self._directory = tempfile.TemporaryDirectory(prefix="styx-bench-peer-")
        self._process: Asked | None = None
        if self.why:
            return
        given = [what, str(tasks), str(slots), *map(str, where or ())]
        script = ["servers", name] if name in SERVERS else [name]
        program = [_python(name), "-m", f"bench.peers.{script[0]}", *script[1:], *given]
        env = os.environ | {"PYTHONPATH": str(Path.cwd())}
        try:
            self._process = Asked(program, Path(self._directory.name), env)
        except RuntimeError as error:
            self.why = str(error)

    def read(self) -> None:
        if self.why or self._process is None:
            return
        try:
            self.readings.append(Cost(*self._process.ask()))
        except RuntimeError as error:
            self.why = str(error)

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
        self._directory.cleanup()


class Peers:
    """All that can do the same work, read one after the other."""

    def __init__(self, members: list[Peer]) -> None:
        self._members = members

    def read(self) -> None:
        for peer in self._members:
            peer.read()

    def besides(
        self, of: Callable[[Cost], float], budgets: Mapping[str, Budget] | None = None
    ) -> tuple[Beside, ...]:
        """`of` makes a figure of a reading, in the unit of the row."""
        return tuple(
            Beside(
                peer.name,
                figure(map(of, peer.readings)) if peer.readings else None,
                (budgets or {}).get(peer.name),
                peer.why,
                peer=True,
            )
            for peer in self._members
        )


@contextlib.contextmanager
def at(what: str, tasks: int = 1, slots: int = 1, where: Where | None = None) -> Iterator[Peers]:
    """Every peer that can do it, ready to be read."""
    members: list[Peer] = []
    try:
        for name, can in CAN.items() if _in else ():
            if what in can:
                members.append(Peer(name, what, tasks, slots, where))
        yield Peers(members)
    finally:
        for peer in members:
            peer.close()


def _python(name: str) -> str:
    assert _in is not None
    return sys.executable if name == "slurm" else str(_in / name / "bin" / "python")


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
