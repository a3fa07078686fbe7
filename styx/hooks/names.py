"""A name looked up in a thread that nobody has to wait for.

The loop's own threads are few and others need them: a name server that does not answer would hold them
all, and a stop would wait for it.
"""

import asyncio
import contextlib
import socket
import threading
from typing import Final

THREADS: Final = 64  # at work at a time, those included whose answer nobody wants any more

_free: Final = threading.Semaphore(THREADS)


async def addresses(host: str, port: int) -> list[str]:
    """Those of the name, in the order of preference. Raises: OSError."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str], error: OSError | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    def look() -> None:
        found: list[str] = []
        failed: OSError | None = None
        try:
            found = _look_up(host, port)
        except OSError as error:
            failed = error
        except UnicodeError:  # a label that no DNS name can have
            failed = OSError(f"{host} cannot be a host's name")
        finally:
            _free.release()
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found, failed)

    if not _free.acquire(blocking=False):
        raise OSError("too many names are being looked up")
    threading.Thread(target=look, name="names", daemon=True).start()
    return await answer


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
