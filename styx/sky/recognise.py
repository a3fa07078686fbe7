"""Whether a file is SkyPilot's or ours, by words that only one of the two has.

What both would take is ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from styx.core import form, resources, units
from styx.file.document import Document
from styx.file.job import OF_A_JOB
from styx.sky import fate

_OURS: Final = (form.TASK.keys() | OF_A_JOB) - fate.TASK.keys()
_THEIRS: Final = fate.TASK.keys() - form.TASK.keys()
_RESOURCES_OURS: Final = resources.FIELDS.keys() - fate.RESOURCES.keys()
_RESOURCES_THEIRS: Final = fate.RESOURCES.keys() - resources.FIELDS.keys()
# A file with none of these is about something else.
_TELLING: Final = frozenset(
    {"run", "command", "tasks", "setup", "resources", "file_mounts", "envs"}
)


def is_of_tasks(documents: Sequence[Document]) -> bool:
    contents = (document.content for document in documents)
    return any(isinstance(content, dict) and bool(_TELLING & set(content)) for content in contents)  # pyright: ignore[reportUnknownArgumentType]: any keys


def is_sky(documents: Sequence[Document]) -> bool:
    found = [document.content for document in documents if document.content is not None]
    if not found or not all(isinstance(content, dict) for content in found):
        return False
    tasks = cast("list[dict[str, Any]]", found)
    if any(task.keys() & _OURS or _resources(task).keys() & _RESOURCES_OURS for task in tasks):
        return False
    return len(tasks) > 1 or _is_theirs(tasks[0])


def _resources(content: Mapping[str, Any]) -> dict[str, Any]:
    resources: object = content.get("resources")
    return cast("dict[str, Any]", resources if isinstance(resources, dict) else {})


def _choices(words: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield words
    for kind in ("any_of", "ordered"):
        listed: object = words.get(kind)
        for each in cast("list[object]", listed) if isinstance(listed, list) else ():
            if isinstance(each, dict):
                yield cast("dict[str, Any]", each)


def _is_theirs(content: Mapping[str, Any]) -> bool:
    words = _resources(content)
    if content.keys() & _THEIRS or any(each.keys() & _RESOURCES_THEIRS for each in _choices(words)):
        return True
    workdir: object = content.get("workdir")
    if isinstance(workdir, dict) and "url" in workdir:
        return True
    secrets: object = content.get("secrets")
    if isinstance(secrets, dict) and None in cast("dict[object, object]", secrets).values():
        return True
    try:
        units.gpus(words.get("accelerators") or 0)
    except units.Expected:  # several kinds, or half a GPU
        return True
    return False
