"""HyperQueue beside us, where it is installed (`pip install hyperqueue`): its own server and worker.

Its Python package runs both in the calling process, so each reading has a process of its own:
`python -m bench.peers WHAT TASKS SLOTS` prints [wall_s, cpu_s].
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.measure import Cost, cost


def present() -> bool:
    return importlib.util.find_spec("hyperqueue") is not None


def hyperqueue(what: str, tasks: int, slots: int) -> Cost:
    """`what` is array (independent tasks) or chain."""
    program = [sys.executable, "-m", "bench.peers", what, str(tasks), str(slots)]
    env = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            program, cwd=directory, env=env, capture_output=True, check=True, text=True
        )
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


def _array(client: Any, tasks: int) -> None:
    from hyperqueue import Job

    job = Job()
    for number in range(tasks):
        job.program(["/bin/echo", "hi"], stdout=f"{number}.out", stderr=f"{number}.err")
    client.wait_for_jobs([client.submit(job)])


def _chain(client: Any, tasks: int) -> None:
    """Until the last has run: the client's own wait looks only once a second."""
    from hyperqueue import Job

    job, end = Job(), Path(f"end-{tasks}")
    last = [job.program(["/bin/echo", "hi"], stdout="out", stderr="err")]
    for number in range(1, tasks):
        program = ["/bin/echo", "hi"]
        last = [job.program(program, stdout=f"{number}.out", stderr=f"{number}.err", deps=last)]
    job.program(["/usr/bin/touch", str(end.absolute())], deps=last)
    client.submit(job)
    while not end.exists():
        time.sleep(0.0005)


def main() -> None:
    from hyperqueue import LocalCluster
    from hyperqueue.cluster import WorkerConfig

    what, tasks, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    run = {"array": _array, "chain": _chain}[what]
    server = str(Path("server").absolute())
    with LocalCluster(server, WorkerConfig(cores=slots)) as cluster:
        client = cluster.client()
        run(client, 2)  # the worker has joined
        print(json.dumps([*cost(lambda: run(client, tasks))]))


if __name__ == "__main__":
    main()
