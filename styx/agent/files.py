"""Between the duties and the supervisor: a start that wants files waits here until they are there.

The supervisor knows nothing of it. What waits here is held by nobody else: should the agent die, its server
assigns it again. What can never be had becomes an end that its author is told; what this machine has no room
for goes back, to be run elsewhere.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from styx.agent.errand import Ended, Outcome, Target
from styx.core.task import Reason
from styx.kit import supervise
from styx.kit.backoff import Backoff

if TYPE_CHECKING:
    from styx.agent.ports import Courier, Rooms

AT_A_TIME: Final = 2  # a large one must not hold up all others
RETRY_BASE_S: Final = 0.5
RETRY_CAP_S: Final = 15.0
LOOKS: Final = 10  # for directories that nobody needs, in the time for which one is kept
LOOK_MAX_S: Final = 60.0
NOWHERE: Final = "/dev/null/files"

Order = dict[str, Any]
log: Final = logging.getLogger("styx.agent")


class Held(NamedTuple):
    order: Order
    since_s: float
    timer: asyncio.TimerHandle | None


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
        self._courier = courier
        self._rooms = rooms
        self._command = command
        self._flush = flush
        self._until = until
        self._live = live
        self._kept_s = kept_s
        self._held: dict[Target, dict[str, Held]] = {}
        self._targets: dict[str, Target] = {}  # of the keys that are held
        self._wanted: asyncio.Queue[Target] = asyncio.Queue()
        self._deserted: dict[Target, asyncio.Event] = {}  # of those being fetched

    def command(self, order: Order) -> None:
        """As `Executor.send`."""
        key: str = order.get("k", "")
        match order["do"]:
            case "start" if "job" in order:
                over = tuple(sorted(order["files"].items()))
                target = Target(order["job"], order["bundle"], over, order["inputs"])
                if self._rooms.use(target):
                    self._command(order)
                elif key not in self._targets:
                    self._hold(key, target, order)
            case "stop":
                self._let_go(key)
                self._command(order)
            case _:
                self._command(order)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(AT_A_TIME):
                supervise.start(group, f"files {number}", self._serve)
            supervise.start(group, "files kept", self._tidy)

    # --- what waits ---------------------------------------------------------------------------

    def _hold(self, key: str, target: Target, order: Order) -> None:
        loop = asyncio.get_running_loop()
        timeout = order["timeout"]
        timer = None if timeout is None else loop.call_later(timeout, self._expire, key)
        if target not in self._held:
            self._held[target] = {}
            self._wanted.put_nowait(target)
        self._held[target][key] = Held(order, loop.time(), timer)
        self._targets[key] = target

    def _let_go(self, key: str) -> Held | None:
        target = self._targets.pop(key, None)
        if target is None:
            return None
        waiting = self._held[target]
        held = waiting.pop(key)
        if held.timer is not None:
            held.timer.cancel()
        if not waiting:
            del self._held[target]
            if target in self._deserted:
                self._deserted[target].set()
        return held

    def _expire(self, key: str) -> None:
        """Its timeout is that of the whole try."""
        if held := self._let_go(key):
            self._end(held.order, Reason.TIMEOUT, "its files were still on the way")
            self._flush()

    # --- fetching -----------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            target = await self._wanted.get()
            if target not in self._deserted:  # else somebody is at it
                await self._fetch(target)

    async def _fetch(self, target: Target) -> None:
        """Until it is there, or can never be, or nobody wants it any more."""
        backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
        while target in self._held:
            deserted = self._deserted[target] = asyncio.Event()
            outcome = Outcome(Ended.LATER)

            async def bring() -> None:
                nonlocal outcome
                outcome = await self._courier.fetch(target)
                if outcome.ended is Ended.LATER:
                    log.info("files of job %s: %s; will try again", target.job, outcome.detail)
                    await asyncio.sleep(backoff.next_s())

            try:
                await supervise.until_first_ends(bring=bring, deserted=_set(deserted))
            finally:
                del self._deserted[target]
            if outcome.ended is not Ended.LATER:
                self._settle(target, outcome)

    def _settle(self, target: Target, outcome: Outcome) -> None:
        for key in list(self._held.get(target, ())):
            held = self._let_go(key)
            assert held is not None, "it is among those that wait"
            match outcome.ended:
                case Ended.DONE:
                    self._start(held)
                case Ended.FULL:
                    void = {"do": "void", "k": key, "why": Reason.AGENT_FULL}
                    self._command(void | {"detail": outcome.detail})
                case _:
                    self._end(held.order, Reason.SPAWN_ERROR, f"no files: {outcome.detail}")
        self._flush()

    def _start(self, held: Held) -> None:
        """The time that it has waited is not held against it, except by its own timeout."""
        order = held.order | {"until": self._until(held.order)}
        if order["timeout"] is not None:
            waited_s = asyncio.get_running_loop().time() - held.since_s
            order["timeout"] = max(0.001, order["timeout"] - waited_s)
        self._command(order)

    def _end(self, order: Order, reason: Reason, detail: str) -> None:
        end = {"reason": reason, "detail": detail}
        # A supervisor that is older than this link does not know `end`: there it cannot start.
        order = order | {"until": self._until(order), "end": end, "cwd": NOWHERE}
        self._command(order)

    # --- what is there ------------------------------------------------------------------------

    async def _tidy(self) -> None:
        """Remove the directories of jobs that have had nothing here for a while."""
        while True:
            live = self._live()
            if live is not None:
                needed = {target.job for target in self._held}
                await self._rooms.tidy(needed.union(live), self._kept_s)
            await asyncio.sleep(min(LOOK_MAX_S, self._kept_s / LOOKS))


def _set(event: asyncio.Event) -> Callable[[], Any]:
    async def wait() -> None:
        await event.wait()

    return wait
