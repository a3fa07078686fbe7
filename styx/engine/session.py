"""One agent connection: hello, welcome, sync, sync_ok, then open until either side ends it.

Four loops side by side: reading, writing, acknowledging, and storing log bytes. A fault of the
protocol ends this session and nothing else; the agent connects anew and syncs.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from styx.core import event
from styx.core.attempt import TERMINAL
from styx.core.ids import AttemptKey
from styx.engine import pace
from styx.engine.admission import Doorstep
from styx.engine.links import Link
from styx.engine.loop import Engine
from styx.engine.ports import Leader
from styx.engine.reports import Report, Reports
from styx.engine.secrets import Secrets, take_secretive
from styx.engine.streams import Streams
from styx.errors import (
    LimitReached,
    LinkLost,
    StaleWrite,
    StoreUnavailable,
    WireMismatch,
    WriteRefused,
)
from styx.kit import supervise
from styx.wire import agent as wire

HELLO_WITHIN_S: Final = 10.0
SYNC_WITHIN_S: Final = 60.0  # for all its pages
SYNC_PAGES_MAX: Final = 1_000  # half a million held attempts
FLUSH_S: Final = 1.0  # for what is queued when the session is closed from here
FOREIGN_LOGGED: Final = 20  # attempts named in one line
NOTICES_LOGGED: Final = 100  # of one session: an agent must not fill our disk
# A thousand terms a second for eight years; segments of logs are numbered by it.
LAST_TERM: Final = 1 << 38
RETRY_AFTER_S: Final = 2.0  # for an agent that came while nothing can be committed

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Channel(Protocol):
    """A message transport; the API's is a WebSocket."""

    async def receive(self) -> bytes | None:
        """The next binary frame, or None once the peer has gone."""
        ...

    async def send(self, frame: bytes) -> None:
        """Raises: LinkLost."""
        ...

    async def close(self, code: int, reason: str) -> None: ...


async def run(channel: Channel, engine: Engine, secrets: Secrets | None = None) -> None:
    """Serve one connection from its hello to its end. The channel is closed afterwards.

    Without `secrets` no spec may name one.
    """
    session = _Session(channel, engine, secrets)
    link = session.link
    try:
        await supervise.until_first_ends(
            read=session.read,
            write=session.write,
            acknowledge=session.reports.run,
            store=session.streams.run,
            close=session.closed,
        )
    except* LinkLost:
        pass
    except* (WireMismatch, WriteRefused) as faults:
        fault = str(faults.exceptions[0])
        log.warning("protocol fault", agent=link.agent_id, fault=fault)
        link.close(wire.Bye(wire.CLOSE_PROTOCOL, fault))
    except* (StoreUnavailable, LimitReached):
        link.close(wire.Bye(wire.CLOSE_OVERLOAD, "nothing can be committed now", RETRY_AFTER_S))
    finally:
        engine.links.credit.take_back(session.credit_bytes)
        current = engine.links.detach(link)
    await _hang_up(channel, link.bye)
    if current and link.session:
        # What cannot be committed now, the detector finds: an agent without a link.
        with suppress(StoreUnavailable, LimitReached):
            await engine.post(event.AgentDisconnected(link.agent_id, link.session))


async def refuse(channel: Channel, leader: Leader | None, doorstep: Doorstep) -> None:
    """Answer an agent on a server that does not lead: where the leader is, or to come again.

    The channel is closed afterwards.
    """
    address = leader.address if leader else ""
    with doorstep.stand() as room, suppress(LinkLost, WireMismatch, TimeoutError):
        # What closes before its agent has spoken looks like a broken line, not like an answer.
        async with asyncio.timeout(HELLO_WITHIN_S if room else 0.0):
            await channel.receive()
    await _hang_up(
        channel, wire.Bye(wire.CLOSE_NOT_LEADER, address, 0.0 if address else RETRY_AFTER_S)
    )


async def _hang_up(channel: Channel, bye: wire.Bye | None) -> None:
    """Say why, as a message too: the server's WebSocket passes few close codes on."""
    with suppress(LinkLost, TimeoutError):  # the peer is gone: that was wanted
        async with asyncio.timeout(FLUSH_S):
            if bye is None:
                await channel.close(1000, "")
            else:
                await channel.send(wire.encode([bye]))
                await channel.close(bye.code, bye.reason)


class _Session:
    def __init__(self, channel: Channel, engine: Engine, secrets: Secrets | None) -> None:
        self._channel = channel
        self._engine = engine
        self._secrets = secrets
        self.link = Link(engine.monotonic())
        self.reports = Reports(engine, self.link)
        self._restored = False  # since this agent was last welcomed, the database was
        self._unknown = 0  # messages of types that this version does not know
        self._notices = 0
        self.credit_bytes = engine.links.credit.lend()
        self.streams = Streams(engine, self.link, self.reports, credit_bytes=self.credit_bytes)

    async def read(self) -> None:
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                hello = await self._introduced()
            if hello is None or not await self._connect(hello):
                return
            async with asyncio.timeout(SYNC_WITHIN_S):
                held = await self._held()
        except TimeoutError as late:
            raise WireMismatch("the agent did not introduce itself in time") from late
        if held is None:
            return
        await self._sync(held)
        while (messages := await self._receive()) is not None:
            if not await self._handle(messages):
                return

    async def write(self) -> None:
        while messages := await self.link.take():
            assigns = take_secretive(messages) if self.link.secretive else []
            for frame in _frames(messages):
                await self._channel.send(frame)
            if assigns:
                await self._write_armed(assigns)

    async def _write_armed(self, assigns: list[wire.Assign]) -> None:
        """With the secrets that they want. What cannot be read now is owed, and comes again."""
        assert self._secrets is not None, "a spec names some"
        try:
            armed = await self._secrets.arm(assigns)
        except StoreUnavailable:
            return
        for assign in armed:
            if self.link.closing.is_set():  # as `Link.close` has it, meanwhile
                return
            await self._channel.send(wire.encode([assign]))

    async def closed(self) -> None:
        await self.link.closing.wait()
        await asyncio.sleep(FLUSH_S)  # `write` ends sooner if the peer reads

    async def _receive(self) -> list[wire.FromAgent] | None:
        """The next frame, without what only a newer agent could mean: that is answered here."""
        frame = await self._channel.receive()
        if frame is None:
            return None
        self.link.heard_s = self._engine.monotonic()
        messages: list[wire.FromAgent] = []
        for message in wire.decode_from_agent(frame):
            if isinstance(message, wire.Unknown):
                self._refuse(message)
            else:
                messages.append(message)
        return messages

    def _refuse(self, unknown: wire.Unknown) -> None:
        """Raises: WireMismatch, once there were too many."""
        self._unknown += 1
        if self._unknown > wire.UNKNOWN_MAX:
            raise WireMismatch(f"more than {wire.UNKNOWN_MAX} messages of unknown types")
        self.link.send(wire.Err(f"the message type {unknown.tag!r} is not known here"))

    async def _introduced(self) -> wire.Hello | None:
        """Its hello, unless it leaves or is sent away: too many wait already, or come at once (P-5)."""
        links = self._engine.links
        with links.doorstep.stand() as room:
            hello = await self._hello() if room else None
        wait_s = links.handshakes.wait_s() if hello else 0.0 if room else RETRY_AFTER_S
        if wait_s:
            reason = "too many agents connect at once"
            self.link.close(wire.Bye(wire.CLOSE_OVERLOAD, reason, wait_s))
            return None
        return hello

    async def _hello(self) -> wire.Hello | None:
        messages = await self._receive()
        match messages:
            case None:
                return None
            case [wire.Hello() as hello]:
                return hello
            case _:
                raise WireMismatch("the first frame of a connection is one hello")

    async def _connect(self, hello: wire.Hello) -> bool:
        """Refuse, or make this the agent's session and welcome it."""
        link, engine = self.link, self._engine
        lowest, highest = hello.proto
        proto = wire.common_proto(lowest, highest)
        if proto is None:
            reason = f"protocols {wire.OLDEST_PROTO} to {wire.PROTO} are spoken here, not {lowest} to {highest}"
            link.close(wire.Bye(wire.CLOSE_TOO_OLD, reason))
            return False
        if self._cloned(hello):
            log.error("agent identity is in use on another disk", agent=hello.name)
            link.close(wire.Bye(wire.CLOSE_CLONED, f"another {hello.name} is connected"))
            return False
        if hello.last_term > engine.store.term:
            await self._surpass(hello)
            return False
        self._restored = hello.db_generation not in {0, engine.store.generation}
        link.agent_id, link.store_id = hello.agent_id, hello.store_id
        engine.links.attach(link)
        answer = await engine.post(
            event.AgentConnected(
                agent_id=hello.agent_id,
                name=hello.name,
                store_id=hello.store_id,
                boot_id=hello.boot_id,
                version=hello.version,
                address=hello.address,
                capacity=hello.capacity,
                labels=hello.labels,
            )
        )
        assert isinstance(answer, event.Welcomed), answer
        link.session = answer.session
        link.send(
            wire.Welcome(
                proto=proto,
                session=link.session,
                term=engine.store.term,
                heartbeat_s=wire.HEARTBEAT_S,
                lost_after_s=engine.scheduler.lost_after_s,
                log_credit_bytes=self.credit_bytes,
                db_generation=engine.store.generation,
            )
        )
        return True

    async def _surpass(self, hello: wire.Hello) -> None:
        """A later server has spoken to this agent: either we are deposed, or the database is older."""
        log.error("agent has seen a later term", agent=hello.name, seen=hello.last_term)
        if hello.last_term > LAST_TERM:
            raise WireMismatch(f"no server ever had the term {hello.last_term}")
        with suppress(StaleWrite):
            await self._engine.store.surpass(hello.last_term)
        bye = wire.Bye(wire.CLOSE_RESTART, "another term begins", RETRY_AFTER_S)
        self.link.close(bye)

    def _cloned(self, hello: wire.Hello) -> bool:
        """Whether the agent's identity lives on another disk, in a session that still speaks."""
        other = self._engine.links.get(hello.agent_id)
        silence_s = self._engine.links.last_seen_s(hello.agent_id)
        if other is None or silence_s is None or other.store_id == hello.store_id:
            return False
        return silence_s < other.every * self._engine.scheduler.suspect_after_s

    async def _held(self) -> list[wire.Held] | None:
        """All that the agent holds, from the pages of its sync."""
        held: list[wire.Held] = []
        for page in range(SYNC_PAGES_MAX):
            match await self._receive():
                case None:
                    return None
                case [wire.Sync() as sync] if sync.page == page:
                    held += sync.attempts
                case _:
                    raise WireMismatch(f"page {page} of the sync is due")
            if sync.last:
                return held
        raise WireMismatch("the sync does not end")

    async def _sync(self, held: Sequence[wire.Held]) -> None:
        link, engine = self.link, self._engine
        known = tuple(event.Known(entry.key, entry.state, entry.exit) for entry in held)
        foreign = tuple(await self._foreign(held))
        restored = self._restored or bool(foreign)
        answer = await engine.post(
            event.AgentSynced(link.agent_id, link.session, known, foreign, restored)
        )
        if not isinstance(answer, event.SyncAnswer):
            raise LinkLost("the session was superseded while it synced")
        offsets = await self.streams.adopt(held)
        if self._secrets is not None:
            for message in await self._secrets.redactions([e.key for e in held], engine.world):
                link.send(message)
        link.send(wire.SyncOk(answer.forget, answer.stop, offsets, answer.adopted, answer.foreign))
        link.foreign = set(answer.foreign)
        link.synced = True
        engine.links.redrive_one(link)
        await self._release(held)
        agent = engine.world.agents[link.agent_id]
        if answer.foreign:
            names = [str(key) for key in answer.foreign[:FOREIGN_LOGGED]]
            log.warning("attempts of another history run on", agent=agent.name, attempts=names)
        log.info("agent connected", agent=agent.name, session=link.session, adopted=answer.adopted)

    async def _foreign(self, held: Sequence[wire.Held]) -> list[AttemptKey]:
        """What runs there without a row here proves another history by itself, however that came
        about; what has a row, though nobody looks after it any more, is superseded in any history.
        """
        known = self._engine.world.attempts
        live = (entry.key for entry in held if entry.state not in TERMINAL)
        unknown = [key for key in live if key not in known]
        return await self._engine.store.foreign(unknown) if unknown else []

    async def _release(self, held: Sequence[wire.Held]) -> None:
        """Let go of what was over before this session, and of what the sync has just ended."""
        over = [entry.key for entry in held if entry.state in TERMINAL]
        await self.streams.settle(over)
        for key in over:
            self._engine.links.release(self.link, key)

    async def _handle(self, messages: list[wire.FromAgent]) -> bool:
        """One frame of an open session; False once the agent said goodbye."""
        # What a frame says of an attempt that it also ends waits for the end: one turn instead of two.
        ending = {message.key for message in messages if isinstance(message, wire.EvExited)}
        reports: list[Report] = []
        for message in messages:
            match message:
                case wire.EvAccepted(key) | wire.EvStarted(key) | wire.EvVoid(key):
                    if key in ending:
                        self.streams.put(message)
                    else:
                        reports.append(message)
                case wire.Log() | wire.Gap() | wire.EvExited():
                    self.streams.put(message)
                case wire.Heartbeat(seq, _, load):
                    self.link.load = load
                    if self._engine.leading:
                        self.link.send(self._beat_on(seq))
                case wire.Notice(kind, detail, deadline_s):
                    self._noticed(kind, detail)
                    if kind == wire.PREEMPT:
                        await self._preempted(deadline_s)
                case wire.Bye():
                    return False
                case wire.Hello() | wire.Sync():
                    raise WireMismatch("the session is open already")
        await self.reports.post(reports)
        return True

    def _beat_on(self, seq: int) -> wire.HeartbeatOk:
        engine = self._engine
        self.link.every = pace.every(len(engine.links), engine.scheduler.lost_after_s)
        return wire.HeartbeatOk(seq, self.link.every)

    def _noticed(self, kind: str, detail: str) -> None:
        self._notices += 1
        if self._notices <= NOTICES_LOGGED:
            log.warning("agent notice", agent=self.link.agent_id, kind=kind, detail=detail)

    async def _preempted(self, deadline_s: float) -> None:
        link = self.link
        await self._engine.post(event.AgentPreempted(link.agent_id, link.session, deadline_s))


def _frames(messages: list[wire.FromServer]) -> Iterator[bytes]:
    """As few frames as their size limit allows."""
    if not messages:
        return
    frame = wire.encode(messages)
    if len(frame) <= wire.MAX_FRAME_BYTES or len(messages) == 1:
        yield frame
    else:
        half = len(messages) // 2
        yield from _frames(messages[:half])
        yield from _frames(messages[half:])
