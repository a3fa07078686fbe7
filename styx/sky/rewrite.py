"""A pipeline → the text of a Styx file that says the same, and what it could not say."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any, Final

from styx.file import yaml_write
from styx.sky.notes import Note
from styx.sky.pipeline import Pipeline

_ORDER: Final = (
    *(
        "name",
        "needs",
        "resources",
        "num_nodes",
        "priority",
        "retries",
        "retry_on",
        "infra_retries",
    ),
    *("labels", "image", "workdir", "files", "secrets", "env", "run"),
)
_WIDTH: Final = 100


def rewrite(pipeline: Pipeline, path: str) -> str:
    """`path` is that of the file, which the comments name once."""
    body = pipeline.body(later=True)
    tasks = [{key: task[key] for key in _ORDER if key in task} for task in body["tasks"]]
    content: dict[str, Any]
    if len(tasks) == 1 and body["name"] == tasks[0]["name"]:
        content = tasks[0]
    else:
        named = {task.pop("name"): task for task in tasks}
        content = {"name": body["name"], "tasks": named} if body["name"] else {"tasks": named}
    head = [
        f"# From {PurePath(path).name}, by `styx import sky`.",
        *_comment(
            "Without this it is not the same task:", path, [*pipeline.refused, *pipeline.needed]
        ),
        *_comment("Left out:", path, pipeline.warnings),
    ]
    return "\n".join([*head, "", yaml_write.write(content)])


def _comment(title: str, path: str, notes: Sequence[Note]) -> Iterable[str]:
    if notes:
        yield f"# {title}"
    for note in notes:
        text = f"{note.where.removeprefix(f'{path}:')}: {note.message}"
        lines = textwrap.wrap(text, _WIDTH, break_on_hyphens=False)
        yield from (f"#{'   ' if n else ' - '}{line}" for n, line in enumerate(lines))
