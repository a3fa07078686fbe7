"""A whole agent, link and supervisor, as real processes on a home of its own."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from styx.agent import home
from styx.config import AgentConfig, Config
from tests.support.supervised import WAIT_S, markers, until

_RUN: Final = """
import sys, msgspec
from styx.agent import main
from styx.config import Config
sys.exit(main.run(msgspec.json.decode(sys.argv[1], type=Config), url=sys.argv[2], token=sys.argv[3]))
"""
ROOT: Final = Path(__file__).parent.parent.parent


class AgentProcess:
    def __init__(
        self,
        directory: Path,
        url: str,
        *,
        token: str = "",
        env: dict[str, str] | None = None,
        **config: Any,
    ) -> None:
        self.home = directory
        self._url = url
        self._token = token
        self._env = {"PYTHONPATH": str(ROOT)} | (dict(os.environ) if env is None else env)
        name = config.pop("config_name", "")
        self._config = Config(agent=AgentConfig(home=str(directory), name=name, **config))
        self.start()

    def start(self) -> None:
        self._said = self.home.with_name(f"{self.home.name}.{uuid.uuid4().hex}.stderr")
        with self._said.open("wb") as stderr:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _RUN,
                    msgspec.json.encode(self._config).decode(),
                    self._url,
                    self._token,
                ],
                env=self._env,
                stderr=stderr,
            )

    def supervisor(self) -> int:
        """Its pid."""
        return int(until(self._supervisors, "a supervisor")[0])

    def _supervisors(self) -> list[int]:
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"styx.agent.supervisor" in words and str(self.home).encode() in words:
                    found.append(int(entry.name))
        return found

    def kill_link(self) -> None:
        self.process.kill()
        self.process.wait()

    def kill_supervisor(self) -> None:
        os.kill(self.supervisor(), signal.SIGKILL)

    async def stop(self) -> str:
        """Stop it politely; what it said on stderr."""
        self.process.terminate()
        return await self.said()

    async def said(self) -> str:
        """What it said until its end, which is near."""
        await asyncio.to_thread(self.process.wait, WAIT_S)
        return self.heard()

    def heard(self) -> str:
        """What it has said up to now."""
        return self._said.read_text()

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        self.kill_link()
        for pid in self._supervisors():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        journal = self.home / home.JOURNAL
        lines = journal.read_bytes().splitlines() if journal.exists() else []
        keys = {msgspec.json.decode(line).get("k") for line in lines}
        for key, pid in markers():
            if key in keys:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
