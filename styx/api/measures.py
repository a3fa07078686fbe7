"""Every measure that Styx shows, as data, and where each is read.

Conventions: prefix `styx_`, base units (seconds, bytes), `_total` for what only grows. A label's values are
words of ours, few and known beforehand: never an id, a name, an address, or what a client sent.
"""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from styx import __version__
from styx.api.traffic import Traffic
from styx.core.agent import AgentState
from styx.core.census import Amount, Census
from styx.core.task import TERMINAL, Reason, TaskState
from styx.engine.loop import Engine
from styx.engine.meter import Meter
from styx.engine.ports import Leader
from styx.kit.lag import Lag
from styx.kit.tally import Spread
from styx.store import pool
from styx.store.logs import Counts

# Whom an end speaks of: a word for alarms, where the reason itself is a word for people.
CLASSES: Final[Mapping[Reason, str]] = {
    Reason.NONE: "none",
    **dict.fromkeys(
        (
            Reason.EXIT_CODE,
            Reason.SIGNAL,
            Reason.OOM,
            Reason.TIMEOUT,
            Reason.SPAWN_ERROR,
            Reason.IMAGE,
            Reason.OUTPUTS,
            Reason.SECRET_MISSING,
            Reason.RETRIES_EXHAUSTED,
        ),
        "task",
    ),
    **dict.fromkeys(
        (
            Reason.REGISTRY,
            Reason.EXIT_STATUS_LOST,
            Reason.POISON,
            Reason.LOST_DURING_CANCEL,
            Reason.AGENT_SILENT,
            Reason.AGENT_REPLACED,
            Reason.AGENT_REBOOTED,
            Reason.STATE_LOST,
            Reason.STALE_ASSIGN,
            Reason.SUPERSEDED,
            Reason.UNKNOWN_ATTEMPT,
            Reason.AGENT_FULL,
        ),
        "machine",
    ),
    **dict.fromkeys((Reason.DRAIN, Reason.PREEMPTED, Reason.AGENT_BUSY), "moved"),
    **dict.fromkeys((Reason.FAIL_FAST, Reason.NEED_UNMET, Reason.GANG), "job"),
    Reason.CANCELLED: "asked",
    Reason.QUEUE_TIMEOUT: "queue",
    Reason.CACHED: "cached",
}

Kind = Literal["gauge", "counter", "histogram"]


class Measure(NamedTuple):
    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    leading: bool = False  # of the leader only


class Reading(NamedTuple):
    measure: Measure
    value: float | Spread
    labels: tuple[str, ...] = ()


BUILD: Final = Measure("styx_build_info", "gauge", "Always 1.", ("version", "python"))
LEADER: Final = Measure(
    "styx_leader", "gauge", "1 while this server leads and may act, else 0: a standby, or paused."
)
TERM: Final = Measure(
    "styx_term", "gauge", "The leader's term, as this server knows it; 0 while it knows of none."
)
LAG: Final = Measure(
    "styx_loop_lag_seconds",
    "histogram",
    "How late the event loop ran, looked at 20 times a second.",
)
OPEN: Final = Measure(
    "styx_http_open_requests", "gauge", "Requests, streams and WebSockets that are open."
)
REQUESTS: Final = Measure(
    "styx_http_requests_total",
    "counter",
    "Answers given. `route` is a template, `other` (none of ours, or refused before it was known) "
    "or `forwarded` (to the leader); `status` is `2xx` and so on.",
    ("route", "method", "status"),
)
ANSWERS: Final = Measure(
    "styx_http_request_duration_seconds",
    "histogram",
    "From a request's head to the head of its answer; of a waiting request, the wait too.",
    ("route", "method"),
)
REFUSED: Final = Measure(
    "styx_http_refusals_total",
    "counter",
    "Refusals by the problem's `code`: `limit_reached` is 429; `overloaded`, `store_unavailable`, "
    "`no_leader` and `not_leader` are 503.",
    ("code",),
)
GUARDED: Final = Measure(
    "styx_db_guard_violations_total",
    "counter",
    "Writes that the database's own guards refused; one is a bug of Styx.",
)
TASKS: Final = Measure(
    "styx_tasks", "gauge", "Tasks that are not over, by state.", ("state",), True
)
SUBMITTED: Final = Measure("styx_tasks_submitted_total", "counter", "Tasks taken in.", (), True)
REACHED: Final = Measure(
    "styx_task_transitions_total",
    "counter",
    "Tasks that reached a state, as committed: one that is submitted and placed in the same turn is "
    "seen as `active` only. `reason` says whom it speaks of: `none`, `task` (its own end), `machine`, "
    "`moved` (drained, preempted, taken back), `job` (another task's end), `asked` (cancelled), `queue` (timed out), "
    "`cached` (an earlier success is taken).",
    ("state", "reason"),
    True,
)
WAIT: Final = Measure(
    "styx_task_wait_seconds",
    "histogram",
    "From when a task could be placed (needs met, backoff over) to its placing.",
    (),
    True,
)
RUN: Final = Measure(
    "styx_attempt_run_seconds",
    "histogram",
    "How long each process ran, by its own machine's clock.",
    (),
    True,
)
TURN: Final = Measure(
    "styx_turn_seconds", "histogram", "One turn: decide, commit, apply, tell.", (), True
)
DECISION: Final = Measure(
    "styx_turn_decision_seconds", "histogram", "The deciding of a turn: pure computing.", (), True
)
COMMIT: Final = Measure(
    "styx_turn_commit_seconds",
    "histogram",
    "The transaction of a turn that changed rows.",
    (),
    True,
)
EVENTS: Final = Measure("styx_turn_events", "histogram", "Events decided in one turn.", (), True)
AGENTS: Final = Measure("styx_agents", "gauge", "Agents by state.", ("state",), True)
SESSIONS: Final = Measure(
    "styx_agent_sessions", "gauge", "Agents connected to this server.", (), True
)
CPUS: Final = Measure(
    "styx_capacity_cpus", "gauge", "CPUs of all agents that are not gone.", (), True
)
MEMORY: Final = Measure(
    "styx_capacity_memory_bytes", "gauge", "Memory of all agents that are not gone.", (), True
)
GPUS: Final = Measure(
    "styx_capacity_gpus", "gauge", "GPUs of all agents that are not gone.", (), True
)
HELD_CPUS: Final = Measure(
    "styx_held_cpus", "gauge", "CPUs that live attempts hold, or wait for at their agent.", (), True
)
HELD_MEMORY: Final = Measure(
    "styx_held_memory_bytes", "gauge", "Memory that live attempts hold.", (), True
)
HELD_GPUS: Final = Measure("styx_held_gpus", "gauge", "GPUs that live attempts hold.", (), True)
LOG_BYTES: Final = Measure("styx_log_bytes_total", "counter", "Log bytes stored.", (), True)
LOG_DROPPED: Final = Measure(
    "styx_log_dropped_bytes_total",
    "counter",
    "Log bytes not kept: past an attempt's `limit`, `gone` before they came (the agent says why), or "
    "`unwanted` (of an attempt that is nobody's).",
    ("why",),
    True,
)
LOG_GAPS: Final = Measure(
    "styx_log_gaps_total", "counter", "Ranges recorded as missing in logs.", (), True
)
SPANS: Final = Measure(
    "styx_otel_spans_total",
    "counter",
    "Spans that the collector took, since the process's start.",
    (),
    True,
)
SPANS_DROPPED: Final = Measure(
    "styx_otel_spans_dropped_total",
    "counter",
    "Spans that it did not take, or that found no room to wait for it; since the process's start.",
    (),
    True,
)

ALL: Final = tuple(value for value in tuple(vars().values()) if isinstance(value, Measure))


def of_follower(traffic: Traffic, lag: Lag, leader: Leader | None) -> Iterator[Reading]:
    yield Reading(LEADER, 0)
    yield Reading(TERM, leader.term if leader else 0)
    yield from _of_process(traffic, lag)


def of_leader(traffic: Traffic, lag: Lag, engine: Engine, logs: Counts) -> Iterator[Reading]:
    yield Reading(LEADER, int(engine.leading))
    yield Reading(TERM, engine.store.term)
    yield from _of_process(traffic, lag)
    yield from _of_census(engine.world.census)
    yield from _of_meter(engine.meter)
    yield Reading(SESSIONS, len(engine.links))
    yield Reading(LOG_BYTES, logs.kept_bytes)
    yield Reading(LOG_DROPPED, logs.over_limit_bytes, ("limit",))
    yield Reading(LOG_DROPPED, logs.gone_bytes, ("gone",))
    yield Reading(LOG_DROPPED, engine.meter.unwanted_log_bytes, ("unwanted",))
    yield Reading(LOG_GAPS, logs.gaps)
    yield Reading(SPANS, engine.tracer.exported)
    yield Reading(SPANS_DROPPED, engine.tracer.dropped)


def _of_process(traffic: Traffic, lag: Lag) -> Iterator[Reading]:
    yield Reading(BUILD, 1, (__version__, platform.python_version()))
    yield Reading(LAG, lag.spread)
    yield Reading(OPEN, traffic.open)
    yield Reading(GUARDED, pool.Violations.count)
    for (path, method, hundreds), count in traffic.requests.items():
        yield Reading(REQUESTS, count, (path, method, f"{hundreds}xx"))
    for route, spread in traffic.answer_s.items():
        yield Reading(ANSWERS, spread, route)
    for code, count in traffic.refused.items():
        yield Reading(REFUSED, count, (code,))


def _of_census(census: Census) -> Iterator[Reading]:
    for state in TaskState:
        if state not in TERMINAL:
            yield Reading(TASKS, census.tasks[state], (state.value,))
    for state in AgentState:
        yield Reading(AGENTS, census.agents[state], (state.value,))
    yield from _amount(census.capacity, (CPUS, MEMORY, GPUS))
    yield from _amount(census.held, (HELD_CPUS, HELD_MEMORY, HELD_GPUS))


def _amount(amount: Amount, of: tuple[Measure, Measure, Measure]) -> Iterator[Reading]:
    cpus, memory, gpus = of
    yield Reading(cpus, amount.cpus_milli / 1_000)
    yield Reading(memory, amount.memory_bytes)
    yield Reading(gpus, amount.gpus)


def _of_meter(meter: Meter) -> Iterator[Reading]:
    by_class: Counter[tuple[str, str]] = Counter()
    for (state, reason), count in meter.reached.items():
        by_class[state.value, CLASSES[reason]] += count
    yield Reading(SUBMITTED, meter.submitted)
    for labels, count in by_class.items():
        yield Reading(REACHED, count, labels)
    yield Reading(WAIT, meter.wait_s)
    yield Reading(RUN, meter.run_s)
    yield Reading(TURN, meter.turn_s)
    yield Reading(DECISION, meter.decision_s)
    yield Reading(COMMIT, meter.commit_s)
    yield Reading(EVENTS, meter.events)
