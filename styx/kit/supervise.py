"""Every loop of a process is a named child of a group: none is orphaned, none dies in silence."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from styx.kit.backoff import Backoff

RESTART_BASE_S: Final = 0.5
RESTART_CAP_S: Final = 30.0
STEADY_S: Final = 60.0  # a loop that ran for so long has recovered: its next failure is a first one

Loop = Callable[[], Awaitable[None]]
Report = Callable[[str, Exception, float], None]  # name, error, seconds until the restart


def start(
    group: asyncio.TaskGroup, name: str, loop: Loop, *, report: Report | None = None
) -> asyncio.Task[None]:
    """Run a loop in `group`. Its failure ends the group; with `report` it is told instead, and the loop
    starts anew after a backoff.
    """
    return group.create_task(_run(loop) if report is None else _keep(name, loop, report), name=name)


async def until_first_ends(**loops: Loop) -> None:
    """Run loops side by side; when one returns, cancel the others.

    Raises: ExceptionGroup of what any of them raised.
    """
    ended = asyncio.Event()

    async def child(loop: Loop) -> None:
        await loop()
        ended.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(child(loop), name=name) for name, loop in loops.items()]
        await ended.wait()
        for task in tasks:
            task.cancel()


async def _run(loop: Loop) -> None:
    await loop()


async def _keep(name: str, loop: Loop, report: Report) -> None:
    clock = asyncio.get_running_loop().time
    backoff = Backoff(base_s=RESTART_BASE_S, cap_s=RESTART_CAP_S)
    while True:
        started_s = clock()
        try:
            return await loop()
        except Exception as error:  # noqa: BLE001 -- reported and tried again
            if clock() - started_s > STEADY_S:
                backoff.reset()
            wait_s = backoff.next_s()
            report(name, error, wait_s)
        await asyncio.sleep(wait_s)
