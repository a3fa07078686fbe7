"""Between the supervisor and the duties: the end of a task that leaves something waits here until that is brought.

The supervisor knows nothing of it. Nothing of it is on disk: an end that a link has not reported is told again to the
next one, which brings it again, and what is there already is not sent twice.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from styx.agent.errand import Ended, Outcome, Parcel
from styx.core.task import Reason
from styx.kit import supervise
from styx.kit.backoff import Backoff

if TYPE_CHECKING:
    from styx.agent.ports import Courier

AT_A_TIME: Final = 2  # a large one must not hold up all others
RETRY_BASE_S: Final = 0.5
RETRY_CAP_S: Final = 15.0
DETAIL_CHARS: Final = 300  # of a reason, for people, as `custody` has it

End = dict[str, Any]  # a `core.attempt.Exit`, as the journal has it
log: Final = logging.getLogger("styx.agent")


class Held(NamedTuple):
    parcel: Parcel
    end: End
    unwanted: asyncio.Event


class Deliveries:
    """`done` hears of each attempt's end, once it can be told."""

    def __init__(self, courier: "Courier", done: Callable[[str, End], None]) -> None:
        self._courier = courier
        self._done = done
        self._held: dict[str, Held] = {}  # by attempt: as many as there were running
        self._wanted: asyncio.Queue[str] = asyncio.Queue()

    def put(self, key: str, parcel: Parcel, end: End) -> None:
        """Said again, it is one."""
        if key not in self._held:
            self._held[key] = Held(parcel, end, asyncio.Event())
            self._wanted.put_nowait(key)

    def stop(self, key: str) -> bool:
        """Tell the end without: its own is that of a stop. False: it does not wait here."""
        held = self._held.get(key)
        if held is None:
            return False
        del self._held[key]
        held.unwanted.set()
        detail = "its outputs were still on the way"
        self._done(key, held.end | {"signalled": True, "reason": Reason.OUTPUTS, "detail": detail})
        return True

    def remove(self, parcel: Parcel) -> None:
        """It was brought, and its server knows."""
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, partial(shutil.rmtree, parcel.left, ignore_errors=True))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(AT_A_TIME):
                supervise.start(group, f"outputs {number}", self._serve)

    async def _serve(self) -> None:
        while True:
            key = await self._wanted.get()
            if key in self._held:
                await self._bring(key, self._held[key])

    async def _bring(self, key: str, held: Held) -> None:
        """Until it is there, or can never be, or nobody wants it any more."""
        backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)

        async def bring() -> None:
            while (outcome := await self._courier.send(held.parcel)).ended is Ended.LATER:
                log.info("outputs of %s: %s; will try again", key, outcome.detail)
                await asyncio.sleep(backoff.next_s())
            if self._held.get(key) is held:
                self._settle(key, outcome)

        async def unwanted() -> None:
            await held.unwanted.wait()

        await supervise.until_first_ends(bring=bring, unwanted=unwanted)

    def _settle(self, key: str, outcome: Outcome) -> None:
        end = self._held.pop(key).end
        if outcome.ended is Ended.DONE:
            self._done(key, end | {"outputs": outcome.bundle})
        else:
            self._done(
                key, end | {"reason": Reason.OUTPUTS, "detail": outcome.detail[:DETAIL_CHARS]}
            )
