"""Slurm on one node: munged, slurmctld and slurmd of its own, below the current directory, as root.

`WHAT TASKS SLOTS …` answers each line with [wall_s, cpu_s]. Tuned for short jobs: its default is slower.
"""

import contextlib
import itertools
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.asked import answer
from bench.measure import cost

START_S: Final = 30.0
LOOK_S: Final = 0.0005
LOOK_RARELY_S: Final = 0.1
CONFIGURATION: Final = """
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={worker}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


@contextlib.contextmanager
def cluster(folder: Path, slots: int) -> Iterator[None]:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    ports = {"controller": _free_port(), "worker": _free_port()}
    text = CONFIGURATION.format(folder=folder, host=host, slots=slots, **ports)
    (folder / "slurm.conf").write_text(text)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    munge = [f"--{what}-file={folder}/munged.{what}" for what in ("pid", "log", "seed")]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for program in (
            ["munged", "--foreground", "--force", f"--key-file={key}", *munge,
             f"--socket={folder}/munge.socket"],
            ["slurmctld", "-D"],
            ["slurmd", "-D", "-N", host],
        ):  # fmt: skip
            daemons.append(subprocess.Popen(program, stderr=subprocess.DEVNULL))
            time.sleep(0.5)  # the next one gives up where it cannot reach this one
        _until_idle()
        yield
        _until_over()
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(START_S)


def one(name: str) -> None:
    """Until it has run: what waits for a job in Slurm's own way looks more rarely."""
    end = Path(f"end-{name}").absolute()
    _submit(f"--wrap=/bin/echo hi; touch {end}", f"--output={name}.out")
    while not end.exists():
        time.sleep(LOOK_S)


def submit(_: str) -> None:
    """It is held, so that none of them runs meanwhile."""
    _submit("--hold", "--wrap=/bin/echo hi", "--output=/dev/null")


def _submit(*arguments: str) -> None:
    subprocess.run(["sbatch", "--parsable", *arguments], check=True, stdout=subprocess.DEVNULL)


def _until_idle() -> None:
    started = time.perf_counter()
    while (state := _said("sinfo", "--noheader", "--format=%T")) != "idle":
        if time.perf_counter() - started > START_S:
            sys.exit(f"its node is not idle, but {state or 'unknown'}")
        time.sleep(LOOK_RARELY_S)


def _until_over() -> None:
    """A step that cannot report its end to a controller that has gone waits for it for ever."""
    while _said("squeue", "--noheader", "--states=RUNNING,COMPLETING"):
        time.sleep(LOOK_RARELY_S)


def _said(*program: str) -> str:
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    return done.stdout.strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    act = {"one": one, "submit": submit}[sys.argv[1]]
    names = itertools.count()
    folder = Path.cwd()
    folder.chmod(0o755)  # munge wants to see who may write into it
    with cluster(folder, int(sys.argv[3])):
        act("warm")
        answer(lambda _: cost(lambda: act(f"r{next(names)}")))


if __name__ == "__main__":
    main()
