"""`outputs`: what a task leaves is brought back, and laid out for the tasks that need it.

What is below `$STYX_OUTPUT_DIR` always is; beyond it, paths and patterns below the work directory. What says
`to` goes into a bucket instead, and to no other task.
"""

from collections.abc import Iterator, Sequence
from typing import Final, cast

from msgspec.structs import replace

from styx.core import bundle, feature, source
from styx.core.fields import Field, Wrong, below
from styx.core.fields import read as read_fields
from styx.core.ids import JobId
from styx.core.spec import Input, Output, TaskSpec
from styx.core.units import Expected
from styx.errors import FieldError, InvalidSpec

MAX_OUTPUTS: Final = 100  # of one task
MAX_GIVEN: Final = 10_000  # tasks whose outputs one is given
EXPECTED: Final = (
    "true, or a list of paths below the work directory (`results/*.csv`), of which each may be "
    "{path, to: s3://bucket/prefix/}"
)
_PATH: Final = "a path below the work directory, or a pattern"
_BUCKET: Final = "s3://bucket/prefix/, gs://… or az://…"


def read(value: object) -> tuple[Output, ...]:
    """Raises: Expected, Wrong."""
    if value is True:
        return (Output(),)
    if value is False:
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or len(cast("list[object]", value)) > MAX_OUTPUTS:
        raise Expected(EXPECTED)
    errors: list[FieldError] = []
    found: dict[Output, None] = {}
    for index, item in enumerate(cast("list[object]", value)):
        try:
            found[_item(item)] = None
        except (Expected, Wrong) as error:
            errors += below(f"[{index}]", item, error)
    if errors:
        raise Wrong(errors)
    if not found:
        return ()
    own = [output for output in found if not output.path] or [Output()]
    return (*own, *(output for output in found if output.path))


def connected(specs: Sequence[TaskSpec]) -> Sequence[TaskSpec]:
    """The same specs, who know whose outputs they are given."""
    giving = {spec.name for spec in specs if returns(spec)}
    if not giving:
        return specs
    return [_with_inputs(spec, giving) for spec in specs]


def too_many(specs: Sequence[TaskSpec], places: Sequence[str]) -> Iterator[FieldError]:
    """Who would be given the outputs of more tasks than it can be."""
    widths = {spec.name: spec.width for spec in specs if returns(spec)}
    for spec, place in zip(specs, places, strict=True):
        given = sum(widths.get(need.task, 0) for need in spec.needs) if widths else 0
        if given > MAX_GIVEN:
            message = f"the outputs of {given:,} tasks; at most {MAX_GIVEN:,} can be given to one"
            yield FieldError(f"{place}.needs", message)


def returns(spec: TaskSpec) -> bool:
    """Whether something comes to the server."""
    return any(not output.to for output in spec.outputs)


def again(spec: TaskSpec, job: JobId, made: Sequence[tuple[str, Input]]) -> tuple[Input, ...]:
    """The inputs of a spec of `job` that is tried again: of what has succeeded there, and before it of what
    is `made` again, each beside the name that its spec had there.
    """
    before = {given.spec: given for given in spec.inputs if not given.job}
    anew = (_in_place_of(before[old], new) for old, new in made if old in before)
    return (*anew, *(replace(given, job=given.job or job) for given in spec.inputs))


def _in_place_of(given: Input, new: Input) -> Input:
    return replace(new, name=given.name, index=given.index if new.index is None else new.index)


def _with_inputs(spec: TaskSpec, giving: set[str]) -> TaskSpec:
    wanted = dict.fromkeys(need.task for need in spec.needs if need.task in giving)
    inputs = tuple(Input(name, name) for name in wanted)
    return feature.with_needs(replace(spec, inputs=inputs)) if inputs else spec


def _item(value: object) -> Output:
    if not isinstance(value, dict):
        return Output(_path(value))
    errors: list[FieldError] = []
    given = read_fields(cast("object", value), _ITEM, errors)
    if errors:
        raise Wrong(errors)
    return Output(**given)


def _path(value: object) -> str:
    """As it is kept: without what says nothing. Raises: Expected."""
    if not isinstance(value, str):
        raise Expected(_PATH)
    path = value.removeprefix("./").rstrip("/")
    try:
        bundle.parts(path)
    except InvalidSpec:
        raise Expected(_PATH) from None
    return path


def _to(value: object) -> str:
    address = source.read(value)
    if not source.is_bucket(address):
        raise Expected(_BUCKET)
    return address


_ITEM: Final = {"path": Field("path", _path), "to": Field("to", _to)}
