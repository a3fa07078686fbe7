"""A process of its own that answers: `ready` once it can, then a line of JSON for each line that it is given."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

LONGEST_S: Final = 420.0  # of one answer
READY: Final = "ready"


def answer(act: Callable[[str], object]) -> None:
    """In that process: say what `act` makes of each line, until there are no more."""
    print(READY, flush=True)
    for line in sys.stdin:
        print(json.dumps(act(line.strip())), flush=True)


class Asked:
    """Such a process, seen from the bench. Raises, from the start on: RuntimeError, with its last words."""

    def __init__(self, program: list[str], cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            program, cwd=cwd, env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words,
        )  # fmt: skip
        try:
            while self._line() != READY:  # some of them greet
                pass
        except RuntimeError:
            self.close()
            raise

    def ask(self, word: str = "") -> Any:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its last words tell more
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
        return json.loads(self._line())

    def close(self) -> None:
        """It ends as its standard input does."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.communicate(timeout=LONGEST_S)
        self._words.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        impatience = threading.Timer(LONGEST_S, self._process.kill)
        impatience.start()
        try:
            if line := self._process.stdout.readline():
                return line.strip()
        finally:
            impatience.cancel()
        self._process.wait()
        self._words.seek(0)
        said = self._words.read().decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"broke off: {(said or ['no word'])[-1][:200]}")
