"""A document → a `Plan`, or every wrong field with what would be right."""

from collections.abc import Iterable
from typing import Any, Final, cast

from styx.core import fields, resources, units
from styx.core.agent import Capacity, Gpu
from styx.core.fields import Field, Wrong
from styx.core.spec import Priority
from styx.core.units import Expected, Gpus
from styx.errors import FieldError, InvalidSpec
from styx.simulate import fleet
from styx.simulate.plan import Arrival, Duration, Group, Kind, Plan, Rent, Shape, Workload

MAX_AGENTS: Final = 1_000_000
MAX_JOBS: Final = 10_000_000
MAX_WIDTH: Final = 100_000
MAX_RETRIES: Final = 1_000


def check(document: object) -> Plan:
    """Raises: InvalidSpec, with each wrong field."""
    try:
        return _plan(document)
    except Wrong as wrong:
        errors = wrong.errors
    first = f"{errors[0].path}: {errors[0].message}" if errors[0].path else errors[0].message
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise InvalidSpec(first + more, *errors)


def _plan(document: object) -> Plan:
    errors: list[FieldError] = []
    given = fields.read(document, _PLAN, errors)
    at_fault = {error.path.partition("[")[0] for error in errors}
    for key, what in (("agents", "group of agents"), ("workloads", "workload")):
        if not given.get(key) and key not in at_fault:
            errors.append(FieldError(key, f"missing: at least one {what}"))
            continue
        names = [entry.name for entry in given.get(key, ())]
        errors += [
            FieldError(f"{key}[{n}].name", f"the name '{name}' is taken; names are unique")
            for n, name in enumerate(names)
            if name in names[:n]
        ]
    plan = Plan(**_sound(given, errors))
    homeless = [
        FieldError(f"workloads[{n}].resources", "no group of agents could run it: give one as much")
        for n, workload in enumerate(plan.workloads)
        if not any(fleet.suits(group, workload.requirements) for group in plan.agents)
    ]
    if homeless:
        raise Wrong(homeless)
    return plan


def _group(document: object) -> Group:
    errors: list[FieldError] = []
    given = fields.read(document, _GROUP, errors)
    errors += _missing(document, given, errors, name="a name", count="how many", cpus="their cores")
    gpus: Gpus = given.pop("gpus", Gpus(0))
    capacity = Capacity(
        cpus_milli=given.pop("cpus_milli", 0),
        memory_bytes=given.pop("memory_bytes", 0),
        disk_bytes=given.pop("disk_bytes", 0),
        gpus=(Gpu(gpus.model or "gpu"),) * gpus.number,
        arch=given.pop("arch", "x86_64"),
    )
    leave_s, arrive_s = given.get("leave_s"), given.get("arrive_s", 0.0)
    if leave_s is not None and leave_s <= arrive_s:
        errors.append(FieldError("leave", "expected a later time than `arrive`"))
    rent: Rent | None = given.get("rent")
    if rent and rent.min_count > given.get("count", rent.min_count):
        errors.append(FieldError("rent.min", "expected at most `count`"))
    return Group(**_sound(given, errors), capacity=capacity)


def _rent(document: object) -> Rent:
    errors: list[FieldError] = []
    given = fields.read(document, _RENT, errors)
    return Rent(**_sound(given, errors))


def _workload(document: object) -> Workload:
    errors: list[FieldError] = []
    given = fields.read(document, _WORKLOAD, errors)
    errors += _missing(document, given, errors, name="a name", duration="how long its tasks run")
    wide = given.get("width") is not None
    single = given.get("shape", Shape.SINGLE) is Shape.SINGLE
    if wide and single and "shape" in given:
        errors.append(FieldError("width", "a single task has none: give `shape` another value"))
    elif wide and single:
        errors.append(FieldError("shape", "missing: with `width`, one of array, chain, fan_out"))
    elif not wide and not single:
        errors.append(FieldError("width", f"missing: how many tasks the {given['shape']} has"))
    return Workload(**_sound(given, errors))


def _arrival(document: object) -> Arrival:
    errors: list[FieldError] = []
    given = fields.read(document, _ARRIVAL, errors)
    if "per_hour" in given and ("burst" in given or "every_s" in given):
        errors.append(FieldError("per_hour", "give either `per_hour`, or `burst` and `every`"))
    elif ("burst" in given) != ("every_s" in given):
        missing = "every" if "burst" in given else "burst"
        errors.append(FieldError(missing, "missing: `burst` and `every` belong together"))
    return Arrival(**_sound(given, errors))


def _duration(value: object) -> Duration:
    """`"5m"` is a constant."""
    if not isinstance(value, dict):
        return Duration(mean_s=units.seconds(value))
    errors: list[FieldError] = []
    given = fields.read(cast("object", value), _DURATION, errors)
    kind = given.get("kind")
    if kind is None:
        if not errors:
            errors.append(FieldError("kind", f"missing: one of {', '.join(Kind)}"))
        raise Wrong(errors)
    wanted = _PARAMETERS[kind]
    errors += [
        FieldError(key, f"missing: a {kind} duration has {' and '.join(wanted)}")
        for key in wanted
        if _DURATION[key].keep not in given and key != "sigma" and not errors
    ]
    errors += [
        FieldError(key, f"does not belong to a {kind} duration, which has {' and '.join(wanted)}")
        for key, field in _DURATION.items()
        if field.keep in given and key not in ("kind", *wanted)
    ]
    value_s = given.pop("value_s", None)
    if value_s is not None:
        given["mean_s"] = value_s
    if kind is Kind.UNIFORM and not errors and given["max_s"] < given["min_s"]:
        errors.append(FieldError("max", "expected at least `min`"))
    return Duration(**_sound(given, errors))


def _missing(
    document: object, given: dict[str, Any], errors: list[FieldError], **wanted: str
) -> Iterable[FieldError]:
    """Of what must be given: that it is not there at all."""
    if not isinstance(document, dict):
        return []
    wrong = {error.path.partition(".")[0] for error in errors}
    return [
        FieldError(key, f"missing: {what}")
        for key, what in wanted.items()
        if key not in wrong and {key, f"{key}_milli"}.isdisjoint(given)
    ]


def _sound(given: dict[str, Any], errors: list[FieldError]) -> dict[str, Any]:
    if errors:
        raise Wrong(errors)
    return given


def _amount(least: float, most: float) -> fields.Reader:
    def read(value: object) -> float:
        if not units.is_number(value) or not least <= value <= most:
            raise Expected(f"a number from {least:g} to {most:,g}")
        return float(value)

    return read


def _list_of(reader: fields.Reader, what: str) -> fields.Reader:
    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Expected(f"a list of {what}")
        found: list[Any] = []
        errors: list[FieldError] = []
        for n, entry in enumerate(cast("list[object]", value)):
            try:
                found.append(reader(entry))
            except (Expected, Wrong) as error:
                errors += fields.below(f"[{n}]", entry, error)
        if errors:
            raise Wrong(errors)
        return tuple(found)

    return read


_PARAMETERS: Final = {
    Kind.CONSTANT: ("value",),
    Kind.EXPONENTIAL: ("mean",),
    Kind.LOGNORMAL: ("median", "sigma"),
    Kind.UNIFORM: ("min", "max"),
}
_DURATION: Final = {
    "kind": Field("kind", fields.choice(Kind)),
    "value": Field("value_s", units.seconds),
    "mean": Field("mean_s", fields.positive_seconds),
    "median": Field("median_s", fields.positive_seconds),
    "sigma": Field("sigma", _amount(0, 10)),
    "min": Field("min_s", units.seconds),
    "max": Field("max_s", units.seconds),
}
_ARRIVAL: Final = {
    "start": Field("start_s", units.seconds),
    "per_hour": Field("per_hour", _amount(0.001, 1e9)),
    "burst": Field("burst", fields.whole(1, MAX_JOBS)),
    "every": Field("every_s", fields.positive_seconds),
}
_RENT: Final = {
    "min": Field("min_count", fields.whole(0, MAX_AGENTS)),
    "provision": Field("provision_s", units.seconds),
    "idle": Field("idle_s", fields.positive_seconds),
}
_GROUP: Final = {
    "name": Field("name", fields.name),
    "count": Field("count", fields.whole(1, MAX_AGENTS)),
    "cpus": Field("cpus_milli", units.cpus_milli),
    "memory": Field("memory_bytes", units.size_bytes),
    "disk": Field("disk_bytes", units.size_bytes),
    "gpus": Field("gpus", units.gpus),
    "arch": Field("arch", units.arch),
    "price_usd_per_hour": Field("price_usd_per_hour", _amount(0, 1e6)),
    "arrive": Field("arrive_s", units.seconds),
    "leave": Field("leave_s", units.seconds),
    "failing_every": Field("failing_every_s", fields.positive_seconds),
    "repair": Field("repair_s", units.seconds),
    "rent": Field("rent", _rent),
}
_WORKLOAD: Final = {
    "name": Field("name", fields.name),
    "jobs": Field("jobs", fields.whole(1, MAX_JOBS)),
    "shape": Field("shape", fields.choice(Shape)),
    "width": Field("width", fields.whole(1, MAX_WIDTH)),
    "arrival": Field("arrival", _arrival),
    "duration": Field("duration", _duration),
    "resources": Field("requirements", resources.read),
    "priority": Field("priority", fields.choice(Priority)),
    "project": Field("project", fields.name),
    "retries": Field("retries", fields.whole(0, MAX_RETRIES)),
    "infra_retries": Field("infra_retries", fields.whole(0, MAX_RETRIES)),
    "failure_share": Field("failure_share", _amount(0, 1)),
}
_PLAN: Final = {
    "name": Field("name", fields.text),
    "agents": Field("agents", _list_of(_group, "groups of agents")),
    "workloads": Field("workloads", _list_of(_workload, "workloads")),
    "window": Field("window_s", units.seconds),
    "start": Field("start_s", units.seconds),
}
