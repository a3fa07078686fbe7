"""Having a container engine remove what an attempt may have left: its processes are the engine's, not ours.

An attempt in a container is over when the engine has said that nothing of it is there, so that one that is
exclusive never overlaps with its next try.
"""

from __future__ import annotations

import os
import signal

from styx.agent import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from styx.agent.ports import Kernel
    from styx.agent.stop import Attempt

ENGINE_FAILED: Final = 125  # of the client: it may have lost touch with a container that runs
KILLED: Final = 128 + signal.SIGKILL  # how it tells of a command that was killed
ANSWER_S: Final = 30.0
RETRY_S: Final = 1.0
NOWHERE: Final = os.devnull


class Remover:
    """`spawned` is where the pids of our own children are kept."""

    def __init__(self, directory: str, kernel: Kernel, spawned: dict[int, Any]) -> None:
        self._directory = directory
        self._kernel = kernel
        self._spawned = spawned
        self._at_work: dict[str, tuple[int, float]] = {}  # the pid, and until when it may take
        self._rest_until: dict[str, float] = {}

    def done(self, attempt: Attempt, now: float) -> bool:
        """Whether nothing of its container is left. Ask again until it is so."""
        if not attempt.remove:
            return True
        if attempt.key in self._at_work:
            self._look(attempt, now)
        elif now >= self._rest_until.get(attempt.key, 0.0):
            self._begin(attempt, now)
        return not attempt.remove

    def _begin(self, attempt: Attempt, now: float) -> None:
        try:
            pid = self._kernel.spawn(
                attempt.remove, dict(os.environ), self._directory, NOWHERE, NOWHERE
            )
        except (spawn.SpawnRefused, spawn.MachineFull):
            self._rest_until[attempt.key] = now + RETRY_S
            return
        self._spawned[pid] = attempt
        self._at_work[attempt.key] = pid, now + ANSWER_S

    def _look(self, attempt: Attempt, now: float) -> None:
        pid, until = self._at_work[attempt.key]
        death = self._kernel.wait(pid)
        if death is None:
            if now >= until:
                self._kernel.kill(pid, signal.SIGKILL)
            return
        del self._at_work[attempt.key], self._spawned[pid]
        if death[0] == 0:
            attempt.remove = []
            self._rest_until.pop(attempt.key, None)
        else:
            self._rest_until[attempt.key] = now + RETRY_S


def is_removed(attempt: Attempt, status: int) -> bool:
    """Whether the client itself has seen the end, and `--rm` done its work."""
    exited = os.WIFEXITED(status) and os.WEXITSTATUS(status) != ENGINE_FAILED
    return exited and not attempt.signalled
