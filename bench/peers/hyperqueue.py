"""HyperQueue's own server and worker, which its Python package runs in the calling process.

`WHAT TASKS SLOTS …` answers each line with [wall_s, cpu_s].
"""

import itertools
import sys
import time
from pathlib import Path
from typing import Any, Final

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

from bench.asked import answer
from bench.measure import cost

ECHO: Final = ("/bin/echo", "hi")
LOOK_S: Final = 0.0005


def array(client: Any, tasks: int, name: str) -> None:
    job = Job()
    for number in range(tasks):
        job.program([*ECHO], stdout=f"{name}-{number}.out", stderr=f"{name}-{number}.err")
    client.wait_for_jobs([client.submit(job)])


def chain(client: Any, tasks: int, name: str) -> None:
    job = Job()
    last = [_echo(job, f"{name}-0", [])]
    for number in range(1, tasks):
        last = [_echo(job, f"{name}-{number}", last)]
    _until_last(client, job, last, name)


def fan(client: Any, tasks: int, name: str) -> None:
    job = Job()
    first = [_echo(job, f"{name}-first", [])]
    middle = [_echo(job, f"{name}-{number}", first) for number in range(tasks)]
    _until_last(client, job, middle, name)


def pending(client: Any, tasks: int, name: str) -> None:
    """They wait for a resource that no worker has."""
    from hyperqueue.task.task import ResourceRequest

    job = Job()
    for _ in range(tasks):
        job.program([*ECHO], resources=ResourceRequest(cpus=1_000), name=name)
    client.submit(job)


def _echo(job: Job, name: str, deps: list[Any]) -> Any:
    return job.program([*ECHO], stdout=f"{name}.out", stderr=f"{name}.err", deps=deps)


def _until_last(client: Any, job: Job, deps: list[Any], name: str) -> None:
    """Until the last has run: the client's own wait looks only once a second."""
    end = Path(f"end-{name}").absolute()
    job.program(["/usr/bin/touch", str(end)], deps=deps)
    client.submit(job)
    while not end.exists():
        time.sleep(LOOK_S)


def main() -> None:
    what, tasks, slots = sys.argv[1], *map(int, sys.argv[2:4])
    act = {"array": array, "chain": chain, "one": chain, "fan": fan, "pending": pending}[what]
    names = itertools.count()
    server = str(Path("server").absolute())
    with LocalCluster(server, WorkerConfig(cores=slots)) as cluster:
        client = cluster.client()
        chain(client, 2, "warm")  # the worker has joined
        answer(lambda _: cost(lambda: act(client, tasks, f"r{next(names)}")))


if __name__ == "__main__":
    main()
