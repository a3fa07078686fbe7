"""Files of tasks, as `submit`, `validate` and `import` take them."""

from collections.abc import Sequence
from typing import NamedTuple

from styx.file import job, read


class Loaded(NamedTuple):
    """`warnings` say what the file asks for and does not get."""

    job: job.Job
    warnings: Sequence[str]


def load(path: str, *, env: dict[str, str] | None = None) -> Loaded:
    """Raises: InvalidSpec, with line and column."""
    return Loaded(job.of(read.read(path), env=env), ())
