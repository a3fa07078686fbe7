"""What the machine itself allows: the least that anybody could need for the same work."""

import asyncio
import itertools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, Self

import asyncpg

from bench.measure import Cost, cost

BLOCK_BYTES: Final = 64 << 10


def spawn_loop(tasks: int, slots: int) -> Cost:
    """`echo hi` in a bare posix_spawn + pidfd loop, output into a file per stream and task.

    In a process of its own, so that its memory and its counters are its own.
    """
    program = [sys.executable, "-m", "bench.floors", str(tasks), str(slots)]
    done = subprocess.run(program, capture_output=True, check=True, text=True)
    return Cost(*json.loads(done.stdout))


def xargs(tasks: int, slots: int) -> Cost:
    """`echo` through xargs, output to nowhere: no task is even told from another."""
    numbers = "\n".join(map(str, range(tasks))).encode()
    program = ["xargs", f"-P{slots}", "-n1", "echo"]
    return cost(
        lambda: subprocess.run(program, input=numbers, stdout=subprocess.DEVNULL, check=True)
    )


def python_start() -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)


class Commits:
    """A row with its commit by asyncpg, prepared, on one connection to the same database: `once` is one of them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._ids = itertools.count()

    def __enter__(self) -> Self:
        self._loop.run_until_complete(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._close())
        self._loop.close()

    def once(self) -> None:
        self._loop.run_until_complete(self._insert.fetch(next(self._ids), "x" * 200))

    async def _open(self) -> None:
        self._connection = await asyncpg.connect(self._url)
        await self._connection.execute(
            "CREATE TABLE bench_floor (id bigint PRIMARY KEY, body text)"
        )
        self._insert = await self._connection.prepare("INSERT INTO bench_floor VALUES ($1, $2)")

    async def _close(self) -> None:
        await self._connection.execute("DROP TABLE bench_floor")
        await self._connection.close()


def unnest_cost(url: str, requests: int, rows: int) -> Cost:
    """So many INSERTs of so many rows each, unnest'ed and committed by asyncpg on one connection.

    The CPU is the client's alone: what a server pays that does nothing but hand its rows on.
    """
    return asyncio.run(_unnest_cost(url, requests, rows))


async def _unnest_cost(url: str, requests: int, rows: int) -> Cost:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE bench_rows (id bigint PRIMARY KEY, body text)")
        insert = await connection.prepare(
            "INSERT INTO bench_rows SELECT * FROM unnest($1::bigint[], $2::text[])"
        )
        started, before_s = time.perf_counter(), time.process_time()
        for request in range(requests):
            ids = list(range(request * rows, (request + 1) * rows))
            await insert.fetch(ids, ["x" * 200] * rows)
        return Cost(time.perf_counter() - started, time.process_time() - before_s)
    finally:
        await connection.execute("DROP TABLE IF EXISTS bench_rows")
        await connection.close()


def copy(directory: str, mib: int) -> None:
    """Bytes into a file, and from there into another one that is durable: a spool and a store."""
    folder = Path(directory)
    with (folder / "spool").open("wb+") as spool, (folder / "store").open("wb") as store:
        spool.writelines(b"x" * BLOCK_BYTES for _ in range(mib << 4))
        spool.seek(0)
        while block := spool.read(BLOCK_BYTES):
            store.write(block)
        store.flush()
        os.fsync(store.fileno())


def _spawn_all(tasks: int, slots: int, directory: str) -> None:
    poll = select.epoll()
    running: dict[int, int] = {}  # pidfd -> pid
    started = 0
    while started < tasks or running:
        while started < tasks and len(running) < slots:
            actions = [
                (os.POSIX_SPAWN_OPEN, stream, f"{directory}/{started}.{stream}", flags, 0o600)
                for stream, flags in ((1, os.O_WRONLY | os.O_CREAT), (2, os.O_WRONLY | os.O_CREAT))
            ]
            pid = os.posix_spawn("/bin/echo", ["echo", "hi"], os.environ, file_actions=actions)
            descriptor = os.pidfd_open(pid)
            poll.register(descriptor, select.EPOLLIN)
            running[descriptor] = pid
            started += 1
        for descriptor, _ in poll.poll():
            os.waitpid(running.pop(descriptor), 0)
            poll.unregister(descriptor)
            os.close(descriptor)


def main() -> None:
    tasks, slots = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as directory:
        used = cost(lambda: _spawn_all(tasks, slots, directory))
    print(json.dumps([*used]))


if __name__ == "__main__":
    if not Path("/bin/echo").exists():
        sys.exit("no /bin/echo")
    main()
