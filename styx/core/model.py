"""What a user may write: the request models of the HTTP API and of task files.

They document the fields; `core.form` reads them.
"""

from typing import Annotated, Any, Final

import msgspec

from styx.core import fields
from styx.core.schedule import Missed, Overlap
from styx.core.spec import Delivery, On, OnFailure, Priority

Word = str | int | float | bool


def _doc(description: str, *examples: Any) -> msgspec.Meta:
    return msgspec.Meta(description=description, examples=list(examples) or None)


GpusForm = int | str | list[int | str] | dict[str, int]


class AlternativeForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What stands beside the alternatives goes for each, unless it says otherwise itself."""

    cpus: Annotated[float | str, _doc("Cores; fractions are allowed.", 2, 0.5, "4+")] = 1
    memory: Annotated[float | str, _doc("GiB, or a size with a unit.", 16, "16+", "512MiB")] = 0
    gpus: Annotated[
        GpusForm,
        _doc(
            "A number, a model, or both; of several any will do.", 1, "A100:8", ["A100:8", "H100:8"]
        ),
    ] = 0
    accelerators: Annotated[GpusForm, _doc("The same as `gpus`.", "A100:8")] = 0
    disk: Annotated[float | str, _doc("GiB, or a size with a unit.", "100GB")] = 0
    arch: Annotated[str, _doc("Any, unless given.", "x86_64", "arm64")] = ""
    labels: Annotated[
        dict[str, Word], _doc("Labels that the agent must carry.", {"zone": "a"})
    ] = {}


class ResourcesForm(AlternativeForm):
    """What one node of the task needs."""

    any_of: Annotated[
        list[AlternativeForm],
        _doc("One of these: where the least is left over.", [{"gpus": "A100"}, {"gpus": "H100"}]),
    ] = []
    ordered: Annotated[
        list[AlternativeForm], _doc("One of these: the first that has room.", [{"gpus": "H100"}])
    ] = []


class NeedForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An edge: wait until the named task of the same job has ended so."""

    task: Annotated[str, _doc("Its name.")]
    on: Annotated[On, _doc("`done` is however it ended.")] = On.SUCCESS


class ArrayForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One task for each number below `count`, or for each element of `over`."""

    count: Annotated[int, _doc("The elements are numbered from 0.", 100)] = 1
    over: Annotated[list[Word], _doc("Its value reaches each element.", ["a", "b"])] = []


class FileForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A file from afar that must be a certain one."""

    source: Annotated[str, _doc("Where it is.", "https://example.org/model.bin")]
    sha256: Annotated[str, _doc("Of its content: another is refused.")] = ""


class GitForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A git repository, whose files are sent along by whoever submits."""

    git: Annotated[str, _doc("Its address.", "https://example.org/team/tool.git")]
    ref: Annotated[str, _doc("A branch, a tag or a commit; else the default branch.", "v1.2")] = ""


class OutputForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What goes into a bucket, instead of to the server."""

    to: Annotated[str, _doc("The bucket.", "s3://results/run-7/")]
    path: Annotated[str, _doc("What; unless given, what `$STYX_OUTPUT_DIR` holds.", "model/")] = ""


class TaskForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A command with requirements. Exactly one of `command` and `run` is given."""

    name: Annotated[
        str, msgspec.Meta(pattern=f"^{fields.NAME.pattern}$", description="From the command.")
    ] = ""
    command: Annotated[
        str | list[Word], _doc("The program, executed without a shell.", "echo", ["echo", "Hello"])
    ] = ""
    args: Annotated[list[Word], _doc("Its arguments.", ["Hello"])] = []
    run: Annotated[str, _doc("A shell script, instead of `command`.", "make && ./train.sh")] = ""
    setup: Annotated[
        str,
        _doc(
            "A shell script that runs before it, once on an agent for all tasks of this kind.",
            "pip install -r requirements.txt",
        ),
    ] = ""
    env: Annotated[dict[str, Word], _doc("Environment variables.", {"SEED": 7})] = {}
    resources: Annotated[ResourcesForm, _doc("What one node needs.")] = msgspec.field(
        default_factory=ResourcesForm
    )
    num_nodes: Annotated[int, _doc("A gang of so many agents, all or nothing.")] = 1
    priority: Annotated[Priority, _doc("Within one, the older first.")] = Priority.NORMAL
    needs: Annotated[
        str | list[str | NeedForm], _doc("Tasks of the same job to wait for.", ["a"])
    ] = []
    retries: Annotated[int, _doc("Further tries after the task's own failures.")] = 0
    infra_retries: Annotated[int, _doc("Further tries after a machine's failures.")] = 3
    retry_on: Annotated[list[int], _doc("Exit codes worth a retry; every one unless given.")] = []
    timeout: Annotated[
        float | str | None, _doc("Of one try: seconds or a duration.", 90, "1h30m")
    ] = None
    queue_timeout: Annotated[float | str | None, _doc("Of waiting for room.", "2h")] = None
    grace: Annotated[float | str, _doc("Between the polite signal and the kill.", 10)] = 30
    delivery: Annotated[
        Delivery, _doc("`at_most_once` is never started twice, even if its machine is lost.")
    ] = Delivery.AT_LEAST_ONCE
    exclusive: Annotated[bool, _doc("Never two tries at the same time, whatever breaks.")] = False
    array: Annotated[
        int | ArrayForm | None, _doc("Many tasks of one kind.", 100, {"over": ["a", "b"]})
    ] = None
    matrix: Annotated[
        dict[str, str | list[Any]] | None,
        _doc(
            "Many tasks: every combination of the axes' values, which reach it as variables.",
            {"lr": [0.1, 0.01], "seed": "0..7", "exclude": [{"lr": 0.1, "seed": 0}]},
        ),
    ] = None
    parallel: Annotated[
        int | None, _doc("Of an array or a matrix, at most so many at once.", 6)
    ] = None
    workdir: Annotated[
        str | GitForm,
        _doc(
            "A directory to send along, relative to the file, or the files of a git repository; or a directory "
            "on the agent's machine.",
            ".",
            "/srv/data",
            {"git": "https://example.org/team/tool.git", "ref": "v1.2"},
        ),
    ] = ""
    cache: Annotated[
        bool, _doc("Take the success of an earlier task of the same command, variables and needs.")
    ] = False
    labels: Annotated[dict[str, Word], _doc("For finding it again.", {"team": "vision"})] = {}
    bundle: Annotated[
        str, _doc("The id of a directory that was sent before: what `workdir` becomes.")
    ] = ""
    files: Annotated[
        dict[str, str | FileForm],
        _doc(
            "Destinations, and the files or directories that are sent there, or the buckets and web addresses "
            "that the agent fetches them from.",
            {"data": "../data", "~/.netrc": "./netrc", "weights/": "s3://models/llama/"},
        ),
    ] = {}
    image: Annotated[
        str, _doc("The image of a container to run in, by podman or docker.", "python:3.12")
    ] = ""
    outputs: Annotated[
        bool | str | list[str | OutputForm],
        _doc(
            "What is brought back after its success: all below `$STYX_OUTPUT_DIR`, and these paths of the work "
            "directory. Tasks that need it find it below `$STYX_INPUT_DIR`.",
            True,
            ["results/*.csv"],
        ),
    ] = False
    secrets: Annotated[
        list[str] | dict[str, str],
        _doc(
            "Secrets that it gets as variables of their names, or of other names.",
            ["HF_TOKEN"],
            {"HF_TOKEN": "hf-prod"},
        ),
    ] = []


class HookForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Where a job's end is told."""

    url: Annotated[str, _doc("https; it is sent a signed POST.", "https://example.org/hook")]


Receivers = str | HookForm | list[str | HookForm]


class OnForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """URLs that are told of the job's end: one, or a list of them."""

    succeeded: Annotated[Receivers, _doc("All is well.")] = ""
    failed: Annotated[Receivers, _doc("Or lost.")] = ""
    cancelled: Annotated[Receivers, _doc("It was.")] = ""
    done: Annotated[Receivers, _doc("However it ended.")] = ""


_ON: Final = _doc("URLs that are told of its end.", {"failed": "https://example.org/hook"})


class AloneForm(TaskForm):
    """A task that is a job of its own."""

    on: Annotated[OnForm, _ON] = msgspec.field(default_factory=OnForm)


class JobForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Connected tasks: names with their tasks, or a list of tasks."""

    tasks: Annotated[
        dict[str, TaskForm] | list[TaskForm], _doc("Names with their tasks, or a list of tasks.")
    ]
    name: Annotated[
        str, msgspec.Meta(pattern=f"^{fields.NAME.pattern}$", description="Of the job.")
    ] = ""
    on_failure: Annotated[OnFailure, _doc("What becomes of the others when a task fails.")] = (
        OnFailure.SKIP_DESCENDANTS
    )
    labels: Annotated[dict[str, Word], _doc("Of the job, for finding it again.")] = {}
    on: Annotated[OnForm, _ON] = msgspec.field(default_factory=OnForm)


class ScheduleForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """When a job is due, again and again."""

    cron: Annotated[
        str,
        _doc(
            "Minute, hour, day, month, weekday; a word such as `@daily`; or a period.",
            "0 2 * * *",
            "@hourly",
            "every 10m",
        ),
    ]
    timezone: Annotated[str, _doc("Whose clock counts.", "Europe/Berlin")] = "UTC"
    missed: Annotated[
        Missed, _doc("Due times at which no server ran: one job for the last, none, or each.")
    ] = Missed.ONCE
    overlap: Annotated[
        Overlap,
        _doc("While an earlier job of it runs: no new one, another beside it, or another instead."),
    ] = Overlap.SKIP


class ScheduledJobForm(JobForm, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A job, and when it is due."""

    schedule: Annotated[
        str | ScheduleForm, _doc("Its cron expression, or an object with more.", "0 2 * * *")
    ]
