"""T-3: random sequences of commands, drawn by Hypothesis, on Postgres and on the simulator's memory.

What the simulator proves, it proves on its own database; this is what makes it worth as much on Postgres.
Legal moves go deep, the rest is hostile: rows of a wrong version, moves that no table holds, attempts out
of turn, a key submitted twice, a deposed server, commits whose outcome is unknown.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from styx.core import attempt as attempts
from styx.core.agent import AgentState
from styx.core.attempt import AttemptState, Exit, StopReason
from styx.core.audit import Entry
from styx.core.job import Job, JobState
from styx.core.task import Reason, TaskState
from styx.store.exchange import Chunk
from tests.conformance import pair
from tests.conformance.cut import Fate
from tests.conformance.pair import NAMES, REFUSALS, Fault, Pair
from tests.support import made

STEPS: Final = 20
LOG: Final = bytes(range(256)) * 40  # what every process says; 10 KiB, so beyond a row's opening

# Mostly nothing goes wrong, or nothing would go on.
WELL: Final = [Fate.LANDS] * 40
LEADER: Final = ""
NAME: Final = st.sampled_from(NAMES)
WHO: Final = st.sampled_from([LEADER] * 8 + list(NAMES))
BROKEN: Final[st.SearchStrategy[Fault]] = st.sampled_from(
    [*WELL, Fate.VANISHES, Fate.UNHEARD, Fate.LATE, *REFUSALS]
)
DELAYED: Final[st.SearchStrategy[Fault]] = st.sampled_from(
    [*WELL, Fate.VANISHES, Fate.UNHEARD, Fate.LATE]
)
CUT: Final[st.SearchStrategy[Fault]] = st.sampled_from([*WELL, Fate.VANISHES, Fate.UNHEARD])


class Commands(RuleBasedStateMachine):
    """`site`, `run` and `said` are given to each run's own subclass."""

    site: pair.Site
    run: Callable[[Any], Any]
    said: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.said["sequences"] += 1
        self.pair: Pair = self.run(Pair.begin(self.site, self.said))
        self.tables = self.pair.tables
        self.alike = True

    def do(self, command: Any) -> Any:
        self.said["commands"] += 1
        self.alike = False
        answer = self.run(command)
        self.alike = True
        return answer

    def teardown(self) -> None:
        self.run(self.pair.end(compare=self.alike))

    # --- leadership -------------------------------------------------------------------------------

    @initialize()
    def somebody_leads(self) -> None:
        self.do(self.pair.take("a", Fate.LANDS))

    @rule(name=NAME, fault=DELAYED, what=st.integers(0, 7))
    def lead(self, name: str, fault: Fault, what: int) -> None:
        if what == 0:
            self.do(self.pair.expire())
        cut = Fate.LANDS if fault is Fate.LATE else fault  # it would hold locks until then
        match what:
            case 0 | 1:
                self.do(self.pair.take(name, cut))
            case 2:
                self.do(self.pair.release(name))
            case 3:
                self.do(self.pair.leader(name))
            case 4:
                self.do(self.pair.settle(name))
            case 5:
                self.do(self.pair.load(name, cut))
            case _:
                self.do(self.pair.renew(name, fault))

    # --- what a server may do ---------------------------------------------------------------------

    @rule(
        who=WHO,
        fault=BROKEN,
        key=st.sampled_from(["", "once", "again"]),
        project=st.sampled_from(["one", "two"]),
        count=st.integers(1, 3),
    )
    def submit(self, who: str, fault: Fault, key: str, project: str, count: int) -> None:
        """The second, of three, waits for the first."""
        job = made.job(idem_key=key, project=project, total=count, labels={"a": key})
        first = made.task(job, made.spec("first", num_nodes=2, env={"K": "V"}))
        second = made.task(job, needs=made.needs(first), state=TaskState.BLOCKED, ready_at=None)
        others = made.array(job, 2)[:1]
        its = [first, second, *others][:count]
        self.commit(who, fault, job, *its)

    @precondition(lambda self: self.tables.tasks)
    @rule(who=WHO, fault=BROKEN, data=st.data(), rank=st.integers(0, 1), again=st.booleans())
    def assign(self, who: str, fault: Fault, data: st.DataObject, rank: int, again: bool) -> None:
        """The next try of a task, or another member of the current one."""
        states = {TaskState.ACTIVE} if again else {TaskState.READY}
        task = self.one(data, [t for t in self.tables.tasks.values() if t.state in states])
        if task is not None:
            active = task if again else made.active(task)
            member = made.attempt(task, active.attempt, rank=rank)
            self.commit(who, fault, *([] if again else [active]), member)

    @precondition(lambda self: self.tables.live)
    @rule(
        who=WHO,
        fault=BROKEN,
        data=st.data(),
        ends=st.sampled_from([AttemptState.SUCCEEDED, AttemptState.LOST, AttemptState.REJECTED]),
        retried=st.booleans(),
    )
    def end(
        self, who: str, fault: Fault, data: st.DataObject, ends: AttemptState, retried: bool
    ) -> None:
        """An attempt ends, and its task with it or is tried again at once."""
        live = [a for a in self.tables.attempts.values() if a.state not in attempts.TERMINAL]
        attempt = self.one(data, live)
        if attempt is None:
            return
        ended = made.ended(attempt, ends, exit=Exit(code=3, out_bytes=len(LOG)))
        task = self.tables.tasks.get(attempt.task_id)
        if task is None or task.state is not TaskState.ACTIVE:
            self.commit(who, fault, ended)
        elif retried:
            again = made.attempt(task, task.attempt + 1, rank=attempt.rank)
            self.commit(who, fault, ended, made.active(task), again)
        else:
            over = made.next_version(task, state=TaskState.FAILED, finished_at=made.NOW)
            self.commit(who, fault, ended, over)

    @rule(who=WHO, fault=BROKEN, data=st.data())
    def agent(self, who: str, fault: Fault, data: st.DataObject) -> None:
        agent = self.one(data, [None, *self.tables.agents.values()])
        state = data.draw(st.sampled_from(AgentState))
        row = made.next_version(agent, state=state) if agent else made.agent(state=state)
        self.commit(who, fault, row)

    @precondition(lambda self: self.tables.attempts)
    @rule(who=WHO, fault=CUT, data=st.data(), start=st.integers(0, 12), length=st.integers(0, 8))
    def append(self, who: str, fault: Fault, data: st.DataObject, start: int, length: int) -> None:
        """Any piece of what the process says, in any order; next to one more, of the other stream."""
        attempt = self.one(data, list(self.tables.attempts.values()))
        if attempt is not None:
            at = start * 700
            piece = Chunk(attempt.key, 1, at, LOG[at : at + length * 700])
            other = Chunk(attempt.key, 2, 0, LOG[: length * 100])
            self.do(self.pair.append(self.named(who), [piece, other], fault))

    @precondition(lambda self: self.tables.attempts)
    @rule(who=WHO, data=st.data(), start=st.integers(0, 12), length=st.integers(0, 3))
    def gap(self, who: str, data: st.DataObject, start: int, length: int) -> None:
        attempt = self.one(data, list(self.tables.attempts.values()))
        if attempt is not None:
            at = start * 800
            self.do(self.pair.gap(self.named(who), attempt.key, at, at + length * 800))

    # --- what no server should do -----------------------------------------------------------------

    @precondition(lambda self: self.tables.tasks)
    @rule(who=WHO, fault=BROKEN, data=st.data(), count=st.integers(0, 4))
    def meddle(self, who: str, fault: Fault, data: st.DataObject, count: int) -> None:
        """Several changes at once, each of any kind."""
        kinds = (self.any_job, self.any_task, self.any_attempt, self.any_try)
        rows = [data.draw(st.sampled_from(kinds))(data) for _ in range(count)]
        self.commit(who, fault, *(row for row in rows if row is not None))

    def any_job(self, data: st.DataObject) -> Any:
        job = self.one(data, list(self.tables.jobs.values()))
        return job and self.moved(
            data,
            job,
            state=data.draw(st.sampled_from(JobState)),
            cancel_reason=data.draw(st.sampled_from([Reason.NONE, Reason.CANCELLED])),
        )

    def any_task(self, data: st.DataObject) -> Any:
        task = self.one(data, list(self.tables.tasks.values()))
        return task and self.moved(
            data,
            task,
            state=data.draw(st.sampled_from(TaskState)),
            attempt=max(0, task.attempt + data.draw(st.sampled_from([0, 0, 1, 1, 2, -1]))),
            not_before=data.draw(st.sampled_from([None, made.later(5)])),
        )

    def any_attempt(self, data: st.DataObject) -> Any:
        """Another state, or what is learnt of one that has ended."""
        attempt = self.one(data, list(self.tables.attempts.values()))
        return attempt and self.moved(
            data,
            attempt,
            state=data.draw(st.sampled_from([attempt.state, *AttemptState])),
            logs_complete=data.draw(st.booleans()),
            stop_reason=data.draw(st.sampled_from([StopReason.NONE, StopReason.CANCEL])),
            exit=data.draw(st.sampled_from([None, Exit(signal=9, detail="\x00é", cpu_ms=1)])),
        )

    def any_try(self, data: st.DataObject) -> Any:
        """Of a task in whatever state, or of none that exists."""
        task = self.one(data, list(self.tables.tasks.values()))
        of = task or made.task(made.job())
        number = max(1, of.attempt + data.draw(st.sampled_from([0, 1, 1, 2, -1])))
        state = data.draw(st.sampled_from([AttemptState.ASSIGNED, AttemptState.LOST]))
        return made.attempt(of, number, rank=data.draw(st.integers(0, 1)), state=state)

    # --- drawing ----------------------------------------------------------------------------------

    def named(self, who: str) -> str:
        """The server that leads, if that is meant, and able to: somebody's turn it is, and it has read."""
        if who != LEADER:
            return who
        leader = next((name for name in NAMES if self.pair.leads(name)), None)
        if leader is None:
            leader = NAMES[0]
            self.do(self.pair.expire())
            self.do(self.pair.take(leader, Fate.LANDS))
        if self.pair.unsure(leader):
            self.do(self.pair.load(leader, Fate.LANDS))
        return leader

    def moved(self, data: st.DataObject, row: Any, **fields: Any) -> Any:
        """To the next version, mostly."""
        by = data.draw(st.sampled_from([1, 1, 1, 1, 0, 2]))
        return msgspec.structs.replace(row, version=row.version + by, **fields)

    def one(self, data: st.DataObject, rows: Sequence[Any]) -> Any:
        return data.draw(st.sampled_from(rows)) if rows else None

    def commit(self, who: str, fault: Fault, *rows: Any) -> None:
        delta = made.delta(*rows)
        delta.audit += [
            Entry(made.NOW, "token:a", "test", row.id) for row in rows if isinstance(row, Job)
        ]
        # A refusal is drawn at the change of a row; without one there is nothing to refuse.
        self.do(self.pair.commit(self.named(who), delta, Fate.LANDS if delta.empty else fault))


def run(url: str, sequences: int, *, fresh: bool = False, shrink: bool = True) -> Counter[str]:
    """So many sequences on that database; how many sequences and commands there were, and what was said.

    `fresh` ones are others each time.

    Raises: AssertionError, with the shortest sequence that Hypothesis finds, if the two differ.
    """
    with (
        tempfile.TemporaryDirectory(prefix="styx-") as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        opening = pair.opened(url, Path(directory))
        site = runner.run(opening.__aenter__())
        said = Counter[str]()
        given = {"site": site, "run": staticmethod(runner.run), "said": said}
        machine = type("Commands", (Commands,), given)
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=sequences,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    derandomize=not fresh,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
                ),
            )
        finally:
            runner.run(opening.__aexit__(None, None, None))
        return said
