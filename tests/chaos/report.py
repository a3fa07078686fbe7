"""What a run says at its end: its figures, its promises, and where its evidence is if one was broken."""

import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SHOWN: Final = 8  # violations of one promise; the evidence has them all


class Report:
    def __init__(self, kind: str, seed: int, directory: Path) -> None:
        self.kind = kind
        self.seed = seed
        self._directory = directory
        self._rows: list[tuple[str, str, str]] = []
        self._broken: list[str] = []

    def figure(self, what: str, value: object) -> None:
        """A number to know."""
        self._rows.append((what, f"{value:,}" if isinstance(value, int) else str(value), ""))

    def promise(self, what: str, found: Sequence[str]) -> None:
        """None must be found."""
        self._rows.append((what, f"{len(found):,}", "broken" if found else "kept"))
        self._broken += [f"{what}: {each}" for each in found[:SHOWN]]

    def limit(self, what: str, value: float, most: float, unit: str = "s") -> None:
        """A measure that must not be exceeded."""
        kept = value <= most
        self._rows.append(
            (what, f"{value:.2f} {unit}", f"{'kept' if kept else 'broken'}: ≤ {most:g} {unit}")
        )
        if not kept:
            self._broken.append(f"{what}: {value:.2f} {unit}, and {most:g} {unit} are allowed")

    @contextmanager
    def part(self, name: str) -> Generator[None]:
        """One of several: if it cannot be carried through, that is a broken promise, and the next begins."""
        sys.stdout.write(f"… {name}\n")
        sys.stdout.flush()
        began = time.monotonic()
        try:
            yield
        except (AssertionError, OSError, subprocess.CalledProcessError) as error:
            traceback.print_exc()
            self.promise(f"{name}: carried through", [f"{error!r}"])
        self.figure(f"{name}: took", f"{time.monotonic() - began:.0f} s")

    @property
    def kept(self) -> bool:
        return not self._broken

    def finish(self) -> int:
        """Print it. Evidence of a run that went well is thrown away. Returns the exit code."""
        width = max(len(what) for what, _, _ in self._rows)
        for what, value, word in self._rows:
            sys.stdout.write(f"{what:<{width}}  {value:>12}  {word}\n")
        for line in self._broken:
            sys.stdout.write(f"BROKEN {line}\n")
        if self.kept:
            sys.stdout.write(f"{self.kind}: all promises kept (seed {self.seed})\n")
            shutil.rmtree(self._directory, ignore_errors=True)
        else:
            sys.stdout.write(f"{self.kind}: FAILED; repeat with --seed {self.seed}\n")
            sys.stdout.write(f"evidence: {self._directory}\n")
        sys.stdout.flush()
        return 0 if self.kept else 1
