"""The files of tasks on the machine as it is: `ports.Courier` and `ports.Rooms`."""

import asyncio
import os
import secrets
import shutil
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

import msgspec

import styx
from styx.agent import errand, websocket
from styx.agent.errand import Asked, Delivery, Ended, Outcome, Parcel, Request, Target

IDLE_S: Final = 5.0  # a process waits for so long for another errand


class Courier:
    """Fetches and sends by processes of their own. `url` answers where the server is that leads."""

    def __init__(
        self,
        home: str,
        env: dict[str, str],
        url: Callable[[], str],
        token: str,
        cache_bytes: int,
        allow_hosts: tuple[str, ...] = (),
    ) -> None:
        self._home = home
        self._env = env | {"PYTHONPATH": str(Path(styx.__file__).parents[1]), "PYTHONUTF8": "1"}
        self._url = url
        self._token = token
        self._cache_bytes = cache_bytes
        self._allow_hosts = allow_hosts
        self._idle: dict[str, list[Process]] = {"fetch": [], "send": []}

    async def fetch(self, target: Target) -> Outcome:
        """Cancelled, it leaves nothing behind but blobs on the shelf."""
        request = Request(
            **self._asked(),
            home=self._home,
            target=target,
            cache_bytes=self._cache_bytes,
            allow_hosts=self._allow_hosts,
        )
        return await self._child("fetch", request)

    async def send(self, parcel: Parcel) -> Outcome:
        """Cancelled, it may have brought some of it."""
        return await self._child("send", Delivery(**self._asked(), parcel=parcel))

    def _asked(self) -> dict[str, Any]:
        address = websocket.parse(self._url())
        return {
            "host": address.host,
            "port": address.port,
            "prefix": address.path,
            "encrypted": address.encrypted,
            "token": self._token,
        }

    async def _child(self, module: str, asked: Asked) -> Outcome:
        """By a process that has done its work before, if one is left: most of the time of a small errand is a start."""
        try:
            child = self._idle[module].pop() if self._idle[module] else await self._start(module)
        except OSError as error:
            return Outcome(Ended.LATER, f"no process can be started: {error.strerror}")
        assert child.stdin is not None
        assert child.stdout is not None
        said = b""
        try:
            # Its standard input stays open: see `child`.
            child.stdin.write(msgspec.json.encode(asked) + b"\n")
            said = await child.stdout.readline()
        finally:
            if said:
                self._keep(module, child)
            else:
                await _end(child)
        try:
            return msgspec.json.decode(said, type=Outcome)
        except msgspec.DecodeError:
            return Outcome(Ended.LATER, f"it ended with {child.returncode}, and said nothing")

    async def _start(self, module: str) -> Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", f"styx.agent.{module}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._env,
            cwd=self._home,
            start_new_session=True,  # a Ctrl-C for the agent is none for what it stops in order
        )

    def _keep(self, module: str, child: Process) -> None:
        """For the next errand, if that comes soon. As many at most as there are errands at a time."""
        stdin, idle = child.stdin, self._idle[module]
        assert stdin is not None
        idle.append(child)

        def retire() -> None:
            if child in idle:
                idle.remove(child)
                stdin.close()

        asyncio.get_running_loop().call_later(IDLE_S, retire)


async def _end(child: Process) -> None:
    if child.returncode is None:
        child.kill()
    assert child.stdin is not None
    child.stdin.close()
    await child.wait()


class Rooms:
    """The directories of jobs."""

    def __init__(self, home: str) -> None:
        self._home = home

    def use(self, target: Target) -> bool:
        try:
            os.utime(f"{self._home}/{errand.JOBS}/{target.job}")
        except FileNotFoundError:
            return False
        return all(map(os.path.exists, target.marks(self._home)))

    async def tidy(self, needed: Collection[str], kept_s: float) -> None:
        await asyncio.to_thread(self._tidy, needed, kept_s)

    def _tidy(self, needed: Collection[str], kept_s: float) -> None:
        """A directory's time is when it was last needed."""
        try:
            names = os.listdir(f"{self._home}/{errand.JOBS}")
        except FileNotFoundError:
            return
        for name in names:
            path = f"{self._home}/{errand.JOBS}/{name}"
            try:
                if name in needed:
                    os.utime(path)
                elif name.startswith(errand.GONE):
                    shutil.rmtree(path, ignore_errors=True)
                elif time.time() - os.stat(path).st_mtime > kept_s:
                    # Renamed first: nobody shall find it while half of it is there.
                    gone = f"{self._home}/{errand.JOBS}/{errand.GONE}{secrets.token_hex(8)}"
                    os.rename(path, gone)
                    shutil.rmtree(gone, ignore_errors=True)
            except FileNotFoundError:
                continue
