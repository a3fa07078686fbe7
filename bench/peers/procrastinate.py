"""Procrastinate's worker on a database of its own, in the Postgres that Styx uses in the same run.

`WHAT TASKS SLOTS URL POSTMASTER` answers each line with [wall_s, cpu_s], the CPU of its Postgres included.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import procrastinate
import psycopg

from bench.asked import READY
from bench.measure import cpu_s, family

DATABASE: Final = "procrastinate_peer"
BATCH: Final = 1_000
LOOK_S: Final = 0.001
RARE_S: Final = 0.1


class Bench:
    def __init__(self, url: str, slots: int) -> None:
        self.app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
        self.slots = slots
        self.chained = asyncio.Event()
        self.echo = self.app.task(name="echo", pass_context=True)(self._echo)
        self.link = self.app.task(name="link", pass_context=True)(self._link)

    async def _echo(self, context: Any) -> None:
        name = f"{context.job.id}"
        with Path(f"{name}.out").open("wb") as out, Path(f"{name}.err").open("wb") as err:
            process = await asyncio.create_subprocess_exec(
                "/bin/echo", "hi", stdout=out, stderr=err
            )
        await process.wait()

    async def _link(self, context: Any, left: int) -> None:
        await self._echo(context)
        if left > 1:
            await self.link.defer_async(left=left - 1)
        else:
            self.chained.set()

    async def one(self, _: int) -> None:
        job = await self.echo.defer_async()
        while await self.app.job_manager.get_job_status_async(job) is not SUCCEEDED:
            await asyncio.sleep(LOOK_S)

    async def chain(self, tasks: int) -> None:
        self.chained.clear()
        await self.link.defer_async(left=tasks)
        await self.chained.wait()

    async def array(self, tasks: int) -> None:
        await self._defer(tasks, "default")
        while await self.app.connector.execute_query_all_async(LEFT):
            await asyncio.sleep(RARE_S)

    async def pending(self, tasks: int) -> None:
        await self._defer(tasks, "nobody")

    async def submit(self, _: int) -> None:
        await self.echo.configure(queue="nobody").defer_async()

    async def _defer(self, tasks: int, queue: str) -> None:
        deferrer = self.echo.configure(queue=queue)
        for start in range(0, tasks, BATCH):
            await deferrer.batch_defer_async(*({} for _ in range(min(BATCH, tasks - start))))

    async def answer(
        self, act: Callable[[int], Awaitable[None]], tasks: int, postmaster: int
    ) -> None:
        async with self.app.open_async():
            await self.app.schema_manager.apply_schema_async()
            worker = asyncio.ensure_future(
                self.app.run_worker_async(
                    queues=["default"], concurrency=self.slots, install_signal_handlers=False
                )
            )
            await self.one(1)  # the worker has begun
            print(READY, flush=True)
            while await asyncio.to_thread(sys.stdin.readline):
                before_s, started = _used_s(postmaster), time.perf_counter()
                await act(tasks)
                wall_s = time.perf_counter() - started
                print(json.dumps([wall_s, _used_s(postmaster) - before_s]), flush=True)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)


SUCCEEDED: Final = procrastinate.jobs.Status.SUCCEEDED
LEFT: Final = (
    "SELECT 1 AS left FROM procrastinate_jobs WHERE queue_name = 'default'"
    " AND status IN ('todo', 'doing') LIMIT 1"
)


def _used_s(postmaster: int) -> float:
    return time.process_time() + cpu_s(family([postmaster])) + _children_s()


def _children_s() -> float:
    used = os.times()
    return used.children_user + used.children_system


def main() -> None:
    what, tasks, slots = sys.argv[1], *map(int, sys.argv[2:4])
    url, postmaster = sys.argv[4], int(sys.argv[5])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        connection.execute(f"CREATE DATABASE {DATABASE}")
    bench = Bench(url.replace("/postgres?", f"/{DATABASE}?"), slots)
    asyncio.run(bench.answer(getattr(bench, what), tasks, postmaster))


if __name__ == "__main__":
    main()
