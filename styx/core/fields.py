"""Reading one object of a submitted document: each key has a reader, and whatever is wrong is collected.

A reader takes anything that JSON can hold and returns the value. It raises `Expected` with what would
be right, or `Wrong` when it has already said what is wrong below it, and where.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar, cast

from styx.core import bundle, units
from styx.core.spec import MAX_TASKS_PER_JOB, Need, On
from styx.core.units import Expected
from styx.errors import FieldError

MAX_ARGV_BYTES: Final = 128 << 10  # what Linux takes for one argument
MAX_SCRIPT_BYTES: Final = 256 << 10
MAX_SETUP_BYTES: Final = 96 << 10  # it is an argument, too, and longer as such
MAX_ENV_BYTES: Final = 128 << 10  # all of them together fit one frame to the agent
MAX_ARRAY_VALUE_BYTES: Final = 32 << 10
MAX_LABELS: Final = 64
MAX_LABEL_BYTES: Final = 256
MAX_NEEDS: Final = 10_000  # of one task
MAX_PATH_BYTES: Final = 4_095  # PATH_MAX

PLACES: Final = ("/", "~")  # of an agent's machine, over which files are laid

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}")  # no option of an engine's
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9._/-]{1,128}")

# Promised by the contract, not yet built: what to do until then.
LATER: Final = {
    "provider": "label the agents and ask for the label with `labels`",
    "infra": "label the agents and ask for the label with `labels`",
    "region": "label the agents and ask for the label with `labels`",
    "zone": "label the agents and ask for the label with `labels`",
    "instance_type": "ask for `cpus`, `memory` and `gpus`",
    "capacity": "label the agents and ask for the label with `labels`",
    "max_price_usd_per_hour": "tasks run on the agents that are there, at no price",
}
SCHEDULE: Final = "schedule"
ELSEWHERE: Final = (
    "this makes a job now, of which the schedule is no part: `styx submit` a file with it at the top "
    "(beside `tasks`), or PUT the document to /api/v1/schedules/NAME"
)

_JSON_WORDS: Final = {"True": "true", "False": "false", "None": "null"}
E = TypeVar("E", bound=StrEnum)
Reader = Callable[[object], Any]


class Wrong(Exception):
    """Everything wrong with one value; paths begin at the value, "" is the value itself."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        super().__init__()
        self.errors = list(errors)


class Field(NamedTuple):
    """Under which name the value is kept, and how it is read."""

    keep: str
    read: Reader


def read(document: object, fields: Mapping[str, Field], errors: list[FieldError]) -> dict[str, Any]:
    """Read every field that is given (null is not); add what is wrong to `errors`."""
    if not isinstance(document, dict):
        errors.append(FieldError("", f"expected an object with fields, not {show(document)}"))
        return {}
    values: dict[str, Any] = {}
    for key, value in cast("dict[str, object]", document).items():
        field = fields.get(key)
        if field is None:
            errors.append(FieldError(short(key), _unknown(key, fields)))
        elif value is not None:
            try:
                values[field.keep] = field.read(value)
            except (Expected, Wrong) as error:
                errors += below(key, value, error)
    return values


def below(place: str, value: object, error: Expected | Wrong) -> list[FieldError]:
    """What a reader found wrong with `value`, seen from the document that holds it at `place`."""
    if isinstance(error, Wrong):
        return [FieldError(_join(place, e.path), e.message) for e in error.errors]
    return [FieldError(place, f"expected {error}, not {show(value)}")]


def show(value: object) -> str:
    """A value in a message: short, as JSON has it, and never a whole document."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a huge number"
    written = repr(value if not isinstance(value, str) or len(value) <= 40 else value[:39] + "…")
    return _JSON_WORDS.get(written, written)


def later(key: str) -> str:
    return f"`{key}` comes with a later version of Styx; until then {LATER[key]}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word[:128], known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


# --- readers --------------------------------------------------------------------------------------


def text(value: object) -> str:
    """Text that a process can be given: no NUL, valid Unicode."""
    if not isinstance(value, str):
        raise Expected("text")
    if "\0" in value:
        raise Expected("text without NUL bytes")
    if not value.isascii():
        size_of(value)
    return value


def name(value: object) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise Expected("1 to 128 letters, digits, dots, dashes and underscores")
    return value


def word(value: object) -> str:
    """An argument or a variable's value: numbers and booleans are written out, as YAML shows them."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if units.is_number(value) and abs(value) < 10**18:
        return str(value)
    raise Expected("text, a number, true or false")


def words(value: object) -> tuple[str, ...]:
    argv = tuple(each(value, word, "a list of words"))
    _limit(argv, MAX_ARGV_BYTES)
    return argv


def array_values(value: object) -> tuple[str, ...]:
    values = tuple(each(value, _array_value, "a list of values"))
    if not 1 <= len(values) <= MAX_TASKS_PER_JOB:
        raise Expected(f"1 to {MAX_TASKS_PER_JOB:,} values")
    return values


def command(value: object) -> tuple[str, ...]:
    """One word, or all of them."""
    argv = words(cast("object", value)) if isinstance(value, list) else (text(value),)
    if not argv or not argv[0]:
        raise Expected("the program to run")
    _limit(argv, MAX_ARGV_BYTES)
    return argv


def script(value: object, most: int = MAX_SCRIPT_BYTES) -> str:
    source = text(value)
    if not source.strip():
        raise Expected("a shell script")
    _limit((source,), most)
    return source


def setup(value: object) -> str:
    return script(value, MAX_SETUP_BYTES)


def directory(value: object) -> str:
    path = text(value)
    if not is_of_agent(path) or size_of(path) > MAX_PATH_BYTES:
        raise Expected("an absolute directory on the agent's machine, or one below ~")
    return path


def is_of_agent(path: str) -> bool:
    """Whether a path says where on the agent's machine; others belong to who submits."""
    return path.startswith(("/", "~/")) or path == "~"


def image(value: object) -> str:
    if not isinstance(value, str) or not _IMAGE.fullmatch(value):
        raise Expected("a container image, such as python:3.12 or ghcr.io/team/tool@sha256:…")
    return value


def bundle_id(value: object) -> str:
    if not isinstance(value, str) or not bundle.is_id(value):
        raise Expected("the id of a bundle: 64 hexadecimal digits")
    return value


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Expected("true or false")
    return value


def env(value: object) -> dict[str, str]:
    variables = _mapping(value, ENV_NAME, "a variable's name: letters, digits, underscores", word)
    _limit((*variables, *variables.values()), MAX_ENV_BYTES)
    return variables


def labels(value: object) -> dict[str, str]:
    pairs = _mapping(value, _LABEL_KEY, "a label: letters, digits and . _ - /", _label_value)
    if len(pairs) > MAX_LABELS:
        raise Expected(f"at most {MAX_LABELS} labels")
    return pairs


def choice(kind: type[E]) -> Callable[[object], E]:
    """A reader of one word out of an enumeration."""
    members = {member.value: member for member in kind}

    def read_choice(value: object) -> E:
        member = members.get(value) if isinstance(value, str) else None
        if member is None:
            raise Expected(f"one of {', '.join(members)}")
        return member

    return read_choice


def whole(least: int, most: int) -> Callable[[object], int]:
    return lambda value: units.whole(value, least, most)


def positive_seconds(value: object) -> float:
    duration = units.seconds(value)
    if duration <= 0:
        raise Expected("a duration of more than 0 seconds")
    return duration


def exit_codes(value: object) -> tuple[int, ...]:
    codes = each(value, whole(1, 255), "a list of exit codes")
    return tuple(sorted(set(codes)))


def needs(value: object) -> tuple[Need, ...]:
    """A name, or a list of names and `{task, on}`."""
    edges = each([value] if isinstance(value, str) else value, _need, "a list of task names")
    if len(edges) > MAX_NEEDS:
        raise Expected(f"at most {MAX_NEEDS:,} needs")
    return tuple(dict.fromkeys(edges))


def size_of(value: str) -> int:
    """In UTF-8. Raises: Expected, for text that has no UTF-8."""
    try:
        return len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise Expected("text of valid Unicode") from None


def _need(value: object) -> Need:
    if not isinstance(value, dict):
        return Need(name(value))
    errors: list[FieldError] = []
    given = read(cast("object", value), _NEED, errors)
    if not errors and "task" not in given:
        errors.append(FieldError("task", "missing: the name of the task to wait for"))
    if errors:
        raise Wrong(errors)
    return Need(**given)


def _array_value(value: object) -> str:
    element = word(value)
    _limit((element,), MAX_ARRAY_VALUE_BYTES)
    return element


def _label_value(value: object) -> str:
    label = word(value)
    if size_of(label) > MAX_LABEL_BYTES:
        raise Expected(f"at most {MAX_LABEL_BYTES} bytes")
    return label


def _agent_labels(value: object) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels(value).items()))


T = TypeVar("T")


def each(value: object, reader: Callable[[object], T], expected: str) -> list[T]:
    if not isinstance(value, list):
        raise Expected(expected)
    read_items: list[T] = []
    errors: list[FieldError] = []
    for index, item in enumerate(cast("list[object]", value)):
        try:
            read_items.append(reader(item))
        except (Expected, Wrong) as error:
            errors += below(f"[{index}]", item, error)
    if errors:
        raise Wrong(errors)
    return read_items


def _mapping(
    value: object, key_rule: re.Pattern[str], key_expected: str, reader: Callable[[object], str]
) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Expected("an object of names and values")
    read_items: dict[str, str] = {}
    errors: list[FieldError] = []
    for key, item in cast("dict[object, object]", value).items():
        if not isinstance(key, str) or not key_rule.fullmatch(key):
            errors.append(FieldError(short(key), f"expected {key_expected}"))
            continue
        try:
            read_items[key] = reader(item)
        except (Expected, Wrong) as error:
            errors += below(key, item, error)
    if errors:
        raise Wrong(errors)
    return read_items


def _limit(parts: tuple[str, ...], most: int) -> None:
    if sum(size_of(part) + 1 for part in parts) > most:  # each ends in a NUL
        raise Expected(f"at most {most >> 10} KiB in all")


def _unknown(key: object, fields: Mapping[str, Field]) -> str:
    if not isinstance(key, str):
        return "expected a field's name"
    if key in LATER:
        return later(key)
    if key == SCHEDULE:
        return ELSEWHERE
    return "no such key" + did_you_mean(key, fields)


def short(key: object) -> str:
    return key[:128] if isinstance(key, str) else show(key)


def _join(place: str, path: str) -> str:
    return place + path if not path or path.startswith("[") else f"{place}.{path}"


_NEED: Final = {"task": Field("task", name), "on": Field("on", choice(On))}
RESOURCES: Final = {  # but for GPUs and alternatives: see `core.resources`
    "cpus": Field("cpus_milli", units.cpus_milli),
    "memory": Field("memory_bytes", units.size_bytes),
    "disk": Field("disk_bytes", units.size_bytes),
    "arch": Field("arch", units.arch),
    "labels": Field("labels", _agent_labels),
}
