"""The listening address, taken before anything slow is even imported."""

import socket
from typing import Final

from styx.errors import SetupError

BACKLOG: Final = 4_096  # connections not yet accepted; hypercorn's 100 drops a burst of agents


def bind(host: str, port: int) -> socket.socket:
    """A listening address, taken before anything slow starts. Port 0 lets the kernel choose.

    Raises: SetupError.
    """
    listener: socket.socket | None = None
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        # A restarted server must not wait for its old connections to be forgotten.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise SetupError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="choose another with --port, or see who has it: ss -ltnp",
        ) from error
    return listener
