"""Two lanes within this process: the codec alone, and sessions of a real engine over a memory channel."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from styx.core.ids import AgentId, AttemptKey
from styx.engine import session
from styx.engine.loop import Engine
from styx.errors import LinkLost, WireMismatch
from styx.store.postgres import Database
from styx.wire import agent as wire
from tests.fuzz.mutants import Mutants
from tests.support import engines, peer
from tests.support.peer import Peer

ENDS_WITHIN_S: Final = 60.0
FAULT_MAX: Final = 1_000  # characters; it goes into a log and a `Bye`
ROGUES: Final = tuple(AgentId(f"0b000000-0000-7000-8000-00000000000{n}") for n in range(6))
ANYONE: Final = AttemptKey(peer.AGENT, 1, 0)  # pyright: ignore[reportArgumentType]


def codec(dice: random.Random, frames: int) -> int:
    """How many were read as frames; whatever is not must say `WireMismatch`, and what is can be written."""
    mutants = Mutants(dice, [ANYONE])
    read = 0
    for _ in range(frames):
        frame = mutants.wild() if dice.random() < 0.9 else mutants.tame()
        try:
            messages = wire.decode_from_agent(frame)
        except WireMismatch as fault:
            assert len(fault.message) < FAULT_MAX, "the Bye that says so could not be read"  # noqa: PT017 - any other is let through
        else:
            read += 1
            wire.encode([m for m in messages if not isinstance(m, wire.Unknown)])
        with suppress(WireMismatch):
            wire.decode_from_server(frame)
    return read


class Script:
    """A channel whose agent says its lines, hears all and answers nothing."""

    def __init__(self, frames: list[bytes], mutants: Mutants) -> None:
        self.said = 0
        self.byes: list[wire.Bye] = []
        self._frames = frames
        self._mutants = mutants
        self._closed = asyncio.Event()

    async def receive(self) -> bytes | None:
        if self._closed.is_set() or self.said == len(self._frames):
            return None
        self.said += 1
        if self.said % 16 == 0:
            await asyncio.sleep(0)
        return self._frames[self.said - 1]

    async def send(self, frame: bytes) -> None:
        if self._closed.is_set():
            raise LinkLost("closed")
        for message in wire.decode_from_server(frame):
            if isinstance(message, wire.Assign):
                self._mutants.own = [*self._mutants.own[-50:], message.key]
            elif isinstance(message, wire.Bye):
                self.byes.append(message)

    async def close(self, code: int, reason: str) -> None:
        self._closed.set()


def lines(mutants: Mutants, frames: int) -> list[bytes]:
    """What one rogue says on one connection: in order, out of order, or nothing but noise."""
    dice = mutants.dice
    hello = wire.encode([mutants.hello(dice.choice(ROGUES), dice.choice("st"))])
    if dice.random() < 0.1:
        hello = wire.encode([mutants.strange_hello(dice.choice(ROGUES), "s")])
    sync = [wire.encode([wire.Sync(0, last=True, attempts=mutants.held(dice.choice((0, 1, 5))))])]
    if dice.random() < 0.2:
        sync = [
            wire.encode([wire.Sync(page, last=page == 2, attempts=mutants.held(200))])
            for page in range(3)
        ]
    middle = [mutants.tame() for _ in range(frames)]
    match dice.randrange(10):
        case 0:  # speaks before it says who it is
            return [mutants.wild(), *middle[:5]]
        case 1:
            return [middle[0], hello, *sync]
        case 2:
            return [hello, mutants.wild(), *sync]
        case 3:
            return [hello, *middle[:2], *sync]
        case 4:
            return [hello, *sync, *middle, dice.choice((hello, sync[0]))]
        case 5:
            return [hello, hello]
        case _:
            return [hello, *sync, *middle, mutants.wild(), mutants.tame()]


@dataclass
class Honest:
    """An agent that runs one task while everybody else raves."""

    agent: Peer
    key: AttemptKey
    session: int
    engine: Engine

    async def untouched(self) -> None:
        await self.agent.beat()
        world = self.engine.world
        assert world.agents[peer.AGENT].session == self.session, "another session"
        attempt = world.attempts[self.key]
        assert attempt.agent_id == peer.AGENT
        assert attempt.stop_reason.value == "", "somebody stopped it"
        assert not self.agent.unheard(wire.Stop)
        assert not self.agent.unheard(wire.Bye)

    async def ends_well(self) -> None:
        self.agent.say(peer.a_log(self.key, b"whole"), peer.an_end(self.key, out_bytes=5))
        await self.agent.hear(wire.EvOk, lambda ok: ok.kind == "exited")
        assert self.key not in self.engine.world.attempts or (
            self.engine.world.attempts[self.key].exit is not None
        )


@asynccontextmanager
async def honest(engine: Engine) -> AsyncIterator[Honest]:
    async with peer.connected(engine) as agent:
        agent.say(peer.hello(cpus=1))
        welcome = await agent.hear(wire.Welcome)
        agent.say(wire.Sync(0, last=True))
        await agent.hear(wire.SyncOk)
        await engine.post(engines.a_submit())
        key = (await agent.hear(wire.Assign)).key
        agent.say(wire.EvAccepted(key), wire.EvStarted(key))
        await agent.hear(wire.EvOk, lambda ok: ok.kind == "started")
        yield Honest(agent, key, welcome.session, engine)


async def sessions(
    database: Database, directory: Path, dice: random.Random, frames: int, *, at_once: int = 4
) -> int:
    """So many frames at least, in sessions of rogues side by side. Returns how many were read."""
    logs = engines.log_files(database, directory)
    read = 0
    async with engines.running(database, logs) as engine, honest(engine) as good:
        mutants = Mutants(dice, [good.key])

        async def rave() -> None:
            nonlocal read
            while read < frames:
                script = Script(lines(mutants, min(400, frames)), mutants)
                async with asyncio.timeout(ENDS_WITHIN_S):
                    await session.run(script, engine)
                read += script.said
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for n in range(at_once):
                group.create_task(rave(), name=f"rogue {n}")
            for _ in range(20):  # work for rogues, too: they may be asked for it
                group.create_task(engine.post(engines.a_submit()), name="submit")
        await good.untouched()
        await good.ends_well()
    logs.close()
    return read
