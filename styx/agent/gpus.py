"""The machine's NVIDIA GPUs, as `nvidia-smi` tells of them."""

import asyncio
import os
import shutil
from typing import Final

import msgspec

from styx.core.agent import Gpu

ANSWER_S: Final = 20.0  # 0.05 s in good times; seconds where no persistence daemon runs
MIB: Final = 1 << 20
_WHAT: Final = "index,uuid,name,memory.total"
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


class Card(msgspec.Struct, frozen=True):
    index: int  # the driver's, as CUDA_VISIBLE_DEVICES wants it
    gpu: Gpu


async def cards() -> tuple[Card, ...]:
    """The GPUs that this process may use: all, or those that its own environment names."""
    found = [row for row in await _query(_WHAT) if len(row) == 4]
    visible = os.environ.get(_VISIBLE)
    if visible is not None:
        names = [name.strip() for name in visible.split(",") if name.strip()]
        found = [row for row in found if row[0] in names or row[1] in names]
    return tuple(
        Card(int(index), Gpu(name.lower(), int(memory) * MIB if memory.isdigit() else 0))
        for index, _, name, memory in found
    )


async def busy_percent() -> dict[int, float]:
    """How busy each is, by index."""
    rows = await _query("index,utilization.gpu")
    return {int(row[0]): float(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


async def _query(fields: str) -> list[list[str]]:
    """The rows of its answer; none where it is missing, broken or hangs."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = (program, f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    try:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return []
    try:
        async with asyncio.timeout(ANSWER_S):
            output, _ = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return []
    if child.returncode != 0:
        return []
    lines = output.decode(errors="replace").splitlines()
    return [[field.strip() for field in line.split(",")] for line in lines if line.strip()]
