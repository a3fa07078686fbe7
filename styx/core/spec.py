"""What a user asked for, checked: immutable, in base units, shared by every task made from it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from styx.core.ids import JobId

MAX_TASKS_PER_JOB: Final = 1_000_000  # array elements included
MAX_SPECS_PER_JOB: Final = 100_000
MAX_EDGES_PER_JOB: Final = 1_000_000
MAX_NODES: Final = 1_000
ANY_OF: Final = "|"  # between models of GPUs
DEFAULT_GRACE_S: Final = (
    30.0  # between the polite signal and SIGKILL, as Slurm and Kubernetes have it
)


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


RANK: Final = {priority: rank for rank, priority in enumerate(Priority)}


class Delivery(StrEnum):
    AT_LEAST_ONCE = "at_least_once"
    AT_MOST_ONCE = "at_most_once"


class On(StrEnum):
    """When an edge is satisfied."""

    SUCCESS = "success"
    DONE = "done"
    FAILURE = "failure"


class OnFailure(StrEnum):
    """What a job does when one of its tasks fails."""

    SKIP_DESCENDANTS = "skip_descendants"
    FAIL_FAST = "fail_fast"
    CONTINUE = "continue"


class Ending(StrEnum):
    """Which ends of a job somebody is told of."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # or lost, as a need's `failure` has it
    CANCELLED = "cancelled"
    DONE = "done"  # however it ended


class Hook(msgspec.Struct, frozen=True, gc=False):
    """Whom to tell, and of which end. `url` "" is whoever the server's own configuration names by then."""

    on: Ending
    url: str = ""


class Need(msgspec.Struct, frozen=True, gc=False):
    """An edge as the user wrote it: the name of another spec of the same job."""

    task: str
    on: On = On.SUCCESS


class Output(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is brought back of what a task leaves: see `core.output`."""

    path: str = ""  # or pattern, below the work directory; "" is all below `$STYX_OUTPUT_DIR`
    to: str = ""  # below this address of a bucket; "" is the server


class Input(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Whose outputs a task finds below `$STYX_INPUT_DIR`."""

    name: str  # of the directory, which an array's elements divide
    spec: str  # of whose tasks
    job: JobId = JobId("")  # of another job: what is tried again needs what has succeeded there
    index: int | None = None  # of the array for one element of which this lone task stands


class Requirements(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one node of a task needs. Equal requirements are one class to the scheduler."""

    cpus_milli: int = 1_000
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpus: int = 0
    gpu_model: str = ""  # lower case; of several, apart by `ANY_OF`, any will do; "" is any at all
    arch: str = ""  # "" is any
    labels: tuple[tuple[str, str], ...] = ()  # sorted; the agent must carry each
    features: tuple[str, ...] = ()  # sorted; the agent must have each: see `core.feature`
    any_of: tuple[
        "Requirements", ...
    ] = ()  # two or more without such of their own; this is the first
    ordered: bool = False  # the first of them that has room is taken, not the tightest fit


class TaskSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Exactly one of `argv` and `script` is set. Durations in seconds."""

    name: str
    argv: tuple[str, ...] = ()
    script: str = ""
    env: dict[str, str] = {}
    requirements: Requirements = Requirements()
    num_nodes: int = 1
    priority: Priority = Priority.NORMAL
    needs: tuple[Need, ...] = ()
    retries: int = 0
    infra_retries: int = 3
    retry_on: tuple[int, ...] = ()  # exit codes worth a retry; empty is every one
    timeout_s: float | None = None
    queue_timeout_s: float | None = None
    grace_s: float = DEFAULT_GRACE_S
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    exclusive: bool = False
    array_count: int | None = None
    array_values: tuple[str, ...] = ()  # as long as `array_count`, or empty
    parallel: int = 0  # of its tasks so many are active at once; 0 is as many as have room
    parallel_of: str = (
        ""  # whose bound it shares: what is tried again of an array are specs of their own
    )
    matrix: bool = False  # each of the values is a JSON object of variables
    workdir: str = ""  # a directory of the agent's machine; "" is the agent's own work directory
    labels: dict[str, str] = {}
    cache: bool = False
    cache_key: str = ""  # see `core.cache`; "" is never taken from an earlier one
    bundle: str = ""  # id of a `core.bundle`, which is what the work directory then holds
    image: str = ""  # of a container to run in; "" is the machine itself
    files: dict[
        str, str
    ] = {}  # "/" or "~" → id of the bundle laid over it; or any place → `core.source`
    setup: str = ""  # a script that runs first: on each agent once for all tasks of this spec
    outputs: tuple[Output, ...] = ()
    inputs: tuple[Input, ...] = ()  # follow from what it needs, the later before the earlier
    secrets: dict[str, str] = {}  # variable → the name of the secret that it holds

    @property
    def width(self) -> int:
        """How many tasks this spec makes."""
        return 1 if self.array_count is None else self.array_count

    @property
    def bundles(self) -> set[str]:
        laid = {what for what in self.files.values() if "://" not in what}  # as `source.is_source`
        return {self.bundle, *laid} - {""}

    def variables(self, value: str) -> dict[str, str]:
        """Those of the element of a matrix that has this value; of other arrays none."""
        return msgspec.json.decode(value, type=dict[str, str]) if self.matrix else {}


# Shared by all specs that have nothing there: a hundred thousand of them may wait in memory.
EMPTY: Final[Mapping[str, Any]] = {"env": {}, "labels": {}, "files": {}, "secrets": {}}


def lean(spec: TaskSpec) -> TaskSpec:
    """The same, with the shared empty parts."""
    empty = {name: shared for name, shared in EMPTY.items() if not getattr(spec, name)}
    return msgspec.structs.replace(spec, **empty)


class JobSpec(msgspec.Struct, frozen=True):
    """Acyclic, names unique, every need resolvable: `core.form` has checked."""

    name: str
    tasks: tuple[TaskSpec, ...]
    on_failure: OnFailure = OnFailure.SKIP_DESCENDANTS
    labels: dict[str, str] = {}
    notify: tuple[Hook, ...] = ()

    @property
    def width(self) -> int:
        return sum(spec.width for spec in self.tasks)
