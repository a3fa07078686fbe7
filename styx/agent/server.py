"""The server's HTTP API, as far as files go: for a process that does nothing else."""

import ssl
from http import client
from typing import Any, Final, NamedTuple

import msgspec

from styx.agent.errand import Asked, Ended, Failed
from styx.core import bundle
from styx.errors import InvalidSpec
from styx.wire import parcel

TIMEOUT_S: Final = 60.0  # of a server that says nothing
SAID_BYTES: Final = 500  # of an answer that it refuses with
_FINE: Final = frozenset({200, 201})
_GONE: Final = frozenset({401, 403, 404, 413, 422})  # asking again will not change it


class Answer(NamedTuple):
    status: int
    body: bytes


class Server:
    """One kept connection."""

    def __init__(self, request: Asked) -> None:
        kind: Any = client.HTTPConnection
        more: dict[str, Any] = {}
        if request.encrypted:
            kind, more = client.HTTPSConnection, {"context": ssl.create_default_context()}
        self._line: client.HTTPConnection = kind(
            request.host, request.port, timeout=TIMEOUT_S, **more
        )
        self._prefix = request.prefix
        self._headers = {"Authorization": f"Bearer {request.token}"} if request.token else {}

    def manifest(self, id_: str) -> bytes:
        """Raises: Failed."""
        return self._ask("GET", f"/api/v1/bundles/{id_}").body

    def blobs(self, names: list[str]) -> list[bundle.Blob]:
        """Those of them that are there. Raises: Failed."""
        body = msgspec.json.encode({"blobs": names})
        try:
            return bundle.decode_blobs(self._ask("POST", "/api/v1/blobs/fetch", body).body)
        except InvalidSpec as error:
            raise Failed(Ended.LATER, error.message) from error

    def inputs(self, job: str, spec: str) -> list[parcel.InputView]:
        """Raises: Failed."""
        said = self._ask("GET", f"/api/v1/jobs/{job}/inputs/{spec}").body
        return msgspec.json.decode(said, type=list[parcel.InputView])

    def offer(self, manifest: bytes) -> list[str]:
        """The blobs that it lacks; without any, it keeps the bundle. Raises: Failed."""
        said = self._ask("POST", "/api/v1/bundles", manifest).body
        return msgspec.json.decode(said, type=parcel.BundleView).missing

    def send(self, blobs: list[bundle.Blob]) -> None:
        """Raises: Failed."""
        self._ask("POST", "/api/v1/blobs", bundle.encode_blobs(blobs), bundle.BLOBS_TYPE)

    def close(self) -> None:
        self._line.close()

    def _ask(
        self, method: str, path: str, body: bytes | None = None, type_: str = "application/json"
    ) -> Answer:
        headers = {**self._headers, **({"Content-Type": type_} if body else {})}
        try:
            self._line.request(method, self._prefix + path, body, headers)
            response = self._line.getresponse()
            answer = Answer(response.status, response.read())
        except (OSError, client.HTTPException) as error:
            raise Failed(Ended.LATER, f"the server does not answer: {error}") from error
        if answer.status in _FINE:
            return answer
        ended = Ended.REFUSED if answer.status in _GONE else Ended.LATER
        raise Failed(ended, f"the server answers {answer.status}: {_said(answer.body)}")


class _Problem(msgspec.Struct):
    detail: str


def _said(body: bytes) -> str:
    """What a problem says in words."""
    try:
        return msgspec.json.decode(body, type=_Problem).detail[:SAID_BYTES]
    except msgspec.MsgspecError:
        return body[:SAID_BYTES].decode(errors="replace")
