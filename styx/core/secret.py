"""`secrets` of a task: which variables of its environment hold which secrets. Only names stand in a spec.

What is wrong is told without the text that was given: who mistakes the field may have put a value there.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, cast

from styx.core import fields
from styx.core.fields import Wrong
from styx.core.spec import JobSpec
from styx.core.units import Expected
from styx.errors import FieldError

MAX_VALUE_BYTES: Final = 48 << 10
MAX_TASK_BYTES: Final = 128 << 10  # of one task, together: they fit one frame to the agent
MAX_OF_A_TASK: Final = 100
GIVEN: Final = "~"  # begins no name of a person's
MASKED_BYTES: Final = 6  # what is shorter is not masked in output: it would be found everywhere
_NAME: Final = re.compile(rf"{fields.NAME.pattern}|{GIVEN}[0-9a-f-]{{36}}")
_NAME_RULE: Final = "the name of a secret: letters, digits and . _ -; a value has no place here"
_FOR_ANOTHER: Final = "its value was given for one job, and is for no other: give it anew, or keep it with styx secret set"
_VARIABLE_RULE: Final = "a variable's name: letters, digits, underscores; name the secret after it"


def is_given(name: str) -> bool:
    """Whether it is what the server calls a value that was given for one job."""
    return name.startswith(GIVEN)


def of_task(value: object) -> dict[str, str]:
    """A list of names, or `{VARIABLE: name}`."""
    if isinstance(value, list):
        names = cast("list[object]", value)
        pairs = [(f"[{index}]", name, name) for index, name in enumerate(names)]
    elif isinstance(value, dict):
        mapping = cast("dict[object, object]", value)
        pairs = [(fields.short(key), key, name) for key, name in mapping.items()]
    else:
        raise Expected("a list of secrets' names, or an object of variables with these")
    errors = [error for where, *pair in pairs for error in _wrong(where, *pair)]
    if len(pairs) > MAX_OF_A_TASK:
        errors.append(FieldError("", f"at most {MAX_OF_A_TASK} secrets"))
    if errors:
        raise Wrong(errors)
    return {str(variable): str(name) for _, variable, name in pairs}


def given_twice(document: Mapping[str, object]) -> Iterable[FieldError]:
    """Variables of a task's document that `env` has, too."""
    env, secrets = document.get("env"), document.get("secrets")
    if isinstance(env, dict) and isinstance(secrets, list | dict):
        variables = [name for name in cast("list[object]", secrets) if isinstance(name, str)]
        for variable in variables:
            if variable in env:
                message = "is in `env`, too: give it as one of the two"
                yield FieldError(f"secrets.{fields.short(variable)}", message)


def value(given: object) -> str:
    """The value of a secret. Raises: Wrong, which does not show it."""
    if not isinstance(given, str) or not given:
        raise Wrong([FieldError("", "expected some text")])
    if "\0" in given:
        raise Wrong([FieldError("", "expected text without NUL bytes, which no variable can hold")])
    try:
        size = fields.size_of(given)
    except Expected as expected:
        raise Wrong([FieldError("", f"expected {expected}")]) from None
    if size > MAX_VALUE_BYTES:
        raise Wrong(
            [FieldError("", f"at most {MAX_VALUE_BYTES >> 10} KiB; this has {size:,} bytes")]
        )
    return given


def values(given: object) -> dict[str, str]:
    """Those of several variables. Raises: Wrong, which shows none."""
    if not isinstance(given, dict):
        raise Wrong([FieldError("", "expected an object of variables and values")])
    errors: list[FieldError] = []
    read: dict[str, str] = {}
    for variable, text in cast("dict[object, object]", given).items():
        if not isinstance(variable, str) or not fields.ENV_NAME.fullmatch(variable):
            errors.append(FieldError(fields.short(variable), f"expected {_VARIABLE_RULE}"))
            continue
        try:
            read[variable] = value(text)
        except Wrong as wrong:
            errors += fields.below(variable, None, wrong)
    if len(read) > MAX_OF_A_TASK:
        errors.append(FieldError("", f"at most {MAX_OF_A_TASK} secrets"))
    if errors:
        raise Wrong(errors)
    return read


def wanted(job: JobSpec) -> set[str]:
    return {name for spec in job.tasks if spec.secrets for name in spec.secrets.values()}


def unknown(job: JobSpec, absent: set[str]) -> list[FieldError]:
    """Where secrets are named that are not there."""
    return [
        FieldError(
            f"secrets.{variable}"
            if len(job.tasks) == 1
            else f"tasks.{spec.name}.secrets.{variable}",
            _FOR_ANOTHER
            if is_given(name)
            else f"there is no secret {name!r}: styx secret set {name}",
        )
        for spec in job.tasks
        if spec.secrets
        for variable, name in spec.secrets.items()
        if name in absent
    ]


def _wrong(where: str, variable: object, name: object) -> Iterable[FieldError]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield FieldError(where, f"expected {_NAME_RULE}")
    elif not isinstance(variable, str) or not fields.ENV_NAME.fullmatch(variable):
        yield FieldError(where, f"expected {_VARIABLE_RULE}")
