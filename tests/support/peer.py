"""The agent's side of the protocol, spoken by a test: what it says is scripted, what it hears is kept."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from styx.core.agent import Capacity
from styx.core.attempt import AttemptState, Exit
from styx.core.feature import ALWAYS
from styx.core.ids import AgentId, AttemptKey
from styx.engine import session
from styx.engine.loop import Engine
from styx.engine.secrets import Secrets
from styx.errors import LinkLost
from styx.wire import agent as wire

DEADLINE_S = 30.0
AGENT = AgentId("0a000000-0000-7000-8000-000000000001")
M = TypeVar("M")


class Peer:
    """Both the session's `Channel` and, for the test, the agent behind it."""

    def __init__(self, agent_id: AgentId = AGENT) -> None:
        self.agent_id = agent_id
        self.closed: int | None = None
        self.deaf = False  # reads nothing, as a peer whose window is full
        self._to_server: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._heard: list[Any] = []
        self._news = asyncio.Event()

    # --- the server's side ------------------------------------------------------------------------

    async def receive(self) -> bytes | None:
        return await self._to_server.get()

    async def send(self, frame: bytes) -> None:
        if self.closed is not None:
            raise LinkLost("closed")
        while self.deaf:
            await asyncio.sleep(0.01)
        self._heard += wire.decode_from_server(frame)
        self._news.set()

    async def close(self, code: int, reason: str) -> None:
        self.closed = code
        self._to_server.put_nowait(None)
        self._news.set()

    # --- the agent's side -------------------------------------------------------------------------

    def say(self, *messages: wire.FromAgent) -> None:
        """One frame."""
        self.say_bytes(wire.encode(list(messages)))

    def say_bytes(self, frame: bytes) -> None:
        self._to_server.put_nowait(frame)

    def hang_up(self) -> None:
        self._to_server.put_nowait(None)

    async def hear(self, kind: type[M], where: Callable[[M], bool] = lambda _: True) -> M:
        """The first such message that was not asked for before. Others stay for later questions."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for index, message in enumerate(self._heard):
                    if isinstance(message, kind) and where(message):
                        del self._heard[index]
                        return message
                self._news.clear()
                await self._news.wait()

    def unheard(self, kind: type[M]) -> list[M]:
        """What has come of that kind and was not asked for."""
        return [message for message in self._heard if isinstance(message, kind)]

    async def beat(self, seq: int = 1) -> None:
        """A heartbeat and its acknowledgement: all that was said before has been read."""
        self.say(wire.Heartbeat(seq))
        await self.hear(wire.HeartbeatOk, lambda ok: ok.seq == seq)

    async def introduce(
        self, *held: wire.Held, store_id: str = "s1", cpus: float = 2
    ) -> wire.SyncOk:
        self.say(hello(self.agent_id, store_id=store_id, cpus=cpus))
        await self.hear(wire.Welcome)
        self.say(wire.Sync(0, last=True, attempts=held))
        return await self.hear(wire.SyncOk)


@asynccontextmanager
async def connected(
    engine: Engine, agent_id: AgentId = AGENT, secrets: Secrets | None = None
) -> AsyncIterator[Peer]:
    """A peer whose session runs; it hangs up at the end."""
    peer = Peer(agent_id)
    async with asyncio.TaskGroup() as group:
        group.create_task(session.run(peer, engine, secrets))
        yield peer
        peer.hang_up()


def hello(agent_id: AgentId = AGENT, *, store_id: str = "s1", cpus: float = 2) -> wire.Hello:
    return wire.Hello(
        proto=(wire.PROTO, wire.PROTO),
        agent_id=agent_id,
        name=f"agent-{agent_id[-1]}",
        store_id=store_id,
        boot_id="boot",
        incarnation="1",
        version="0",
        capacity=Capacity(cpus_milli=round(cpus * 1_000), memory_bytes=8 << 30, features=ALWAYS),
        address="10.0.0.1",
    )


def a_log(key: AttemptKey, data: bytes, *, offset: int = 0, stream: int = 1) -> wire.Log:
    return wire.Log(key, stream, offset, data, zlib.crc32(data))


def running(key: AttemptKey) -> wire.Held:
    return wire.Held(key, AttemptState.RUNNING)


def an_end(key: AttemptKey, **fields: Any) -> wire.EvExited:
    return wire.EvExited(key, Exit(code=0, **fields))
