"""Between the duties and the supervisor: a start that wants something waits here until that is there.

The supervisor knows nothing of it. What waits here is held by nobody else: should the agent die, its server
assigns it again. What can never be had becomes an end that its author is told; what this machine has no room
for goes back, to be run elsewhere.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from styx.agent.errand import Ended, Outcome
from styx.core.task import Reason
from styx.kit import supervise
from styx.kit.backoff import Backoff

AT_A_TIME: Final = 2  # a large one must not hold up all others
RETRY_BASE_S: Final = 0.5
RETRY_CAP_S: Final = 15.0
NOWHERE: Final = "/dev/null/files"

Order = dict[str, Any]
T = TypeVar("T", bound=Hashable)
log: Final = logging.getLogger("styx.agent")


class Held(NamedTuple):
    order: Order
    since_s: float
    timer: asyncio.TimerHandle | None


class Waiting(Generic[T]):
    """What several wait for is brought once. `bring` returns when a target is there, or why it is not;
    `name` says in words what it brings; `refused` answers with which reason an attempt ends that cannot
    have it; `until` answers until when a start may happen.
    """

    def __init__(
        self,
        name: str,
        bring: Callable[[T], Awaitable[Outcome]],
        command: Callable[[Order], None],
        flush: Callable[[], None],
        *,
        refused: Callable[[Outcome], Reason],
        until: Callable[[Order], float],
    ) -> None:
        self._name = name
        self._bring = bring
        self._command = command
        self._flush = flush
        self._refused = refused
        self._until = until
        self._held: dict[T, dict[str, Held]] = {}
        self._targets: dict[str, T] = {}  # of the keys that are held
        self._wanted: asyncio.Queue[T] = asyncio.Queue()
        self._deserted: dict[T, asyncio.Event] = {}  # of those being brought

    def __contains__(self, key: str) -> bool:
        return key in self._targets

    @property
    def targets(self) -> list[T]:
        return list(self._held)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(AT_A_TIME):
                supervise.start(group, f"{self._name} {number}", self._serve)

    def hold(self, key: str, target: T, order: Order) -> None:
        loop = asyncio.get_running_loop()
        timeout = order["timeout"]
        timer = None if timeout is None else loop.call_later(timeout, self._expire, key)
        if target not in self._held:
            self._held[target] = {}
            self._wanted.put_nowait(target)
        self._held[target][key] = Held(order, loop.time(), timer)
        self._targets[key] = target

    def let_go(self, key: str) -> Held | None:
        """It waits no more, if it did."""
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
        if held := self.let_go(key):
            self._end(held.order, Reason.TIMEOUT, f"with its {self._name} still on the way")
            self._flush()

    # --- bringing -----------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            target = await self._wanted.get()
            if target not in self._deserted:  # else somebody is at it
                await self._fetch(target)

    async def _fetch(self, target: T) -> None:
        """Until it is there, or can never be, or nobody wants it any more."""
        backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
        while target in self._held:
            deserted = self._deserted[target] = asyncio.Event()
            outcome = Outcome(Ended.LATER)

            async def bring() -> None:
                nonlocal outcome
                outcome = await self._bring(target)
                if outcome.ended is Ended.LATER:
                    log.info("%s: %s; will try again", self._name, outcome.detail)
                    await asyncio.sleep(backoff.next_s())

            try:
                await supervise.until_first_ends(bring=bring, deserted=_set(deserted))
            finally:
                del self._deserted[target]
            if outcome.ended is not Ended.LATER:
                self._settle(target, outcome)

    def _settle(self, target: T, outcome: Outcome) -> None:
        for key in list(self._held.get(target, ())):
            held = self.let_go(key)
            assert held is not None, "it is among those that wait"
            match outcome.ended:
                case Ended.DONE:
                    self._start(held)
                case Ended.FULL:
                    void = {"do": "void", "k": key, "why": Reason.AGENT_FULL}
                    self._command(void | {"detail": outcome.detail})
                case _:
                    detail = f"no {self._name}: {outcome.detail}"
                    self._end(held.order, self._refused(outcome), detail)
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


def _set(event: asyncio.Event) -> Callable[[], Any]:
    async def wait() -> None:
        await event.wait()

    return wait
