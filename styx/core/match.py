"""Requirement × agent → yes, or the reason why not, as data."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from styx.core import choice, feature
from styx.core.agent import Agent, AgentState
from styx.core.policy import REJECTS_ALLOWED
from styx.core.room import Room, model_matches
from styx.core.spec import ANY_OF, Requirements

GIB = 1 << 30


class Mismatch(msgspec.Struct, frozen=True):
    """`code` is a machine word; `passing` tells a hindrance that time may remove."""

    code: str
    message: str
    passing: bool = False


def takes_work(agent: Agent) -> bool:
    """Whether it is given anything at all, whatever it has left."""
    return agent.state is AgentState.READY


def why_never(wanted: Requirements, agent: Agent) -> Mismatch | None:
    """Why this agent, idle, could not run it; None when it could, by one of its alternatives."""
    if wanted.any_of:
        return _none_of(wanted, [why_never(each, agent) for each in wanted.any_of])
    have = agent.capacity
    if wanted.arch and wanted.arch != have.arch:
        return Mismatch("arch", f"is {have.arch}, the task wants {wanted.arch}")
    for key, value in wanted.labels:
        if agent.labels.get(key) != value:
            return Mismatch("labels", f"does not carry the label {key}={value}")
    for word in wanted.features:
        if word not in have.features:
            return Mismatch("no_feature", feature.lacking(word, have.features))
    if wanted.gpus:
        mismatch = _gpus(wanted, agent)
        if mismatch:
            return mismatch
    if wanted.cpus_milli > have.cpus_milli:
        return Mismatch(
            "too_few_cpus",
            f"has {cpus(have.cpus_milli)} cpus, the task wants {cpus(wanted.cpus_milli)}",
        )
    if wanted.memory_bytes > have.memory_bytes:
        return Mismatch(
            "too_little_memory",
            f"has {gib(have.memory_bytes)} GiB, the task wants {gib(wanted.memory_bytes)} GiB",
        )
    if wanted.disk_bytes > have.disk_bytes:
        return Mismatch(
            "too_little_disk",
            f"has {gib(have.disk_bytes)} GiB of disk, the task wants {gib(wanted.disk_bytes)} GiB",
        )
    return None


def why_not_now(wanted: Requirements, agent: Agent, room: Room) -> Mismatch | None:
    """Why an agent that could run it does not at this moment; None when it does."""
    match agent.state:
        case AgentState.READY:
            pass
        case AgentState.DRAINING:
            return Mismatch("agent_draining", f"is draining{_why_draining(agent)}", passing=True)
        case _:
            return Mismatch("agent_not_ready", f"is {agent.state}", passing=True)
    if wanted.any_of:
        each = wanted.any_of
        return _none_of(wanted, [why_never(w, agent) or why_not_now(w, agent, room) for w in each])
    if room.fits(wanted):
        return None
    free = [f"{cpus(max(0, room.cpus_milli))} of {cpus(agent.capacity.cpus_milli)} cpus"]
    if wanted.memory_bytes:
        free.append(f"{gib(max(0, room.memory_bytes))} GiB of memory")
    if wanted.gpus:
        free.append(f"{max(0, sum(room.gpus.values()))} of {len(agent.capacity.gpus)} GPUs")
    return Mismatch("busy", f"is busy: {', '.join(free)} free", passing=True)


def _none_of(wanted: Requirements, whys: Sequence[Mismatch | None]) -> Mismatch | None:
    """Of the alternatives, each with its reason; None when one has none. What they share is said once."""
    hindering = [why for why in whys if why is not None]
    if len(hindering) < len(whys):
        return None
    sharing: dict[str, list[str]] = {}
    for name, why in zip(choice.told(wanted), hindering, strict=True):
        sharing.setdefault(why.message, []).append(name)
    if len(sharing) == 1:
        return hindering[0]
    codes = {why.code for why in hindering}
    words = "; ".join(f"{message} ({', '.join(names)})" for message, names in sharing.items())
    code = hindering[0].code if len(codes) == 1 else "no_alternative"
    return Mismatch(code, words, passing=any(why.passing for why in hindering))


def _why_draining(agent: Agent) -> str:
    if agent.preempt_at:
        return ": its machine is taken away"
    return f": it rejected {agent.rejects} tasks" if agent.rejects >= REJECTS_ALLOWED else ""


def _gpus(wanted: Requirements, agent: Agent) -> Mismatch | None:
    name = wanted.gpu_model.upper().replace(ANY_OF, " or ") or "GPU"
    if not agent.capacity.gpus:  # most agents, and asked of each of them
        return Mismatch("no_such_gpu", f"has no {name} (GPUs: none)")
    models = Counter(gpu.model for gpu in agent.capacity.gpus)
    most = max((n for m, n in models.items() if model_matches(wanted.gpu_model, m)), default=0)
    if most >= wanted.gpus:
        return None
    if not most:
        has = ", ".join(sorted(models)) or "none"
        return Mismatch("no_such_gpu", f"has no {name} (GPUs: {has})")
    return Mismatch("too_few_gpus", f"has {most} × {name}, the task wants {wanted.gpus}")


def cpus(milli: int) -> str:
    return f"{milli / 1_000:g}"


def gib(size: int) -> str:
    return f"{size / GIB:.3g}"
