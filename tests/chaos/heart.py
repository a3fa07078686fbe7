"""An agent that does nothing but beat its heart: it tells when a server last acted as the leader."""

import asyncio
import threading
import time
from typing import Final
from uuid import uuid4

from styx.agent import websocket
from styx.core.agent import Capacity
from styx.core.ids import AgentId
from styx.errors import StyxError
from styx.wire import agent as wire

EVERY_S: Final = 0.2


class Heart:
    """`answered_s` is when the last heartbeat was acknowledged, on this process' monotonic clock."""

    def __init__(self, url: str, token: str) -> None:
        self.answered_s = 0.0
        self.failed = ""
        self._url, self._token = url, token
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._beat())
        except StyxError as error:
            self.failed = error.message

    async def _beat(self) -> None:
        socket = await websocket.connect(
            websocket.parse(self._url),
            wire.PATH,
            subprotocol=wire.SUBPROTOCOL,
            token=self._token,
            max_frame_bytes=wire.MAX_FRAME_BYTES,
        )
        hello = wire.Hello(
            proto=(wire.PROTO, wire.PROTO),
            agent_id=AgentId(str(uuid4())),
            name="heart",
            store_id=uuid4().hex,
            boot_id="of-a-test",
            incarnation="1",
            version="0",
            capacity=Capacity(cpus_milli=1, memory_bytes=1),
        )
        socket.listen(self._hear, lambda: None)
        socket.send(wire.encode([hello]))
        socket.send(wire.encode([wire.Sync(0, last=True)]))
        number = 0
        while not self._stop.is_set():
            number += 1
            socket.send(wire.encode([wire.Heartbeat(number)]))
            await asyncio.sleep(EVERY_S)
        socket.abort()

    def _hear(self, frame: bytes) -> None:
        for message in wire.decode_from_server(frame):
            if isinstance(message, wire.HeartbeatOk):
                self.answered_s = time.monotonic()
