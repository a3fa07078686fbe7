"""An agent's state directory: which files are in it, and how its socket is reached.

Imported by the supervisor, so only the cheapest of the standard library: every module here is
resident for as long as any task runs.
"""

from __future__ import annotations

import functools
import os
import sys

TYPE_CHECKING = False  # `typing` itself would cost the supervisor half a megabyte
if TYPE_CHECKING:
    from typing import Final

SOCKET: Final = "supervisor.sock"
SUPERVISOR_LOCK: Final = "supervisor.lock"  # its holder is the sole executor of this home's tasks
SUPERVISOR_LOG: Final = "supervisor.log"
AGENT_LOCK: Final = "agent.lock"  # its holder is the one `styx agent` of this home
IDENTITY: Final = "identity.json"
JOURNAL: Final = "journal.jsonl"
RESERVE: Final = "reserve"  # given up when the disk is full, so that results can still be recorded
SPOOL: Final = "spool"
WORK: Final = "work"  # where tasks run that name no directory
OUT_SUFFIX: Final = ".out"
ERR_SUFFIX: Final = ".err"
SCRIPT_SUFFIX: Final = ".sh"

_SUN_PATH_MAX: Final = 100  # 108 on Linux, 104 on macOS, the final NUL included


def prepare(home: str) -> None:
    """Make the directory and what belongs in it; nobody but its owner may enter."""
    for path in (home, os.path.join(home, SPOOL), os.path.join(home, WORK)):
        os.makedirs(path, mode=0o700, exist_ok=True)
    os.chmod(home, 0o700)


def spool(home: str) -> str:
    return f"{home}/{SPOOL}"


def spool_path(home: str, key: str, suffix: str) -> str:
    return f"{home}/{SPOOL}/{key}{suffix}"


@functools.cache
def socket_address(home: str) -> str:
    """A path of the supervisor's socket that fits a socket address, however deep `home` lies.

    Where it does not fit, the kernel is shown the directory through a descriptor, which stays open.
    """
    path = os.path.join(home, SOCKET)
    if len(os.fsencode(path)) <= _SUN_PATH_MAX:
        return path
    if sys.platform != "linux":
        raise OSError(f"the path of {path} is too long for a socket; choose a shorter agent home")
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    return f"/proc/self/fd/{descriptor}/{SOCKET}"
