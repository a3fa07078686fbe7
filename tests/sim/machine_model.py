"""A computer with one agent. The half that talks to the server is the real one (session, duties, roster,
spool on real files); the supervisor, its journal and the kernel are modelled by what they promise.
"""

import asyncio
import shutil
from pathlib import Path
from typing import Any, Final

from styx.agent import home
from styx.agent.duties import Duties
from styx.agent.link import BACKOFF_BASE_S, BACKOFF_CAP_S, STEADY_S
from styx.agent.roster import Roster
from styx.agent.session import Session
from styx.agent.spool import Spool
from styx.core.agent import Capacity
from styx.core.ids import AgentId
from styx.errors import LinkLost
from styx.kit.backoff import Backoff
from styx.wire import agent as wire
from tests.sim.ledger import Ledger, the_key
from tests.sim.loop import Clock, Handle, Process, Simulation
from tests.sim.network import Network

SPOOL_BYTES: Final = 64 << 20
SUFFIXES: Final = {1: home.OUT_SUFFIX, 2: home.ERR_SUFFIX}
LOCAL_S: Final = 0.001  # a line between the two halves
TERM: Final = 15
KILL: Final = 9


class Task:
    """A process of the machine: it outlives both halves of the agent, not the machine."""

    def __init__(self, order: dict[str, Any], at: float, *, stubborn: bool) -> None:
        self.key: str = order["k"]
        self.grace: float = order["grace"]
        self.exclusive: bool = order["exclusive"]
        self.timeout: float | None = order["timeout"]
        self.at = at  # on the machine's clock
        self.stubborn = stubborn  # heeds no SIGTERM
        self.adopted = False  # not a child of the supervisor: its status is lost
        self.signalled = False
        self.reason = ""
        self.kill_at: float | None = None
        self.ends: list[Handle] = []


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
        self.journal: dict[str, dict[str, Any]] = {}
        self.lease = 0.0
        self.tasks: dict[str, Task] = {}
        self._simulation = simulation
        self._network = network
        self._ledger = ledger
        self._directory = directory
        self._urls = urls
        self._capacity = capacity
        self._boots = 0
        self._stores = 1
        self._on = False
        self._supervises = False
        self._stopped_until = 0.0
        self._duties: Duties | None = None
        self._spool: Spool | None = None
        self._session: Session | None = None

    # --- what may happen to it ----------------------------------------------------------------

    def boot(self) -> None:
        if not self._on:
            self._on = True
            self._boots += 1
            home.prepare(str(self._directory))
        self._start_supervisor()
        self._start_link()

    def crash_link(self) -> None:
        if self.link is not None and self.link.alive:
            self.link.kill()
            self._network.dead(self.link)
            self._simulation.after(self._simulation.random.uniform(0.1, 5.0), self._start_link)

    def crash_supervisor(self) -> None:
        if self._supervises:
            self._supervises = False
            for task in self.tasks.values():
                task.adopted = True
            after_s = self._simulation.random.uniform(0.05, 2.0)
            self._simulation.after(after_s, self._start_supervisor)

    def pause_link(self, seconds: float) -> None:
        if self.link is not None:
            self.link.pause(seconds)

    def pause_supervisor(self, seconds: float) -> None:
        self._stopped_until = max(self._stopped_until, self._simulation.now() + seconds)

    def make_room(self) -> None:
        self.full = ""

    def power_off(self) -> None:
        self._on = self._supervises = False
        if self.link is not None:
            self.link.kill()
        self._network.gone(self.name)
        for task in list(self.tasks.values()):
            self._gone(task, None, None)

    def reboot(self) -> None:
        self.power_off()
        self._simulation.after(self._simulation.random.uniform(1.0, 20.0), self.boot)

    def wipe(self) -> None:
        self.power_off()
        self.journal.clear()
        self.lease = 0.0
        self._stores += 1
        shutil.rmtree(self._directory, ignore_errors=True)
        self._simulation.after(self._simulation.random.uniform(1.0, 20.0), self.boot)

    # --- the link: the real logic -------------------------------------------------------------

    def _start_link(self) -> None:
        if self._on and (self.link is None or not self.link.alive):
            self.link = Process(self._simulation, self.name, self.clock)
            self.link.start(self._run_link)

    async def _run_link(self) -> None:
        roster = Roster(str(self._directory), {})
        spool = self._spool = Spool(SPOOL_BYTES, SPOOL_BYTES)
        duties = self._duties = Duties(
            str(self._directory),
            roster,
            spool,
            self._order,
            lambda: None,
            has_gpus=False,
            full=lambda: self.full,
        )
        self._session = None
        while not self._supervises:
            await asyncio.sleep(0.1)
        duties.snapshot(list(map(dict, self.journal.values())))
        backoff = Backoff(base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S)
        clock, turn = asyncio.get_running_loop().time, self._boots
        while True:
            began, turn = clock(), turn + 1
            bye = await self._serve(self._urls[turn % len(self._urls)], duties, roster, spool)
            if clock() - began > STEADY_S:
                backoff.reset()
            if bye.code == wire.CLOSE_SUPERSEDED:
                await asyncio.sleep(BACKOFF_CAP_S)
            await asyncio.sleep(bye.retry_after_s + backoff.next_s())

    async def _serve(self, url: str, duties: Duties, roster: Roster, spool: Spool) -> wire.Bye:
        try:
            socket: Any = await self._network.connect(self.name, url)
        except LinkLost:
            return wire.Bye(wire.CLOSE_RESTART)
        hello = wire.Hello(
            proto=(wire.PROTO, wire.PROTO),
            agent_id=self.agent_id,
            name=self.name,
            store_id=f"{self.name}.{self._stores}",
            boot_id=str(self._boots),
            incarnation="",
            version="0",
            capacity=self._capacity,
            address=self.name,
        )
        self._session = Session(
            socket, hello, duties, roster, spool, load=wire.Load, on_open=lambda *_: None
        )
        try:
            return await self._session.run()
        finally:
            self._session = None

    def _grown(self, name: str) -> None:
        if self._spool is not None:
            self._spool.touch([name])
        if self._session is not None:
            self._session.grown()

    # --- the supervisor: its promises ---------------------------------------------------------

    def _start_supervisor(self) -> None:
        if not self._on or self._supervises:
            return
        self._supervises = True
        for key, record in self.journal.items():
            if "exit" not in record and "void" not in record and key not in self.tasks:
                lost = "agent_rebooted" if record["boot"] != self._boots else "exit_status_lost"
                self._end(key, {"reason": lost})
        for task in self.tasks.values():
            self._arm(task)
        if self.link is not None and self.link.alive and self._duties is not None:
            records = list(map(dict, self.journal.values()))
            self.link.post(self._soon(), self._duties.snapshot, records)

    def _soon(self) -> float:
        return self._simulation.now() + LOCAL_S

    def _order(self, order: dict[str, Any]) -> None:
        self._simulation.after(LOCAL_S, self._obey, order, self._boots)

    def _obey(self, order: dict[str, Any], boot: int) -> None:
        now = self._simulation.now()
        if not self._supervises or boot != self._boots:
            return
        if now < self._stopped_until:
            self._simulation.at(self._stopped_until, self._obey, order, boot)
            return
        match order["do"]:
            case "start":
                self.start(order)
            case "stop":
                self._stop_or_void(order)
            case "void":
                self._void(order["k"], order["why"], order["detail"])
            case "forget":
                self.journal.pop(order["k"], None)
            case _:
                self.lease = order["until"]

    def start(self, order: dict[str, Any]) -> None:
        """Claim, then execute."""
        key: str = order["k"]
        if key in self.journal:
            self._tell(key)
        elif self.clock.monotonic() >= order["until"]:
            self._void(key, "stale_assign", "")
        else:
            self.journal[key] = {"k": key, "gpus": [], "boot": self._boots, "pid": 1}
            if order["exclusive"]:
                self.journal[key]["exclusive"] = True
            self._spawn(order)
            self._tell(key)

    def _stop_or_void(self, order: dict[str, Any]) -> None:
        task = self.tasks.get(order["k"])
        if task is not None and "exit" not in self.journal.get(task.key, {}):
            self._stop(task, order["grace"], "")
        else:
            self._void(order["k"], order["why"], "")

    def _void(self, key: str, why: str, detail: str) -> None:
        if key not in self.journal:
            self.journal[key] = {"k": key, "void": why, "detail": detail, "boot": self._boots}
        self._tell(key)

    def _tell(self, key: str) -> None:
        if self.link is not None and self.link.alive and self._duties is not None:
            self.link.post(self._soon(), self._duties.records, [dict(self.journal[key])])

    def _end(self, key: str, end: dict[str, Any]) -> None:
        for field, suffix in (("out_bytes", home.OUT_SUFFIX), ("err_bytes", home.ERR_SUFFIX)):
            path = Path(home.spool_path(str(self._directory), key, suffix))
            end[field] = path.stat().st_size if path.exists() else 0
        self.journal[key]["exit"] = end
        self._tell(key)

    def _stop(self, task: Task, grace: float, reason: str) -> None:
        now = self.clock.monotonic()
        if not task.signalled:
            task.signalled, task.reason = True, reason
            self._ledger.killed(task.key, self._simulation.now(), reason or "stop")
            if not task.stubborn:
                after_s = self._simulation.random.uniform(0.0, 0.5)
                task.ends.append(self._simulation.after(after_s, self._gone, task, None, TERM))
        task.kill_at = min(task.kill_at or now + grace, now + grace)
        self._arm(task)

    def _arm(self, task: Task) -> None:
        """Look at it when something of it is due."""
        due = [d for d in (task.kill_at, self._timeout_at(task), self._lease_end(task)) if d]
        if due:
            at = max(min(due) / self.clock.rate, self._simulation.now() + 0.01)
            self._simulation.at(at, self._check, task)

    def _check(self, task: Task) -> None:
        if self.tasks.get(task.key) is not task or not self._supervises:
            return
        if self._simulation.now() < self._stopped_until:
            self._simulation.at(self._stopped_until, self._check, task)
            return
        now, timeout_at, lease_end = (
            self.clock.monotonic(),
            self._timeout_at(task),
            self._lease_end(task),
        )
        if task.kill_at is not None and now >= task.kill_at:
            self._gone(task, None, KILL)
        elif timeout_at is not None and now >= timeout_at:
            self._stop(task, task.grace, "timeout")
        elif lease_end is not None and now >= lease_end:
            self._stop(task, task.grace, "agent_silent")
        else:
            self._arm(task)

    def _timeout_at(self, task: Task) -> float | None:
        return None if task.timeout is None or task.signalled else task.at + task.timeout

    def _lease_end(self, task: Task) -> float | None:
        """An exclusive process must be gone by the end of the lease."""
        return self.lease - task.grace if task.exclusive and not task.signalled else None

    # --- the kernel ---------------------------------------------------------------------------

    def _spawn(self, order: dict[str, Any]) -> None:
        simulation, random = self._simulation, self._simulation.random
        task = Task(order, self.clock.monotonic(), stubborn=random.random() < 0.1)
        self.tasks[task.key] = task
        self._ledger.started(self.name, task.key, simulation.now())
        _, seconds, code, out, err = order["argv"]
        for share in (0.5, 0.99):
            at = simulation.now() + share * float(seconds)
            for stream, size in ((1, int(out)), (2, int(err))):
                if size:
                    half = size // 2 if share == 0.5 else size - size // 2
                    task.ends.append(simulation.at(at, self._write, task, stream, half))
        end = simulation.after(float(seconds), self._gone, task, int(code), None)
        task.ends.append(end)
        self._arm(task)

    def _write(self, task: Task, stream: int, size: int) -> None:
        number = int(task.key[-8:-4].replace(".", "0"), 16)
        data = b"%08x\n" % (number + size) * (size // 9 + 1)
        path = home.spool_path(str(self._directory), task.key, SUFFIXES[stream])
        with Path(path).open("ab") as file:
            file.write(data[:size])
        self._ledger.wrote(task.key, stream, data[:size])
        if self.link is not None and self.link.alive:
            self.link.post(self._soon(), self._grown, path.rpartition("/")[2])

    def _gone(self, task: Task, code: int | None, signal: int | None) -> None:
        """The process has ended; the supervisor takes it down when it can."""
        if self.tasks.get(task.key) is not task:
            return
        if not self._ledger.runs[the_key(task.key)].runs:  # dead, and not yet taken down
            if not self._on:
                del self.tasks[task.key]
            return
        for handle in task.ends:
            handle.cancel()
        self._ledger.ended(self.name, task.key, code, self._simulation.now(), signal)
        if self._on:
            self._reap(task, code, signal, self._boots)
        else:
            del self.tasks[task.key]

    def _reap(self, task: Task, code: int | None, signal: int | None, boot: int) -> None:
        if boot != self._boots or not self._on or self.tasks.get(task.key) is not task:
            return
        if not self._supervises or self._simulation.now() < self._stopped_until:
            self._simulation.after(0.25, self._reap, task, code, signal, boot)
            return
        del self.tasks[task.key]
        end: dict[str, Any] = {"ran_ms": round(1_000 * (self.clock.monotonic() - task.at))}
        if task.adopted:
            end["reason"] = "exit_status_lost"
        else:
            end |= {"code": code} if signal is None else {"signal": signal}
        if task.signalled:
            end["signalled"] = True
        if task.reason:
            end["reason"] = task.reason
        self._end(task.key, end)
