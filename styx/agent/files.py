"""A start that wants files waits until they are there; the directories of jobs that need none any more go."""

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from styx.agent.errand import Outcome, Target
from styx.agent.waiting import Order, Waiting
from styx.core.task import Reason
from styx.kit import supervise

if TYPE_CHECKING:
    from styx.agent.ports import Courier, Rooms

LOOKS: Final = 10  # for directories that nobody needs, in the time for which one is kept
LOOK_MAX_S: Final = 60.0


class Files:
    """`until` answers until when a start may happen, and `live` which jobs have tasks here; None, while that
    is not known.
    """

    def __init__(
        self,
        courier: "Courier",
        rooms: "Rooms",
        command: Callable[[Order], None],
        flush: Callable[[], None],
        *,
        until: Callable[[Order], float],
        live: Callable[[], Collection[str] | None],
        kept_s: float,
    ) -> None:
        self._rooms = rooms
        self._command = command
        self._live = live
        self._kept_s = kept_s
        self._waiting = Waiting[Target](
            "files", courier.fetch, command, flush, refused=_refused, until=until
        )

    def command(self, order: Order) -> None:
        """As `Executor.send`."""
        key: str = order.get("k", "")
        match order["do"]:
            case "start" if "job" in order:
                over = tuple(sorted(order["files"].items()))
                target = Target(order["job"], order["bundle"], over, order["inputs"])
                if self._rooms.use(target):
                    self._command(order)
                elif key not in self._waiting:
                    self._waiting.hold(key, target, order)
            case "stop":
                self._waiting.let_go(key)
                self._command(order)
            case _:
                self._command(order)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            supervise.start(group, "files on the way", self._waiting.run)
            supervise.start(group, "files kept", self._tidy)

    async def _tidy(self) -> None:
        """Remove the directories of jobs that have had nothing here for a while."""
        while True:
            live = self._live()
            if live is not None:
                needed = {target.job for target in self._waiting.targets}
                await self._rooms.tidy(needed.union(live), self._kept_s)
            await asyncio.sleep(min(LOOK_MAX_S, self._kept_s / LOOKS))


def _refused(outcome: Outcome) -> Reason:
    del outcome  # whatever it says
    return Reason.SPAWN_ERROR
