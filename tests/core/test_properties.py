"""Any order of facts keeps the world whole, and its rows rebuild it."""

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from styx.core import event as ev
from styx.core.attempt import TERMINAL as ENDED
from styx.core.attempt import AttemptState, Exit
from styx.core.ids import AgentId, AttemptKey
from styx.core.policy import Policy
from styx.core.spec import Need, On, OnFailure, Priority
from styx.core.task import TERMINAL, Reason, TaskState
from tests.core.test_dag import reloaded
from tests.support.desk import Desk, a_capacity, a_task

AGENTS = [AgentId(f"a{i}") for i in range(3)]
EXITS = st.builds(
    Exit,
    code=st.sampled_from([0, 0, 1, None]),
    signalled=st.booleans(),
    reason=st.sampled_from([Reason.NONE, Reason.NONE, Reason.TIMEOUT, Reason.EXIT_STATUS_LOST]),
    out_bytes=st.sampled_from([0, 5]),
)


class AnyOrder(RuleBasedStateMachine):
    """Every fact may come at any moment, from any agent, more than once, too late or not at all."""

    @initialize(settle=st.sampled_from([1, 3, 5_000]), places=st.sampled_from([1, 2, 5_000]))
    def open(self, settle, places):
        self.desk = Desk(
            Policy(
                retry_base_s=1.0,
                reserve_after_s=5.0,
                settlements_per_turn=settle,
                placements_per_turn=places,
            )
        )
        self.terminal: dict = {}
        self.cpus = dict.fromkeys(AGENTS, 2)

    @rule(
        agent=st.sampled_from(AGENTS), cpus=st.sampled_from([1, 2, 4]), store=st.sampled_from("xy")
    )
    def connect(self, agent, cpus, store):
        self.desk.connect(agent, a_capacity(cpus, gpus=["t4"]), store=store)
        self.cpus[agent] = cpus

    @rule(agent=st.sampled_from(AGENTS), data=st.data())
    def sync(self, agent, data):
        row = self.desk.world.agents.get(agent)
        if row is None:
            return
        held = []
        for key in sorted(self.desk.attempts):
            if self.desk.attempts[key].agent_id == agent and data.draw(st.booleans()):
                state = data.draw(
                    st.sampled_from(
                        [AttemptState.ACCEPTED, AttemptState.RUNNING, AttemptState.REJECTED]
                    )
                )
                held.append(ev.Known(key, state, Exit(reason=Reason.STALE_ASSIGN)))
        self.desk.turn(ev.AgentSynced(agent, row.session, tuple(held)))

    @rule(
        shape=st.lists(
            st.tuples(
                st.sampled_from([None, 1, 3]),
                st.sampled_from([1, 1, 2]),
                st.sampled_from([0.5, 1, 2, 4]),
                st.sampled_from(list(Priority)),
                st.sampled_from(list(On)),
                st.sampled_from([0, 0, 1, 2]),
            ),
            min_size=1,
            max_size=4,
        ),
        on_failure=st.sampled_from(list(OnFailure)),
        project=st.sampled_from(["p", "q"]),
        data=st.data(),
    )
    def submit(self, shape, on_failure, project, data):
        specs = []
        for i, (array, nodes, cpus, priority, on, parallel) in enumerate(shape):
            needs = [Need(s.name, on) for s in specs if data.draw(st.booleans())]
            specs.append(
                a_task(
                    f"t{i}",
                    cpus=cpus,
                    gpus=1 if cpus == 4 else 0,
                    array_count=array,
                    parallel=parallel if array else 0,
                    num_nodes=nodes,
                    priority=priority,
                    needs=tuple(needs),
                    retries=1,
                    infra_retries=1,
                    queue_timeout_s=50.0,
                )
            )
        self.desk.submit(*specs, on_failure=on_failure, project=project)

    def some_attempt(self, data) -> AttemptKey:
        return data.draw(st.sampled_from(sorted(self.desk.attempts)))

    @precondition(lambda self: self.desk.attempts)
    @rule(
        kind=st.sampled_from(["accepted", "started", "exited", "exited", "exited", "void", "logs"]),
        exit_=EXITS,
        stored=st.booleans(),
        foreign=st.booleans(),
        data=st.data(),
    )
    def report(self, kind, exit_, stored, foreign, data):
        key = self.some_attempt(data)
        agent = AGENTS[0] if foreign else self.desk.attempts[key].agent_id
        event = {
            "accepted": ev.AttemptAccepted(key, agent),
            "started": ev.AttemptStarted(key, agent),
            "exited": ev.AttemptExited(key, agent, exit_, stored),
            "void": ev.AttemptVoided(key, agent, Reason.AGENT_FULL),
            "logs": ev.LogsStored(key),
        }[kind]
        self.desk.turn(event, event)

    @precondition(lambda self: self.desk.tasks)
    @rule(whole=st.booleans(), force=st.booleans(), data=st.data())
    def cancel(self, whole, force, data):
        task = data.draw(st.sampled_from(sorted(self.desk.tasks)))
        if whole:
            self.desk.turn(ev.CancelRequested(job_id=self.desk.tasks[task].job_id, force=force))
        else:
            self.desk.turn(ev.CancelRequested((task,), force=force))

    @rule(
        agent=st.sampled_from(AGENTS),
        kind=st.sampled_from(["lost", "silent", "heard", "off", "preempt"]),
    )
    def weather(self, agent, kind):
        row = self.desk.world.agents.get(agent)
        if row is None:
            return
        self.desk.turn(
            {
                "lost": ev.AgentLost(agent),
                "silent": ev.AgentSilent(agent, row.session),
                "heard": ev.AgentHeard(agent, row.session),
                "off": ev.AgentDisconnected(agent, row.session),
                "preempt": ev.AgentPreempted(agent, row.session, 30.0),
            }[kind]
        )

    @rule(agent=st.sampled_from(AGENTS), drain=st.booleans())
    def drain(self, agent, drain):
        self.desk.turn(ev.DrainRequested(agent, drain=drain))

    @rule(seconds=st.sampled_from([1, 10, 100]))
    def wait(self, seconds):
        self.desk.wait(seconds)

    @rule()
    def crash(self):
        """A new server loads the rows; what it then decides must not differ in kind."""
        self.desk.world = reloaded(self.desk)
        self.desk.turn(ev.Ticked())

    @invariant()
    def terminal_is_final(self):
        for task_id, task in self.desk.tasks.items():
            if task_id in self.terminal:
                assert task.state is self.terminal[task_id]
            elif task.state in TERMINAL:
                self.terminal[task_id] = task.state

    @invariant()
    def one_live_try_a_task(self):
        tries: dict = {}
        for attempt in self.desk.attempts.values():
            if attempt.state not in ENDED:
                tries.setdefault(attempt.task_id, set()).add(attempt.n)
        for task_id, numbers in tries.items():
            assert numbers == {self.desk.tasks[task_id].attempt}
            assert self.desk.tasks[task_id].state is TaskState.ACTIVE

    @invariant()
    def no_more_of_a_spec_are_active_than_it_bears(self):
        active = Counter(
            task.spec_id for task in self.desk.tasks.values() if task.state is TaskState.ACTIVE
        )
        for task in self.desk.tasks.values():
            assert not task.spec.parallel or active[task.spec_id] <= task.spec.parallel

    @invariant()
    def needs_were_met(self):
        for task in self.desk.tasks.values():
            job_continues = self.desk.world.jobs.get(task.job_id)
            if (
                task.attempt
                and job_continues
                and job_continues.on_failure is not OnFailure.CONTINUE
            ):
                for edge in task.needs:
                    state = self.desk.tasks[edge.task_id].state
                    assert state in TERMINAL
                    assert edge.on is not On.SUCCESS or state is TaskState.SUCCEEDED

    @invariant()
    def budgets_hold(self):
        for task in self.desk.tasks.values():
            assert task.user_failures <= 2
            assert task.infra_failures <= 2


AnyOrder.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
TestAnyOrder = AnyOrder.TestCase
