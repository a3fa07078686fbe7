"""T-13: hostile agents at a real server's socket, beside an honest one whose work must not notice them."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import uvloop

from styx.agent import websocket
from styx.core.ids import AttemptKey, TaskId
from styx.errors import LinkLost
from styx.wire import agent as wire
from tests.fuzz import frames, rig
from tests.support.site import until

LANES: Final = 4
OF_ONE_CONNECTION: Final = 2_000
BATCH: Final = 50  # frames between two heartbeats that are waited for, so that the server keeps up
ANSWER_S: Final = 60.0
GROWTH_BYTES: Final = 50 << 20


@dataclass
class Told:
    frames: int = 0
    harmed: int = 0
    connections: int = 0
    ended: int = 0  # by the server


class Hostile:
    """One agent's connections, one after another, until so many frames are sent."""

    def __init__(self, url: str, token: str, seed: int, agent_id: str, honest: str) -> None:
        self._address = websocket.parse(url)
        self._token = token
        self._rng = random.Random(seed)
        self._agent_id = agent_id
        self._honest = honest
        self.told = Told()

    async def run(self, count: int, foreign: Sequence[AttemptKey]) -> None:
        while self.told.frames < count:
            await self._connection(min(OF_ONE_CONNECTION, count - self.told.frames), foreign)

    async def _connection(self, count: int, foreign: Sequence[AttemptKey]) -> None:
        socket = await websocket.connect(
            self._address,
            wire.PATH,
            subprotocol=wire.SUBPROTOCOL,
            token=self._token,
            max_frame_bytes=wire.MAX_FRAME_BYTES,
        )
        self.told.connections += 1
        heard = asyncio.Event()
        said: list[object] = []

        def listen(frame: bytes) -> None:
            said.extend(wire.decode_from_server(frame))
            heard.set()

        socket.listen(listen, lambda: None)
        try:
            for sent in self._frames(count, foreign):
                socket.send(sent)
                self.told.frames += 1
                if self.told.frames % BATCH == 0:
                    await self._answered(heard, said)
        except LinkLost:
            self.told.ended += 1
        finally:
            socket.abort()

    def _frames(self, count: int, foreign: Sequence[AttemptKey]):
        rng = self._rng
        if rng.random() > 0.05:  # the others begin in the middle
            agent_id = self._honest if rng.random() < 0.1 else self._agent_id
            yield self._harmed([frames.hello(rng, agent_id)])
            yield self._harmed([frames.held(rng, foreign)])
        for number in range(count):
            made = [frames.message(rng, foreign) for _ in range(rng.choice([1, 1, 1, 4]))]
            if number % BATCH == 0:
                made.append(wire.Heartbeat(1))
            yield self._harmed(made)

    def _harmed(self, messages: Sequence[wire.FromAgent]) -> bytes:
        made, harmed = frames.frame(self._rng, messages)
        self.told.harmed += harmed
        return made

    async def _answered(self, heard: asyncio.Event, said: list[object]) -> None:
        """Raises: LinkLost, once the server has said goodbye."""
        async with asyncio.timeout(ANSWER_S):
            await heard.wait()
        heard.clear()
        if any(isinstance(message, wire.Bye) for message in said):
            raise LinkLost("goodbye")
        said.clear()


def run(count: int, seed: int) -> int:
    """0 if the honest agent's work ended as it should, and the server is well."""
    with rig.running() as made:
        site = made.site
        gate = site.home / "go"
        task = site.submit(
            name="honest", run=f"echo begun; until [ -e {gate} ]; do sleep .1; done; echo end"
        )
        until(lambda: site.status(task) == "running", "the honest task runs")
        honest = site.get("/api/v1/agents")[0]
        _attack(made, 2_000, seed, task, honest["id"])  # until every pool and cache has its size
        before = made.rss_bytes
        began = time.monotonic()
        told = _attack(made, count, seed + 1, task, honest["id"])
        took_s, grown = time.monotonic() - began, made.rss_bytes - before
        still = site.status(task)
        gate.touch()
        over = site.finished(task)
        connected = (
            (site.home / "server.stderr")
            .read_text()
            .count(f'"agent": "{honest["name"]}", "session"')
        )
        wrong = made.faults()
        checks = {
            f"the honest task is {still}, then {over['status']}": still == "running"
            and over["status"] == "succeeded",
            f"in attempt {over['attempt']}": over["attempt"] == 1,
            "its output is its own": site.output(task) == b"begun\nend\n",
            f"its agent connected {connected} time(s)": connected == 1,
            f"{len(wrong)} faults in the server's log": not wrong,
            f"the server grew by {grown >> 20} MiB": grown <= GROWTH_BYTES,
        }
        rig.say(
            f"fuzz: seed {seed}, {told.frames} frames ({told.harmed} harmed) on {told.connections} connections "
            f"({told.ended} ended by the server) in {took_s:.0f} s"
        )
        for what, well in checks.items():
            rig.say(f"  {'ok    ' if well else 'FAILED'} {what}")
        for line in wrong[:20]:
            rig.say(line)
        return int(not all(checks.values()))


def _attack(made: rig.Rig, count: int, seed: int, task: str, honest: str) -> Told:
    foreign = [AttemptKey(TaskId(task), 1, 0)]
    return uvloop.run(attack(made.url, made.token, count, seed, foreign, honest))


async def attack(
    url: str, token: str, count: int, seed: int, foreign: Sequence[AttemptKey], honest: str
) -> Told:
    hostile = [
        Hostile(
            url, token, seed * LANES + lane, f"0b000000-0000-7000-8000-00000000000{lane}", honest
        )
        for lane in range(LANES)
    ]
    async with asyncio.TaskGroup() as group:
        for one in hostile:
            group.create_task(one.run(count // LANES, foreign))
    return Told(
        *(
            sum(getattr(one.told, name) for one in hostile)
            for name in ("frames", "harmed", "connections", "ended")
        )
    )
