"""What happens because something else has just happened: the moments that dice would never hit."""

import random
from typing import TYPE_CHECKING, Final

from styx.core.agent import AgentState
from styx.core.attempt import Attempt, AttemptState
from styx.core.task import TaskState
from styx.store import rows
from tests.sim.invariants import original
from tests.sim.ledger import Run
from tests.sim.machine import Machine
from tests.sim.store import Write

if TYPE_CHECKING:
    from tests.sim.trial import Trial

THAW_S: Final = (
    -5.0,
    45.0,
)  # after the attempt was declared lost: from a little before to long after


CUT_WITHIN_S: Final = 0.05  # of a start: before, while and after the server is told of it


def watch_starts(trial: "Trial") -> None:
    """Take a machine's power just as it has claimed and started something."""
    plan, dice = trial.plan, random.Random(f"starts {trial.plan.seed}")
    started = trial.ledger.on_started

    def watch(run: Run, before: Run | None) -> None:
        started(run, before)
        machine = next((m for m in trial.machines if m.name == run.machine), None)
        if machine is not None and not trial.peace and dice.random() < plan.cuts_at_start:
            trial.simulation.after(CUT_WITHIN_S * dice.random(), cut, machine)

    def cut(machine: Machine) -> None:
        trial.simulation.note("power cut", machine.name)
        trial.forgets(machine)
        machine.reboot()

    trial.ledger.on_started = watch


def watch_commits(trial: "Trial") -> None:
    """Act on attempts as they are assigned and as they start, on tasks as they begin to wait, on agents
    as they are given up.
    """
    plan, dice = trial.plan, random.Random(trial.plan.seed)
    committed = trial.tables.on_commit

    def watch(term: int, writes: list[Write]) -> None:
        committed(term, writes)
        for table, old, new in () if trial.peace else writes:
            if table is rows.ATTEMPTS:
                _attempt(old, new)
            elif table is rows.TASKS and new.state is TaskState.READY and new.not_before:
                if dice.random() < plan.jumps_in_backoff:
                    _set_back()
            elif table is rows.AGENTS and new.state is AgentState.GONE:
                trial.weather.mute |= dice.random() < plan.unheard_verdicts

    def _attempt(old: Attempt | None, new: Attempt) -> None:
        begun = old is None or (
            old.state is not AttemptState.RUNNING and new.state is AttemptState.RUNNING
        )
        if old is None and dice.random() < plan.cancel_in_window:
            trial.client.cancel([new.task_id], force=dice.random() < 0.3)
        if begun and dice.random() < plan.freeze_in_window:
            _freeze(new)

    def _set_back() -> None:
        for server in trial.servers:
            if server.engine is not None:
                server.clock.jump(-3_600.0 * dice.random())

    def _freeze(attempt: Attempt) -> None:
        """Its agent stands still with the assign on the way, for about as long as it takes to be given up."""
        name = original(trial.tables.agents[attempt.agent_id].name)
        machine = next(m for m in trial.machines if m.name == name)
        trial.simulation.note("freeze", name)
        machine.pause_link(plan.lost_after_s + dice.uniform(*THAW_S))

    trial.tables.on_commit = watch
