"""Rows → the public answers of `wire.http`."""

from collections.abc import Mapping, Sequence
from typing import Final, cast
from urllib.parse import urlsplit

import msgspec

from styx.core import status
from styx.core.agent import Agent, Capacity
from styx.core.attempt import TERMINAL as ATTEMPT_TERMINAL
from styx.core.attempt import Attempt, AttemptState
from styx.core.explain import Hindrance
from styx.core.ids import AgentId, AttemptKey
from styx.core.job import Job
from styx.core.plan import Planned
from styx.core.room import Room
from styx.core.spec import Output, Requirements
from styx.core.task import TERMINAL as TASK_TERMINAL
from styx.core.task import Task
from styx.store.query import SpecRows
from styx.store.told import Told, message_id
from styx.wire import agent as wire
from styx.wire import http

GIB: Final = 1 << 30

Names = Mapping[AgentId, Agent]  # whose names are known; another agent is called by its id


def task(row: Task, attempts: Sequence[Attempt], agents: Names) -> http.TaskView:
    """`attempts` are all of the task, or at least the members of its current try."""
    spec = row.spec
    members = _current(row, attempts)
    last = _telling(members) if row.state in TASK_TERMINAL else None
    end = last.exit if last else None
    started = [member.started_at for member in members if member.started_at]
    return http.TaskView(
        id=row.id,
        job_id=row.job_id,
        name=row.name,
        status=status_of(row, members),
        reason=str(row.reason),
        exit_code=end.code if end else None,
        signal=end.signal if end else None,
        attempt=row.attempt,
        priority=str(spec.priority),
        command=list(spec.argv),
        run=spec.script,
        resources=requirements(spec.requirements),
        num_nodes=spec.num_nodes,
        labels=spec.labels,
        needs=[edge.task_id for edge in row.needs],
        array_index=row.array_index,
        agent=name_of(members[0].agent_id, agents) if members else "",
        created_at=row.created_at,
        started_at=min(started, default=None),
        finished_at=row.finished_at,
        duration_ms=end.ran_ms if end else None,
    )


def status_of(row: Task, attempts: Sequence[Attempt]) -> http.Status:
    """The one public word. `attempts` as for `task`."""
    return cast("http.Status", status.of(row, _current(row, attempts)))


def task_detail(row: Task, attempts: Sequence[Attempt], agents: Names) -> http.TaskDetail:
    spec = row.spec
    last = _telling(_current(row, attempts))
    return http.TaskDetail(
        **msgspec.structs.asdict(task(row, attempts, agents)),
        env=spec.env,
        workdir=spec.workdir,
        setup=spec.setup,
        bundle=spec.bundle,
        files=spec.files,
        image=spec.image,
        outputs=list(map(_output, spec.outputs)),
        taken_from=row.taken_from,
        retries=spec.retries,
        infra_retries=spec.infra_retries,
        timeout_s=spec.timeout_s,
        queue_timeout_s=spec.queue_timeout_s,
        detail=last.exit.detail if last and last.exit else "",
        attempts=[attempt(a, agents) for a in attempts],
    )


def _output(output: Output) -> str:
    where = output.path or "$STYX_OUTPUT_DIR"
    return f"{where} → {output.to}" if output.to else where


def attempt(row: Attempt, agents: Names) -> http.AttemptView:
    end = row.exit
    return http.AttemptView(
        n=row.n,
        rank=row.rank,
        status=str(row.state),
        reason=str(row.reason),
        agent_id=row.agent_id,
        agent=name_of(row.agent_id, agents),
        assigned_at=row.assigned_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit_code=end.code if end else None,
        signal=end.signal if end else None,
        detail=end.detail if end else "",
        duration_ms=end.ran_ms if end else None,
        cpu_ms=end.cpu_ms if end else None,
        max_rss_bytes=end.max_rss_bytes if end else None,
        logs_complete=row.logs_complete,
        out_bytes=end.out_bytes if end else 0,
        err_bytes=end.err_bytes if end else 0,
        choice=row.choice,
    )


def job(row: Job, counts: dict[str, int]) -> http.JobView:
    return http.JobView(
        id=row.id,
        name=row.name,
        status=str(row.state),
        total=row.total,
        counts=counts,
        labels=row.labels,
        on_failure=str(row.on_failure),
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def plan(name: str, planned: Sequence[Planned], agents: Names) -> http.JobPlan:
    tasks = [_task_plan(each, agents) for each in planned]
    return http.JobPlan(
        name=name,
        total=sum(task.total for task in tasks),
        starting=sum(task.starting for task in tasks),
        waiting=sum(task.waiting for task in tasks),
        blocked=sum(task.blocked for task in tasks),
        cached=sum(task.cached for task in tasks),
        untried=sum(task.untried for task in tasks),
        price_usd_per_hour=sum(task.price_usd_per_hour for task in tasks),
        tasks=tasks,
    )


def job_detail(shown: http.JobView, told: Sequence[Told]) -> http.JobDetail:
    return http.JobDetail(
        **msgspec.structs.asdict(shown), notifications=[_notification(one) for one in told]
    )


def _notification(told: Told) -> http.NotificationView:
    parts = urlsplit(told.url)
    return http.NotificationView(
        id=message_id(told.job_id, told.n),
        event=told.event,
        url=f"{parts.scheme}://{parts.netloc}/…",
        status=told.state,
        tries=told.tries,
        last_status=told.status,
        detail=told.detail,
        tried_at=told.tried_at,
        next_at=told.due_at,
    )


def graph(specs: Sequence[SpecRows]) -> http.GraphView:
    names = {row.task_ids[0]: row.spec.name for row in specs}
    nodes = [
        http.GraphNode(row.spec.name, list[str](row.task_ids), row.spec.width, row.counts)
        for row in specs
    ]
    # Of the edges to an array one is to its first element, which stands for all.
    edges = [
        http.GraphEdge(names[need.task_id], row.spec.name, str(need.on))
        for row in specs
        for need in row.needs
        if need.task_id in names
    ]
    return http.GraphView(nodes=nodes, edges=edges)


def agent(
    row: Agent,
    room: Room | None,
    running: int,
    last_seen_s: float | None,
    load: wire.Load | None,
    foreign: Sequence[AttemptKey] = (),
) -> http.AgentView:
    return http.AgentView(
        id=row.id,
        name=row.name,
        status=str(row.state),
        version=row.version_text,
        address=row.address,
        labels=row.labels,
        resources=_capacity(row.capacity),
        used=_used(row.capacity, room),
        gpu_models=[gpu.model for gpu in row.capacity.gpus],
        running=running,
        joined_at=row.joined_at,
        last_seen_s=None if last_seen_s is None else round(last_seen_s, 3),
        load=_load(load),
        foreign=[str(key) for key in foreign],
        features=list(row.capacity.features),
    )


def requirements(wanted: Requirements) -> http.ResourcesView:
    return http.ResourcesView(
        cpus=wanted.cpus_milli / 1_000,
        memory_gib=wanted.memory_bytes / GIB,
        disk_gib=wanted.disk_bytes / GIB,
        gpus=wanted.gpus,
        gpu_model=wanted.gpu_model,
        arch=wanted.arch,
        labels=dict(wanted.labels),
        any_of=list(map(requirements, wanted.any_of)),
        ordered=wanted.ordered,
    )


def name_of(agent_id: AgentId, agents: Names) -> str:
    known = agents.get(agent_id)
    return known.name if known else agent_id


def _task_plan(planned: Planned, agents: Names) -> http.TaskPlan:
    spec = planned.spec
    return http.TaskPlan(
        name=spec.name,
        total=spec.width,
        starting=planned.starting,
        waiting=planned.waiting,
        blocked=planned.blocked,
        cached=planned.cached,
        untried=planned.untried,
        agents=[http.PlannedAgent(id_, name_of(id_, agents), n) for id_, n in planned.agents],
        needs=[http.PlannedNeed(need.task, str(need.on)) for need in spec.needs],
        num_nodes=spec.num_nodes,
        priority=str(spec.priority),
        resources=requirements(spec.requirements),
        price_usd_per_hour=0.0,  # every agent that it may be placed on is there already
        hindrances=hindrances(planned.hindrances),
    )


def hindrances(found: Sequence[Hindrance]) -> list[http.Hindrance]:
    return [http.Hindrance(h.code, h.subject, h.message, h.id) for h in found]


def _current(row: Task, attempts: Sequence[Attempt]) -> list[Attempt]:
    """The members of the current or last try, by rank."""
    return sorted((a for a in attempts if a.n == row.attempt), key=lambda a: a.rank)


def _telling(members: Sequence[Attempt]) -> Attempt | None:
    """Of a gang, the member whose end says how it went: the first that failed by itself."""
    ended = [m for m in members if m.state in ATTEMPT_TERMINAL]
    failed = [m for m in ended if m.state is AttemptState.FAILED]
    return next(iter(failed or ended), None)


def _capacity(have: Capacity) -> http.ResourcesView:
    models = {gpu.model for gpu in have.gpus}
    return http.ResourcesView(
        cpus=have.cpus_milli / 1_000,
        memory_gib=have.memory_bytes / GIB,
        disk_gib=have.disk_bytes / GIB,
        gpus=len(have.gpus),
        gpu_model=models.pop() if len(models) == 1 else "",
        arch=have.arch,
    )


def _used(have: Capacity, room: Room | None) -> http.ResourcesView:
    """What waits there beyond its room uses nothing yet."""
    if room is None:
        return http.ResourcesView()
    return http.ResourcesView(
        cpus=(have.cpus_milli - max(0, room.cpus_milli)) / 1_000,
        memory_gib=(have.memory_bytes - max(0, room.memory_bytes)) / GIB,
        disk_gib=(have.disk_bytes - room.disk_bytes) / GIB,
        gpus=len(have.gpus) - sum(room.gpus.values()),
    )


def _load(load: wire.Load | None) -> dict[str, float]:
    if load is None:
        return {}
    readings = {
        "cpu_percent": load.cpu_percent,
        "load1": load.load1,
        "memory_used_bytes": load.memory_used_bytes,
        "memory_total_bytes": load.memory_total_bytes,
        "disk_free_bytes": load.disk_free_bytes,
        "net_rx_bytes_per_s": load.net_rx_bytes_per_s,
        "net_tx_bytes_per_s": load.net_tx_bytes_per_s,
        "disk_read_bytes_per_s": load.disk_read_bytes_per_s,
        "disk_write_bytes_per_s": load.disk_write_bytes_per_s,
    }
    if load.gpu_percent:
        readings["gpu_percent"] = sum(load.gpu_percent) / len(load.gpu_percent)
    return readings
