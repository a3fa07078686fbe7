"""`--plan`: what would become of a job, before anything is made."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from styx.cli import exits, lists, render, talk
from styx.cli.render import Column
from styx.sdk.client import Styx
from styx.wire import http as wire

SHOWN: Final = 3  # agents of a row: the rest is counted
FREE: Final = "–"  # what is there already costs nothing more


def show(styx: Styx, document: Mapping[str, Any], output: str, *, no_cache: bool = False) -> int:
    """Print it: a line for each task or array, and on stderr the sum."""
    planned = styx.plan_job(document, no_cache=no_cache)
    if output in {"table", "wide"}:
        render.rows(planned.tasks, COLUMNS, output)
        talk.say(summary(planned))
    elif output == "name":
        render.rows(planned.tasks, COLUMNS, output, name=lambda task: task.name)
    else:
        render.value(planned, output)
    return exits.FINE


def summary(planned: wire.JobPlan) -> str:
    """`36 tasks: 8 start now, 27 wait for room, 1 waits for others · $0.00/h`."""
    plural = "" if planned.total == 1 else "s"
    counts = ", ".join(_counts(planned)) or "none"
    return f"{planned.total:,} task{plural}: {counts} · ${planned.price_usd_per_hour:,.2f}/h"


def _counts(planned: wire.JobPlan) -> Iterator[str]:
    for count, one, many in (
        (planned.starting, "starts now", "start now"),
        (planned.waiting, "waits for room", "wait for room"),
        (planned.blocked, "waits for others", "wait for others"),
        (planned.cached, "is taken from an earlier one", "are taken from earlier ones"),
        (planned.untried, "was not looked at", "were not looked at"),
    ):
        if count:
            yield f"{count:,} {one if count == 1 else many}"


def _where(task: wire.TaskPlan) -> str:
    named = [
        agent.name if agent.count == 1 else f"{agent.name} ×{agent.count:,}"
        for agent in task.agents[:SHOWN]
    ]
    more = len(task.agents) - SHOWN
    return ", ".join([*named, *([f"and {more} more"] if more > 0 else [])]) or "–"


def _note(task: wire.TaskPlan) -> str:
    if task.blocked and not task.hindrances:
        return "after " + ", ".join(_need(need) for need in task.needs)
    if task.hindrances:
        return task.hindrances[0].message
    return f"{task.cached:,} taken from earlier ones" if task.cached else ""


def _need(need: wire.PlannedNeed) -> str:
    return need.task if need.on == "success" else f"{need.task} ({need.on})"


def _now(task: wire.TaskPlan) -> str:
    return f"{task.starting:,}/{task.total:,}"


def _price(task: wire.TaskPlan) -> str:
    return f"${task.price_usd_per_hour:,.2f}/h" if task.price_usd_per_hour else FREE


COLUMNS: Final = (
    Column("TASK", lambda task: task.name, elastic=True),
    Column("NOW", _now, right=True),
    Column("RESOURCES", lambda task: lists.needs(task.resources, task.num_nodes)),
    Column("WHERE", _where, elastic=True),
    Column("PRICE", _price, right=True),
    Column("NOTE", _note, elastic=True),
)
