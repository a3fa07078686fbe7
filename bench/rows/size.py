"""How much of everything. Every number is an option of the command line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    tasks: int = 10_000  # of the throughput rows
    repeats: int = 20  # of what takes milliseconds
    few: int = 5  # of what takes a second
    many: int = 100_000  # pending tasks, and those of the big DAG
    million: int = 1_000_000  # stored tasks, and those of the big backlog
    running: int = 10_000  # at once
    agents: int = 20  # that run them
    fan: int = 2_000  # between one and one
    idle: int = 1_000  # connected agents with nothing to do
    watch_s: int = 25  # of what is looked at for a while: five heartbeats
    log_mib: int = 200  # below what an agent keeps of one task: 256
    soak_s: int = 1_800  # of work without a break; only where it is asked for by name


QUICK = Size(
    tasks=1_000,
    repeats=5,
    few=3,
    many=5_000,
    million=20_000,
    running=200,
    agents=4,
    fan=200,
    idle=100,
    watch_s=10,
    log_mib=32,
    soak_s=30,
)
