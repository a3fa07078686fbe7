"""Reading `resources`: what one node needs, or alternatives of it, each laid over what stands beside them."""

from typing import Any, Final, cast

import msgspec

from styx.core import fields, units
from styx.core.fields import RESOURCES, Field, Wrong
from styx.core.spec import Requirements
from styx.core.units import Expected, Gpus
from styx.errors import FieldError

MAX_ALTERNATIVES: Final = 16
_SAME: Final = "says the same as `{}`; give one of them"

Given = dict[str, Any]


def read(value: object) -> Requirements:
    """Raises: Wrong, Expected."""
    outer = _given(value, FIELDS)
    listed = {kind: outer.pop(kind) for kind in _KINDS if kind in outer}
    if len(listed) > 1:
        raise Wrong([FieldError("ordered", "give either `any_of` or `ordered`, not both")])
    own: list[Given] = next(iter(listed.values()), [Given()])
    made = [one for each in own for one in _each_kind(_over(outer, each))]
    distinct = tuple(dict.fromkeys(made))
    if len(distinct) > MAX_ALTERNATIVES:
        raise Expected(f"at most {MAX_ALTERNATIVES} alternatives, not {len(distinct)}")
    if len(distinct) == 1:
        return distinct[0]
    return msgspec.structs.replace(distinct[0], any_of=distinct, ordered="ordered" in listed)


def _given(value: object, known: dict[str, Field]) -> Given:
    """As it is kept, GPUs as the list of those that would do."""
    errors: list[FieldError] = []
    given = fields.read(value, known, errors)
    gpus = given.pop("accelerators", None)
    if gpus is not None and "gpus" in given:
        errors.append(FieldError("accelerators", _SAME.format("gpus")))
    if errors:
        raise Wrong(errors)
    return given if gpus is None else given | {"gpus": gpus}


def _over(outer: Given, own: Given) -> Given:
    both = outer | own
    if "labels" in outer and "labels" in own:
        both["labels"] = tuple(sorted((dict(outer["labels"]) | dict(own["labels"])).items()))
    return both


def _each_kind(given: Given) -> list[Requirements]:
    rest = {key: value for key, value in given.items() if key != "gpus"}
    kinds: tuple[Gpus, ...] = given.get("gpus", (Gpus(0),))
    return [Requirements(gpus=kind.number, gpu_model=kind.model, **rest) for kind in kinds]


def _kinds(value: object) -> tuple[Gpus, ...]:
    """Models of one number are one kind, of which any will do; of several numbers each is a kind."""
    if not isinstance(value, list):
        return (units.gpus(value),)
    kinds = _listed(cast("list[object]", value), units.gpus)
    alike = len({kind.number for kind in kinds}) == 1 and all(kind.model for kind in kinds)
    return (units.gpus(cast("object", value)),) if alike else tuple(kinds)


def _alternatives(value: object) -> list[Given]:
    if not isinstance(value, list):
        raise Expected("a list of alternatives")
    return _listed(cast("list[object]", value), lambda item: _given(item, _ONE))


def _listed(items: list[object], reader: fields.Reader) -> list[Any]:
    if not 1 <= len(items) <= MAX_ALTERNATIVES:
        raise Expected(f"1 to {MAX_ALTERNATIVES} alternatives")
    return fields.each(items, reader, "a list")


_ONE: Final = RESOURCES | {
    "gpus": Field("gpus", _kinds),
    "accelerators": Field("accelerators", _kinds),
}
_KINDS: Final = ("any_of", "ordered")
FIELDS: Final = _ONE | {kind: Field(kind, _alternatives) for kind in _KINDS}
