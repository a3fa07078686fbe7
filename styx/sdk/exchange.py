"""One request and its answer, whoever carries them: the sync connection or the async one."""

import os
from typing import Final, NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec

PATIENCE_S: Final = 300.0  # a server's restart, a database's failover
RETRY_BASE_S: Final = 0.2
RETRY_CAP_S: Final = 10.0
CALL_TIMEOUT_S: Final = 60.0  # of one try; the server answers slow submits well within it
STREAM_IDLE_S: Final = 60.0  # a stream silent for so long is opened anew: its peer may be gone
READ_BYTES: Final = 256 << 10
MAX_ANSWER_BYTES: Final = 256 << 20
JSON: Final = "application/json"
BUSY: Final = frozenset({429, 502, 503, 504})  # of the server, or of a proxy before it

Query = dict[str, str | int | None]
Headers = dict[str, str]


class Request(NamedTuple):
    method: str
    target: str
    headers: Headers
    body: bytes | None = None


class Answer(msgspec.Struct, frozen=True):
    """The names of `headers` are in lower case."""

    status: int
    headers: Headers
    body: bytes

    @property
    def retry_after_s(self) -> float:
        """0 if the server does not say; the date form of the header is not used by it."""
        try:
            return max(0.0, float(self.headers.get("retry-after", "")))
        except ValueError:
            return 0.0


class Server(NamedTuple):
    url: str
    secure: bool
    host: str
    port: int
    prefix: str

    @classmethod
    def at(cls, url: str) -> "Server":
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        return cls(url, secure, parts.hostname or "", port, parts.path.rstrip("/"))

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    def target(self, path: str, query: Query | None) -> str:
        given = {name: value for name, value in (query or {}).items() if value not in {None, ""}}
        return self.prefix + path + ("?" + urlencode(given) if given else "")


def cause_of(error: Exception) -> str:
    """The system's word: `connection refused`, `timed out`, `name or service not known`."""
    if isinstance(error, TimeoutError):
        return "timed out"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, ConnectionError) and error.errno:
        text = os.strerror(error.errno)  # asyncio puts the address into its own
    return text[:1].lower() + text[1:]
