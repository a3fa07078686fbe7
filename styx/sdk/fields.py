"""The fields of a task and of a job as keyword arguments, by the words of a task file.

What they may hold is the server's to check: here only an unknown word is refused.
"""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypedDict, cast

Word = str | int | float | bool
Command = str | Sequence[Word]  # a shell script, or a program with its arguments
Document = Mapping[str, Any]
On = Literal["success", "done", "failure"]
Priority = Literal["critical", "high", "normal", "low"]

RESOURCES: Final = frozenset({"cpus", "memory", "gpus", "accelerators", "disk", "arch"})
SCHEDULE: Final = "schedule"
MANY: Final = frozenset({"array", "matrix"})  # what makes several tasks of one
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")


class TaskFields(TypedDict, total=False):
    """`resources` holds what is not worth a word of its own, such as the labels of an agent."""

    name: str
    setup: str
    env: Mapping[str, Word]
    cpus: float | str
    memory: float | str
    gpus: int | str | Sequence[str] | Mapping[str, int]
    accelerators: int | str | Sequence[str] | Mapping[str, int]
    disk: float | str
    arch: str
    resources: Document
    num_nodes: int
    priority: Priority
    needs: str | Sequence[str | Mapping[str, str]]
    retries: int
    infra_retries: int
    retry_on: Sequence[int]
    timeout: float | str
    queue_timeout: float | str
    grace: float | str
    delivery: Literal["at_least_once", "at_most_once"]
    exclusive: bool
    parallel: int
    workdir: str | os.PathLike[str]
    cache: bool
    bundle: str
    files: Mapping[str, str | Mapping[str, str]]
    image: str
    outputs: bool | str | Sequence[str | Mapping[str, str]]
    secrets: Sequence[str] | Mapping[str, str]
    labels: Mapping[str, Word]


class JobFields(TypedDict, total=False):
    name: str
    on_failure: Literal["skip_descendants", "fail_fast", "continue"]
    on: Mapping[Literal["succeeded", "failed", "cancelled", "done"], str | Sequence[str]]
    labels: Mapping[str, Word]
    schedule: str | Mapping[str, str]


OF_A_TASK: Final = frozenset(TaskFields.__annotations__)
OF_A_JOB: Final = frozenset(JobFields.__annotations__)


class Submittable(Protocol):
    """What makes its own document, such as a `@job`. `here`: for a server of this very machine."""

    def body(self, *, here: bool) -> dict[str, Any]: ...


def task(command: Command, given: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a task, with a name. Raises: TypeError, for a word that is none."""
    check(given, OF_A_TASK | MANY)
    words = command.split(maxsplit=1) if isinstance(command, str) else [*map(str, command)]
    if not words:
        raise TypeError("a command has at least one word")
    what = {"run": command} if isinstance(command, str) else {"command": [*command]}
    return {"name": name_of(words[0])} | what | task_fields(given)


def task_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """As a document has them: what is asked of a machine is together. None is as if not given."""
    fields = {name: plain(value) for name, value in given.items() if value is not None}
    asked = {name: fields.pop(name) for name in RESOURCES & fields.keys()}
    if asked or "resources" in fields:
        fields["resources"] = fields.get("resources", {}) | asked
    return fields


def check(given: Mapping[str, object], known: frozenset[str]) -> None:
    """Raises: TypeError, for a word that is none of the known."""
    for word in given:
        if word not in known:
            near = difflib.get_close_matches(word, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise TypeError(f"no such field: '{word}'{hint}")


def name_of(word: str) -> str:
    """A command's, from its first word: letters, digits, dots, dashes and underscores."""
    base = word.rstrip("/").rpartition("/")[2]
    return _NO_NAME.sub("-", base[:128]).strip("-") or "task"


def stand_here(body: Document) -> None:
    """On this machine's own server tasks run where we stand, as a shell's commands do.

    What is no task is left for the server to refuse.
    """
    tasks = body.get("tasks")
    if isinstance(tasks, dict):
        tasks = [*cast("dict[str, object]", tasks).values()]
    for one in cast("list[object]", tasks) if isinstance(tasks, list) else ():
        if isinstance(one, dict):
            fields = cast("dict[str, Any]", one)
            workdir: object = fields.get("workdir") or "."
            if has_directory(fields) or not isinstance(workdir, str):
                continue
            if not workdir.startswith("~"):  # of the agent's user
                fields["workdir"] = str(Path(workdir).absolute())


def has_directory(task: Document) -> bool:
    """A work directory that is made for it: of a bundle, or of files from afar."""
    given: object = task.get("files")
    files = cast("dict[object, object]", given if isinstance(given, dict) else {})
    inside = any(not str(to).startswith(("/", "~")) for to in files)
    return task.get("bundle") is not None or (inside and task.get("workdir") is None)


def plain(value: object) -> Any:
    """Lists and dicts as JSON has them."""
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in cast("Mapping[str, object]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in cast("Sequence[object]", value)]
    return value
