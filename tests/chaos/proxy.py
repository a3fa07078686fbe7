"""A bad line in user space: what crosses it is late, torn, reset, or swallowed by one end alone."""

import asyncio
import random
import threading
from contextlib import suppress
from typing import Final

CHUNK: Final = 64 << 10


class _Line:
    """One connection: the client's end and the server's."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.deaf = False

    def reset(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Listens on a port of its own, and leads to `target`. To be set at any time:

    `delay_s`  each chunk is so late
    `loss`     of so many chunks one is lost for good, which TCP can only answer with a reset
    `tear`     of so many chunks only the first half arrives, and then a reset
    """

    def __init__(self, target: tuple[str, int], dice: random.Random) -> None:
        self.delay_s = 0.0
        self.loss = 0.0
        self.tear = 0.0
        self.opened = 0
        self.port = 0
        self._target = target
        self._dice = dice
        self._lines: set[_Line] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def forget(self, side: str) -> None:
        """One end of each connection ("client" or "server") is told of its end, the other is not."""
        self._loop.call_soon_threadsafe(self._forget, side)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _forget(self, side: str) -> None:
        for line in self._lines:
            line.deaf = True
            getattr(line, side).transport.abort()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        listener.close()
        for line in self._lines:
            line.deaf = False
            line.reset()
        while self._lines:
            await asyncio.sleep(0.01)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self.opened += 1
        line = _Line(writer, back)
        self._lines.add(line)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(line, reader, back), name="there")
                group.create_task(self._pump(line, there, writer), name="back")
        finally:
            line.reset()
            self._lines.discard(line)

    async def _pump(
        self, line: _Line, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while chunk := await source.read(CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if line.deaf:
                    continue
                if self._dice.random() < self.loss:
                    break
                torn = self._dice.random() < self.tear
                sink.write(chunk[: len(chunk) // 2] if torn else chunk)
                if torn:
                    break
                await sink.drain()
        if line.deaf:  # its other end goes on as if nothing had happened
            return
        # What is written is still sent, and then both ends learn of it.
        with suppress(OSError):
            await sink.drain()
        line.client.close()
        line.server.close()
