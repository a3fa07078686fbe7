"""The server's end of the agent protocol, on a real socket, doing what a test tells it to.

It stores what a server would (log bytes, ends) and acknowledges it, unless told not to.
"""

import asyncio
import contextlib
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import wsproto
from wsproto import events

from styx.core.attempt import Exit
from styx.core.ids import AttemptKey, JobId, TaskId
from styx.core.spec import TaskSpec
from styx.wire import agent as wire

WAIT_S = 20.0
M = TypeVar("M")


class Connection:
    """One agent connection. `seen` is everything it said, in order; `frames` the same by frame."""

    def __init__(
        self, server: "AgentServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.seen: list[wire.FromAgent] = []
        self.frames: list[list[wire.FromAgent]] = []
        self.request: events.Request | None = None
        self.closed = False
        self.acknowledging = True
        self.storing = True
        self.every = 1  # periods between the agent's heartbeats
        self.mute = False  # as a machine that is gone
        self._reader = reader
        self._writer = writer
        self._ws = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._news = asyncio.Condition()

    def send(self, *messages: wire.FromServer) -> None:
        self._writer.write(self._ws.send(events.BytesMessage(wire.encode(list(messages)))))

    def cut(self) -> None:
        """As a cable would be: no close frame."""
        self._writer.transport.abort()

    def stop_reading(self) -> None:
        """As a server that hangs: the line is up, and nothing is taken from it."""
        self._writer.transport.pause_reading()

    async def wait(self, kind: type[M], match: Callable[[M], bool] = lambda _: True) -> M:
        """The first message of that kind, past or to come, for which `match` holds."""
        return await self._wait(
            lambda: next((m for m in self.seen if isinstance(m, kind) and match(m)), None)
        )

    async def wait_closed(self) -> None:
        await self._wait(lambda: self.closed or None)

    async def end(self, key: AttemptKey) -> Exit:
        """How the attempt ended, once that is told."""
        return (await self.wait(wire.EvExited, lambda event: event.key == key)).exit

    async def complete(self, key: AttemptKey) -> Exit:
        """The same, with every byte of its output stored here."""
        end = await self.end(key)
        await self._wait(
            lambda: (
                (
                    len(self.server.output(key, 1)) >= end.out_bytes
                    and len(self.server.output(key, 2)) >= end.err_bytes
                )
                or None
            )
        )
        return end

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Checked whenever the agent has said something."""
        return await self._wait(lambda: condition() or None)

    async def _wait(self, find: Callable[[], Any]) -> Any:
        async with asyncio.timeout(WAIT_S), self._news:
            while (found := find()) is None:
                await self._news.wait()
            return found

    async def open(self, **welcome: Any) -> list[wire.Held]:
        """Welcome the agent and take its sync; what is held is returned before `sync_ok` is sent."""
        await self.wait(wire.Hello)
        self.send(
            wire.Welcome(
                **(
                    {
                        "proto": 1,
                        "session": 1,
                        "term": 1,
                        "heartbeat_s": 0.2,
                        "lost_after_s": 300.0,
                        "log_credit_bytes": 4 << 20,
                    }
                    | welcome
                )
            )
        )
        await self.wait(wire.Sync, lambda sync: sync.last)
        return [held for m in self.seen if isinstance(m, wire.Sync) for held in m.attempts]

    async def ready(
        self,
        *,
        stop: tuple[AttemptKey, ...] = (),
        forget: tuple[AttemptKey, ...] = (),
        **welcome: Any,
    ) -> list[wire.Held]:
        """Welcome, sync and sync_ok, with the offsets of what is stored."""
        held = await self.open(**welcome)
        offsets = tuple(
            (key, number, len(data)) for (key, number), data in self.server.logs.items()
        )
        self.send(wire.SyncOk(forget=forget, stop=stop, offsets=offsets, adopted=len(held)))
        return held

    async def run(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(1 << 18):
                self._ws.receive_data(data)
                for event in self._ws.events():
                    self._handle(event)
                async with self._news:
                    self._news.notify_all()
        async with self._news:
            self.closed = True
            self._news.notify_all()
        self._writer.close()

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.Request():
                self.request = event
                if self.server.reject:
                    self._writer.write(
                        self._ws.send(
                            events.RejectConnection(
                                self.server.reject, headers=[(b"content-length", b"0")]
                            )
                        )
                    )
                else:
                    self._writer.write(
                        self._ws.send(events.AcceptConnection(subprotocol=wire.SUBPROTOCOL))
                    )
            case events.BytesMessage():
                self._partial = getattr(self, "_partial", b"") + bytes(event.data)
                if event.message_finished:
                    frame, self._partial = self._partial, b""
                    messages = wire.decode_from_agent(frame)
                    self.frames.append(messages)
                    self.seen += messages
                    if answers := [
                        answer for message in messages for answer in self._answers(message)
                    ]:
                        self.send(*answers)
            case events.Ping() if not self.mute:
                self._writer.write(self._ws.send(event.response()))
            case events.CloseConnection():
                with contextlib.suppress(wsproto.utilities.LocalProtocolError):
                    self._writer.write(self._ws.send(event.response()))
            case _:
                pass

    def _answers(self, message: wire.FromAgent) -> Iterator[wire.FromServer]:
        match message:
            case _ if self.mute:
                pass
            case wire.Heartbeat(seq) if self.acknowledging:
                yield wire.HeartbeatOk(seq, self.every)
            case wire.Log(key, number, offset, data, crc):
                assert zlib.crc32(data) == crc
                assert len(data) <= wire.MAX_LOG_BYTES
                if self.storing:
                    yield wire.LogOk(key, number, self.server.store(key, number, offset, data))
            case wire.Gap(key, number, start, end, _) if self.storing:
                yield wire.LogOk(
                    key, number, self.server.store(key, number, start, b"~" * (end - start))
                )
            case wire.EvStarted(key) | wire.EvAccepted(key) if self.acknowledging:
                yield wire.EvOk(key, str(message.__struct_config__.tag))
            case wire.EvExited(key) | wire.EvVoid(key) if self.acknowledging:
                self.server.ends.setdefault(key, message)
                yield wire.EvOk(key, str(message.__struct_config__.tag))
            case _:
                pass


class AgentServer:
    """`logs` are the bytes stored (a gap as `~`), `ends` the first end told of each attempt."""

    def __init__(self) -> None:
        self.reject = 0  # an HTTP status
        self.logs: dict[tuple[AttemptKey, int], bytearray] = {}
        self.ends: dict[AttemptKey, wire.EvExited | wire.EvVoid] = {}
        self.url = ""
        self._connections: asyncio.Queue[Connection] = asyncio.Queue()
        self._open: set[asyncio.StreamWriter] = set()

    def store(self, key: AttemptKey, number: int, offset: int, data: bytes) -> int:
        stored = self.logs.setdefault((key, number), bytearray())
        if offset <= len(stored):
            stored += data[len(stored) - offset :]
        return len(stored)

    def output(self, key: AttemptKey, number: int = 1) -> bytes:
        return bytes(self.logs.get((key, number), b""))

    def exit(self, key: AttemptKey) -> Exit:
        end = self.ends[key]
        assert isinstance(end, wire.EvExited), end
        return end.exit

    async def accept(self) -> Connection:
        """The next connection."""
        async with asyncio.timeout(WAIT_S):
            return await self._connections.get()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        self._open.add(writer)
        try:
            self._connections.put_nowait(connection)
            await connection.run()
        finally:
            # Not in order: a connection that one side has stopped reading would never close.
            writer.transport.abort()
            self._open.discard(writer)

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator["AgentServer"]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=1 << 22)
        host, port = server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        async with server:
            yield self
            for writer in tuple(self._open):
                writer.transport.abort()
            async with asyncio.timeout(WAIT_S):
                while self._open:
                    await asyncio.sleep(0.01)


def assign(key: AttemptKey, *argv: str, term: int = 1, **spec: Any) -> wire.Assign:
    return wire.Assign(
        key=key,
        term=term,
        job_id=JobId("a-job"),
        name="t",
        spec=TaskSpec(name="t", argv=argv, **spec),
    )


def a_key(n: int = 1, rank: int = 0) -> AttemptKey:
    """Unique on the machine, as in earnest."""
    return AttemptKey(TaskId(str(uuid.uuid4())), n, rank)
