"""`matrix`: every combination of some values → an array whose elements have a variable for each axis.

An element's value is kept as a JSON object of its variables, so that to the scheduler it is an array like
any other.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from styx.core import fields
from styx.core.fields import Wrong
from styx.core.units import Expected
from styx.errors import FieldError

MAX_ELEMENTS: Final = 100_000
MAX_BYTES: Final = 16 << 20  # of all elements: a short document must not make a huge job
MAX_ROWS: Final = 100  # of `exclude`: each is compared with each element
INCLUDE: Final = "include"
EXCLUDE: Final = "exclude"
_RANGE: Final = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})")
_QUOTES: Final = len('"":"",')

Row = dict[str, str]


def read(value: object) -> tuple[str, ...]:
    """The values of the array. Raises: Expected, Wrong."""
    if not isinstance(value, dict):
        raise Expected("an object of axes: variables with their values")
    given = cast("dict[str, object]", value)
    errors: list[FieldError] = []
    axes = {
        key: _checked(key, given[key], _axis, errors)
        for key in given
        if key not in {INCLUDE, EXCLUDE} and given[key] is not None
    }
    more = _checked(INCLUDE, given.get(INCLUDE) or [], _rows, errors)
    less = _checked(EXCLUDE, given.get(EXCLUDE) or [], _rows, errors)
    if not errors:
        names = list(axes or (more[0] if more else ()))
        errors += _misnamed(names, more, less)
    if errors:
        raise Wrong(errors)
    _bound(axes)
    elements = [*(_left(axes, less) if axes else ()), *more]
    if not 1 <= len(elements) <= MAX_ELEMENTS:
        raise Expected(f"1 to {MAX_ELEMENTS:,} combinations")
    return tuple(msgspec.json.encode(element).decode() for element in elements)


def _checked(key: str, value: object, reader: fields.Reader, errors: list[FieldError]) -> list[Any]:
    try:
        return reader(value)
    except (Expected, Wrong) as error:
        errors += fields.below(key, value, error)
        return []


def _axis(value: object) -> list[str]:
    if isinstance(value, str) and (match := _RANGE.fullmatch(value)):
        first, last = int(match[1]), int(match[2])
        if 0 <= last - first < MAX_ELEMENTS:
            return [str(number) for number in range(first, last + 1)]
    if not isinstance(value, list) or not value:
        raise Expected('a list of values, or a range such as "0..7"')
    return list(fields.array_values(cast("object", value)))


def _rows(value: object) -> list[Row]:
    if not isinstance(value, list) or len(cast("list[object]", value)) > MAX_ROWS:
        raise Expected(f"a list of at most {MAX_ROWS} combinations")
    rows: list[Row] = []
    errors: list[FieldError] = []
    for index, row in enumerate(cast("list[object]", value)):
        try:
            rows.append(fields.env(row))
        except (Expected, Wrong) as error:
            errors += fields.below(f"[{index}]", row, error)
    if errors:
        raise Wrong(errors)
    return rows


def _misnamed(names: list[str], more: list[Row], less: list[Row]) -> Iterator[FieldError]:
    for name in names:
        try:
            fields.env({name: ""})
        except Wrong as wrong:
            yield FieldError(name, wrong.errors[0].message)
    for index, row in enumerate(more):
        if set(row) != set(names):
            yield FieldError(f"{INCLUDE}[{index}]", f"expected each of {', '.join(names)}")
    for index, row in enumerate(less):
        if not row or not set(row) <= set(names):
            yield FieldError(f"{EXCLUDE}[{index}]", f"expected some of {', '.join(names)}")


def _bound(axes: Mapping[str, list[str]]) -> None:
    """Before anything is made."""
    count = math.prod(len(values) for values in axes.values())
    width = sum(
        len(name) + max(map(fields.size_of, values)) + _QUOTES for name, values in axes.items()
    )
    if count > MAX_ELEMENTS or count * width > MAX_BYTES:
        raise Expected(
            f"at most {MAX_ELEMENTS:,} combinations of {MAX_BYTES >> 20} MiB, not {count:,}"
        )


def _left(axes: Mapping[str, list[str]], less: list[Row]) -> Iterator[Row]:
    for values in itertools.product(*axes.values()):
        row = dict(zip(axes, values, strict=True))
        if not any(out.items() <= row.items() for out in less):
            yield row
