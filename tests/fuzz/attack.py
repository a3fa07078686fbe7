"""Rogues on real sockets: they have the token, they speak WebSocket, and nothing else that they say is right."""

import asyncio
import random
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from styx.errors import WireMismatch
from styx.wire import agent as wire
from tests.fuzz.inside import lines
from tests.fuzz.mutants import Mutants

ENDS_WITHIN_S: Final = 60.0
BYTES: Final = 2  # opcodes of RFC 6455, section 5.2
TEXT: Final = 1
GOES_ON: Final = 0
CLOSE: Final = 8
PING: Final = 9
FINAL: Final = 0x80
FRAMES: Final = 400  # on one connection at most

Noise = list[bytes]


class Attack:
    """`said` counts frames that were written, `connections` how often one was opened."""

    def __init__(
        self, host: str, port: int, token: str, mutants: Mutants, honest: tuple[str, ...]
    ) -> None:
        self.said = 0
        self.connections = 0
        self.faults: list[str] = []
        self._where = (host, port)
        self._token = token
        self._mutants = mutants
        self._honest = honest

    async def run(self, frames: int, at_once: int) -> None:
        """Until so many frames have been said."""
        until = self.said + frames

        async def rave() -> None:
            while self.said < until:
                await self.connection()

        async with asyncio.TaskGroup() as group:
            for n in range(at_once):
                group.create_task(rave(), name=f"rogue {n}")

    async def connection(self) -> None:
        """One, to its end."""
        self.connections += 1
        reader, writer = await asyncio.open_connection(*self._where, limit=1 << 21)
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                writer.write(self._upgrade())
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 101"):
                    self.faults.append(f"not accepted: {head[:80]!r}")
                    return
                hearing = asyncio.create_task(self._hear(reader), name="hear")
                with suppress(ConnectionError):
                    for said in self._script():
                        if hearing.done():
                            break
                        writer.write(said)
                        self.said += 1
                        await writer.drain()
                    if self._mutants.dice.random() < 0.2:
                        writer.transport.abort()
                    elif writer.can_write_eof():
                        writer.write_eof()
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    await hearing
        except TimeoutError:
            self.faults.append("a connection does not end")
        finally:
            writer.transport.abort()

    def _upgrade(self) -> bytes:
        host, port = self._where
        return (
            f"GET {wire.PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Authorization: Bearer {self._token}\r\nSec-WebSocket-Protocol: {wire.SUBPROTOCOL}\r\n\r\n"
        ).encode()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        """Take everything that comes; remember what is assigned."""
        whole = b""
        while True:
            first, second = await reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await reader.readexactly(8))
            whole += await reader.readexactly(size)
            if not first & FINAL:
                continue
            if first & 0x0F in {BYTES, GOES_ON}:
                self._heard(whole)
            whole = b""

    def _heard(self, frame: bytes) -> None:
        try:
            messages = wire.decode_from_server(frame)
        except WireMismatch as error:
            self.faults.append(f"the server said nonsense: {error}")
            return
        own = self._mutants.own
        own += [message.key for message in messages if isinstance(message, wire.Assign)]
        del own[:-50]

    def _script(self) -> Iterator[bytes]:
        dice, mutants = self._mutants.dice, self._mutants
        match dice.randrange(20):
            case 0:
                yield from _bad_websocket(dice, mutants.tame())
            case 1:  # an agent's name and another disk: a clone, or a thief
                stolen = mutants.hello(dice.choice(self._honest), "stolen", name="fuzz")
                yield framed(wire.encode([stolen]))
                yield from map(framed, (mutants.tame() for _ in range(3)))
            case 2:
                said = lines(mutants, 5)
                yield from (framed(frame, BYTES, pieces=3) for frame in said)
            case 3:
                said = lines(mutants, 20)
                yield from map(framed, said[:-2])
                yield from _bad_websocket(dice, mutants.tame())
            case _:
                yield from map(framed, lines(mutants, dice.choice((20, FRAMES))))


def framed(data: bytes, opcode: int = BYTES, *, pieces: int = 1) -> bytes:
    """As WebSocket frames. Masked with nought: it is masked, and costs nothing."""
    size = max(1, -(-len(data) // pieces))
    parts = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    whole = b""
    for number, part in enumerate(parts):
        first = (opcode if number == 0 else GOES_ON) | (FINAL if number == len(parts) - 1 else 0)
        whole += _head(first, len(part)) + part
    return whole


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return struct.pack("!BBI", first, 0x80 | size, 0)
    if size < 1 << 16:
        return struct.pack("!BBHI", first, 0x80 | 126, size, 0)
    return struct.pack("!BBQI", first, 0x80 | 127, size, 0)


def _bad_websocket(dice: random.Random, sound: bytes) -> Noise:
    """What RFC 6455 forbids, or nearly does."""
    return dice.choice(
        (
            [framed(b"\xff\xfe", TEXT)],
            [framed(b"words", TEXT)],
            [framed(sound, GOES_ON)],
            [_head(BYTES, 100) + b"short"],
            [_head(FINAL | BYTES, (1 << 63) - 1)],
            [_head(FINAL | BYTES, 1 << 40) + sound],
            [_head(FINAL | 0x70 | BYTES, len(sound)) + sound],
            [_head(FINAL | 0x0F, len(sound)) + sound],
            [bytes((FINAL | BYTES, len(sound) & 0x7D)) + sound],  # not masked
            [framed(b"x" * 200, PING)],
            [framed(b"x", PING)] * 200 + [framed(sound)],
            [_head(BYTES, 1) + b"a", _head(FINAL | BYTES, 1) + b"b"],
            [_head(BYTES, 1) + b"a"] + [_head(GOES_ON, 0)] * 500,
            [framed(b"\x00", CLOSE)],
            [framed(b"\x00\x00", CLOSE)],
            [framed(b"\x03\xe8\xff\xff", CLOSE)],
            [framed(b"\x03\xe8", CLOSE), framed(sound)],
            [dice.randbytes(300)],
            [framed(b"\x90" + b"\0" * (wire.MAX_FRAME_BYTES + 1))],
            [b"GET / HTTP/1.1\r\n\r\n"],
        )
    )
