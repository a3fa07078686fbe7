"""One session's reports on its attempts: posted together, acknowledged once committed."""

import asyncio
from collections.abc import Callable, Iterable
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

    async def post(
        self,
        reports: Iterable[Report],
        logs_stored: Callable[[wire.EvExited], bool] = lambda _: False,
    ) -> None:
        """Queue all at once, so that they can be one turn; what cannot be queued is not acknowledged."""
        owed: list[_Owed] = []
        for report in reports:
            if not isinstance(report, ENDS):
                self._engine.links.remind(self._link, report.key)
            try:
                owed.append((report, self._engine.submit(self._fact(report, logs_stored))))
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

    def _fact(self, report: Report, logs_stored: Callable[[wire.EvExited], bool]) -> event.Event:
        agent_id = self._link.agent_id
        match report:
            case wire.EvAccepted(key):
                return event.AttemptAccepted(key, agent_id)
            case wire.EvStarted(key):
                return event.AttemptStarted(key, agent_id)
            case wire.EvVoid(key, reason, detail):
                return event.AttemptVoided(key, agent_id, reason, detail)
            case wire.EvExited(key, end):
                return event.AttemptExited(key, agent_id, end, logs_stored(report))

    def _acknowledge(self, report: Report) -> None:
        if isinstance(report, ENDS):
            self._engine.links.release(self._link, report.key)
        self._link.send(wire.EvOk(report.key, str(report.__struct_config__.tag)))
