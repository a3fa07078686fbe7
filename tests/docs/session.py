"""A page's shell, its Python and its further terminals: what its blocks are typed into.

Shell and Python are one process each for the whole page, as with a reader: a variable, a directory or an
import of one block is there in the next. What they run lies in a file that is named for the page and padded
to its line, so that they say `docs/page.md: line 12` by themselves.
"""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from tests.docs.block import Block
from tests.support.site import DEADLINE_S, ROOT, until

STRICT: Final = "set -Eeuo pipefail"
LENIENT: Final = "trap - ERR; set +Eeu; set +o pipefail"
TELL: Final = (
    'printf "%s:%s: exit %s: %s\\n" "${BASH_SOURCE[0]}" "$LINENO" "$?" "$BASH_COMMAND" >&2'
)
ENDED_BY_US: Final = {-signal.SIGTERM, 128 + signal.SIGTERM}
PROMPT: Final = ROOT / "tests" / "docs" / "prompt.py"


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Session:
    """`folder` is for what lies beside the page's own directory, `where` it runs."""

    def __init__(self, command: list[str], folder: Path, where: Path, env: dict[str, str]) -> None:
        self.folder = folder
        folder.mkdir()
        self._log = folder / "log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=where, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def write(self, block: Block, text: str) -> Path:
        path = self.folder / block.page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def tell(self, what: str, place: str) -> int:
        """Wait until it has written its code, or has ended. The code."""
        code = self.folder / "code"
        code.unlink(missing_ok=True)
        assert self._process.stdin is not None
        self._process.stdin.write(what.encode())
        self._process.stdin.flush()
        until(
            lambda: code.exists() or self._process.poll() is not None,
            f"{place} has ended",
            deadline_s=2 * DEADLINE_S,  # a block may be several commands
        )
        ended = self._process.poll()
        return int(code.read_text()) if ended is None else ended or 1

    def said(self, path: Path, start: int = 0) -> str:
        """Without our folder: what is left of a file's name is the page's."""
        raw = path.read_bytes() if path.exists() else b""
        return raw[start:].decode(errors="replace").replace(f"{self.folder}/", "")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Shell(Session):
    def __init__(self, folder: Path, where: Path, env: dict[str, str]) -> None:
        super().__init__(["bash"], folder, where, env)
        self._last = 0  # the `$?` that a command finds

    def script(self, block: Block, text: str) -> Done:
        """A whole block: the first command that fails ends it, and the shell."""
        path = self.write(block, block.padded(text))
        return self._source(f"{STRICT}; trap '{TELL}' ERR", path, "2>err", block.place)

    def command(self, block: Block, text: str, line: int) -> Done:
        """One command; its output is all that a terminal would show."""
        path = self.write(block, block.padded(text, line))
        before = f"{LENIENT}\n(exit {self._last})"
        return self._source(before, path, "2>&1", f"{block.page}:{line}")

    def _source(self, before: str, path: Path, errors: str, place: str) -> Done:
        code, out, err = (self.folder / name for name in ("code", "out", "err"))
        err.unlink(missing_ok=True)
        errors = errors.replace("err", f'"{err}"')
        self._last = self.tell(
            f'{before}\n. "{path}" </dev/null >"{out}" {errors}\n'
            f'echo $? >"{code}.new"; mv "{code}.new" "{code}"\n',
            place,
        )
        return Done(self._last, self.said(out), self.said(err))


class Python(Session):
    def __init__(self, folder: Path, where: Path, env: dict[str, str]) -> None:
        command = [sys.executable, "-u", str(PROMPT), str(folder / "code")]
        super().__init__(command, folder, where, env)

    def script(self, block: Block, text: str) -> Done:
        start = self._log.stat().st_size
        path = self.write(block, block.padded(text))
        code = self.tell(f"{path}\n", block.place)
        return Done(code, "", self.said(self._log, start))


class Terminal(Session):
    """What goes on until it is stopped."""

    def __init__(
        self, block: Block, text: str, folder: Path, where: Path, env: dict[str, str]
    ) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        path = folder.with_name(f"{folder.name}.sh")
        path.write_text(block.padded(f"{STRICT}\n{text}", block.line - 1))
        super().__init__(["bash", str(path)], folder, where, env)
        self.place = block.place
        until(lambda: self._log.stat().st_size or self.code is not None, f"{self.place} speaks")

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def stop(self) -> int:
        """As Ctrl-C there does, but for the signal. The code: 0, unless it had failed before."""
        inside = psutil.Process(self._process.pid).children() if self.code is None else []
        for process in inside:
            process.terminate()
        if not inside:
            self._process.terminate()
        code = self._process.wait(DEADLINE_S)
        self.close()
        return 0 if code in ENDED_BY_US else code

    @property
    def log(self) -> str:
        return self.said(self._log)
