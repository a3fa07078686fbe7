"""One connection to the server: hello, welcome, sync, sync_ok, then open until either side ends it.

What goes out waits a few milliseconds for company, because a frame costs the server more than what is
in it, but never so that much of the agent stands idle: once a quarter of what it holds has ended, that
goes at once, and takes along what has gathered. Control goes before logs, and logs only as far as the
server's credit and the socket take them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from styx.agent import proc, spool
from styx.agent.duties import Duties, Lease
from styx.agent.roster import Entry, Phase, Roster
from styx.agent.spool import Spool
from styx.agent.websocket import WebSocket
from styx.core.attempt import AttemptState, StopReason
from styx.core.ids import AttemptKey
from styx.core.spec import DEFAULT_GRACE_S
from styx.errors import WireMismatch
from styx.kit import supervise
from styx.wire import agent as wire

LINGER_S: Final = 0.003  # how long what is not urgent waits for company
IDLE_SHARE: Final = 4  # the part of what is held whose end is urgent
SILENT_BEATS: Final = 3  # heartbeats without a sign of life: the line is cut, whatever TCP believes
BEATS_KEPT: Final = 8  # an acknowledgement that is later than this renews nothing
STALL_S: Final = 60.0  # log bytes under way and none acknowledged: begin a new session
FRAME_LOG_BYTES: Final = 512 << 10
FRAME_CONTROL_BYTES: Final = 768 << 10  # by a generous estimate, below the frame's limit
MESSAGE_BYTES: Final = 2 << 10  # of the estimate: an event with a long detail
END_LOG_BYTES: Final = 256 << 10  # the last output of an attempt that may go ahead of its exit

_Event = wire.EvAccepted | wire.EvStarted | wire.EvExited | wire.EvVoid


class Session:
    def __init__(
        self,
        socket: WebSocket,
        hello: wire.Hello,
        duties: Duties,
        roster: Roster,
        spool: Spool,
        *,
        load: Callable[[], wire.Load],
        on_open: Callable[[wire.Welcome, wire.SyncOk], None],
        alone: bool = True,
    ) -> None:
        """`alone`: there is no other server to go to. Then one that cannot lead is waited for."""
        self._socket = socket
        self._hello = hello
        self._duties = duties
        self._roster = roster
        self._spool = spool
        self._load = load
        self._on_open = on_open
        self._alone = alone
        self._loop = asyncio.get_running_loop()
        self._lease = Lease(proc.now(), 0.0)
        self._welcome: wire.Welcome | None = None
        self._welcomed: asyncio.Future[wire.Welcome] = self._loop.create_future()
        self.opened = False  # at some time
        self._open = False
        self._paused = False
        self._bye: wire.Bye | None = None
        self._control: deque[wire.FromAgent] = deque()
        self._unacked: dict[AttemptKey, tuple[_Event, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._idling = 0  # ends that wait to be sent: their room stands empty
        self._credit = 0
        self._in_flight = 0  # log bytes sent and not acknowledged
        self._moved_at = 0.0  # when the last of them were acknowledged, or the first were sent
        self._disk_low = False
        self._every = 1  # periods from one heartbeat to the next
        self._beat_number = 0
        self._beats: dict[int, float] = {}  # the last heartbeats, and when they were sent
        self._synced: dict[AttemptKey, AttemptState] = {}  # what the server has been told

    async def run(self) -> wire.Bye:
        """Until the connection ends; returns why it did."""
        self._socket.on_writable = self._schedule
        self._socket.send(wire.encode([self._hello]))
        self._socket.listen(self._hear, self._act)
        try:
            await supervise.until_first_ends(end=self._ended, beat=self._beat)
        finally:
            self._duties.session = None
            self._open = False
            if self._timer is not None:
                self._timer.cancel()
            self._socket.abort()
        return self._bye or wire.Bye(wire.CLOSE_RESTART, "the connection was closed")

    def goodbye(self) -> None:
        """End it in good order: the server need not wait for silence to know."""
        self._control.append(wire.Bye(wire.CLOSE_RESTART, "the agent was stopped"))
        self._flush()
        self._socket.close()

    def abort(self, why: str, code: int = wire.CLOSE_RESTART) -> None:
        """Begin anew: the next session's sync tells the server how things stand."""
        self._bye = self._bye or wire.Bye(code, why)
        self._socket.abort()

    def _leave(self, why: str) -> None:
        """Let another server be tried next, if there is one."""
        self.abort(why, wire.CLOSE_RESTART if self._alone else wire.CLOSE_NOT_LEADER)

    # --- to the server ------------------------------------------------------------------------

    def report(self, entry: Entry) -> None:
        """Tell what has become of an attempt, until it is acknowledged."""
        event = entry.event()
        if entry.phase is Phase.ENDED:
            # With its last output ahead of it, the server ends attempt and logs in one go.
            limit = min(END_LOG_BYTES, self._credit - self._in_flight)
            logs = self._spool.take_all(entry.streams, limit)
            if logs is None:
                self._spool.mark(entry.streams)
            else:
                self._lend(logs)
                self._control += logs
        self._unacked[entry.key] = (event, self._loop.time())
        self._control.append(event)
        self._idling += not entry.live
        if notice := entry.notice():
            self.notify(notice)

    def notify(self, notice: wire.Notice) -> None:
        """Said once; what still counts in the next session is said again there."""
        self._control.append(notice)

    def settle(self) -> None:
        """All has been reported that there is for now: send it at once, or let it wait for company."""
        if IDLE_SHARE * self._idling >= self._roster.live:
            self._flush()
        else:
            self._schedule(LINGER_S)

    def forget(self, entry: Entry) -> None:
        """The attempt is about to be let go of."""
        self._unacked.pop(entry.key, None)
        self._in_flight -= sum(stream.sent - stream.acked for stream in entry.streams)

    def grown(self) -> None:
        """There may be more output to send."""
        if self._open:
            self._schedule(LINGER_S)

    def _schedule(self, within_s: float = 0.0) -> None:
        at = self._loop.time() + within_s
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._idling = 0
        while self._control:
            frame: list[wire.FromAgent] = []
            size = 0
            while self._control and size < FRAME_CONTROL_BYTES:
                message = self._control.popleft()
                size += MESSAGE_BYTES + (len(message.data) if isinstance(message, wire.Log) else 0)
                frame.append(message)
            self._socket.send(wire.encode(frame))
        while self._open and self._socket.writable and self._spool:
            room = min(FRAME_LOG_BYTES, self._credit - self._in_flight)
            logs = self._spool.take(room)
            if not logs:
                break
            self._lend(logs)
            self._socket.send(wire.encode(list[wire.FromAgent](logs)))

    def _lend(self, logs: Sequence[spool.Message]) -> None:
        if self._in_flight <= 0:
            self._moved_at = self._loop.time()  # until now there was nothing to wait for
        self._in_flight += spool.size(logs)

    async def _beat(self) -> None:
        try:
            async with asyncio.timeout(SILENT_BEATS * wire.HEARTBEAT_S):
                interval = (await self._welcomed).heartbeat_s
        except TimeoutError:
            self._leave("the server does not welcome this agent")
            return
        welcomed_at = proc.now()
        rested = 0  # periods without a heartbeat
        while True:
            await asyncio.sleep(interval)
            rested += 1
            now, patience_s = self._loop.time(), interval * self._every
            silent_s = now - self._socket.heard_at
            if silent_s > SILENT_BEATS * patience_s:
                self.abort("the server has fallen silent")
            # It answers pings, but does not lead: cut from its database, say. By now another may.
            unled_s = proc.now() - max(self._lease.at, welcomed_at)
            if unled_s > SILENT_BEATS * patience_s and not self._alone:
                self._leave("the server acknowledges no heartbeat")
            if silent_s > patience_s:
                self._socket.ping()  # a server that cannot commit sends nothing, but answers this
            if self._in_flight > 0 and not self._paused and now - self._moved_at > STALL_S:
                self.abort("the server acknowledges no log bytes")
            if self._open:
                if rested >= self._every:
                    rested = 0
                    self._heartbeat()
                self._resend(now - interval)

    def _heartbeat(self) -> None:
        self._beat_number += 1
        self._beats[self._beat_number] = proc.now()
        self._beats.pop(self._beat_number - BEATS_KEPT, None)
        beat = wire.Heartbeat(self._beat_number, self._roster.running, self._load())
        self._control.appendleft(beat)
        full = self._duties.full()
        if full and not self._disk_low:
            self.notify(wire.Notice("disk_low", full))
        self._disk_low = bool(full)
        self._schedule()

    def _resend(self, before: float) -> None:
        """Say again what was said before that moment and has not been acknowledged."""
        if self._paused:
            return
        for key, (event, sent_at) in self._unacked.items():
            if sent_at <= before:
                self._unacked[key] = (event, self._loop.time())
                self._control.append(event)

    # --- from the server ----------------------------------------------------------------------

    async def _ended(self) -> None:
        await self._socket.ended.wait()

    def _hear(self, frame: bytes) -> None:
        try:
            for message in wire.decode_from_server(frame):
                self._handle(message)
        except WireMismatch as mismatch:
            self.abort(mismatch.message, wire.CLOSE_PROTOCOL)

    def _act(self) -> None:
        """All that has arrived has been handled."""
        self._duties.flush()
        if self._control:
            self.settle()

    def _handle(self, message: wire.FromServer) -> None:
        match message:
            case wire.Welcome():
                self._sync(message)
            case wire.SyncOk():
                self._begin(message)
            case wire.Assign() | wire.Stop() if self._welcome and message.term < self._welcome.term:
                pass  # of a leader that has been deposed
            case wire.Assign():
                self._duties.assign(message, self._lease)
            case wire.Redact(keys, values):
                self._duties.hide(keys, values)
            case wire.Stop(key, _, reason, grace_s):
                self._duties.stop(key, reason, grace_s)
            case wire.HeartbeatOk(seq, every):
                self._every = every
                if sent_at := self._beats.get(seq):
                    self._lease.at = sent_at
                    self._duties.renew(self._lease)
            case wire.EvOk(key, kind):
                self._acknowledge(key, kind)
            case wire.LogOk(key, number, offset):
                self._stored(key, number, offset)
            case wire.Forget(key):
                self._duties.forget(key)
            case wire.Pause() | wire.Resume():
                self._paused = isinstance(message, wire.Pause)
                self._moved_at = self._loop.time()
            case wire.Err():
                pass  # a word of ours that this server does not know yet
            case wire.Bye():
                self._bye = message
                self._socket.abort()

    def _sync(self, welcome: wire.Welcome) -> None:
        """Say everything that is held. The lease begins with the hello, just after it was made here."""
        if self._welcome is not None:
            raise WireMismatch("a second welcome")
        self._welcome = welcome
        self._welcomed.set_result(welcome)
        self._lease = Lease(self._lease.at, welcome.lost_after_s)
        self._credit = welcome.log_credit_bytes
        held = tuple(entry.held() for entry in self._roster)
        self._synced = {entry.key: entry.state for entry in held}
        for number, start in enumerate(range(0, len(held) or 1, wire.SYNC_PAGE)):
            page = held[start : start + wire.SYNC_PAGE]
            last = start + wire.SYNC_PAGE >= len(held)
            self._socket.send(wire.encode([wire.Sync(number, last, page)]))

    def _begin(self, ok: wire.SyncOk) -> None:
        if self._welcome is None:
            raise WireMismatch("sync_ok came before the welcome")
        offsets = {(key, number): offset for key, number, offset in ok.offsets}
        for entry in self._roster:
            for stream in entry.streams:
                stream.restart(offsets.get((entry.key, stream.number), 0))
        self._spool.touch(None)
        self._moved_at = self._loop.time()
        self.opened = self._open = True
        self._duties.session = self
        for key in ok.forget:
            self._duties.forget(key)
        for key in ok.stop:
            self._duties.stop(key, StopReason.SUPERSEDED, DEFAULT_GRACE_S)
        for entry in self._roster:
            if self._synced.get(entry.key) is not entry.state:  # it moved on meanwhile
                self.report(entry)
            elif notice := entry.notice():
                self.notify(notice)
        self._duties.renew(self._lease)
        self._on_open(self._welcome, ok)
        self._heartbeat()

    def _acknowledge(self, key: AttemptKey, kind: str) -> None:
        event = self._unacked.get(key)
        if event is not None and event[0].__struct_config__.tag == kind:
            del self._unacked[key]

    def _stored(self, key: AttemptKey, number: int, offset: int) -> None:
        if number not in (spool.OUT, spool.ERR):
            raise WireMismatch(f"there is no stream {number}")
        entry = self._roster.get(key)
        if entry is None:
            return
        stream = entry.streams[number - 1]
        if offset < stream.acked:
            self.abort(f"the server wants bytes of {key} that it had acknowledged")
            return
        before = stream.sent - stream.acked
        stream.acknowledge(offset)
        stream.sent = max(stream.sent, offset)
        self._in_flight += stream.sent - stream.acked - before
        self._moved_at = self._loop.time()
        if self._spool:
            self._schedule(LINGER_S)
