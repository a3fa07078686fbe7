"""SkyPilot's `resources` → Styx's, and what belongs beside them.

Of several candidates each becomes an alternative; what stands beside `resources` is of the first.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, cast

from styx.core import fields, units
from styx.core.resources import MAX_ALTERNATIVES
from styx.core.units import Expected
from styx.sky import fate
from styx.sky.notes import Notes

ROOT: Final = "resources"
ENDLESS: Final = 1_000  # retries of a task that SkyPilot would restart without end
CRITICAL: Final = 500
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) *([KMGTP]?)(?:B|i|iB)?\+?", re.IGNORECASE)
_GPU_MEMORY: Final = re.compile(r"(?:^|:)\d+[GMT]B\+?(?::|$)", re.IGNORECASE)
_GIB: Final = {"K": 2**-20, "M": 2**-10, "": 1, "G": 1, "T": 2**10, "P": 2**20}

Candidate = dict[str, tuple[str, Any]]  # each key with the path at which its value stands


class Translated(NamedTuple):
    """`resources` of the task, other fields of it, and its container image."""

    resources: dict[str, Any]
    beside: dict[str, Any]
    image: str


def translate(given: dict[str, Any], notes: Notes) -> Translated:
    """`given` has the shape that SkyPilot asks for."""
    candidates = list(_candidates(given, notes))
    made = [_one(candidate, notes) for candidate in candidates]
    first = made[0]
    distinct: list[dict[str, Any]] = []
    for each in made:
        if each.resources not in distinct:
            distinct.append(each.resources)
    if len(distinct) > MAX_ALTERNATIVES:
        words = f"at most {MAX_ALTERNATIVES} alternatives, not {len(distinct)}"
        notes.is_wrong(_several_at(given), words)
    if any(other.beside != first.beside or other.image != first.image for other in made[1:]):
        notes.warn(_several_at(given), "what the choices differ in is taken from the first")
    if len(distinct) == 1:
        return first
    return first._replace(resources={_kind(given): distinct})


def _kind(given: dict[str, Any]) -> str:
    """A list of accelerators is in the order of preference, as `ordered` is; an object is not."""
    if given.get("any_of") or given.get("ordered"):
        return "any_of" if given.get("any_of") else "ordered"
    listed = given.get("accelerators") or given.get("gpus")
    return "ordered" if isinstance(listed, list) else "any_of"


def _several_at(given: dict[str, Any]) -> str:
    keys = ("any_of", "ordered", "accelerators", "gpus")
    return f"{ROOT}.{next(key for key in keys if given.get(key))}"


def _candidates(given: dict[str, Any], notes: Notes) -> Iterator[Candidate]:
    """The outer fields with those of each choice over them, and each accelerator by itself."""
    outer: Candidate = {
        key: (f"{ROOT}.{key}", value)
        for key, value in given.items()
        if value is not None and key not in {"any_of", "ordered"}
    }
    if given.get("any_of") and given.get("ordered"):
        notes.is_wrong(f"{ROOT}.ordered", "give either `any_of` or `ordered`, not both")
    kind = "any_of" if given.get("any_of") else "ordered"
    choices = cast("list[dict[str, Any] | None]", given.get(kind) or [{}])
    for index, choice in enumerate(choices):
        own: Candidate = {
            key: (f"{ROOT}.{kind}[{index}].{key}", value)
            for key, value in (choice or {}).items()
            if value is not None
        }
        both = outer | own
        if "labels" in outer and "labels" in own:
            both["labels"] = (own["labels"][0], {**outer["labels"][1], **own["labels"][1]})
        yield from _each_accelerator(both, notes)


def _each_accelerator(candidate: Candidate, notes: Notes) -> Iterator[Candidate]:
    if "gpus" in candidate and "accelerators" in candidate:
        notes.is_wrong(candidate["gpus"][0], "says the same as `accelerators`; give one of them")
    path, value = candidate.get("accelerators") or candidate.get("gpus") or ("", None)
    rest = {k: v for k, v in candidate.items() if k not in {"accelerators", "gpus"}}
    words = list(_accelerators(value))
    for word in words:
        yield {**rest, "accelerators": (path, word)}
    if not words:
        yield rest


def _accelerators(value: Any) -> Iterable[str]:
    """`NAME[:N]` each."""
    if isinstance(value, dict):
        named = cast("dict[object, object]", value)
        return [str(name) if n is None else f"{name}:{n}" for name, n in named.items()]
    if isinstance(value, str):
        return [value]
    return cast("list[str]", value or [])


def _one(candidate: Candidate, notes: Notes) -> Translated:
    wanted: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    image = ""
    for key, (path, value) in candidate.items():
        fated = fate.RESOURCES.get(key)
        match key:
            case "cpus":
                wanted["cpus"] = notes.read(path, value, _cpus)
            case "memory":
                wanted["memory"] = notes.read(path, value, _gib)
            case "disk_size":
                wanted["disk"] = notes.read(path, value, _gib)
            case "accelerators":
                wanted["gpus"] = _gpus(path, value, notes)
            case "labels":
                beside["labels"] = {str(name): str(label) for name, label in value.items()}
            case "job_recovery":
                beside |= _recovery(path, value, notes)
            case "priority":
                beside["priority"] = notes.read(path, value, _priority)
            case "image_id":
                image = image or _image(path, value, notes)
            case _ if fated and value not in (False, [], {}, ""):
                notes.befalls(path, fated)
            case _:
                pass
    return Translated({k: v for k, v in wanted.items() if v is not None}, beside, image)


def _cpus(value: Any) -> Any:
    units.cpus_milli(value)
    return value.removesuffix("+") if isinstance(value, str) else value


def _gib(value: Any) -> int | float:
    """SkyPilot's units are powers of 1,024, whatever they are called."""
    match = _SIZE.fullmatch(str(value).strip())
    if not match:
        raise Expected("GiB as a number, or a size such as 16+ or 512GB")
    size = float(match[1]) * _GIB[match[2].upper()]
    return int(size) if size.is_integer() else size


def _gpus(path: str, word: str, notes: Notes) -> str | None:
    if _GPU_MEMORY.search(word):
        notes.befalls(path, fate.GPU_MEMORY)
        return None
    name, _, number = word.strip().partition(":")
    try:
        count = float(number or 1)
        units.gpus(f"{name}:{math.ceil(count)}")
    except (ValueError, OverflowError):  # `Expected` is one
        notes.is_wrong(
            path, f"expected a kind with a number, such as A100:8, not {fields.show(word)}"
        )
        return None
    if not count.is_integer():
        notes.warn(path, f"a task gets whole GPUs: {math.ceil(count)} instead of {number}")
    return f"{name}:{math.ceil(count)}"


def _recovery(path: str, value: Any, notes: Notes) -> dict[str, Any]:
    given: dict[str, Any] = {"strategy": value} if isinstance(value, str) else value
    strategy, retries = given.get("strategy"), given.get("max_restarts_on_errors")
    codes = given.get("recover_on_exit_codes")
    made: dict[str, Any] = {}
    if isinstance(strategy, str) and strategy.lower() == "none":
        made["infra_retries"] = 0
    if retries is not None:
        made["retries"] = notes.read(f"{path}.max_restarts_on_errors", retries, _restarts)
    if codes is not None:
        listed = cast("list[int]", codes if isinstance(codes, list) else [codes])
        made["retry_on"] = notes.read(f"{path}.recover_on_exit_codes", listed, _exit_codes)
        if retries is None:
            made["retries"] = ENDLESS
        else:
            notes.warn(
                f"{path}.recover_on_exit_codes",
                "these codes are the only ones tried again, and count as restarts, too",
            )
    return made


def _restarts(value: object) -> int:
    return units.whole(value, 0, ENDLESS)


def _exit_codes(value: Any) -> list[int]:
    if not all(1 <= code <= 255 for code in value):
        raise Expected("exit codes from 1 to 255")
    return sorted(set(value))


def _priority(value: object) -> str:
    level = units.whole(value, -1_000, 1_000)
    if level <= 0:
        return "low" if level < 0 else "normal"
    return "critical" if level >= CRITICAL else "high"


def _image(path: str, value: Any, notes: Notes) -> str:
    """That of a container; one of a machine is the provider's business."""
    images = cast("dict[str, str]", value) if isinstance(value, dict) else {"": cast("str", value)}
    for where, image in images.items():
        if where == "docker" or image.startswith("docker:"):
            return image.removeprefix("docker:")
    if images:
        notes.befalls(path, fate.MACHINE_IMAGE)
    return ""
