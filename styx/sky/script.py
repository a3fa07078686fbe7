"""`setup` and `run` → one script that bash runs as SkyPilot would."""

import re
from collections.abc import Container
from typing import Final

from styx.sky.notes import Notes

# A script of Styx ends at the first command that fails, one of SkyPilot does not.
LENIENT: Final = "set +euo pipefail  # as SkyPilot runs it"
SET_BY_STYX: Final = frozenset(
    f"SKYPILOT_{name}"
    for name in (
        *("TASK_ID", "NODE_RANK", "NUM_NODES", "NODE_IPS", "NUM_GPUS_PER_NODE"),
        *("SETUP_NODE_RANK", "SETUP_NODE_IPS", "SETUP_NUM_GPUS_PER_NODE"),
    )
)
_SKYPILOT: Final = re.compile(r"\bSKYPILOT_[A-Z0-9_]+\b")
_ACTIVATE: Final = re.compile(r"^[^#\n]*\bconda activate\b", re.MULTILINE)
_HOOKED: Final = re.compile(r"\bconda shell\.bash hook\b|/conda\.sh\b")
_OF_SETUP: Final = re.compile(r"\bSKYPILOT_SETUP_(NODE_RANK|NODE_IPS|NUM_GPUS_PER_NODE)\b")


def script(setup: str, run: str) -> str:
    """`setup` in a shell of its own, whose failure is the task's."""
    if not setup.strip():
        return f"{LENIENT}\n{run}"
    names = dict.fromkeys(match[1] for match in _OF_SETUP.finditer(setup))
    exports = [f'export SKYPILOT_SETUP_{name}="$SKYPILOT_{name}"' for name in names]
    return "\n".join([LENIENT, "(  # setup", *exports, setup.rstrip("\n"), ") || exit", run])


def warn_of_startup(notes: Notes, path: str, text: str) -> None:
    """SkyPilot's shells are interactive, and read `~/.bashrc`; to a task that would be another program."""
    if ".bashrc" in text:
        notes.warn(
            path,
            "no ~/.bashrc is read before `run`: set there what it needs, or read a file of yours",
        )
    if _ACTIVATE.search(text) and not _HOOKED.search(text):
        notes.warn(
            path,
            '`conda activate` needs `eval "$(conda shell.bash hook)"` before: no ~/.bashrc is read',
        )


def warn_of_variables(notes: Notes, path: str, text: str, known: Container[str]) -> None:
    for name in dict.fromkeys(_SKYPILOT.findall(text)):
        if name not in SET_BY_STYX and name not in known:
            notes.warn(path, f"reads {name}, which Styx does not set")
