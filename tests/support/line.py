"""Between an agent and its server: what it asks can be held up, and cut."""

import select
import socket
import threading
from contextlib import suppress


class Line:
    """To the server at `port`. A request that begins with `holds` waits here until `open`."""

    def __init__(self, port: int, holds: bytes = b"POST /api/v1/blobs/fetch") -> None:
        self._port = port
        self._holds = holds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.held = threading.Event()
        self._open = threading.Event()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def open(self) -> None:
        self._open.set()

    def cut(self) -> None:
        """Whoever waits is hung up on."""
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for end in self._sockets:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:  # it is away
                client.close()
                continue
            self._sockets += [client, server]
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    if end is client and data.startswith(self._holds):
                        self.held.set()
                        self._open.wait()
                    (server if end is client else client).sendall(data)
        except (OSError, ValueError):  # cut, or closed
            return
        finally:
            client.close()
            server.close()
