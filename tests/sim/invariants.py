"""What must hold at every moment, checked against the ledger: after each commit, each byte stored, each
start and end of a process. The numbers are those of the design, 3-reliability §11.
"""

from collections.abc import Mapping
from typing import Any, Final

from styx.core import agent as agents
from styx.core import attempt as attempts
from styx.core import job as jobs
from styx.core import task as tasks
from styx.core.agent import Agent, AgentState
from styx.core.attempt import Attempt, AttemptState, StopReason
from styx.core.ids import AgentId, AttemptKey, JobId, TaskId
from styx.core.job import Job, JobState
from styx.core.spec import Delivery, On, OnFailure, Requirements
from styx.core.task import Reason, Task, TaskState
from styx.engine.detector import BRAKE_AGENTS
from styx.store import rows
from styx.store.exchange import Gap
from tests.sim.ledger import Ledger, Run
from tests.sim.loop import Simulation
from tests.sim.store import StreamKey, Tables, Write

UNKNOWN_ENDS: Final = frozenset(
    {Reason.EXIT_STATUS_LOST, Reason.AGENT_REBOOTED, Reason.SPAWN_ERROR}
)
DEAF_S: Final = 55.0  # suspect by then, whatever a slow commit adds
SLOW_COMMIT_S: Final = 25.0  # from a decision's first event until its rows are there
# Until a lost agent's session ends: an answer given up, a redrive, a margin.
DISMISSED_S: Final = 25.0
SILENT_S: Final = 20.0  # an agent so long unheard is suspect to every server
BACKS_OFF: Final = frozenset({AttemptState.FAILED, AttemptState.LOST, AttemptState.REJECTED})
LEAST_BACKOFF_S: Final = 1.0  # half of the trial's base; what a rejection costs
# The last is the agent's own word for an end without a lease.
INFRA: Final = frozenset({Reason.EXIT_STATUS_LOST, Reason.AGENT_REBOOTED, Reason.AGENT_SILENT})
DEATHS: Final = INFRA | {Reason.STATE_LOST}
DEATHS_ALLOWED: Final = 3
REJECTS_ALLOWED: Final = 5
CLONE: Final = "~"  # at the end of a machine's name


class Invariants:
    """`heard(agent name)` is when a leader last took a frame of it; `blamed` what faults excuse."""

    def __init__(
        self,
        simulation: Simulation,
        tables: Tables,
        ledger: Ledger,
        *,
        lost_after_s: float,
    ) -> None:
        self._simulation = simulation
        self._tables = tables
        self._ledger = ledger
        self._lost_after_s = lost_after_s
        self.heard_at: dict[str, float] = {}  # by agent name: when a server took a frame of it
        self.silences: dict[
            str, tuple[float, float]
        ] = {}  # the last long one: seconds, and its end
        self.led_from: dict[int, float] = {}  # by term
        self.thawed_at = 0.0  # when a server last went on after a pause
        self.crashed: set[str] = set()  # agents whose halves were killed at some time
        self.forgetful: set[str] = set()  # agents that lost their disk or their boot
        self.rejected_at: dict[AgentId, list[float]] = {}
        self.cloned: set[str] = set()  # agents whose identity was on two disks, and the clones
        self.given_up: set[str] = set()  # agents that were declared lost at some time
        self._leaving: set[AgentId] = set()  # declared gone by the commit that is looked at
        self._gone_at: dict[AgentId, float] = {}  # of those that are, when they were declared so
        self.submitted: dict[str, JobId] = {}  # acknowledged, by idempotency key
        self.cancelled: dict[TaskId, float] = {}  # a cancel of it was acknowledged
        self.spool_cap = 0  # bytes of an attempt's output that wait at an agent
        self.checked = 0
        tables.on_commit = self.committed
        tables.on_guard = lambda what: self.fail("I-2", f"the database's guard: {what}")
        tables.on_late = lambda: self.fail("law-4", "a lost commit landed behind the load")
        tables.on_log = self.stored
        ledger.on_started = self.started
        ledger.on_ended = self.ended

    def heard(self, name: str) -> None:
        """A leader took a frame of that agent."""
        now = self._simulation.now()
        silence_s = now - self.heard_at.get(name, now)
        if silence_s > SILENT_S:
            self.silences[name] = (silence_s, now)
        self.heard_at[name] = now

    def thawed(self) -> None:
        """A server goes on: what it did not hear meanwhile, it does not take for silence (R-20)."""
        self.thawed_at = self._simulation.now()

    def fail(self, rule: str, text: str) -> None:
        self._simulation.fail(rule, text)

    # --- commits ------------------------------------------------------------------------------

    def committed(self, term: int, writes: list[Write]) -> None:
        self.checked += 1
        if term != self._tables.term:
            self.fail("I-9", f"a write of term {term} in term {self._tables.term}")
        said: list[str] = []
        self._leaving = {
            new.id
            for table, old, new in writes
            if table is rows.AGENTS and _declared_gone(old, new)
        }
        for table, old, new in writes:
            said.append(f"{table.name[:2]}:{new.version}:{new.state.value}")
            match table:
                case rows.TASKS:
                    self._task(old, new)
                case rows.ATTEMPTS:
                    self._attempt(old, new)
                case rows.JOBS:
                    self._move(jobs.NEXT, old, new)
                    self._job(new)
                case _:
                    self._move(agents.NEXT, old, new)
                    if new.id in self._leaving:
                        self.given_up.add(original(new.name))
                    if new.state is AgentState.GONE:
                        self._gone_at[new.id] = self._simulation.now()
                    else:
                        self._gone_at.pop(new.id, None)
        for _, old, new in writes:
            if isinstance(new, Attempt):
                if old is None:
                    self._born(new)
                elif new.state is AttemptState.REJECTED and old.state is not new.state:
                    self._rejected(new)
            elif isinstance(new, Task):
                self._whole(old, new)
        self._simulation.note("commit", term, *said)

    def _move(self, ways: Mapping[Any, frozenset[Any]], old: Any, new: Any) -> None:
        """A turn may make several moves with a row, so it must be reachable."""
        if old is None or old.state is new.state:
            return
        reached = {old.state}
        while new.state not in reached:
            further = reached.union(*(ways[state] for state in reached))
            if further == reached:
                what = f"{type(new).__name__} {getattr(new, 'id', None)}"
                self.fail("I-2", f"{what}: from {old.state} to {new.state}")
                return
            reached = further

    def _job(self, job: Job) -> None:
        if job.state is JobState.RUNNING:
            return
        of_job = [t for t in self._tables.tasks.values() if t.job_id == job.id]
        if len(of_job) != job.total or any(t.state not in tasks.TERMINAL for t in of_job):
            self.fail("L-1", f"job {job.id} is over, its tasks are not")
        elif jobs.outcome(_tally(of_job)) is not job.state:
            self.fail("I-2", f"job {job.id} ended as {job.state}")

    def _task(self, old: Task | None, new: Task) -> None:
        self._move(tasks.NEXT, old, new)
        if old is not None and old.state is TaskState.BLOCKED:
            if new.state in {TaskState.READY, TaskState.ACTIVE}:
                self._needs_met(new)
            elif new.state is TaskState.SKIPPED and not self._unmet(new):
                self.fail("I-12", f"task {new.name} was skipped, and every need may be met yet")
        if new.state is TaskState.CANCELLED and new.reason is not Reason.FAIL_FAST:
            last = self._tables.attempts.get(AttemptKey(new.id, new.attempt, 0))
            fast = last is not None and last.stop_reason is StopReason.FAIL_FAST
            rejected = last is not None and last.state is AttemptState.REJECTED
            if rejected and fast and new.spec.num_nodes == 1:
                self.fail("D-3", f"task {new.name} failed fast, and is said to be {new.reason}")
        if new.state is TaskState.SUCCEEDED:
            for rank in range(new.spec.num_nodes):
                key = AttemptKey(new.id, new.attempt, rank)
                run = self._ledger.runs.get(key)
                if run is None or (0, None) not in self._ends(self._tables.attempts[key], run):
                    self.fail("I-3", f"task {new.name} succeeded, its process did not: {run}")
        if new.user_failures > new.spec.retries + 1:
            self.fail("I-14", f"task {new.name} failed {new.user_failures} times")

    def _bounded(self, task: Task) -> None:
        bound = task.spec.parallel
        if bound and bound < sum(
            other.state is TaskState.ACTIVE and other.spec_id == task.spec_id
            for other in self._tables.tasks.values()
        ):
            self.fail("parallel", f"more than {bound} of {task.spec.name} are active")

    def _whole(self, old: Task | None, new: Task) -> None:
        """What must be true of a task together with its other rows."""
        if new.state is TaskState.ACTIVE:
            self._bounded(new)
            members = [AttemptKey(new.id, new.attempt, rank) for rank in range(new.spec.num_nodes)]
            if any(key not in self._tables.attempts for key in members):
                self.fail("gang", f"task {new.name} is active with members missing")
            elif old is not None and old.state is TaskState.READY:
                assigned_at = self._tables.attempts[members[0]].assigned_at
                if old.not_before is not None and assigned_at < old.not_before:
                    self.fail("D-6", f"task {new.name} did not wait until {old.not_before}")
        if (
            new.state in {TaskState.FAILED, TaskState.LOST}
            and new.reason is not Reason.QUEUE_TIMEOUT
        ):
            self._spent(new)
            job = self._tables.jobs[new.job_id]
            wished = job.cancel_reason is not Reason.NONE or job.state is not JobState.RUNNING
            if job.on_failure is OnFailure.FAIL_FAST and not wished:
                self.fail("D-3", f"{new.name} failed, and its job goes on")

    def _spent(self, task: Task) -> None:
        """What failed for good was tried as often as promised (D-5)."""
        spec = task.spec
        if spec.num_nodes > 1 or task.cancel_at or task.reason is Reason.POISON:
            return
        if spec.delivery is Delivery.AT_MOST_ONCE:
            return
        tries = [self._tables.attempts[AttemptKey(task.id, n + 1, 0)] for n in range(task.attempt)]
        user = [o for o in tries if o.state is AttemptState.FAILED and o.reason not in INFRA]
        infra = [o for o in tries if o not in user and o.state is not AttemptState.REJECTED]
        if len(user) <= spec.retries and len(infra) <= spec.infra_retries:
            self.fail("D-5", f"task {task.name} is {task.state} with retries left: {tries}")

    def _needs_met(self, task: Task) -> None:
        policy = self._tables.jobs[task.job_id].on_failure
        for edge in task.needs:
            need = self._tables.tasks[edge.task_id]
            if need.state not in tasks.TERMINAL or not _satisfied(edge.on, need.state, policy):
                self.fail("I-12", f"task {task.name} is let go while {need.name} is {need.state}")

    def _unmet(self, task: Task) -> bool:
        policy = self._tables.jobs[task.job_id].on_failure
        needs = [(edge.on, self._tables.tasks[edge.task_id].state) for edge in task.needs]
        return any(
            state in tasks.TERMINAL and not _satisfied(on, state, policy) for on, state in needs
        )

    def _attempt(self, old: Attempt | None, new: Attempt) -> None:
        self._move(attempts.NEXT, old, new)
        if old is None:
            return
        if old.exit is not None and old.exit != new.exit:
            self.fail("I-3", f"the exit of {new.key} changed")
        if old.state in attempts.TERMINAL and (old.reason, old.ended_at) != (
            new.reason,
            new.ended_at,
        ):
            self.fail("I-2", f"the end of {new.key} changed")
        if new.exit is not None and old.exit is None:
            self._exited(new)
        if new.state is not old.state:
            self._became(new)
        if new.logs_complete and not old.logs_complete:
            self._complete(new)

    def _exited(self, attempt: Attempt) -> None:
        """The exit that is recorded is the real one."""
        end, run = attempt.exit, self._ledger.runs.get(attempt.key)
        assert end is not None
        if attempt.state is AttemptState.REJECTED:
            return
        if run is None:
            if end.reason not in UNKNOWN_ENDS:
                self.fail("I-3", f"{attempt.key} has an exit, and never ran: {end}")
        elif run.runs:
            if self._name(attempt) not in self.forgetful:
                self.fail("I-3", f"{attempt.key} has an exit, and still runs: {end}")
        elif (end.code, end.signal) not in {*self._ends(attempt, run), (None, None)}:
            self.fail("I-3", f"{attempt.key} exited with {run.code}/{run.signal}, not {end}")
        elif end.code is end.signal is None and self._name(attempt) not in self.crashed:
            self.fail("I-3", f"the end of {attempt.key} was lost for no reason: {end}")

    def _ends(self, attempt: Attempt, run: Run) -> list[tuple[int | None, int | None]]:
        """Of an agent whose disk was copied both copies may have run it: either's end is a real one."""
        return [(r.code, r.signal) for r in self._runs(attempt, run)]

    def _runs(self, attempt: Attempt, run: Run) -> list[Run]:
        if self._name(attempt) not in self.cloned:
            return [run]
        return [r for r in self._ledger.of_task[attempt.task_id] if r.key == attempt.key]

    def _became(self, attempt: Attempt) -> None:
        run = self._ledger.runs.get(attempt.key)
        if attempt.state in {AttemptState.CANCELLED, AttemptState.PREEMPTED}:
            ran = attempt.exit or run
            wiped = self._name(attempt) in self.forgetful  # it ran, and nobody knows any more
            if ran and not wiped and not (attempt.exit and attempt.exit.signalled):
                self.fail("I-3", f"{attempt.key} ended by itself, and is {attempt.state}")
        match attempt.state:
            case AttemptState.REJECTED if run is not None and not self._forgotten(attempt, run):
                self.fail("I-7", f"{attempt.key} is said never to have started, and did")
            case AttemptState.RUNNING if run is None:
                self.fail("I-3", f"{attempt.key} is said to run, and was never started")
            case AttemptState.SUCCEEDED if run is None or (0, None) not in self._ends(attempt, run):
                self.fail("I-3", f"{attempt.key} is said to have succeeded: {run}")
            case AttemptState.LOST:
                self._lost(attempt)
            case _:
                pass

    def _forgotten(self, attempt: Attempt, run: Run) -> bool:
        """The claim went with the power before the disk was told: it is told only of what may not run twice."""
        spec = self._tables.tasks[attempt.task_id].spec
        durable = spec.exclusive or spec.delivery is Delivery.AT_MOST_ONCE
        return not durable and not run.runs and self._name(attempt) in self.forgetful

    def _lost(self, attempt: Attempt) -> None:
        """Only after silence long enough, or for what the machine itself has lost (4.5)."""
        name, now = self._name(attempt), self._simulation.now()
        if attempt.reason is Reason.AGENT_SILENT:
            since = max(self.heard_at.get(name, 0.0), self.led_from.get(self._tables.term, 0.0))
            silence_s, ended_at = self.silences.get(name, (0.0, 0.0))
            if now - ended_at < SLOW_COMMIT_S:  # it was decided before the agent spoke again
                since = min(since, ended_at - silence_s)
            # With a new disk an agent is a stranger, and heard as such.
            if name not in self.forgetful and now - since < 0.98 * self._lost_after_s:
                self.fail("L-2", f"{attempt.key} lost after {now - since:.1f} s of silence")
        elif name not in self.forgetful and (
            attempt.reason is not Reason.STATE_LOST or name not in self.crashed
        ):
            self.fail("L-2", f"{attempt.key} lost for no reason: {attempt.reason}")

    def judged(self, agent_id: AgentId) -> None:
        """The leader takes an agent for lost, and is about to write it down: not while the brake must hold,
        which is when three or more agents, and most of them, are silent.
        """
        now = self._simulation.now()
        known = [a for a in self._tables.agents.values() if a.state is not AgentState.GONE]
        silent = sum(now - self.heard_at.get(original(a.name), 0.0) > SILENT_S for a in known)
        if silent >= BRAKE_AGENTS and 2 * silent > len(known):
            self.fail("R-22", f"{agent_id} is taken for lost while most agents are silent")

    def _rejected(self, attempt: Attempt) -> None:
        """Who rejects time and again is drained (D-5). Counted here: what is clearly apart."""
        agent, now = self._tables.agents[attempt.agent_id], self._simulation.now()
        # Without a reason: it never came there, as the agent's next sync shows.
        excused = attempt.reason in {Reason.STALE_ASSIGN, Reason.AGENT_BUSY, Reason.NONE}
        if attempt.stop_reason is not StopReason.NONE or excused:
            return
        times = self.rejected_at.setdefault(agent.id, [])
        if agent.rejects <= 1:  # somebody has looked at it, or it is long ago
            times.clear()
        if not times or now - times[-1] > 2.0:
            times.append(now)
        if len(times) >= REJECTS_ALLOWED and not agent.drain:
            self.fail("D-5", f"{agent.name} has rejected at {times}, and may be given more")

    def _complete(self, attempt: Attempt) -> None:
        if attempt.state in {AttemptState.LOST, AttemptState.REJECTED} or attempt.exit is None:
            return
        gone = self._tables.agents[attempt.agent_id].state is AgentState.GONE
        if gone or attempt.agent_id in self._leaving or self._name(attempt) in self.forgetful:
            return  # nobody waits for what may never return
        run = self._ledger.runs.get(attempt.key)
        for stream in (1, 2):
            stored = self._tables.next((attempt.key, stream))
            written = 0 if run is None else len(run.wrote[stream])
            if stored < written and run is not None and not run.runs:
                self.fail("I-6", f"{attempt.key} is complete with {stored} of {written} bytes")

    def _born(self, attempt: Attempt) -> None:
        task = self._tables.tasks[attempt.task_id]
        name = f"{task.name} {attempt.key}"
        if attempt.n != task.attempt:
            self.fail("I-14", f"{name}: not the try of its task, {task.attempt}")
        earlier = [
            self._tables.attempts.get(AttemptKey(task.id, n, attempt.rank))
            for n in range(1, attempt.n)
        ]
        if any(other is None or other.state not in attempts.TERMINAL for other in earlier):
            self.fail("I-14", f"{name}: an earlier try is not over")
        counted = [o for o in earlier if o and o.state is not AttemptState.REJECTED]
        user = [o for o in counted if o.state is AttemptState.FAILED and o.reason not in INFRA]
        alone = task.spec.num_nodes == 1  # of a gang, one that never began ends the others
        if alone and len(counted) > task.spec.retries + task.spec.infra_retries:
            self.fail("I-14", f"{name}: its budget is spent")
        if task.spec.num_nodes == 1 and len(user) > task.spec.retries:
            self.fail("I-14", f"{name}: its retries are spent")
        last = earlier[-1] if earlier else None
        if last and last.reason is Reason.AGENT_BUSY:
            last = None  # it was given back, to be tried elsewhere at once
        if alone and last and last.state in BACKS_OFF and last.ended_at is not None:
            waited_s = (attempt.assigned_at - last.ended_at).total_seconds()
            if waited_s < LEAST_BACKOFF_S:
                self.fail("D-6", f"{name}: {waited_s:.1f} s after the try before")
        deaths = [o for o in counted if o.started_at and o.reason in DEATHS and not _cut_off(o)]
        if alone and len(deaths) >= DEATHS_ALLOWED:
            self.fail("D-5", f"{name}: machines died under it {len(deaths)} times")
        if counted and task.spec.delivery is Delivery.AT_MOST_ONCE and task.spec.num_nodes == 1:
            self.fail("I-7", f"{name}: at most once, and tried again")
        if task.id in self.cancelled:
            self.fail("I-4", f"{name}: its cancel was acknowledged")
        if self._tables.jobs[task.job_id].cancel_reason is not Reason.NONE:
            self.fail("I-4", f"{name}: its job is being cancelled")
        self._needs_met(task)
        agent = self._tables.agents[attempt.agent_id]
        if agent.state is not AgentState.READY:
            self.fail("R-23", f"{name}: assigned to {agent.name}, which is {agent.state}")
        now = self._simulation.now()
        since = max(self.heard_at.get(original(agent.name), now), self.thawed_at)
        if now - since > DEAF_S:
            self.fail("R-23", f"{name}: assigned to {agent.name}, which is silent for long")
        self._room(agent.id)

    def _room(self, agent_id: AgentId) -> None:
        held = [
            self._held(key)
            for key in self._tables.live.values()
            if self._tables.attempts[key].agent_id == agent_id
        ]
        has = self._tables.agents[agent_id].capacity
        for what in ("cpus_milli", "memory_bytes"):
            wants = [getattr(requirements, what) for requirements in held]
            if sum(wants) > getattr(has, what) + has.ahead * max(wants):
                self.fail("I-13", f"more is promised of {agent_id} than it has, and takes ahead")

    def _held(self, key: AttemptKey) -> Requirements:
        """Worked out here as well: what is checked is that the product has it so everywhere."""
        wanted = self._tables.tasks[key.task_id].spec.requirements
        return wanted.any_of[self._tables.attempts[key].choice] if wanted.any_of else wanted

    def _name(self, attempt: Attempt) -> str:
        return original(self._tables.agents[attempt.agent_id].name)

    # --- logs ---------------------------------------------------------------------------------

    def stored(self, term: int, stream: StreamKey, start: int, what: bytes | Gap) -> None:
        key, number = stream
        if term != self._tables.term:
            self.fail("I-9", f"log bytes of term {term} in term {self._tables.term}")
        run = self._ledger.runs.get(key)
        if isinstance(what, Gap):
            if what.why != "spool_cap" or run is None or 2 * self._spooled(run) < self.spool_cap:
                self.fail("I-6", f"{key}: {what}")
        elif run is None or all(
            bytes(r.wrote[number][start : start + len(what)]) != what
            for r in self._runs(self._tables.attempts[key], run)
        ):
            self.fail("I-6", f"{key}: at {start} of stream {number}, {len(what)} bytes differ")
        self._simulation.note("log", key.n, number, start)

    def _spooled(self, run: Run) -> int:
        """No less than what waited at the machine when it dropped some of it."""
        return sum(
            len(data)
            for other in self._ledger.runs.values()
            if other.machine == run.machine
            for data in other.wrote.values()
        )

    # --- processes ----------------------------------------------------------------------------

    def started(self, run: Run, before: Run | None) -> None:
        key = run.key
        self._simulation.note("start", run.machine, key)
        # On a wiped disk nothing says that it ran: such an attempt is assigned again unless at most once.
        task = self._tables.tasks.get(key.task_id)
        excused = (
            run.machine in self.forgetful
            and task is not None
            and task.spec.delivery is Delivery.AT_LEAST_ONCE
            and before is not None
            and (not before.runs or run.machine in self.cloned)
        )
        if before is not None and not excused:
            self.fail("I-1", f"{key} was started twice, on {before.machine} and {run.machine}")
        attempt = self._tables.attempts.get(key)
        if attempt is None or task is None:
            self.fail("I-4", f"{key} was started, and is not in the database")
            return
        if attempt.state is AttemptState.REJECTED:
            self.fail("I-7", f"{key} was started after it was said that it never will be")
        others = [o for o in self._ledger.of_task[task.id] if o.key.n != key.n]
        if others and task.spec.delivery is Delivery.AT_MOST_ONCE:
            self.fail("I-7", f"{key}: at most once, and {others[-1].key} ran before")
        if task.spec.exclusive:
            self.given_up_for(attempt)
            # Of two disks with one identity, nobody can tell which machine runs what (4.5 c).
            alive = [o for o in others if o.runs and o.machine not in self.cloned]
            if alive:
                self.fail("I-8", f"{key} on {run.machine} overlaps {alive[-1]}")
        self._needs_met(task)
        self._there_was_room(run.machine, attempt)

    def _there_was_room(self, machine: str, attempt: Attempt) -> None:
        running = [
            self._held(key) for key, run in self._ledger.running.items() if run.machine == machine
        ]
        has = self._tables.agents[attempt.agent_id].capacity
        cpus = sum(requirements.cpus_milli for requirements in running)
        memory = sum(requirements.memory_bytes for requirements in running)
        if cpus > has.cpus_milli or memory > has.memory_bytes:
            self.fail("I-13", f"{attempt.key} was started on {machine} beyond its room")

    def ended(self, run: Run) -> None:
        self._simulation.note("end", run.machine, run.key, run.code, run.signal)
        task = self._tables.tasks.get(run.key.task_id)
        timeout_s = task.spec.timeout_s if task else None
        if task is None or timeout_s is None or run.machine in self.crashed:
            return
        if self._simulation.now() - run.started_at > 1.01 * timeout_s + task.spec.grace_s + 10.0:
            self.fail("D-9", f"{run.key} ran for longer than its timeout")

    # --- leases ------------------------------------------------------------------------------

    def granted(self, holder: str, agent_id: AgentId) -> None:
        """A server acknowledges a heartbeat, which is a lease of its own to the agent."""
        leader, now = self._tables.lease.holder, self._simulation.now()
        if leader != holder:
            self.fail("R-12", f"{holder} acknowledges a heartbeat while {leader} leads")
        if now - max(self._gone_at.get(agent_id, now), self.thawed_at) > DISMISSED_S:
            self.fail("R-23", f"the session of {agent_id} goes on, which was declared lost")

    def given_up_for(self, attempt: Attempt) -> None:
        """What may run nowhere else at the time is started."""
        if attempt.state is AttemptState.LOST and attempt.reason is Reason.AGENT_SILENT:
            self.fail("R-40", f"{attempt.key} was started after it had been declared lost")

    # --- acknowledgements ---------------------------------------------------------------------

    def acknowledged(self, idem_key: str, job_id: JobId) -> None:
        """A submit was answered with success."""
        self._simulation.note("submitted", idem_key)
        if job_id not in self._tables.jobs:
            self.fail("I-4", f"job {job_id} was acknowledged and is not there")
        if self.submitted.setdefault(idem_key, job_id) != job_id:
            self.fail("I-5", f"the key {idem_key} made two jobs")

    def cancel_acknowledged(self, task_ids: list[TaskId]) -> None:
        for task_id in task_ids:
            task = self._tables.tasks[task_id]
            job = self._tables.jobs[task.job_id]
            told = task.cancel_at is not None or job.cancel_reason is not Reason.NONE
            if task.state not in tasks.TERMINAL and not told:
                self.fail("I-4", f"the cancel of {task.name} was acknowledged and is not there")
            if job.cancel_reason is Reason.NONE:
                self.cancelled[task_id] = self._simulation.now()


def original(name: str) -> str:
    """The agent that a machine claims to be."""
    return name.removesuffix(CLONE)


def _declared_gone(old: Agent | None, new: Agent) -> bool:
    """It may be back within the same turn: but what declares it lost ends a session, and a new one begins."""
    if old is None or old.state is AgentState.GONE:
        return False
    return new.state is AgentState.GONE or new.session > old.session + 1


def _cut_off(attempt: Attempt) -> bool:
    """Its agent lives, and ended it for want of a lease."""
    return attempt.state is AttemptState.FAILED and attempt.reason is Reason.AGENT_SILENT


def _satisfied(on: On, state: TaskState, policy: OnFailure) -> bool:
    match on:
        case On.DONE:
            return True
        case On.FAILURE:
            return state in {TaskState.FAILED, TaskState.LOST}
        case On.SUCCESS if policy is OnFailure.CONTINUE:
            return state is not TaskState.CANCELLED
        case On.SUCCESS:
            return state is TaskState.SUCCEEDED


def _tally(of_job: list[Task]) -> dict[TaskState, int]:
    tally: dict[TaskState, int] = {}
    for task in of_job:
        tally[task.state] = tally.get(task.state, 0) + 1
    return tally
