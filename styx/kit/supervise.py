"""Every loop of a process is a named child of one group: none is orphaned, none dies in silence."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from styx.kit.backoff import Backoff

RESTART_BASE_S: Final = 0.5
RESTART_CAP_S: Final = 30.0
STEADY_S: Final = 60.0  # a child that ran this long has recovered: its next failure is a first one

Loop = Callable[[], Awaitable[None]]
Report = Callable[[str, BaseException, float], None]  # name, error, seconds until the restart


@dataclass(frozen=True, slots=True)
class Child:
    """A loop by name. With `restart` a failure is reported and the loop starts anew after a backoff."""

    name: str
    loop: Loop
    restart: bool = False


async def run(children: list[Child], report: Report) -> None:
    """Run all until each has returned; an error that nothing restarts ends them all.

    Raises: ExceptionGroup of that error.
    """
    async with asyncio.TaskGroup() as group:
        for child in children:
            group.create_task(_keep(child, report), name=child.name)


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


async def _keep(child: Child, report: Report) -> None:
    clock = asyncio.get_running_loop().time
    backoff = Backoff(base_s=RESTART_BASE_S, cap_s=RESTART_CAP_S)
    while True:
        started_s = clock()
        try:
            return await child.loop()
        except Exception as error:
            if not child.restart:
                raise
            if clock() - started_s > STEADY_S:
                backoff.reset()
            wait_s = backoff.next_s()
            report(child.name, error, wait_s)
        await asyncio.sleep(wait_s)
