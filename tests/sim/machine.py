"""A computer with one agent, both of whose halves are the real ones: the supervisor with its journal,
on a simulated kernel, and the link's session, duties, roster, executor and spool, on real files.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from styx.agent import home
from styx.agent.deliver import Deliveries
from styx.agent.duties import Duties
from styx.agent.executor import Executor, Record
from styx.agent.link import BACKOFF_BASE_S, BACKOFF_CAP_S, SHORTEN_EVERY_S, STEADY_S
from styx.agent.roster import Roster
from styx.agent.servers import Servers
from styx.agent.session import Session
from styx.agent.spool import Spool
from styx.agent.supervisor import Supervisor
from styx.core.agent import Capacity
from styx.core.ids import AgentId
from styx.errors import LinkLost
from styx.kit.backoff import Backoff
from styx.wire import agent as wire
from tests.sim.computer import Computer
from tests.sim.kernel import LOCAL_S, Crash, Kernel, Line, close_below
from tests.sim.ledger import Ledger
from tests.sim.loop import Clock, Process, Simulation
from tests.sim.network import Network

SPOOL_BYTES: Final = 64 << 20
CRASHES_WITHIN: Final = 40  # system calls, of a supervisor that is killed at one of them
RELAUNCH_S: Final = (0.05, 2.0)
TEARS: Final = 0.7  # how often a power cut takes something from the journal


class Machine:
    def __init__(
        self,
        simulation: Simulation,
        name: str,
        network: Network,
        ledger: Ledger,
        directory: Path,
        *,
        urls: list[str],
        clock: Clock,
        agent_id: str,
        capacity: Capacity,
    ) -> None:
        self.name = name
        self.agent_id = AgentId(agent_id)
        self.clock = clock
        self.full = ""
        self.link: Process | None = None
        self.on_bye: Callable[[str, str], None] = lambda _, __: (
            None
        )  # a session of it has ended, why
        self._simulation = simulation
        self._network = network
        self._directory = directory
        self._urls = ",".join(urls)
        self._capacity = capacity
        self._generation = 0  # of the database that knows it
        self._stores = 1
        self._on = False
        self._computer = Computer(
            simulation, name, clock, ledger, full=lambda: self.full, on_write=self._grown
        )
        self._kernel: Kernel | None = None  # of the supervisor that runs
        self._launching = False
        self._spool: Spool | None = None
        self._session: Session | None = None

    # --- what may happen to it ----------------------------------------------------------------

    def boot(self) -> None:
        if not self._on:
            self._on = True
            self._computer.boots += 1
            home.prepare(str(self._directory))
        self._start_supervisor()
        self._start_link()

    def crash_link(self) -> None:
        if self.link is not None and self.link.alive:
            self._kill_link()
            self._simulation.after(self._simulation.random.uniform(0.1, 5.0), self._start_link)

    def crash_supervisor(self) -> None:
        """Now, or at one of its next system calls."""
        if self._kernel is not None:
            if self._simulation.random.random() < 0.3:
                self._supervisor_gone(self._kernel)
            else:
                self._kernel.crash_in = self._simulation.random.randint(1, CRASHES_WITHIN)

    def pause_link(self, seconds: float) -> None:
        if self.link is not None:
            self.link.pause(seconds)

    def pause_supervisor(self, seconds: float) -> None:
        if self._kernel is not None:
            self._kernel.process.pause(seconds)

    def make_room(self) -> None:
        self.full = ""

    def power_off(self) -> None:
        self._on = False
        if self.link is not None:
            self._kill_link()
        if self._kernel is not None:
            self._supervisor_gone(self._kernel)
        self._network.gone(self.name)
        self._computer.halt()
        self._tear_journal()

    def _tear_journal(self) -> None:
        """With the power goes what the disk was not told to keep: all of it, some, or nothing."""
        path = self._directory / home.JOURNAL
        dice = self._simulation.random
        if dice.random() < TEARS and path.exists():
            found = path.stat()
            kept = min(self._computer.synced.get(found.st_ino, 0), found.st_size)
            torn = dice.random() ** 2 * (found.st_size - kept)
            os.truncate(path, kept + int(torn))
            if dice.random() < 0.5:  # the names of new files are no safer
                told = path.read_bytes()
                for file in (self._directory / home.SPOOL).iterdir():
                    if file.name.rpartition(".")[0].encode() not in told:
                        file.unlink()

    def reboot(self) -> None:
        self.power_off()
        self._simulation.after(self._simulation.random.uniform(1.0, 20.0), self.boot)

    def wipe(self) -> None:
        self.power_off()
        self._stores += 1
        self._generation = 0
        shutil.rmtree(self._directory, ignore_errors=True)
        self._simulation.after(self._simulation.random.uniform(1.0, 20.0), self.boot)

    # --- the supervisor -----------------------------------------------------------------------

    def launch(self) -> None:
        """Somebody sees that there is none, and starts one."""
        if self._on and self._kernel is None and not self._launching:
            self._launching = True
            after_s = self._simulation.random.uniform(*RELAUNCH_S)
            self._simulation.after(after_s, self._start_supervisor)

    def _start_supervisor(self) -> None:
        self._launching = False
        if self._on and self._kernel is None:
            process = Process(self._simulation, self.name, self.clock)
            kernel = self._kernel = Kernel(self._simulation, self._computer, process)
            process.on_exit = self._supervisor_ended(kernel)
            process.start(self._supervise, kernel)

    async def _supervise(self, kernel: Kernel) -> None:
        """As `Supervisor.run`, but for the sleep."""
        supervisor = Supervisor(str(self._directory), kernel)
        supervisor.recover()
        while not supervisor.idle():
            await kernel.rest(supervisor.rest_s())
            supervisor.turn(kernel.poll(0.0))
        supervisor.close()

    def _supervisor_ended(self, kernel: Kernel) -> Callable[[Process, BaseException | None], None]:
        def ended(process: Process, error: BaseException | None) -> None:
            if error is not None and not isinstance(error, Crash):
                self._simulation.fail("crash", f"{process.name}: supervisor: {error!r}")
            self._simulation.at(self._simulation.now(), self._supervisor_gone, kernel)

        return ended

    def _supervisor_gone(self, kernel: Kernel) -> None:
        if kernel is not self._kernel:
            return
        self._kernel = None
        kernel.process.kill()
        kernel.died()
        close_below(self._directory)
        self.launch()

    # --- the link -----------------------------------------------------------------------------

    def _start_link(self) -> None:
        if not self._on or (self.link is not None and self.link.alive):
            return
        link = self.link = Process(self._simulation, self.name, self.clock)
        self._session = self._spool = None
        self._term = 0  # the last that it was welcomed in
        self._lines: list[Line] = []
        link.loop.create_unix_connection = self._connect_local  # type: ignore[method-assign]
        link.start(self._run_link, link)

    def _kill_link(self) -> None:
        assert self.link is not None
        if self.link.alive:
            self.link.kill()
            self._network.dead(self.link)
            for line in self._lines:
                line.close()

    async def _connect_local(self, protocol_of: Callable[[], Any], _: str) -> tuple[Line, Any]:
        link = self.link
        assert link is not None
        await asyncio.sleep(LOCAL_S)
        if self._kernel is None:
            raise ConnectionRefusedError
        protocol = protocol_of()
        line = self._kernel.connect(link, protocol)
        self._lines = [line]
        return line, protocol

    def poll(self) -> int | None:
        """Of the supervisor as the link's child: it is never seen dead, since another one comes."""
        self.launch()

    async def _run_link(self, link: Process) -> None:
        roster = Roster(str(self._directory), {})
        spool = self._spool = Spool(SPOOL_BYTES, SPOOL_BYTES)

        def told(records: list[Record]) -> None:
            duties.records(records)

        def greeted(records: list[Record]) -> None:
            duties.snapshot(records)

        executor = Executor(
            str(self._directory),
            {},
            self,  # type: ignore[arg-type]
            capacity=self._capacity,
            on_records=told,
            on_snapshot=greeted,
        )
        duties = Duties(
            str(self._directory),
            roster,
            spool,
            executor.send,
            executor.flush,
            has_gpus=False,
            engine=None,
            deliveries=Deliveries(self, lambda _key, _end: None),  # type: ignore[arg-type]
            full=lambda: self.full,
        )
        link.start(executor.run)
        await executor.synced.wait()
        backoff = Backoff(base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S)
        clock, servers = asyncio.get_running_loop().time, Servers(self._urls)
        while True:
            began = clock()
            bye = await self._serve(servers, duties, roster, spool)
            if clock() - began > STEADY_S:
                backoff.reset()
            if bye.code == wire.CLOSE_SUPERSEDED:
                await asyncio.sleep(BACKOFF_CAP_S)
            await asyncio.sleep(bye.retry_after_s + backoff.next_s())

    async def _serve(
        self, servers: Servers, duties: Duties, roster: Roster, spool: Spool
    ) -> wire.Bye:
        """As `Link._serve`."""
        try:
            socket: Any = await self._network.connect(self.name, servers.url)
        except LinkLost:
            servers.next()
            return wire.Bye(wire.CLOSE_RESTART)
        hello = wire.Hello(
            proto=(wire.PROTO, wire.PROTO),
            agent_id=self.agent_id,
            name=self.name,
            store_id=f"{self.name}.{self._stores}",
            boot_id=str(self._computer.boots),
            incarnation="",
            version="0",
            capacity=self._capacity,
            address=self.name,
            last_term=self._term,
            db_generation=self._generation,
        )
        session = self._session = Session(
            socket,
            hello,
            duties,
            roster,
            spool,
            load=wire.Load,
            on_open=self._opened,
            alone=servers.alone,
        )
        try:
            bye = await session.run()
        finally:
            self._session = None
        servers.after(bye, opened=session.opened)
        self.on_bye(self.name, bye.reason)
        return bye

    def _opened(self, welcome: wire.Welcome, _: wire.SyncOk) -> None:
        self._term, self._generation = welcome.term, welcome.db_generation

    def _grown(self, name: str) -> None:
        """As the watch on the spool, a moment later."""
        if self.link is not None and self.link.alive:
            self.link.post(self._simulation.now() + LOCAL_S, self._heard_of, name)

    def _heard_of(self, name: str) -> None:
        if self._spool is not None:
            self._spool.touch([name])
            # The real one looks all the time: nothing changes but by what is written.
            asyncio.get_running_loop().call_later(SHORTEN_EVERY_S, self._spool.shorten)
        if self._session is not None:
            self._session.grown()
