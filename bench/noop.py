"""Agents that run nothing: the real protocol over real sockets, and every task is over at once.

What is left is the server's own cost. They live in a process of their own:
`python -m bench.noop URL --agents N --slots N` says `ready` once all are in step with the server, and
answers each line on its standard input with what it has done since the last one; `hold` and `go` are lines, too:
meanwhile its tasks are kept from their end.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from bench.asked import READY, Asked
from styx.agent import websocket
from styx.core.agent import Capacity
from styx.core.attempt import AttemptState, Exit
from styx.core.ids import AgentId, AttemptKey
from styx.errors import LinkLost
from styx.wire import agent as wire

FRAME_MESSAGES: Final = 2_000  # some 300 KiB
CONNECTS_PER_S: Final = 150  # a server takes 200 a second, and sends away who comes beyond
HOPS_KEPT: Final = 10_000
MEMORY_BYTES: Final = 1 << 50  # never what is short
LOAD: Final = wire.Load(
    cpu_percent=3.1, load1=0.2, memory_used_bytes=1 << 30, memory_total_bytes=1 << 34,
    disk_free_bytes=1 << 36, net_rx_bytes_per_s=812.0, net_tx_bytes_per_s=411.0,
)  # fmt: skip


class Done(NamedTuple):
    """What the agents of a process have done since they were last asked.

    `hops_s` are the times from a task's end, as it is sent, to the next assignment.
    """

    tasks: int
    hops_s: list[float]
    reconnects: int
    beats: int


@dataclass
class Tally:
    tasks: int = 0
    hops_s: list[float] = field(default_factory=list[float])
    reconnects: int = 0
    beats: int = 0
    holding: bool = False

    def take(self) -> Done:
        done = Done(self.tasks, self.hops_s, self.reconnects, self.beats)
        self.tasks, self.hops_s, self.reconnects, self.beats = 0, [], 0, 0
        return done


class Agent:
    def __init__(self, number: int, slots: int, labels: dict[str, str], tally: Tally) -> None:
        self._hello = wire.Hello(
            proto=(wire.PROTO, wire.PROTO),
            agent_id=AgentId(str(uuid.uuid4())),
            name=f"noop-{number}-{uuid.uuid4().hex[:8]}",
            store_id=uuid.uuid4().hex,
            boot_id=uuid.uuid4().hex,
            incarnation=uuid.uuid4().hex,
            version="bench",
            capacity=Capacity(cpus_milli=1_000 * slots, memory_bytes=MEMORY_BYTES),
            labels=labels,
        )
        self._tally = tally
        self._socket: websocket.WebSocket | None = None
        self._said: list[wire.FromAgent] = []
        self._unacked: dict[AttemptKey, float] = {}  # ends, and when they were sent
        self._held: list[AttemptKey] = []
        self._ended_at = 0.0
        self._retry_after_s = 0.0
        self._every = 1
        self.ready = asyncio.Event()

    async def run(self, url: str) -> None:
        """One session after another."""
        while True:
            with contextlib.suppress(LinkLost):
                await self._session(url)
            self.ready.clear()
            self._tally.reconnects += 1
            await asyncio.sleep(self._retry_after_s or 1.0)

    async def _session(self, url: str) -> None:
        self._socket = await websocket.connect(
            websocket.parse(url),
            wire.PATH,
            subprotocol=wire.SUBPROTOCOL,
            token="",
            max_frame_bytes=wire.MAX_FRAME_BYTES,
        )
        self._retry_after_s = 0.0
        self._send([self._hello])
        self._socket.listen(self._hear, self._flush)
        number = 0
        while not self._socket.ended.is_set():
            number += 1
            try:
                async with asyncio.timeout(wire.HEARTBEAT_S):
                    await self._socket.ended.wait()
            except TimeoutError:
                if number % self._every == 0:
                    self._said.append(wire.Heartbeat(number, len(self._unacked), LOAD))
                    self._tally.beats += 1
                self._say_again()
                self._flush()

    def _hear(self, frame: bytes) -> None:
        for message in wire.decode_from_server(frame):
            match message:
                case wire.Welcome():
                    held = tuple(
                        wire.Held(key, AttemptState.SUCCEEDED, Exit(code=0))
                        for key in self._unacked
                    )
                    self._send([wire.Sync(0, last=True, attempts=held)])
                case wire.SyncOk():
                    self.ready.set()
                case wire.Assign(key):
                    if self._ended_at:
                        if len(self._tally.hops_s) < HOPS_KEPT:
                            self._tally.hops_s.append(time.perf_counter() - self._ended_at)
                        self._ended_at = 0.0
                    if self._tally.holding:
                        self._held.append(key)
                    else:
                        self._end(key)
                case wire.EvOk(key, "exited"):
                    if self._unacked.pop(key, None) is not None:
                        self._tally.tasks += 1
                case wire.HeartbeatOk():
                    self._every = message.every
                case wire.Bye():
                    self._retry_after_s = message.retry_after_s
                case _:
                    pass

    def go(self) -> None:
        """What was held is over now."""
        for key in self._held:
            self._end(key)
        self._held.clear()
        self._flush()

    def _end(self, key: AttemptKey) -> None:
        """As an agent says it whose task was over before the news of its start had left."""
        self._unacked[key] = time.perf_counter()
        self._said += wire.EvStarted(key), wire.EvExited(key, Exit(code=0, ran_ms=1, cpu_ms=1))

    def _say_again(self) -> None:
        before = time.perf_counter() - wire.HEARTBEAT_S
        for key in [key for key, sent_at in self._unacked.items() if sent_at < before]:
            self._end(key)

    def _flush(self) -> None:
        for start in range(0, len(self._said), FRAME_MESSAGES):
            self._send(self._said[start : start + FRAME_MESSAGES])
        if self._said and self._unacked:
            self._ended_at = time.perf_counter()
        self._said.clear()

    def _send(self, messages: list[wire.FromAgent]) -> None:
        if self._socket is not None:
            self._socket.send(wire.encode(messages))


async def _serve(url: str, agents: int, slots: int, labels: dict[str, str]) -> None:
    tally = Tally()
    async with asyncio.TaskGroup() as group:
        fleet = [Agent(number, slots, labels, tally) for number in range(agents)]
        running = []
        for agent in fleet:
            running.append(group.create_task(agent.run(url)))
            await asyncio.sleep(1 / CONNECTS_PER_S if agents > 1 else 0)
        for agent in fleet:
            await agent.ready.wait()
        print(READY, flush=True)
        lines = await _standard_input()
        while line := await lines.readline():
            tally.holding = line == b"hold\n"
            for agent in fleet if line == b"go\n" else ():
                agent.go()
            print(json.dumps(tally.take()), flush=True)
        for session in running:
            session.cancel()


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


class Fleet:
    """Such a process, seen from the bench."""

    def __init__(self, url: str, agents: int, slots: int, labels: dict[str, str]) -> None:
        program = [sys.executable, "-m", "bench.noop", url]
        program += ["--agents", str(agents), "--slots", str(slots), "--labels", json.dumps(labels)]
        self._asked = Asked(program, Path.cwd())

    def done(self) -> Done:
        return Done(*self._asked.ask())

    def hold(self) -> Done:
        """From now on what is assigned does not end."""
        return Done(*self._asked.ask("hold"))

    def go(self) -> Done:
        return Done(*self._asked.ask("go"))

    def close(self) -> None:
        self._asked.close()


@contextlib.contextmanager
def fleet(
    url: str, *, agents: int = 1, slots: int = 1_000, labels: dict[str, str] | None = None
) -> Iterator[Fleet]:
    started = Fleet(url, agents, slots, labels or {})
    try:
        yield started
    finally:
        started.close()


def main() -> None:
    parser = argparse.ArgumentParser("bench.noop", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--agents", type=int, default=1)
    parser.add_argument("--slots", type=int, default=1_000)
    parser.add_argument("--labels", type=json.loads, default={})
    given = parser.parse_args()
    uvloop.run(_serve(given.url, given.agents, given.slots, given.labels))


if __name__ == "__main__":
    main()
