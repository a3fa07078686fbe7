"""The half of the agent that talks to the server: it may die at any moment, and comes back knowing all.

It keeps one session after another, and turns what is said on one side into what is done on the other.
"""

import asyncio
import contextlib
import logging
import subprocess
import uuid
from collections.abc import Iterable
from typing import Final

import msgspec

import styx
from styx.agent import home, proc, websocket
from styx.agent import identity as identities
from styx.agent.courier import Courier, Rooms
from styx.agent.deliver import Deliveries
from styx.agent.duties import Duties
from styx.agent.executor import Executor, Record
from styx.agent.files import Files
from styx.agent.identity import Identity
from styx.agent.probe import Machine, Probe, disk_share_bytes
from styx.agent.pull import Pulls
from styx.agent.room import WAITING_MAX
from styx.agent.roster import Phase, Roster
from styx.agent.servers import Servers
from styx.agent.session import Session
from styx.agent.spool import Spool
from styx.agent.watch import Watch
from styx.config import AgentConfig
from styx.core.agent import Capacity
from styx.errors import Conflict, LinkLost, StyxError, Unauthenticated, WireMismatch
from styx.kit import supervise
from styx.kit.backoff import Backoff
from styx.wire import agent as wire

BACKOFF_BASE_S: Final = 0.2
BACKOFF_CAP_S: Final = 15.0
LOCAL_CAP_S: Final = 1.0  # a refused connection on loopback costs nobody anything
STEADY_S: Final = 30.0  # a session that lasted so long makes the next failure a first one
SHORTEN_EVERY_S: Final = 0.5  # for so long can a flood of output overshoot its cap
GOODBYE_S: Final = 1.0
AHEAD_PER_CPU: Final = 32  # of 2 ms each, they last for as long as a busy server takes to send more

log: Final = logging.getLogger("styx.agent")


class Link:
    def __init__(
        self,
        directory: str,
        config: AgentConfig,
        identity: Identity,
        found: Machine,
        supervisor: subprocess.Popen[bytes],
        env: dict[str, str],
        *,
        url: str,
        token: str,
    ) -> None:
        self._directory = directory
        self._config = config
        self._identity = identity
        self._found = found
        self._servers, self._token = Servers(url), token
        self._incarnation = uuid.uuid4().hex
        self._term = 0
        self._socket: websocket.WebSocket | None = None
        self._session: Session | None = None
        self._stopping = asyncio.Event()
        self._said = ""  # of the connection, last: not to be said again
        self._roster = Roster(directory, {card.index: card.gpu.model for card in found.cards})
        self._spool = Spool(config.spool_bytes_per_attempt, disk_share_bytes(directory))
        self._probe = Probe(directory, found)
        self._watch = Watch(home.spool(directory), self._grown)
        self._executor = Executor(
            directory,
            env,
            supervisor,
            capacity=found.capacity,
            on_records=self._records,
            on_snapshot=self._snapshot,
        )
        courier = Courier(
            directory, env, self._server_url, token, config.files_bytes, config.allow_hosts
        )
        self._pulls = Pulls(env, self._executor.send, self._executor.flush, until=self._start_until)
        self._files = Files(
            courier,
            Rooms(directory),
            self._pulls.command,
            self._executor.flush,
            until=self._start_until,
            live=self._jobs,
            kept_s=config.files_kept_s,
        )
        self._deliveries = Deliveries(courier, self._delivered)
        self._duties = Duties(
            directory,
            self._roster,
            self._spool,
            self._files.command,
            self._executor.flush,
            has_gpus=bool(found.cards),
            engine=found.engine,
            deliveries=self._deliveries,
            full=self._probe.full,
        )

    async def run(self) -> None:
        """Until `stop`. Raises: Unauthenticated, Conflict, WireMismatch, SetupError: it cannot go on."""
        loops = {
            "stop": self._stopped,
            "executor": self._executor.run,
            "watch": self._watch.run,
            "shorten": self._shorten,
            "files": self._files.run,
            "images": self._pulls.run,
            "outputs": self._deliveries.run,
            "connect": self._connect,
        }
        if self._found.cards:
            loops["gpus"] = self._probe.run
        refusal: BaseException | None = None
        try:
            await supervise.until_first_ends(**loops)
        except* StyxError as refused:
            refusal = refused.exceptions[0]
        if refusal is not None:
            raise refusal

    def stop(self) -> None:
        """Say goodbye and return from `run`. What runs goes on under the supervisor."""
        self._stopping.set()

    def running(self) -> int:
        return self._roster.running

    def _server_url(self) -> str:
        return self._servers.url

    def _start_until(self, order: Record) -> float:
        return self._duties.start_until(order)

    def _jobs(self) -> set[str] | None:
        """Whose directories are in use; None before the supervisor has said what it holds."""
        if not self._executor.synced.is_set():
            return None
        return {entry.job for entry in self._roster if entry.live}

    # --- the supervisor's side ----------------------------------------------------------------

    def _records(self, records: list[Record]) -> None:
        self._duties.records(records)
        self._watch.want(self._roster.running > 0)

    def _delivered(self, key: str, end: Record) -> None:
        self._duties.delivered(key, end)
        self._watch.want(self._roster.running > 0)

    def _snapshot(self, records: list[Record]) -> None:
        self._duties.snapshot(records)
        self._watch.want(self._roster.running > 0)

    def _grown(self, names: Iterable[str] | None) -> None:
        self._spool.touch(names)
        if self._session is not None:
            self._session.grown()

    async def _shorten(self) -> None:
        while True:
            await asyncio.sleep(SHORTEN_EVERY_S)
            self._spool.shorten()

    # --- the server's side --------------------------------------------------------------------

    async def _stopped(self) -> None:
        await self._stopping.wait()
        if self._session is not None and self._socket is not None:
            self._session.goodbye()
            with contextlib.suppress(TimeoutError):  # it does not read: then it learns by silence
                async with asyncio.timeout(GOODBYE_S):
                    await self._socket.ended.wait()

    async def _connect(self) -> None:
        """One session after another."""
        await self._executor.synced.wait()  # before that, the server would be told of nothing held
        local = websocket.parse(self._servers.url).local
        backoff = Backoff(base_s=BACKOFF_BASE_S, cap_s=LOCAL_CAP_S if local else BACKOFF_CAP_S)
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            bye = await self._serve()
            if clock() - began > STEADY_S:
                backoff.reset()
            if bye.code == wire.CLOSE_SUPERSEDED:  # another one with this identity: do not chase it
                await asyncio.sleep(BACKOFF_CAP_S)
            await asyncio.sleep(bye.retry_after_s + backoff.next_s())

    async def _serve(self) -> wire.Bye:
        """One connection from its start to its end, and why it ended."""
        url = self._servers.url
        try:
            self._socket = await websocket.connect(
                websocket.parse(url),
                wire.PATH,
                subprotocol=wire.SUBPROTOCOL,
                token=self._token,
                max_frame_bytes=wire.MAX_FRAME_BYTES,
            )
        except LinkLost as lost:
            self._say(f"cannot reach the server at {url} ({lost}); will keep trying")
            self._servers.next()
            return wire.Bye(wire.CLOSE_RESTART)
        session = self._session = Session(
            self._socket,
            self._hello(self._socket.local_address),
            self._duties,
            self._roster,
            self._spool,
            load=self._load,
            on_open=self._opened,
            alone=self._servers.alone,
        )
        try:
            bye = await session.run()
        finally:
            self._session = self._socket = None
        self._servers.after(bye, opened=session.opened)
        if bye.code == wire.CLOSE_NOT_LEADER:
            self._say(f"{url} does not lead; will try {self._servers.url}")
            return bye
        self._say(f"disconnected from {url}: {bye.reason}; will keep trying")
        _raise_if_final(bye)
        return bye

    def _opened(self, welcome: wire.Welcome, ok: wire.SyncOk) -> None:
        self._term = welcome.term
        if not ok.foreign:  # else the next session must say again what they are foreign to
            with contextlib.suppress(OSError):  # a full disk: the next session tries again
                self._identity = identities.welcomed(
                    self._directory, self._identity, welcome.db_generation
                )
        adopted = f", {ok.adopted} attempts went on" if ok.adopted else ""
        self._say(f"{self._identity.name} is connected to {self._servers.url}{adopted}")

    def _hello(self, address: str) -> wire.Hello:
        return wire.Hello(
            proto=(wire.PROTO, wire.PROTO),
            agent_id=self._identity.agent_id,
            name=self._identity.name,
            store_id=self._identity.store_id,
            boot_id=proc.boot_id(),
            incarnation=self._incarnation,
            version=styx.__version__,
            capacity=self._capacity(),
            labels=self._config.labels,
            address=address,
            last_term=self._term,
            db_generation=self._identity.db_generation,
        )

    def _capacity(self) -> Capacity:
        found = self._found.capacity
        if not self._executor.queues:
            return found
        ahead = max(1, found.cpus_milli * AHEAD_PER_CPU // 1_000)
        return msgspec.structs.replace(found, ahead=min(ahead, WAITING_MAX))

    def _load(self) -> wire.Load:
        running = (entry for entry in self._roster if entry.phase is Phase.RUNNING)
        return self._probe.load((str(entry.key), entry.pid) for entry in running)

    def _say(self, line: str) -> None:
        """One line per change of state, however often it is tried."""
        if line != self._said and not self._stopping.is_set():
            self._said = line
            log.info(line)


def _raise_if_final(bye: wire.Bye) -> None:
    """Some reasons do not go away by trying again."""
    match bye.code:
        case wire.CLOSE_AUTH:
            raise Unauthenticated(f"the server does not accept this agent: {bye.reason}")
        case wire.CLOSE_CLONED:
            raise Conflict(
                f"the server knows this agent from another disk: {bye.reason}",
                hint="a copied agent home needs a new identity: delete its identity.json",
            )
        case wire.CLOSE_TOO_OLD:
            raise WireMismatch(
                f"this agent and the server do not understand each other: {bye.reason}",
                hint="install the server's version of styx here",
            )
        case _:
            pass
