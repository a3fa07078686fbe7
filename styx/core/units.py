"""Values as people write them, read into base units: `4+`, `16GB`, `1h30m`, `A100:8`.

Every reader takes anything that JSON can hold and returns the value, or raises `Expected`.
"""

import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeGuard, cast

from styx.core.agent import ARCHITECTURES
from styx.core.spec import ANY_OF

MAX_CPUS: Final = 100_000
MAX_SIZE_BYTES: Final = 1 << 60  # an exbibyte: beyond any machine, within a signed 64-bit column
MAX_GPUS: Final = 1_000  # of one node
MAX_MODELS: Final = 16  # of which any will do
MAX_DURATION_S: Final = 10 * 366 * 86_400.0  # ten years; keeps every deadline a valid date

_NUMBER: Final = r"(\d{1,15}(?:\.\d{1,9})?)"
_CPUS: Final = re.compile(rf"{_NUMBER}\+?")
_SIZE: Final = re.compile(rf"{_NUMBER}\s*([KMGTP]i?B?|B|)\+?", re.IGNORECASE)
_DURATION: Final = re.compile(
    rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?", re.IGNORECASE
)
_SECONDS: Final = re.compile(_NUMBER)
_DURATION_UNITS_S: Final = (86_400, 3_600, 60, 1)
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_LETTERS: Final = "KMGTP"
_ONE_KIND: Final = 'a whole number, or one model with a number, such as 8, "A100" or "A100:8"'


class Expected(ValueError):
    """The value is none of these: the text says what would be right."""


class Gpus(NamedTuple):
    """How many, and of which model in lower case, or of which of several, apart by `ANY_OF`; "" is any."""

    number: int
    model: str = ""


def is_number(value: object) -> TypeGuard[int | float]:
    """A finite number; True and False are not."""
    return type(value) is int or (type(value) is float and math.isfinite(value))


def whole(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Expected(f"a whole number from {least:,} to {most:,}")
    return value


def cpus_milli(value: object) -> int:
    """Thousandths of a core. `4+` is `4`: a task always gets at least what it asks for."""
    if isinstance(value, str) and (match := _CPUS.fullmatch(value)):
        value = float(match[1])
    if not is_number(value) or not 0.001 <= value <= MAX_CPUS:
        raise Expected(f'a number of cores from 0.001 to {MAX_CPUS:,}, such as 4, 0.5 or "4+"')
    return round(value * 1_000)


def size_bytes(value: object) -> int:
    """A bare number is GiB. `GB` is 10^9 bytes; `GiB`, and `G` alone, is 2^30."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size = float(match[1]) * _factor(match[2].upper())
    elif is_number(value) and abs(value) < MAX_SIZE_BYTES:
        size = value * float(1 << 30)
    else:
        size = -1.0
    if not 0 <= size <= MAX_SIZE_BYTES:
        raise Expected('GiB as a number, or a size such as "16GB", "512MiB" or "16+"')
    return round(size)


def seconds(value: object) -> float:
    """Zero is allowed; whether it makes sense is the field's to say."""
    duration = -1.0
    if is_number(value) and 0 <= value <= MAX_DURATION_S:
        duration = float(value)
    elif isinstance(value, str):
        if _SECONDS.fullmatch(value):
            duration = float(value)
        elif value and (match := _DURATION.fullmatch(value)):
            parts = zip(match.groups(), _DURATION_UNITS_S, strict=True)
            duration = sum(float(part) * unit_s for part, unit_s in parts if part)
    if not 0 <= duration <= MAX_DURATION_S:
        raise Expected('seconds as a number, or a duration such as "90m" or "1h30m"')
    return duration


def gpus(value: object) -> Gpus:
    """`8`, `"8"`, `"A100"`, `"A100:8"` or `{"A100": 8}`; several models with one number, any of which will do:
    `["A100:8", "H100:8"]` or `{"A100": 8, "H100": 8}`.
    """
    found = [_gpus(model, number) for model, number in _choices(value)]
    numbers, models = {each.number for each in found}, {each.model for each in found}
    if len(numbers) != 1 or ("" in models and len(models) > 1):
        raise Expected(f"{_ONE_KIND}; of several models each with the same number")
    return Gpus(numbers.pop(), ANY_OF.join(sorted(models)))


def _gpus(model: object, number: object) -> Gpus:
    if isinstance(number, str) and number.isdecimal() and len(number) < 6:
        number = int(number)
    if (
        not isinstance(model, str)
        or (model and not _MODEL.fullmatch(model))
        or type(number) is not int
        or not 0 <= number <= MAX_GPUS
    ):
        raise Expected(_ONE_KIND)
    return Gpus(number, model.lower() if number else "")


def _choices(value: object) -> Sequence[tuple[object, object]]:
    """Models with their numbers, one at least."""
    if isinstance(value, dict):
        choices = list(cast("dict[object, object]", value).items())
    elif isinstance(value, list):
        choices = [_model_and_number(each) for each in cast("list[object]", value)]
    else:
        return [_model_and_number(value)]
    if not 1 <= len(choices) <= MAX_MODELS:
        raise Expected(f"1 to {MAX_MODELS} models")
    return choices


def arch(value: object) -> str:
    name = ARCHITECTURES.get(value.lower()) if isinstance(value, str) else None
    if name is None:
        raise Expected('"x86_64" (or "amd64"), or "arm64" (or "aarch64")')
    return name


def _model_and_number(value: object) -> tuple[object, object]:
    if not isinstance(value, str):
        return "", value
    model, colon, number = value.partition(":")
    if colon:
        return model, number
    return ("", value) if value.isdecimal() or not value else (value, 1)


def _factor(unit: str) -> int:
    """Of a size unit in upper case; no unit is GiB."""
    if unit == "B":
        return 1
    letter = unit[:1] or "G"
    base = 1_000 if len(unit) == 2 and unit.endswith("B") else 1_024
    return base ** (_LETTERS.index(letter) + 1)
