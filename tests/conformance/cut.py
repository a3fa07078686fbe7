"""A line to a real Postgres that breaks when it is told to: a statement vanishes, lands unheard, or lands
when nobody waits for it any more.

It reads the protocol only so far: a message is a letter and a length (PostgreSQL documentation,
"Frontend/Backend Protocol", 55.2 and 55.7).
"""

import asyncio
import contextlib
import enum
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

HEAD: Final = struct.Struct("!cI")
BIND: Final = b"B"  # the values of a prepared statement, with which it runs
QUERY: Final = b"Q"
SYNC: Final = b"S"  # ends a turn of the client
READY: Final = b"Z"  # ends a turn of the server
Message = tuple[bytes, bytes]  # its letter, and all of it


class Fate(enum.Enum):
    LANDS = "lands"
    VANISHES = "vanishes"  # never sent
    UNHEARD = "unheard"  # it happens, and the answer is lost
    LATE = "late"  # it happens when `Line.settle` says so, long after its sender has given up


class Line:
    """What `listening` opens. `fate` is of the next statement that carries values; with `at_commit`, of the
    next COMMIT.
    """

    def __init__(self, socket: Path) -> None:
        self.fate = Fate.LANDS
        self.at_commit = False
        self.port = 0
        self._socket = socket
        self._late: list[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._served: dict[asyncio.Task[object], list[asyncio.StreamWriter]] = {}

    async def hang_up(self) -> None:
        """On everybody: a loop cannot be closed while a connection is open."""
        late, self._late = self._late, []
        for _, _, writer in late:
            writer.transport.abort()
        served = dict(self._served)
        for writers in served.values():
            for writer in writers:
                writer.transport.abort()
        if served:
            await asyncio.wait(served)
        await asyncio.sleep(0)

    async def settle(self) -> None:
        """What is late lands now, or is refused."""
        late, self._late = self._late, []
        for statement, reader, writer in late:
            writer.write(statement)
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                while (await _message(reader))[0] != READY:
                    pass
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        up_reader, up_writer = await asyncio.open_unix_connection(self._socket)
        task = asyncio.current_task()
        assert task is not None
        self._served[task] = [writer, up_writer]
        try:
            async with asyncio.TaskGroup() as group:
                muted = asyncio.Event()
                back = group.create_task(_pump_back(up_reader, writer, muted))
                late = await self._pump(reader, up_writer, muted)
                if muted.is_set() and not late:
                    await back  # it has landed once Postgres says so
                back.cancel()
            if late:
                self._late.append((late, up_reader, up_writer))
                return
        except* (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            if not any(up_writer is kept for _, _, kept in self._late):
                up_writer.close()
            del self._served[task]

    async def _pump(
        self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, muted: asyncio.Event
    ) -> bytes:
        """Until the client or its fate ends it; return the statement that is late, if one is."""
        start = await reader.readexactly(4)  # the first message has no letter
        up.write(start + await reader.readexactly(int.from_bytes(start) - 4))
        while True:
            message = await _message(reader)
            if self.fate is Fate.LANDS or not self._decides(message):
                up.write(message[1])
                continue
            fate, self.fate = self.fate, Fate.LANDS
            if fate is Fate.VANISHES:
                return b""
            statement = message[1]
            while message[0] not in {SYNC, QUERY}:
                message = await _message(reader)
                statement += message[1]
            muted.set()
            if fate is Fate.LATE:
                return statement
            up.write(statement)
            return b""

    def _decides(self, message: Message) -> bool:
        letter, content = message
        if self.at_commit:
            return letter == QUERY and content[HEAD.size :].startswith(b"COMMIT")
        return letter == BIND


async def _pump_back(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, muted: asyncio.Event
) -> None:
    """Until Postgres hangs up, or has come to the end of what nobody hears."""
    while True:
        letter, message = await _message(reader)
        if not muted.is_set():
            writer.write(message)
        elif letter == READY:
            return


async def _message(reader: asyncio.StreamReader) -> Message:
    head = await reader.readexactly(HEAD.size)
    letter, length = HEAD.unpack(head)
    return letter, head + await reader.readexactly(length - 4)


@asynccontextmanager
async def listening(socket: Path) -> AsyncGenerator[Line]:
    line = Line(socket)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            yield line
        finally:
            server.close()
            await line.hang_up()
