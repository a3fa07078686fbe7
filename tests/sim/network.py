"""A network of ordered byte streams that carry frames.

What TCP promises holds: a prefix of what was sent arrives, in order, once. All else may happen: any
latency, a line that is cut and that each end notices at a time of its own or never, a direction that
carries nothing for a while and then all of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from styx.agent.websocket import CONNECT_S, WRITE_HIGH_BYTES
from styx.errors import LinkLost
from tests.sim.loop import Handle, Loop, Process, Simulation

FOREVER: Final = float("inf")
_PING: Final = b"\x00ping"  # frames of the transport's own; ours are msgpack arrays
_PONG: Final = b"\x00pong"
_END: Final = b"\x00end"


class End:
    """One end of a connection, in one process. Frames come by `on_frames`, the end by `on_end`."""

    def __init__(self, process: Process, machine: str) -> None:
        self.process = process
        self.machine = machine
        self.out: Pipe
        self.ended = False
        self.on_frames: Callable[[list[bytes]], None] = lambda _: None
        self.on_end: Callable[[], None] = lambda: None

    def send(self, frame: bytes) -> None:
        if not self.ended:
            self.out.send(frame)

    def finish(self) -> None:
        """Close it in order: the peer gets all that was sent, then the end."""
        if not self.ended:
            self.out.send(_END)
            self.end()

    def end(self) -> None:
        """This end sees that the connection is over."""
        if not self.ended:
            self.ended = True
            self.on_end()


class Pipe:
    """One direction. At most one delivery is due at a time; it takes all that has arrived."""

    def __init__(self, network: "Network", source: End, sink: End) -> None:
        self._network = network
        self._simulation = network.simulation
        self._source = source
        self._sink = sink
        self._flying: deque[tuple[float, bytes]] = deque()
        self._due: Handle | None = None
        self._last = 0.0
        self.cut_at = FOREVER
        self.bytes = 0  # sent and not yet taken by the other end
        self.on_drained: Callable[[], None] = lambda: None

    def send(self, frame: bytes) -> None:
        now = self._simulation.now()
        self._last = max(self._last, now + self._network.latency_s())
        self._flying.append((self._last, frame))
        self.bytes += len(frame)
        if self._due is None:
            self._expect(self._last)

    def hasten(self) -> None:
        """The way is free sooner than was said."""
        if self._due is not None:
            self._due.cancel()
            self._expect(self._simulation.now() + self._network.latency_s())

    def _expect(self, when: float) -> None:
        self._due = self._sink.process.post(when, self._deliver)

    def _deliver(self) -> None:
        self._due = None
        now = self._simulation.now()
        blocked = self._network.blocked_until(self._source.machine, self._sink.machine)
        if blocked > now:
            if blocked < FOREVER:
                self._expect(blocked + self._network.latency_s())
            return
        frames: list[bytes] = []
        flying = self._flying
        while flying and flying[0][0] <= now:
            at, frame = flying.popleft()
            self.bytes -= len(frame)
            if at <= self.cut_at:
                frames.append(frame)
        if flying:
            self._expect(flying[0][0])
        if frames and not self._sink.ended:
            self._hand_over(frames)
        if self.bytes <= WRITE_HIGH_BYTES // 4:
            self.on_drained()

    def _hand_over(self, frames: list[bytes]) -> None:
        sink, ends = self._sink, frames[-1] is _END
        if ends:
            frames.pop()
        if _PING in frames:
            sink.send(_PONG)
        if frames:
            sink.on_frames([frame for frame in frames if frame is not _PING])
        if ends:
            sink.end()


class Connection:
    """Both ends, for those who cut lines."""

    def __init__(self, network: "Network", client: End, server: End) -> None:
        self.client = client
        self.server = server
        self._network = network
        self._simulation = network.simulation
        client.out = Pipe(network, client, server)
        server.out = Pipe(network, server, client)

    @property
    def over(self) -> bool:
        ends = (self.client, self.server)
        return all(end.ended or not end.process.alive for end in ends)

    def cut(self, notices: tuple[float, float]) -> None:
        """Nothing sent from now on arrives, nor all that is under way. Each end notices after its delay."""
        random, now = self._simulation.random, self._simulation.now()
        for end, notice in zip((self.client, self.server), notices, strict=True):
            end.out.cut_at = min(end.out.cut_at, now + random.random() * 0.05)
            if notice < FOREVER:
                end.process.post(now + notice, end.end)


class Socket:
    """The agent's end, with the surface of `styx.agent.websocket.WebSocket`."""

    def __init__(self, end: End) -> None:
        self._end = end
        self._early: list[bytes] = []
        self._on_frame: Callable[[bytes], None] = self._early.append
        self._on_pause: Callable[[], None] = lambda: None
        self.ended = asyncio.Event()
        self.writable = True
        self.on_writable: Callable[[], None] = lambda: None
        self.heard_at = end.process.loop.time()
        end.on_frames, end.on_end = self.received, self.ended.set
        end.out.on_drained = self._drained

    @property
    def local_address(self) -> str:
        return self._end.machine

    def send(self, frame: bytes) -> None:
        self._end.send(frame)
        if self._end.out.bytes > WRITE_HIGH_BYTES:
            self.writable = False

    def ping(self) -> None:
        self._end.send(_PING)

    def listen(self, on_frame: Callable[[bytes], None], on_pause: Callable[[], None]) -> None:
        self._on_frame, self._on_pause = on_frame, on_pause
        for frame in self._early:
            on_frame(frame)
        self._early.clear()
        on_pause()

    def close(self, code: int = 1000) -> None:
        self._end.finish()

    def abort(self) -> None:
        self._end.finish()

    def received(self, frames: list[bytes]) -> None:
        self.heard_at = self._end.process.loop.time()
        for frame in frames:
            if frame is not _PONG and not self._end.ended:
                self._on_frame(frame)
        self._on_pause()

    def _drained(self) -> None:
        if not self.writable and self._end.process.alive:
            self.writable = True
            self._end.process.post(0.0, self.on_writable)


class Channel:
    """The server's end: `styx.engine.session.Channel`, as `styx.api.sockets.Channel` behaves."""

    def __init__(self, end: End) -> None:
        self._end = end
        self._frames: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._drained = asyncio.Event()
        self._gone = False
        self.peer = ""  # the machine at the other end
        self.on_heard: Callable[[str], None] = lambda _: None
        end.on_frames, end.on_end = self._received, self._news.set
        end.out.on_drained = self._drained.set

    async def receive(self) -> bytes | None:
        while not self._frames:
            if self._gone or self._end.ended:
                self._gone = True
                return None
            self._news.clear()
            await self._news.wait()
        self.on_heard(self.peer)
        return self._frames.popleft()

    async def send(self, frame: bytes) -> None:
        if self._gone:
            raise LinkLost("the agent went away")
        while self._end.out.bytes > WRITE_HIGH_BYTES and not self._end.ended:
            self._drained.clear()
            await self._drained.wait()
        self._end.send(frame)

    async def close(self, code: int, reason: str) -> None:
        self._gone = True
        self._end.finish()

    def _received(self, frames: list[bytes]) -> None:
        self._frames += frames
        self._news.set()


Accept = Callable[[Channel], Coroutine[Any, Any, None]]


class Network:
    def __init__(self, simulation: Simulation, *, mean_latency_s: float = 0.002) -> None:
        self.simulation = simulation
        self.mean_latency_s = mean_latency_s
        self.refusals = 0.0  # share of connection attempts that are refused for no reason
        self.connections: list[Connection] = []
        self._listeners: dict[str, tuple[Process, str, Accept]] = {}
        self._blocked: dict[tuple[str, str], float] = {}

    def latency_s(self) -> float:
        return self.mean_latency_s * (0.2 + 1.6 * self.simulation.random.random())

    def listen(self, url: str, process: Process, machine: str, accept: Accept) -> None:
        """Connections to `url` become channels, each served by `accept` as a task of the process."""
        self._listeners[url] = (process, machine, accept)

    def block(self, source: str, sink: str, seconds: float) -> None:
        """What `source` sends to `sink` waits: TCP sends it again once the way is free."""
        until = self.simulation.now() + seconds
        self._blocked[source, sink] = max(until, self._blocked.get((source, sink), 0.0))

    def heal(self) -> None:
        """All ways are free from now on."""
        now = self.simulation.now()
        self._blocked = {way: min(until, now) for way, until in self._blocked.items()}
        for connection in self.connections:
            for end in (connection.client, connection.server):
                end.out.hasten()

    def blocked_until(self, source: str, sink: str) -> float:
        return self._blocked.get((source, sink), 0.0)

    async def connect(self, machine: str, url: str) -> Socket:
        """Connect as the running process, from that machine. Raises: LinkLost."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        client = loop.process
        if self.simulation.random.random() < self.refusals:
            raise LinkLost("refused")
        opened: asyncio.Future[Socket] = loop.create_future()
        client_end = End(client, machine)
        self._ask(url, client_end, opened)
        try:
            async with asyncio.timeout(CONNECT_S):
                return await opened
        except TimeoutError as late:
            client_end.finish()
            raise LinkLost("no answer in time") from late

    def _ask(self, url: str, client: End, opened: "asyncio.Future[Socket]") -> None:
        listener = self._listeners.get(url)
        process, machine, accept = listener or (None, "", None)
        server = End(process or client.process, machine)
        connection = Connection(self, client, server)
        if process is None or accept is None or not process.alive:
            self._refuse(client, machine, opened)
            return
        self.connections = [other for other in self.connections if not other.over]
        self.connections.append(connection)

        def accepted(frames: list[bytes]) -> None:
            channel = Channel(server)
            channel.peer = client.machine
            server.send(_PONG)
            process.start(accept, channel)
            if frames[1:]:
                server.on_frames(frames[1:])

        def answered(frames: list[bytes]) -> None:
            if not opened.done():
                opened.set_result(socket := Socket(client))
                if frames[1:]:
                    socket.received(frames[1:])

        def ended() -> None:
            if not opened.done():
                opened.set_exception(LinkLost("the connection was closed"))

        server.on_frames, client.on_frames, client.on_end = accepted, answered, ended
        client.send(b"GET")

    def _refuse(self, client: End, machine: str, opened: "asyncio.Future[Socket]") -> None:
        """The machine answers that nobody listens, if it can be reached."""

        def refuse() -> None:
            if not opened.done():
                opened.set_exception(LinkLost("refused"))

        now = self.simulation.now()
        ways = ((client.machine, machine), (machine, client.machine))
        free = max(self.blocked_until(*way) for way in ways)
        client.process.post(max(now, free) + 2 * self.latency_s(), refuse)

    def dead(self, process: Process) -> None:
        """The system closes a dead process's connections; its peers learn of it by the usual ways."""
        for connection in self.connections:
            for end in (connection.client, connection.server):
                if end.process is process and not end.ended:
                    end.ended = True
                    end.out.send(_END)

    def gone(self, machine: str) -> None:
        """A machine without power sends nothing, not even an end."""
        for connection in self.connections:
            for end in (connection.client, connection.server):
                if end.machine == machine:
                    end.ended = True
                    end.out.cut_at = self.simulation.now()
