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
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from tests.docs import document, excused, expect, request
from tests.docs.block import Block
from tests.docs.machine import Machine
from tests.docs.session import Done, Python, Shell, Terminal
from tests.support.site import until

STARTS_A_SERVER: Final = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*styx serve", re.MULTILINE)
Opened = TypeVar("Opened", Shell, Python)


class Page:
    """`database_url` is for the server that the page finds; without one it finds none."""

    def __init__(self, blocks: list[Block], folder: Path, database_url: str = "") -> None:
        self.blocks = blocks
        self._database_url = database_url
        self._machine = Machine(folder)
        self._bash_shell: Shell | None = None
        self._interpreter: Python | None = None
        self._terminals: list[Terminal] = []
        self._printed = ""  # by this block
        self._before = ""  # by the one before, for the JSON that shows it
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
        self._before, self._printed = self._printed, ""
        if excuse := excused.excuse(block):
            if excuse.instead:
                self._ended(block, self._shell.script(block, excuse.instead))
        elif block.name:
            self._file(block)
        else:
            self._kinds[block.kind](block)

    def _file(self, block: Block) -> None:
        path = self._machine.here / block.name
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
            folder = self._machine.folder / f"terminal-{block.line}"
            terminal = Terminal(
                block,
                self._machine.at_home(block.text),
                folder,
                self._machine.here,
                self._machine.env,
            )
            self._terminals.append(terminal)
            if STARTS_A_SERVER.search(block.text):
                port = self._machine.port
                until(
                    lambda: (
                        terminal.code is not None or request.status("GET", "/readyz", port) == 200
                    ),
                    f"{block.place} serves",
                )
        else:
            self._ended(block, self._shell.script(block, self._machine.at_home(block.text)))

    def _console(self, block: Block) -> None:
        given = [*commands(block)]
        for one, after in zip(given, [*given[1:], None], strict=True):
            done = self._shell.command(block, self._machine.at_home(one.text), one.line)
            place = f"{block.page}:{one.line}"
            found = expect.differences(self._machine.at_home(one.output), done.out)
            assert not found, f"{place}: prints something else\n{found}"
            shown = after is not None and after.text == "echo $?"
            assert done.code == 0 or shown, f"{place}: exit {done.code}, and no `echo $?` behind it"
            self._printed = done.out

    def _python(self, block: Block) -> None:
        self._ended(block, self._prompt.script(block, self._machine.at_home(block.text)))

    def _http(self, block: Block) -> None:
        request.check(block, self._machine.port)

    def _document(self, block: Block) -> None:
        if block.kind == "json" and self._before:
            try:
                answer = json.loads(self._before)
            except ValueError:
                pass
            else:
                found = [*expect.unlike(json.loads(block.text), answer)]
                assert not found, f"{block.place}: the answer is another\n" + "\n".join(found)
                return
        self._sound(block)

    def _sound(self, block: Block) -> None:
        # Where the reader stands: a file of tasks may name others beside it.
        path = self._machine.here / f".page.{block.kind}"
        path.write_text(block.padded())
        found = document.faults(block, path)
        path.unlink()
        assert not found, "\n".join(found)

    def _ended(self, block: Block, done: Done) -> None:
        self._printed = done.out
        assert done.code == 0, f"{block.place}: exit {done.code}\n{done.err}\n{done.out}"

    # --- the machine ------------------------------------------------------------------------------

    def _prepare(self) -> None:
        run = [one for one in self.blocks if not excused.excuse(one) and not one.name]
        shell = [one for one in run if one.kind in {"bash", "console", "python", "http"}]
        starts = any(STARTS_A_SERVER.search(one.text) for one in shell)
        if shell and not starts and self._database_url:
            self._machine.serve(self._database_url)

    def _clear(self) -> None:
        for session in (*self._terminals, self._bash_shell, self._interpreter):
            if session is not None:
                session.close()
        self._machine.clear()

    @property
    def _shell(self) -> Shell:
        self._bash_shell = self._bash_shell or self._open(Shell, "shell")
        return self._bash_shell

    @property
    def _prompt(self) -> Python:
        self._interpreter = self._interpreter or self._open(Python, "python")
        return self._interpreter

    def _open(self, kind: type[Opened], name: str) -> Opened:
        machine = self._machine
        return kind(machine.folder / name, machine.here, machine.env)


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
