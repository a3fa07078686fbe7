"""`styx status`, `styx tasks`, `styx jobs`."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast, get_args

import click
import msgspec

from styx.cli import names, options, render, session, watch
from styx.cli.render import Column, number
from styx.sdk.calls import PAGE
from styx.sdk.client import Styx
from styx.wire import http as wire

RUNNING: Final = ("assigned", "running", "cancelling")
WAITING: Final = ("blocked", "queued", "provisioning")
FAILED: Final = ("failed", "lost")
JOB_STATUSES: Final = ("running", "succeeded", "failed", "cancelled", "lost")
RECENTLY: Final = timedelta(days=1)  # failures that `styx status` still tells


def needs(wanted: wire.ResourcesView, num_nodes: int) -> str:
    """`2×H100:8`, `8 cpu`."""
    what = f"{number(wanted.cpus)} cpu"
    if wanted.gpus:
        what = f"{wanted.gpu_model.upper() or 'GPU'}:{wanted.gpus}"
    return f"{num_nodes}×{what}" if num_nodes > 1 else what


def _for(row: wire.TaskView) -> str:
    """How long it runs or ran; of a task that waits, how long it does."""
    if row.duration_ms is not None:
        return render.duration(row.duration_ms / 1_000)
    return "–" if row.finished_at else render.age(row.started_at or row.created_at)


def _command(row: wire.TaskView) -> str:
    return " ".join(row.command) or row.run.strip().partition("\n")[0]


_TASKS: Final = watch.List(
    (
        Column("TASK", lambda row: row.id, is_id=True),
        Column("NAME", lambda row: row.name, elastic=True),
        Column(
            "STATUS",
            lambda row: render.state(row.status, render.ending(row)),
            status=lambda row: row.status,
        ),
        Column("RESOURCES", lambda row: needs(row.resources, row.num_nodes)),
        Column("WHERE", lambda row: row.agent or "–", elastic=True),
        Column("FOR", _for, right=True),
        Column("AGE", lambda row: render.age(row.created_at), right=True, wide=True),
        Column("ATTEMPT", lambda row: str(row.attempt), right=True, wide=True),
        Column("PRIORITY", lambda row: row.priority, wide=True),
        Column("LABELS", lambda row: render.labels(row.labels), wide=True),
        Column("JOB", lambda row: row.job_id, wide=True),
        Column("COMMAND", _command, wide=True),
    ),
    empty="no tasks; run one with: styx run echo 'Hello Styx!'",
)


def _done(row: wire.JobView) -> str:
    over = sum(number for status, number in row.counts.items() if status in wire.TERMINAL)
    return f"{over:,}/{row.total:,}"


def _counts(row: wire.JobView) -> str:
    return " · ".join(f"{number:,} {status}" for status, number in row.counts.items() if number)


_JOBS: Final = watch.List(
    (
        Column("JOB", lambda row: row.id, is_id=True),
        Column("NAME", lambda row: row.name, elastic=True),
        Column("STATUS", lambda row: render.state(row.status), status=lambda row: row.status),
        Column("DONE", _done, right=True),
        Column("TASKS", _counts, elastic=True),
        Column("AGE", lambda row: render.age(row.created_at), right=True),
        Column("LABELS", lambda row: render.labels(row.labels), wide=True),
    ),
    empty="no jobs; submit one with: styx submit FILE",
)


def _filters(statuses: Sequence[str]) -> Callable[[options.F], options.F]:
    def decorate(function: options.F) -> options.F:
        for option in (
            options.output,
            options.watch,
            options.limit,
            options.since,
            options.label,
            click.option("--name", help="Only of this name."),
            options.status(statuses),
        ):
            function = option(function)
        return function

    return decorate


@click.command()
@click.option("--job", help="Only of this job.")
@_filters(get_args(wire.Status))
def tasks(limit: int, watching: bool, output: str, **filters: Any) -> None:
    """List tasks, the newest first."""
    with session.connect() as styx:
        watch.show(
            lambda: list(styx.tasks(limit=limit, **_query(filters))),
            _asked(_TASKS, filters),
            output,
            watching=watching,
        )


@click.command()
@_filters(JOB_STATUSES)
def jobs(limit: int, watching: bool, output: str, **filters: Any) -> None:
    """List jobs, the newest first."""
    with session.connect() as styx:
        watch.show(
            lambda: list(styx.jobs(limit=limit, **_query(filters))),
            _asked(_JOBS, filters),
            output,
            watching=watching,
        )


@click.command()
@click.argument("references", metavar="[ID…]", nargs=-1, shell_complete=options.complete_tasks)
@options.watch
@options.output
def status(references: tuple[str, ...], watching: bool, output: str) -> None:
    """What runs, what waits and what failed since yesterday; or the named tasks and jobs."""
    with session.connect() as styx:
        if references:
            watch.show(lambda: _named(styx, references), _TASKS, output, watching=watching)
            return
        summary = watch.List(_TASKS.columns, _TASKS.empty, head=lambda rows: _summary(styx, rows))
        watch.show(lambda: _telling(styx), summary, output, watching=watching)


def _asked(kind: watch.List, filters: dict[str, Any]) -> watch.List:
    """Where some are left out, an empty list does not say that there are none."""
    if any(filters.values()):
        return msgspec.structs.replace(kind, empty="none match")
    return kind


def _query(filters: dict[str, Any]) -> dict[str, str | None]:
    """What was given more than once is a list with commas to the server."""
    return {
        name: ",".join(cast("tuple[str]", value)) if isinstance(value, tuple) else value
        for name, value in filters.items()
    }


def _named(styx: Styx, references: Sequence[str]) -> list[wire.TaskView]:
    """The tasks, and those of the jobs."""
    rows: list[wire.TaskView] = []
    for reference in references:
        if reference == names.ALL:
            rows += styx.tasks(limit=PAGE)
            continue
        match names.find(styx, reference):
            case wire.JobView() as job:
                rows += styx.tasks(job=job.id, limit=PAGE)
            case task:
                rows.append(task)
    return rows


def _telling(styx: Styx) -> list[wire.TaskView]:
    """What runs, what waits, what failed lately: at most a page of each."""
    yesterday = (datetime.now(UTC) - RECENTLY).isoformat()
    return [
        *styx.tasks(status=",".join(RUNNING), limit=PAGE),
        *styx.tasks(status=",".join(WAITING), limit=PAGE),
        *styx.tasks(status=",".join(FAILED), since=yesterday, limit=PAGE),
    ]


def _summary(styx: Styx, rows: Sequence[wire.TaskView]) -> str:
    """`3 running · 2 waiting · 1 failed since yesterday     5/8 cpus · 8/16 gpus busy`."""
    parts = [
        _count(rows, RUNNING, "running"),
        _count(rows, WAITING, "waiting"),
        _count(rows, FAILED, "failed since yesterday"),
    ]
    agents = list(styx.agents(limit=PAGE))
    busy = [
        f"{number(sum(getattr(agent.used, part) for agent in agents))}/{number(whole)} {part}"
        for part in ("cpus", "gpus")
        if (whole := sum(getattr(agent.resources, part) for agent in agents))
    ]
    agents_text = f"{' · '.join(busy)} busy" if busy else "no agents"
    return f"{' · '.join(parts)}        {agents_text}"


def _count(rows: Sequence[wire.TaskView], statuses: Sequence[str], word: str) -> str:
    found = sum(row.status in statuses for row in rows)
    return f"{found:,}{'+' if found >= PAGE else ''} {word}"
