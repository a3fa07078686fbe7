"""The API as a stubborn client sees it: asks, and asks again until there is an answer."""

import http.client
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

PATIENCE_S: Final = 180.0
PAUSE_S: Final = 0.2
TRY_AGAIN: Final = frozenset({429, 503})


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Keeps one connection. Not for several threads. `others` are tried when the first is silent."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str,
        timeout_s: float,
        others: Sequence[tuple[str, int]] = (),
    ) -> None:
        self._places = [(host, port), *others]
        self._at = 0
        self._token = token
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self.asked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.hang_up()

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Once. `body` is sent as it is if it is bytes, else as JSON. Raises: OSError."""
        self.asked += 1
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self._token}"}
        if payload is not None:
            given["Content-Type"] = "application/json"
        if self._connection is None:
            host, port = self._places[self._at]
            self._connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        try:
            self._connection.request(method, path, payload, given | (headers or {}))
            answer = self._connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException) as error:
            self.hang_up()
            raise OSError(f"{method} {path}: {error!r}") from error

    def settle(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Until it is answered with anything but "later". Only for what is harmless to repeat."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with suppress(OSError):
                answer = self.ask(method, path, body, headers)
                if answer.status not in TRY_AGAIN:
                    return answer
            assert time.monotonic() < deadline, f"no answer to {method} {path}"
            self._elsewhere()
            time.sleep(PAUSE_S * (0.5 + random.random()))

    def get(self, path: str) -> Any:
        answer = self.settle("GET", path)
        assert answer.status == 200, (path, answer.status, answer.body)
        return answer.json()

    def pages(self, path: str) -> list[Any]:
        """All of a list."""
        found: list[Any] = []
        while path:
            answer = self.settle("GET", path)
            assert answer.status == 200, (path, answer.status, answer.body)
            found += answer.json()
            link = answer.headers.get("Link") or ""
            path = link.partition("<")[2].partition(">")[0] if 'rel="next"' in link else ""
        return found

    def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _elsewhere(self) -> None:
        if len(self._places) > 1:
            self.hang_up()
            self._at = (self._at + 1) % len(self._places)
