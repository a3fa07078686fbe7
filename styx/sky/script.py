"""`setup` and `run` → one script that bash runs as SkyPilot would."""

import re
from collections.abc import Container, Iterable
from typing import Final

from styx.sky.notes import Notes

# A script of Styx ends at the first command that fails, one of SkyPilot does not.
LENIENT: Final = "set +euo pipefail  # as SkyPilot runs it"
# What ~/.bashrc exports and defines, as text for `eval`; what it prints is nobody's.
INTERACTIVE: Final = "bash -ic 'export -p >&3; declare -f >&3' 3>&1 </dev/null >/dev/null 2>&1"
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


def script(setup: str, run: str, variables: Iterable[str]) -> str:
    """`setup` in a shell of its own, whose failure is the task's. Of `variables` the task's own values hold."""
    startup = _startup(variables) if _needs_startup(f"{setup}\n{run}") else []
    if not setup.strip():
        return "\n".join([LENIENT, *startup, run])
    names = dict.fromkeys(match[1] for match in _OF_SETUP.finditer(setup))
    exports = [f'export SKYPILOT_SETUP_{name}="$SKYPILOT_{name}"' for name in names]
    lines = ["(  # setup", *exports, setup.rstrip("\n"), ") || exit"]
    return "\n".join([LENIENT, *startup, *lines, *startup, run])


def _needs_startup(text: str) -> bool:
    return ".bashrc" in text or bool(_ACTIVATE.search(text) and not _HOOKED.search(text))


def _startup(variables: Iterable[str]) -> list[str]:
    """What an interactive shell has by then. The shell of a task must not be one: it would ignore a polite stop."""
    kept = f"; declare -p {' '.join(names)}" if (names := sorted(variables)) else ""
    return [
        f'eval "$({INTERACTIVE}{kept} 2>/dev/null)"  # as SkyPilot, whose shells read ~/.bashrc'
    ]


def warn_of_variables(notes: Notes, path: str, text: str, known: Container[str]) -> None:
    for name in dict.fromkeys(_SKYPILOT.findall(text)):
        if name not in SET_BY_STYX and name not in known:
            notes.warn(path, f"reads {name}, which Styx does not set")
