"""One session's reports on its attempts: posted together, acknowledged once committed."""

import asyncio
from typing import Final

import structlog

from styx.core import event
from styx.engine.links import Link
from styx.engine.loop import Engine
from styx.errors import LimitReached, StoreUnavailable, WriteRefused
from styx.wire import agent as wire

ENDS: Final = (wire.EvExited, wire.EvVoid)
OWED_FRAMES: Final = 64  # not yet committed; then reading waits, and TCP makes the agent wait

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

Report = wire.EvAccepted | wire.EvStarted | wire.EvExited | wire.EvVoid
_Owed = tuple[Report, asyncio.Future[event.Answer]]


class Reports:
    def __init__(self, engine: Engine, link: Link) -> None:
        self._engine = engine
        self._link = link
        self._owed: asyncio.Queue[list[_Owed]] = asyncio.Queue(OWED_FRAMES)

    async def post(self, facts: list[tuple[Report, event.Event]]) -> None:
        """Queue all at once, so that they can be one turn; what cannot be queued is not acknowledged."""
        owed: list[_Owed] = []
        for report, fact in facts:
            if not isinstance(report, ENDS):
                self._engine.links.remind(self._link, report.key)
            try:
                owed.append((report, self._engine.submit(fact)))
            except (LimitReached, StoreUnavailable):
                break  # the agent says it again until it is acknowledged
        if owed:
            await self._owed.put(owed)

    async def run(self) -> None:
        while True:
            for report, answer in await self._owed.get():
                try:
                    await answer
                    self._acknowledge(report)
                except StoreUnavailable:
                    pass  # as above
                except WriteRefused as refused:
                    log.warning("report refused", attempt=str(report.key), why=refused.message)

    def _acknowledge(self, report: Report) -> None:
        if isinstance(report, ENDS):
            self._engine.links.release(self._link, report.key)
        self._link.send(wire.EvOk(report.key, str(report.__struct_config__.tag)))
