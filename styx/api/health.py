"""Whether the server lives, and whether it can do its work: the two answers that anybody may have."""

from litestar import Response

from styx import __version__
from styx.api.backend import Backend
from styx.api.route import Call, Route, reply
from styx.wire import http

SERVICE = "styx-server"


class Health:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET", "/health", "getHealth", "Does it live?", self.health, http.Health, open=True
            ),
            Route(
                "GET",
                "/readyz",
                "getReady",
                "Can it work?",
                self.ready,
                http.Ready,
                also={503: "It cannot"},
                open=True,
            ),
        ]

    async def health(self, _: Call) -> Response[bytes]:
        return reply(http.Health(status="healthy", version=__version__, service=SERVICE))

    async def ready(self, _: Call) -> Response[bytes]:
        """Whether what is submitted would be accepted: the database answers, and this server leads."""
        engine = self._backend.engine
        answer = http.Ready(
            ready=engine.leading,
            database="ok" if engine.healthy else "unavailable",
            leader=engine.leading,
        )
        return reply(answer, status=200 if answer.ready else 503)
