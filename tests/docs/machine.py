"""The machine of a page: an empty home, the program, perhaps a server, and nothing of it left at the end."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from styx.kit.envelope import new_key
from tests.support.site import DEADLINE_S, ROOT, free_port

MARK: Final = "STYX_PAGE"  # every process of a page inherits it
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


class Machine:
    """`here` is where the reader stands; `folder` holds all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.here = self.home / "styx"
        self.port = free_port()
        self._programs = folder / "bin"
        self._programs.mkdir()
        self._install("styx", "-m styx")
        if not shutil.which("curl"):
            self._install("curl", f'"{ROOT}/tests/docs/curl.py"')
        (self.home / ".styx").mkdir(parents=True)
        (self.home / ".styx" / "config.toml").write_text(SETTINGS)
        (self.home / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
        shutil.copytree(ROOT / "docs" / "examples", self.here / "docs" / "examples")

    @property
    def env(self) -> dict[str, str]:
        """A user's who has nothing of Styx but the program."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("STYX_") and name not in {"DATABASE_URL", "TRACEPARENT"}
        }
        path = [self._programs, Path(sys.executable).parent, kept["PATH"]]
        return kept | {
            MARK: str(self.folder),
            "HOME": str(self.home),
            "PATH": os.pathsep.join(map(str, path)),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "",  # without its bytecode most of a command is compiling
            "STYX_SERVER_PORT": str(self.port),
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }

    def serve(self, database_url: str) -> None:
        subprocess.run(
            [self._programs / "styx", "server", "start"],
            # A reader's private database would get a key by itself.
            env=self.env | {"DATABASE_URL": database_url, "STYX_SECRETS_KEY": new_key()},
            check=True,
            capture_output=True,
            timeout=2 * DEADLINE_S,
        )

    def at_home(self, text: str) -> str:
        """Word for word, but for the port, and for what stands for an id."""
        return AN_ID.sub("/last", LOCAL.sub(rf"\1:{self.port}", text))

    def clear(self) -> None:
        """Servers first: they see to their own Postgres."""
        servers = [*self._processes("serve")]
        for server in servers:
            server.terminate()
        psutil.wait_procs(servers, DEADLINE_S)
        while rest := [*self._processes()]:  # once more, for what one of them has just started
            for process in rest:
                process.kill()
            psutil.wait_procs(rest, DEADLINE_S)

    def _install(self, name: str, command: str) -> None:
        program = self._programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        program.chmod(0o755)

    def _processes(self, word: str = "") -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(MARK) == str(self.folder)
                if ours and (not word or word in process.cmdline()):
                    yield process
            except psutil.Error:
                continue
