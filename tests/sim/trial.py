"""One seed from its beginning to its verdict: a site, its work, its faults, then peace, then the reckoning."""

import asyncio
import contextlib
import gc
import logging
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

import structlog

from styx.agent import proc
from styx.agent import session as agent_session
from styx.config import Scheduler
from styx.core import ahead, block, event
from styx.core import attempt as attempts
from styx.core import task as tasks
from styx.core.agent import AgentState, Capacity
from styx.core.attempt import Attempt
from styx.core.ids import AgentId, AttemptKey
from styx.core.job import JobState
from styx.core.world import World
from styx.engine import admission, bulk, links, loop, replica, streams
from styx.engine.detector import Detector
from styx.engine.links import Link
from styx.engine.loop import Engine
from styx.kit import uuid7
from styx.wire import agent as wire
from tests.sim import faults, triggers
from tests.sim.client import Client
from tests.sim.invariants import CLONE, Invariants, original
from tests.sim.kernel import close_below
from tests.sim.ledger import Ledger
from tests.sim.line import Weather
from tests.sim.loop import Clock, Simulation, Violation, running_process
from tests.sim.machine import Machine
from tests.sim.network import Network
from tests.sim.plan import GIB, Plan
from tests.sim.server import Server
from tests.sim.store import Tables

PEACE_S: Final = 1_800.0  # L-1
CONNECTED_WITHIN_S: Final = 60.0  # L-3: backoff of 15 s twice, a session's timeouts, and a margin
RETRY_CAP_S: Final = 20.0
LOOK_EVERY_S: Final = 5.0
LOOK_ANYWAY: Final = 8  # looks from one at a world in which nothing was committed to the next such
KILLED_WITHIN_S: Final = 5.0 + 8.0 + 12.0 + 5.0  # I-11: redrive, the longest grace, sweeps, a look
CREDIT_BYTES: Final = 2_000  # of log bytes under way, where everything is small
AHEAD: Final = 4  # assignments that an agent takes beyond its room
SHM: Final = Path("/dev/shm")


class Result(NamedTuple):
    seed: int
    violation: Violation | None
    digest: str
    steps: int
    virtual_s: float
    commits: int
    tasks: int
    history: list[str]


class Ids:
    """UUIDv7 in the order of their making, of the seed's own."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._made = 0

    def take(self, n: int) -> tuple[str, int]:
        ms = int((1_767_225_600 + self._simulation.now()) * 1_000)
        text = f"{ms:012x}"
        first = (self._made << 20) | self._simulation.random.getrandbits(20)
        self._made += n
        return f"{text[:8]}-{text[8:]}-7000-8000-", first


class Trial:
    def __init__(self, plan: Plan, directory: Path) -> None:
        simulation = self.simulation = Simulation(plan.seed)
        self.plan = plan
        self.network = Network(simulation, mean_latency_s=plan.latency_s)
        self.tables = Tables(simulation.now)
        self.ledger = Ledger()
        self.weather = Weather()
        self.invariants = Invariants(
            simulation, self.tables, self.ledger, lost_after_s=plan.lost_after_s
        )
        self.invariants.spool_cap = plan.spool_bytes
        self.peace = False
        scheduler = Scheduler(
            suspect_after_s=plan.suspect_after_s,
            lost_after_s=plan.lost_after_s,
            retry_base_s=2.0,
            retry_cap_s=RETRY_CAP_S,
        )
        self.servers = [
            Server(
                simulation,
                f"server{n}",
                self.network,
                self.tables,
                self.weather,
                scheduler,
                self._clock(wall_s=0.5),
            )
            for n in range(plan.servers)
        ]
        self._directory = directory
        self.machines = [self._machine(f"agent{n}", n) for n in range(max(2, plan.agents))]
        self._clones: list[Machine] = []
        self.client = Client(simulation, self.servers, self.tables, self.invariants)
        self._overdue: dict[AttemptKey, float] = {}
        self._world_seen = (0, 0)  # which world, after how many commits
        self._looks = 0

    def run(self) -> None:
        """Raises: Violation."""
        plan, simulation = self.plan, self.simulation
        for server in self.servers:
            server.bound_turn = plan.bound_turn
            server.on_engine = self._leads
            server.on_heard = partial(self._heard, server)
            server.boot()
        for machine in self.machines:
            machine.boot()
        for number, work in enumerate(plan.works):
            self.client.work(number, work)
        for fault in plan.faults:
            simulation.at(fault.at, faults.inflict, self, fault)
        triggers.watch_commits(self)
        triggers.watch_starts(self)
        simulation.after(LOOK_EVERY_S, self._look)
        simulation.run(plan.faults_s)
        self._heal()
        simulation.run(plan.faults_s + CONNECTED_WITHIN_S)
        self._all_connected()
        for machine in self.machines:
            self.resume(machine.agent_id)  # again: an earlier wish may have been granted after it
        deadline_s = plan.faults_s + PEACE_S
        while not self._done():
            if simulation.now() > deadline_s:
                simulation.fail("L-1", self._unfinished())
            simulation.run(simulation.now() + LOOK_EVERY_S)
        simulation.run(simulation.now() + LOOK_EVERY_S)
        self._reckon()
        if simulation.violation:
            raise simulation.violation

    # --- for the faults -----------------------------------------------------------------------

    def forgets(self, machine: Any) -> None:
        self.invariants.crashed.add(machine.name)
        self.invariants.forgetful.add(machine.name)

    def clone(self, number: int, seconds: float) -> None:
        """The same identity on another machine, with a disk of its own, once, for a while."""
        name = f"agent{number}"
        if name in self.invariants.cloned:
            return
        for machine in (name, name + CLONE):
            self.invariants.crashed.add(machine)
            self.invariants.forgetful.add(machine)
            self.invariants.cloned.add(machine)
        clone = self._machine(name + CLONE, number)
        self._clones.append(clone)
        clone.boot()
        self.simulation.after(seconds, clone.power_off)

    def again(self, server: Server) -> None:
        """What has been told to stop is made to, and starts anew."""
        server.crash()
        server.boot()

    def resume(self, agent_id: AgentId) -> None:
        self.client.drain(agent_id, drain=False)

    # --- peace --------------------------------------------------------------------------------

    def _heal(self) -> None:
        self.peace = True
        self.simulation.note("peace")
        self.network.heal()
        self.network.refusals = 0.0
        self.network.mean_latency_s = self.plan.latency_s
        weather = self.weather
        weather.refuse = weather.lose = weather.stall = weather.out_until = 0.0
        weather.mute = False
        for process in self.simulation.processes:
            if process.alive:
                process.resume()
        self.invariants.thawed()
        for server in self.servers:
            server.boot()
        for clone in self._clones:
            clone.power_off()
        for machine in self.machines:
            machine.make_room()
            machine.boot()
            self.resume(machine.agent_id)

    def _all_connected(self) -> None:
        now = self.simulation.now()
        for server in self.servers:
            if server.process is None or not server.process.alive:
                server.boot()
        for machine in self.machines:
            agent = self.tables.agents.get(machine.agent_id)
            if agent is None or agent.state not in {AgentState.READY, AgentState.DRAINING}:
                what = agent.state if agent else "unknown"
                self.simulation.fail("L-3", f"at {now:.0f} {machine.name} is {what}")

    def _done(self) -> bool:
        return (
            self.client.busy == 0
            and all(job.state is not JobState.RUNNING for job in self.tables.jobs.values())
            and all(a.logs_complete for a in self.tables.attempts.values())
            and not self.ledger.running
        )

    def _unfinished(self) -> str:
        left = [
            f"{task.name} {task.state} {task.reason} needs {[e.task_id[-4:] for e in task.needs]}"
            for task in self.tables.tasks.values()
            if task.state not in tasks.TERMINAL
        ]
        logs = [str(a.key) for a in self.tables.attempts.values() if not a.logs_complete]
        runs = [str(key) for key in self.ledger.running]
        return f"asking {self.client.busy}, tasks {left}, logs {logs}, running {runs}"

    def _reckon(self) -> None:
        """The oracle: each task has one completing run, each job that was promised is there and over."""
        for key, job_id in self.invariants.submitted.items():
            if self.tables.jobs[job_id].idem_key != key:
                self.simulation.fail("I-5", f"{key} became another job")
        for attempt in self.tables.attempts.values():
            run = self.ledger.runs.get(attempt.key)
            if attempt.state is attempts.AttemptState.SUCCEEDED and run is not None:
                for stream in ((attempt.key, 1), (attempt.key, 2)):
                    stored, gaps = self.tables.logs.get(stream, b""), self.tables.gaps.get(stream)
                    gone = self._agent_was_lost(attempt)
                    if stored != run.wrote[stream[1]] and not gaps and not gone:
                        self.simulation.fail("I-6", f"{attempt.key} stream {stream[1]}")
        engines = [server.engine for server in self.servers if server.engine]
        if len(engines) != 1:
            self.simulation.fail("L-1", f"{len(engines)} servers lead in peace")
        for engine in engines:
            self._world_is_true(engine)

    def _agent_was_lost(self, attempt: Attempt) -> bool:
        """Then nobody waited for the rest of its output."""
        name = original(self.tables.agents[attempt.agent_id].name)
        return name in self.invariants.forgetful or name in self.invariants.given_up

    def grants(self, agent_id: AgentId) -> None:
        """The server that runs acknowledges a heartbeat: its agent may go on for a lease."""
        self.invariants.granted(self._running_server().holder, agent_id)

    def judges(self, found: Sequence[event.Event]) -> None:
        """What the server that runs makes of the silence of agents. One that is deposed may say anything."""
        engine = self._running_server().engine
        if engine is not None and engine.store.term == self.tables.term:
            for fact in found:
                if isinstance(fact, event.AgentLost):
                    self.invariants.judged(fact.agent_id)

    def _running_server(self) -> Server:
        process = running_process()
        return next(server for server in self.servers if server.process is process)

    # --- now and then -------------------------------------------------------------------------

    def _leads(self, engine: Engine) -> None:
        self.invariants.led_from[engine.store.term] = self.simulation.now()

    def _heard(self, server: Server, name: str) -> None:
        """What a deposed leader hears, the one that decides does not know."""
        engine = server.engine
        if engine is not None and engine.store.term == self.tables.term:
            self.invariants.heard(original(name))

    def _look(self) -> None:
        self.simulation.after(LOOK_EVERY_S, self._look)
        now = self.simulation.now()
        for run in self.ledger.running.values():
            if run.machine in self.invariants.cloned:
                continue  # whoever has the identity of the two is told; the other cannot be
            attempt = self.tables.attempts.get(run.key)
            over = attempt is not None and (
                attempt.state in attempts.TERMINAL
                or attempt.stop_reason is not attempts.StopReason.NONE
            )
            agent = attempt and self.tables.agents[attempt.agent_id]
            heard = agent and now - self.invariants.heard_at.get(original(agent.name), 0.0) < 10.0
            if over and heard and self.peace:
                since = self._overdue.setdefault(run.key, now)
                if now - since > KILLED_WITHIN_S:
                    self.simulation.fail("I-11", f"{run.key} still runs, and is {attempt}")
            else:
                self._overdue.pop(run.key, None)
        for server in self.servers:
            if server.engine is not None and server.engine.leading:
                self._world_is_whole(server.engine.world)
                self._backoffs_end(server.engine)

    def _world_is_whole(self, world: World) -> None:
        """Looked at in full whenever it may have changed, and now and then when it should not have."""
        seen = (id(world), self.tables.commits)
        self._looks += 1
        if seen == self._world_seen and self._looks % LOOK_ANYWAY:
            return
        self._world_seen = seen
        try:
            world.check()
        except AssertionError as error:
            self.simulation.fail("world", str(error))

    def _backoffs_end(self, engine: Engine) -> None:
        """Whatever the clocks of servers do, none waits for longer than the longest backoff (T-17)."""
        now = engine.clock()
        for task in self.tables.tasks.values():
            if task.state is tasks.TaskState.READY and task.not_before is not None:
                left_s = (task.not_before - now).total_seconds()
                if left_s > RETRY_CAP_S:
                    self.simulation.fail("T-17", f"{task.name} is to wait for {left_s:.0f} s yet")

    def _world_is_true(self, engine: Engine) -> None:
        """What the leader believes is what the database holds."""
        live = self.tables.load()
        true = World.load(
            live.jobs, live.tasks, live.attempts, live.agents, live.settled, live.tallies
        )
        for name in ("jobs", "tasks", "attempts", "agents"):
            mine, its = getattr(engine.world, name), getattr(true, name)
            if mine != its:
                self.simulation.fail("world", f"{name} differ")

    def _machine(self, name: str, number: int) -> Machine:
        machine = Machine(
            self.simulation,
            name,
            self.network,
            self.ledger,
            self._directory / name,
            urls=[server.url for server in self.servers],
            clock=self._clock(wall_s=86_400.0),
            agent_id=_agent_id(number),
            capacity=Capacity(cpus_milli=4_000, memory_bytes=8 * GIB, disk_bytes=GIB, ahead=AHEAD),
        )
        machine.on_bye = self._left
        return machine

    def _left(self, name: str, why: str) -> None:
        """Once all are connected, and nothing happens any more, none has a reason to leave."""
        if self.simulation.now() > self.plan.faults_s + CONNECTED_WITHIN_S:
            self.simulation.fail("L-3", f"the session of {name} ended in peace: {why}")

    def _clock(self, wall_s: float) -> Clock:
        error, dice = self.plan.clock_error, self.simulation.random
        return Clock(
            self.simulation, 1.0 + error * (2 * dice.random() - 1), dice.uniform(-wall_s, wall_s)
        )


def _agent_id(n: int) -> str:
    return f"00000000-0000-7000-8000-{n + 1:012x}"


@contextlib.contextmanager
def _patched(plan: Plan, trial: Trial) -> Generator[None]:
    """Randomness, ids and sizes of the seed's own."""
    random.seed(plan.seed)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(uuid7, "_source", Ids(trial.simulation)))
        stack.enter_context(mock.patch.object(replica, "POLL_S", plan.poll_s))
        stack.enter_context(mock.patch.object(proc, "now", _now))
        stack.enter_context(mock.patch.object(ahead, "AHEAD_MS", plan.ahead_ms))
        stack.enter_context(mock.patch.object(bulk, "TASKS", plan.bulk_tasks))
        stack.enter_context(mock.patch.object(block, "LEAST", 2))
        stack.enter_context(
            mock.patch.object(sys.modules[Machine.__module__], "SPOOL_BYTES", plan.spool_bytes)
        )
        stack.enter_context(mock.patch.object(Link, "send", _watched(trial, Link.send)))
        stack.enter_context(mock.patch.object(Detector, "look", _judging(trial, Detector.look)))
        if plan.tiny:
            for module, name, value in (
                (loop, "TURN_EVENTS", 3),
                (loop, "INBOX_LIMIT", 30),
                (links, "FRAME_MESSAGES", 3),
                (links, "DIRECTIVES_LIMIT", 4),
                (streams, "KEPT", 4),
                (streams, "TOLD_LIMIT", 2),
                (wire, "SYNC_PAGE", 2),
                (wire, "LOG_CREDIT_BYTES", CREDIT_BYTES),
                (admission, "CREDIT_LEAST_BYTES", CREDIT_BYTES),
                (agent_session, "END_LOG_BYTES", CREDIT_BYTES // 4),
            ):
                stack.enter_context(mock.patch.object(module, name, value))
        yield


def _watched(trial: Trial, send: Callable[[Link, wire.FromServer], None]) -> object:
    def watched(self: Link, message: wire.FromServer) -> None:
        if type(message) is wire.HeartbeatOk and not self.closing.is_set():
            trial.grants(self.agent_id)
        send(self, message)

    return watched


def _judging(trial: Trial, look: Callable[..., list[event.Event]]) -> object:
    def judging(self: Detector, *seen: Any) -> list[event.Event]:
        found = look(self, *seen)
        trial.judges(found)
        return found

    return judging


def _now() -> float:
    """The clock of the machine whose process runs."""
    return asyncio.get_running_loop().time()


def run(plan: Plan, *, history: bool = False) -> Result:
    collects = gc.isenabled()
    gc.disable()  # what it leaves is taken apart at its end, all at once
    directory = Path(tempfile.mkdtemp(prefix="styx-sim-", dir=SHM if SHM.is_dir() else None))
    violation: Violation | None = None
    trial = Trial(plan, directory)
    simulation = trial.simulation
    if history:
        simulation.history = []
    try:
        with _patched(plan, trial):
            trial.run()
    except Violation as found:
        violation = found.with_traceback(None)  # its frames would keep the world
        simulation.note(str(found))
    except Exception as error:  # noqa: BLE001 -- raised by a callback: of whatever kind, the product's fault
        violation = Violation("crash", repr(error))
    finally:
        result = Result(
            plan.seed,
            violation,
            simulation.digest(),
            simulation.steps,
            simulation.now(),
            trial.tables.commits,
            len(trial.tables.tasks),
            simulation.history or [],
        )
        simulation.end()
        close_below(directory)
        shutil.rmtree(directory, ignore_errors=True)
        del trial, simulation
        bury()
        if collects:
            gc.enable()
    return result


def bury() -> None:
    """Take the seed's world apart. Its coroutines are closed where they wait, and may complain."""
    told, sys.unraisablehook = sys.unraisablehook, _untold
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    finally:
        sys.unraisablehook = told


def _untold(_: object) -> None:
    pass


def quiet() -> None:
    """Nothing is logged: it would cost more than the rest."""
    logging.disable(logging.CRITICAL)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=True,
    )
    gc.collect()
    gc.freeze()  # what is loaded now stays: each seed's burial need not look at it
