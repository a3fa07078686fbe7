"""One page, block by block, as a reader would go through it on an empty machine.

    bash, console   typed into one shell; of a console the output must be the page's
    python          run in one interpreter
    json            behind a command that printed JSON: its output. Else as yaml
    yaml, toml      a file of tasks, a simulation or a configuration, and sound
    http            a request of ours is sent; of another, the body is one of ours
    text, mermaid   not for running

A page that starts or stops a server itself begins without one; any other finds one running.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from tests.docs import document, excused, expect, request
from tests.docs.block import Block
from tests.docs.session import Done, Python, Session, Shell, Terminal
from tests.support.site import DEADLINE_S, ROOT, free_port, until

MARK: Final = "STYX_PAGE"  # every process of a page inherits it
STARTS_A_SERVER: Final = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*styx serve", re.MULTILINE)
AN_ID: Final = re.compile(r"/(?:TASK|JOB|AGENT)_ID\b")
LOCAL: Final = re.compile(r"\b(localhost|127\.0\.0\.1):8080\b")
# The machine that the pages have in mind, whatever this one is, and less patience than usual.
SETTINGS: Final = """
[agent]
cpus = 4
memory_gib = 64
[scheduler]
retry_base_s = 0.1
"""


class Page:
    """`database_url` is for the server that the page finds; without one it finds none."""

    def __init__(self, blocks: list[Block], folder: Path, database_url: str = "") -> None:
        self.blocks = blocks
        self._database_url = database_url
        self._folder = folder
        self._home = folder / "home"
        self._here = self._home / "styx"  # where the reader stands
        self._port = free_port()
        self._sessions: dict[type[Session], Shell | Python] = {}
        self._terminals: list[Terminal] = []
        self._printed = ""  # by the shell's last block, for the JSON that may follow
        self._kinds: dict[str, Callable[[Block], None]] = {
            "bash": self._bash,
            "console": self._console,
            "python": self._python,
            "http": self._http,
            "json": self._document,
            "toml": self._document,
            "yaml": self._document,
            "mermaid": lambda _: None,
            "text": lambda _: None,
        }

    # --- the walk ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Raises: AssertionError, which names `PAGE:LINE` of the first fault."""
        self._prepare()
        try:
            for block in self.blocks:
                self._one(block)
            while self._terminals:
                terminal = self._terminals.pop()
                code = terminal.stop()
                assert code == 0, f"{terminal.place}: exit {code}: {terminal.log}"
        finally:
            self._clear()

    def _one(self, block: Block) -> None:
        assert block.kind in self._kinds, (
            f"{block.place}: say what this block is, one of: {', '.join(self._kinds)}"
        )
        if excuse := excused.excuse(block):
            if excuse.instead:
                self._ended(block, self._shell.script(block, excuse.instead))
        elif block.name:
            self._file(block)
        else:
            self._kinds[block.kind](block)

    def _file(self, block: Block) -> None:
        path = self._here / block.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        if block.text.startswith("#!"):
            path.chmod(0o755)
        if block.kind in {"json", "toml", "yaml"}:
            self._sound(block)
        elif block.kind == "bash":
            done = subprocess.run(["bash", "-n", path], capture_output=True, check=False, text=True)
            assert done.returncode == 0, f"{block.place}: {done.stderr}"
        elif block.kind == "python":
            compile(block.padded(), block.page, "exec")

    # --- the kinds --------------------------------------------------------------------------------

    def _bash(self, block: Block) -> None:
        if "terminal" in block.marks:
            folder = self._folder / f"terminal-{block.line}"
            terminal = Terminal(block, self._at_home(block.text), folder, self._here, self._env)
            self._terminals.append(terminal)
            if STARTS_A_SERVER.search(block.text):
                until(lambda: terminal.code is not None or self._up(), f"{block.place} serves")
        else:
            self._ended(block, self._shell.script(block, self._at_home(block.text)))

    def _console(self, block: Block) -> None:
        given = [*commands(block)]
        for one, after in zip(given, [*given[1:], None], strict=True):
            done = self._shell.command(block, self._at_home(one.text), one.line)
            place = f"{block.page}:{one.line}"
            found = expect.differences(self._at_home(one.output), done.out)
            assert not found, f"{place}: prints something else\n{found}"
            shown = after is not None and after.text == "echo $?"
            assert done.code == 0 or shown, f"{place}: exit {done.code}, and no `echo $?` behind it"
            self._printed = done.out

    def _python(self, block: Block) -> None:
        if Python not in self._sessions:
            self._sessions[Python] = Python(self._folder / "python", self._here, self._env)
        self._ended(block, self._sessions[Python].script(block, self._at_home(block.text)))

    def _http(self, block: Block) -> None:
        request.check(block, self._port)

    def _document(self, block: Block) -> None:
        if block.kind == "json" and self._printed:
            try:
                answer = json.loads(self._printed)
            except ValueError:
                pass
            else:
                found = [*expect.unlike(json.loads(block.text), answer)]
                assert not found, f"{block.place}: the answer is another\n" + "\n".join(found)
                return
        self._sound(block)

    def _sound(self, block: Block) -> None:
        path = self._folder / f"document.{block.kind}"
        path.write_text(block.padded())
        found = document.faults(block, path)
        assert not found, "\n".join(found)

    def _ended(self, block: Block, done: Done) -> None:
        self._printed = done.out
        assert done.code == 0, f"{block.place}: exit {done.code}\n{done.err}\n{done.out}"

    # --- the machine ------------------------------------------------------------------------------

    @property
    def _shell(self) -> Shell:
        if Shell not in self._sessions:
            self._sessions[Shell] = Shell(self._folder / "shell", self._here, self._env)
        found = self._sessions[Shell]
        assert isinstance(found, Shell)
        return found

    @property
    def _env(self) -> dict[str, str]:
        """A user's who has nothing of Styx but the program."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("STYX_") and name not in {"DATABASE_URL", "TRACEPARENT"}
        }
        path = [self._folder / "bin", Path(sys.executable).parent, kept["PATH"]]
        return kept | {
            MARK: str(self._folder),
            "HOME": str(self._home),
            "PATH": os.pathsep.join(map(str, path)),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "",  # without its bytecode most of a command is compiling
            "STYX_SERVER_PORT": str(self._port),
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }

    def _prepare(self) -> None:
        programs = self._folder / "bin"
        programs.mkdir()
        ours = {"styx": "-m styx"}
        if not shutil.which("curl"):
            ours["curl"] = f'"{ROOT}/tests/docs/curl.py"'
        for name, command in ours.items():
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
            (programs / name).chmod(0o755)
        (self._home / ".styx").mkdir(parents=True)
        (self._home / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
        (self._home / ".styx" / "config.toml").write_text(SETTINGS)
        shutil.copytree(ROOT / "docs" / "examples", self._here / "docs" / "examples")
        run = [block for block in self.blocks if not excused.excuse(block) and not block.name]
        shell = [block for block in run if block.kind in {"bash", "console", "python", "http"}]
        starts = any(STARTS_A_SERVER.search(block.text) for block in shell)
        if shell and not starts and self._database_url:
            start = [str(programs / "styx"), "server", "start"]
            env = self._env | {"DATABASE_URL": self._database_url}
            subprocess.run(start, env=env, check=True, capture_output=True, timeout=DEADLINE_S)

    def _at_home(self, text: str) -> str:
        """Word for word, but for the port, and for what stands for an id."""
        return AN_ID.sub("/last", LOCAL.sub(rf"\1:{self._port}", text))

    def _up(self) -> bool:
        return request.status("GET", "/readyz", self._port) == 200

    def _clear(self) -> None:
        """Servers first: they see to their own Postgres."""
        for terminal in self._terminals:
            terminal.stop()
        for process in self._processes("serve"):
            process.send_signal(signal.SIGTERM)
        until(lambda: not [*self._processes("serve")], "the servers of the page are gone")
        for session in self._sessions.values():
            session.close()
        for process in self._processes():
            process.kill()
        until(lambda: not [*self._processes()], "the processes of the page are gone")

    def _processes(self, word: str = "") -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(MARK) == str(self._folder)
                if ours and (not word or word in process.cmdline()):
                    yield process
            except psutil.Error:
                continue


class Command(NamedTuple):
    line: int
    text: str
    output: str  # what the page says


def commands(block: Block) -> Iterator[Command]:
    """Each `$ …` of a console; a command goes on behind a closing backslash."""
    lines = block.text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    assert starts[:1] == [0], f"{block.place}: a console begins with `$ ` and a command"
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        last = start
        while lines[last].endswith("\\"):
            last += 1
        command = "\n".join(lines[start : last + 1]).removeprefix("$ ")
        yield Command(block.line + start, command, "\n".join(lines[last + 1 : end]))
