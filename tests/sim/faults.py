"""The faults, each done to a running trial. A kind's name is its function's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tests.sim.invariants import original
from tests.sim.line import DATABASE
from tests.sim.network import FOREVER
from tests.sim.plan import Fault

if TYPE_CHECKING:
    from tests.sim.machine import Machine
    from tests.sim.server import Server
    from tests.sim.trial import Trial

FLAP_S: Final = 1.0
FLAP_EVERY_S: Final = 5.0
MOST_STOPPED_S: Final = 4.0  # of a supervisor: what the margin of an exclusive lease allows for


def inflict(trial: "Trial", fault: Fault) -> None:
    trial.simulation.note("fault", fault.kind, fault.who)
    _KINDS[fault.kind](trial, fault)


def _machine(trial: "Trial", fault: Fault) -> "Machine":
    return trial.machines[fault.who % len(trial.machines)]


def _server(trial: "Trial", fault: Fault) -> "Server":
    return trial.servers[fault.who % len(trial.servers)]


def leader_of(trial: "Trial") -> "Server | None":
    return next((server for server in trial.servers if server.engine), None)


def _pause(trial: "Trial", server: "Server", seconds: float) -> None:
    if server.process is not None:
        server.process.pause(seconds)
        trial.simulation.after(seconds, trial.invariants.thawed)


def _ways(trial: "Trial", fault: Fault, one: str, others: Sequence[str]) -> None:
    """Block both directions, or one."""
    for other in others:
        if fault.dice < 0.75:
            trial.network.block(one, other, fault.seconds)
        if fault.dice > 0.25:
            trial.network.block(other, one, fault.seconds)


def cut(trial: "Trial", fault: Fault) -> None:
    """Connections break; each end learns of it within the fault's time."""
    random = trial.simulation.random
    machine = _machine(trial, fault).name
    for connection in trial.network.connections:
        if connection.client.machine == machine:
            scale = (0.01, 1.0, fault.seconds)[int(fault.dice * 3)]
            connection.cut((scale * random.random(), scale * random.random()))


def half_open(trial: "Trial", fault: Fault) -> None:
    """Connections break, and one end or both are never told."""
    machine = _machine(trial, fault).name
    for connection in trial.network.connections:
        if connection.client.machine == machine:
            one, other = fault.dice < 0.6, fault.dice > 0.4
            connection.cut((FOREVER if one else 0.1, FOREVER if other else 0.1))


def block(trial: "Trial", fault: Fault) -> None:
    servers = [server.name for server in trial.servers]
    if fault.dice * 10 % 1 < 0.3:
        servers = [_server(trial, fault).name]
    _ways(trial, fault, _machine(trial, fault).name, servers)


def block_all(trial: "Trial", fault: Fault) -> None:
    for machine in trial.machines:
        _ways(trial, fault, machine.name, [server.name for server in trial.servers])


def crash_link(trial: "Trial", fault: Fault) -> None:
    trial.invariants.crashed.add(_machine(trial, fault).name)
    _machine(trial, fault).crash_link()


def crash_supervisor(trial: "Trial", fault: Fault) -> None:
    trial.invariants.crashed.add(_machine(trial, fault).name)
    _machine(trial, fault).crash_supervisor()


def pause_link(trial: "Trial", fault: Fault) -> None:
    _machine(trial, fault).pause_link(fault.seconds)


def pause_supervisor(trial: "Trial", fault: Fault) -> None:
    _machine(trial, fault).pause_supervisor(min(fault.seconds, MOST_STOPPED_S))


def reboot(trial: "Trial", fault: Fault) -> None:
    machine = _machine(trial, fault)
    trial.forgets(machine)
    machine.reboot()


def power_off(trial: "Trial", fault: Fault) -> None:
    machine = _machine(trial, fault)
    trial.forgets(machine)
    machine.power_off()
    trial.simulation.after(fault.seconds, machine.boot)


def wipe(trial: "Trial", fault: Fault) -> None:
    machine = _machine(trial, fault)
    trial.forgets(machine)
    machine.wipe()


def clone(trial: "Trial", fault: Fault) -> None:
    trial.clone(fault.who % len(trial.machines), fault.seconds)


def full(trial: "Trial", fault: Fault) -> None:
    machine = _machine(trial, fault)
    machine.full = "its disk is full"
    trial.simulation.after(fault.seconds, machine.make_room)


def crash_server(trial: "Trial", fault: Fault) -> None:
    server = _server(trial, fault)
    server.crash()
    trial.simulation.after(0.2 + fault.seconds, server.boot)


def stop_server(trial: "Trial", fault: Fault) -> None:
    server = _server(trial, fault)
    server.stop()
    trial.simulation.after(8.0 + fault.seconds, trial.again, server)


def pause_server(trial: "Trial", fault: Fault) -> None:
    _pause(trial, _server(trial, fault), fault.seconds)


def cut_database(trial: "Trial", fault: Fault) -> None:
    _ways(trial, fault, _server(trial, fault).name, [DATABASE])


def cut_leader(trial: "Trial", fault: Fault) -> None:
    kept = _machine(trial, fault) if fault.dice < 0.2 else _one_that_runs_alone(trial, fault)
    isolate(
        trial,
        leader_of(trial) or _server(trial, fault),
        kept,
        fault.seconds,
        alone=fault.dice < 0.6,
    )


def isolate(
    trial: "Trial", leader: "Server", kept: "Machine", seconds: float, *, alone: bool
) -> None:
    """The leader loses the database; `alone`, it loses every machine but `kept` as well, to another server."""
    trial.network.block(leader.name, DATABASE, seconds)
    trial.network.block(DATABASE, leader.name, seconds)
    for machine in trial.machines if alone else ():
        if machine is not kept:
            trial.network.block(machine.name, leader.name, seconds)


def _one_that_runs_alone(trial: "Trial", fault: Fault) -> "Machine":
    """A machine on which something exclusive runs, if there is one: what two leaders endanger most."""
    for run in trial.ledger.running.values():
        task = trial.tables.tasks.get(run.key.task_id)
        if task is not None and task.spec.exclusive:
            return next(m for m in trial.machines if m.name == original(run.machine))
    return _machine(trial, fault)


def pause_leader(trial: "Trial", fault: Fault) -> None:
    """Past the end of its lease, most often."""
    _pause(trial, leader_of(trial) or _server(trial, fault), fault.seconds)


def outage(trial: "Trial", fault: Fault) -> None:
    until = trial.simulation.now() + fault.seconds
    trial.weather.out_until = max(trial.weather.out_until, until)


def refuse(trial: "Trial", fault: Fault) -> None:
    trial.weather.refuse = 0.3 * fault.dice
    trial.simulation.after(fault.seconds, setattr, trial.weather, "refuse", 0.0)


def lose(trial: "Trial", fault: Fault) -> None:
    trial.weather.lose = 0.3 * fault.dice
    trial.simulation.after(fault.seconds, setattr, trial.weather, "lose", 0.0)


def stall(trial: "Trial", fault: Fault) -> None:
    trial.weather.stall = 0.3 * fault.dice
    trial.simulation.after(fault.seconds, setattr, trial.weather, "stall", 0.0)


def refuse_connects(trial: "Trial", fault: Fault) -> None:
    trial.network.refusals = fault.dice
    trial.simulation.after(fault.seconds, setattr, trial.network, "refusals", 0.0)


def slow(trial: "Trial", fault: Fault) -> None:
    """Every frame takes up to seconds."""
    network = trial.network
    network.mean_latency_s = 3.0 * fault.dice
    trial.simulation.after(fault.seconds, setattr, network, "mean_latency_s", trial.plan.latency_s)


def flap(trial: "Trial", fault: Fault) -> None:
    """One second in five nothing passes."""
    machine = _machine(trial, fault).name
    for n in range(1 + int(fault.seconds / FLAP_EVERY_S)):
        for server in trial.servers:
            for way in ((machine, server.name), (server.name, machine)):
                trial.simulation.after(n * FLAP_EVERY_S, trial.network.block, *way, FLAP_S)


def jump(trial: "Trial", fault: Fault) -> None:
    """An agent's wall clock is set, by up to a day."""
    _machine(trial, fault).clock.jump((fault.dice - 0.5) * 2 * 86_400)


def jump_server(trial: "Trial", fault: Fault) -> None:
    """A server's wall clock is set, by up to an hour."""
    _server(trial, fault).clock.jump((fault.dice - 0.5) * 2 * 3_600)


def drain(trial: "Trial", fault: Fault) -> None:
    agent_id = _machine(trial, fault).agent_id
    trial.client.drain(agent_id, drain=True)
    trial.simulation.after(fault.seconds, trial.resume, agent_id)


_KINDS: Final = {
    kind.__name__: kind
    for kind in (
        cut,
        half_open,
        block,
        block_all,
        crash_link,
        crash_supervisor,
        pause_link,
        pause_supervisor,
        reboot,
        power_off,
        wipe,
        clone,
        full,
        crash_server,
        stop_server,
        pause_server,
        cut_database,
        cut_leader,
        pause_leader,
        outage,
        refuse,
        lose,
        stall,
        refuse_connects,
        jump,
        jump_server,
        slow,
        flap,
        drain,
    )
}
