"""What this machine has, and how busy it is."""

import asyncio
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Iterable
from typing import Final

import msgspec
import psutil

from styx.agent import engine as containers
from styx.agent import gpus, limits, usage
from styx.config import AgentConfig
from styx.core import feature
from styx.core.agent import ARCHITECTURES, Capacity
from styx.wire.agent import Load

GIB: Final = 1 << 30
GPU_EVERY_S: Final = 15.0  # between two readings of how busy the GPUs are
DISK_SHARE_BYTES: Final = 2 * GIB  # or a tenth of a smaller disk: see `disk_share_bytes`


class Machine(msgspec.Struct, frozen=True):
    capacity: Capacity
    cards: tuple[gpus.Card, ...] = ()
    engine: containers.Engine | None = None


async def machine(config: AgentConfig, directory: str) -> Machine:
    """Detect what there is. The operator's word on CPUs and memory counts instead; of GPUs, there are
    no more than there are.
    """
    cards = () if config.gpus == 0 else (await gpus.cards())[: config.gpus]
    engine, told = await containers.find()
    cpus = limits.cpus() if config.cpus is None else config.cpus
    memory = limits.memory_bytes() if config.memory_gib is None else int(config.memory_gib * GIB)
    capacity = Capacity(
        cpus_milli=round(cpus * 1000),
        memory_bytes=memory,
        disk_bytes=shutil.disk_usage(directory).free,
        gpus=tuple(card.gpu for card in cards),
        arch=ARCHITECTURES.get(platform.machine().lower(), platform.machine()),
        features=(*features(), *told),
    )
    return Machine(capacity, cards, engine)


def features() -> tuple[str, ...]:
    """What this agent can do, with the programs that are here."""
    found: list[feature.Feature] = [*feature.ALWAYS]
    if shutil.which("flock"):
        found.append(feature.Feature.SETUP)
    if importlib.util.find_spec("obstore"):
        found.append(feature.Feature.STORAGE)
    return tuple(found)


def disk_share_bytes(directory: str) -> int:
    """So much of its disk may be filled with output that waits for the server, and with less than
    that free no new task starts.
    """
    return _share(shutil.disk_usage(directory).total)


class Probe:
    """Live readings. Rates are averages since the reading before."""

    def __init__(self, directory: str, found: Machine) -> None:
        self._directory = directory
        self._found = found
        self._gpu_percent: dict[int, float] = {}
        self._totals = _totals()
        self._disk = shutil.disk_usage(directory)
        psutil.cpu_percent()  # the first call only begins to measure

    async def run(self) -> None:
        """Read the GPUs, if there are any: too slow for a heartbeat."""
        while self._found.cards:
            self._gpu_percent = await gpus.busy_percent()
            await asyncio.sleep(GPU_EVERY_S)

    def full(self) -> str:
        """Why no new task can start; "" when it can."""
        if self._disk.free < _share(self._disk.total):
            return f"only {self._disk.free >> 20} MiB of its disk are free"
        return ""

    def load(self, tasks: Iterable[tuple[str, int]]) -> Load:
        """A few milliseconds. `tasks` are the running ones with their main processes."""
        self._disk = shutil.disk_usage(self._directory)
        memory = psutil.virtual_memory()
        before, self._totals = self._totals, _totals()
        seconds = max(self._totals[0] - before[0], 1e-3)
        rates = [(now - then) / seconds for now, then in zip(self._totals, before, strict=True)]
        return Load(
            cpu_percent=psutil.cpu_percent(),
            load1=os.getloadavg()[0],
            memory_used_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
            disk_free_bytes=self._disk.free,
            net_rx_bytes_per_s=rates[1],
            net_tx_bytes_per_s=rates[2],
            disk_read_bytes_per_s=rates[3],
            disk_write_bytes_per_s=rates[4],
            gpu_percent=tuple(self._gpu_percent.get(card.index, 0.0) for card in self._found.cards),
            tasks=usage.of_tasks(tasks),
        )


def _share(total_bytes: int) -> int:
    return min(DISK_SHARE_BYTES, total_bytes // 10)


def _totals() -> tuple[float, float, float, float, float]:
    """The time, and bytes since boot: received, sent, read, written."""
    net = psutil.net_io_counters()
    disk = psutil.disk_io_counters()
    received, sent = (net.bytes_recv, net.bytes_sent) if net else (0, 0)
    read, written = (disk.read_bytes, disk.write_bytes) if disk else (0, 0)
    return time.monotonic(), received, sent, read, written
