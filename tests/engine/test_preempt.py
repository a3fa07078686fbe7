"""A notice that the machine is taken away reaches what runs on it."""

from pathlib import Path

from styx.core.agent import AgentState
from styx.core.attempt import StopReason
from styx.core.spec import TaskSpec
from styx.store.postgres import Database
from styx.wire import agent as wire
from tests.support.engines import Gate, a_submit, log_files, running, until, within
from tests.support.peer import AGENT, connected


async def test_what_runs_is_told_to_stop_in_time_and_the_notice_outlives_the_server(
    database: Database, tmp_path: Path
):
    logs = log_files(database, tmp_path)
    async with running(Gate(database), logs) as engine, connected(engine) as peer:
        await peer.introduce()
        await within(engine.post(a_submit(TaskSpec("t", argv=("true",)))))
        key = (await peer.hear(wire.Assign)).key
        peer.say(wire.EvStarted(key), wire.Notice(wire.PREEMPT, "spot", 40.0))
        stop = await peer.hear(wire.Stop)
        assert (stop.key, stop.reason, stop.grace_s) == (key, StopReason.PREEMPT, 30.0)
        await until(lambda: engine.world.agents[AGENT].state is AgentState.DRAINING)
        told = engine.world.agents[AGENT].preempt_at
    async with running(Gate(database), logs) as engine:
        assert told is not None
        assert engine.world.agents[AGENT].preempt_at == told
