"""Whether the server lives, and whether it can do its work: the two answers that anybody may have."""

from litestar import Response

from styx import __version__
from styx.api import route
from styx.api.backend import Backend
from styx.api.route import Call, reply
from styx.wire import http

SERVICE = "styx-server"


class Health:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @route.get("/health", "getHealth", http.Health, open=True)
    async def health(self, _: Call) -> Response[bytes]:
        """Does the server live?"""
        return reply(http.Health(status="healthy", version=__version__, service=SERVICE))

    @route.get("/readyz", "getReady", http.Ready, also={503: "It cannot"}, open=True)
    async def ready(self, _: Call) -> Response[bytes]:
        """Can the server work?

        Whether what is submitted would be accepted: the database answers, and this server leads.
        """
        engine = self._backend.engine
        answer = http.Ready(
            ready=engine.leading,
            database="ok" if engine.healthy else "unavailable",
            leader=engine.leading,
        )
        return reply(answer, status=200 if answer.ready else 503)
