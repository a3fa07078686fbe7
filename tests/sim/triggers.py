"""What happens because something else has just happened: the moments that dice would never hit."""

import random
from typing import TYPE_CHECKING, Final

from styx.core.agent import AgentState
from styx.core.attempt import Attempt, AttemptState
from styx.core.task import TaskState
from styx.store import rows
from tests.sim import faults
from tests.sim.invariants import original
from tests.sim.ledger import Run
from tests.sim.machine import Machine
from tests.sim.store import Write

if TYPE_CHECKING:
    from tests.sim.trial import Trial

# After the attempt was declared lost: from a little before to long after.
THAW_S: Final = (-5.0, 45.0)
TAKEOVER_S: Final = 20.0  # until another leads, and has found a place for what it takes for lost
ISOLATED_WITHIN_S: Final = 10.0  # of a start
CUT_WITHIN_S: Final = 0.05  # of a start: before, while and after the server is told of it


def watch_starts(trial: "Trial") -> None:
    """Take a machine's power just as it has claimed and started something, and the database from the
    leader while something runs that must run alone.
    """
    plan, dice = trial.plan, random.Random(f"starts {trial.plan.seed}")
    started = trial.ledger.on_started

    def watch(run: Run, before: Run | None) -> None:
        started(run, before)
        machine = next((m for m in trial.machines if m.name == run.machine), None)
        if machine is None or trial.peace:
            return
        if dice.random() < plan.cuts_at_start:
            trial.simulation.after(CUT_WITHIN_S * dice.random(), cut, machine)
        if _outlasts(run) and dice.random() < plan.leader_cut_at_start:
            trial.simulation.after(ISOLATED_WITHIN_S * dice.random(), isolate, machine)

    def _outlasts(run: Run) -> bool:
        """Whether another may be started in its place before it ends."""
        task = trial.tables.tasks.get(run.key.task_id)
        if task is None or not task.spec.exclusive:
            return False
        return float(task.spec.argv[1]) > plan.lost_after_s + TAKEOVER_S

    def cut(machine: Machine) -> None:
        trial.simulation.note("power cut", machine.name)
        trial.forgets(machine)
        machine.reboot()

    def isolate(machine: Machine) -> None:
        leader = faults.leader_of(trial)
        if leader is not None and not trial.peace:
            trial.simulation.note("isolate", leader.name, machine.name)
            seconds = plan.lost_after_s + TAKEOVER_S + dice.uniform(0.0, 60.0)
            faults.isolate(trial, leader, machine, seconds, alone=True)

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
