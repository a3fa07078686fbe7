"""Reading from a socket into one buffer for good.

What asyncio does by itself is to take 256 KiB from the system for every read and to give them back:
four system calls where one would do, for messages of some hundred bytes.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Final

READ_BYTES: Final = 64 << 10


class BufferedReader(asyncio.BufferedProtocol, ABC):
    """`received` gets what has arrived; `ended` is set once the connection is gone."""

    def __init__(self) -> None:
        self._buffer = bytearray(READ_BYTES)
        self.ended = asyncio.Event()

    @abstractmethod
    def received(self, data: bytes) -> None: ...

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 -- asyncio gives it
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received(bytes(memoryview(self._buffer)[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio gives it
        self.ended.set()
