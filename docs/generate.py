# ruff: noqa: INP001  # a script, not a package
"""The pages that follow from the code: `python docs/generate.py` writes them.

`tests/test_shape.py` fails while one of them is out of date.
"""

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from styx.core import agent, attempt, instance, job, task

DOCS: Final = Path(__file__).parent
ABOUT_STATES: Final = """\
Drawn from the tables in `styx/core` by `docs/generate.py`; do not edit. A move that its table does not
hold raises `IllegalTransition` and changes nothing. The one `status` word that users see is derived
from a task and the members of its current attempt (`styx/core/status.py`)."""
MACHINES: Final[dict[str, tuple[str, Mapping[StrEnum, frozenset[StrEnum]]]]] = {
    "Task": (str(task.__doc__), task.NEXT),
    "Attempt": (str(attempt.__doc__), attempt.NEXT),
    "Job": (str(job.__doc__), job.NEXT),
    "Agent": (str(agent.__doc__), agent.NEXT),
    "Instance": (str(instance.__doc__), instance.NEXT),
}


def pages() -> dict[str, str]:
    """File name -> text."""
    return {"states.md": states()}


def states() -> str:
    parts = ["# States", ABOUT_STATES]
    for name, (about, table) in MACHINES.items():
        parts += [f"## {name}", about.strip(), diagram(table)]
    return "\n\n".join(parts) + "\n"


def diagram(table: Mapping[StrEnum, frozenset[StrEnum]]) -> str:
    order = list(table)
    lines = [f"    [*] --> {order[0]}"]
    for state in order:
        lines += [f"    {state} --> {after}" for after in sorted(table[state], key=order.index)]
        if not table[state]:
            lines.append(f"    {state} --> [*]")
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def main() -> int:
    for name, text in pages().items():
        (DOCS / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
