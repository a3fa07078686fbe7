"""The HTTP application: every route under one gate.

litestar routes and answers; what a route takes and gives is read by `route` and described by `schema`,
so the framework neither validates nor documents.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from litestar import Litestar, Response, asgi
from litestar.handlers import HTTPRouteHandler
from litestar.plugins import PluginProtocol

from styx import __version__
from styx.api import problems, route
from styx.api.agents import Agents
from styx.api.asgi import Application
from styx.api.audit import Audit
from styx.api.auth import Guard
from styx.api.backend import Backend
from styx.api.events import Events
from styx.api.files import Files
from styx.api.gate import Gate, Visit
from styx.api.health import Health
from styx.api.jobs import Jobs
from styx.api.logs import Logs
from styx.api.metrics import Metrics
from styx.api.outputs import Outputs
from styx.api.route import Call, Handler, Route
from styx.api.schedules import Schedules
from styx.api.schema import Schema
from styx.api.secrets import SecretRoutes
from styx.api.sockets import STREAM_PATH, AgentSocket, StreamSocket
from styx.api.tasks import Tasks
from styx.config import Config
from styx.engine import session
from styx.kit.lag import Lag
from styx.wire import agent as wire


class _Plain(Litestar):
    """Without support for models of pydantic and attrs, which we have none of: Piccolo brings pydantic, and
    to import it was a sixth of a start's time and of a server's memory.
    """

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return plugins


def application(backend: Backend) -> Application:
    """Every route of a server that leads."""
    engine = backend.engine
    schema = Schema(__version__)
    parts = (
        Health(backend),
        Tasks(backend),
        Jobs(backend),
        Schedules(backend),
        Agents(backend),
        Logs(backend),
        Files(backend),
        Outputs(backend),
        SecretRoutes(backend),
        Events(backend),
        Audit(backend),
        Metrics(backend),
        schema,
    )
    routes = [declared for part in parts for declared in route.of(part)]
    schema.describe(routes)
    agents = AgentSocket(lambda channel: session.run(channel, engine, backend.secrets))
    app = _Plain(
        [
            *_handlers(routes),
            asgi(wire.PATH, copy_scope=False)(agents),
            asgi(STREAM_PATH, copy_scope=False)(StreamSocket(engine)),
        ],
        exception_handlers={Exception: _refused},
        openapi_config=None,
        logging_config=None,
    )
    return cast("Any", app)


def gate(app: Application, config: Config, token: str, lag: Lag) -> Gate:
    """What `serve.serve_asgi` serves. `token` is the administrator's."""
    return Gate(app, Guard(config, token), config.server, lag)


def _handlers(routes: Sequence[tuple[Route, Handler]]) -> list[HTTPRouteHandler]:
    return [
        HTTPRouteHandler(
            taken.path.replace("}", ":str}"),
            http_method=cast("Any", taken.method),
            status_code=taken.status,
            media_type=taken.media_types[0],
            name=taken.operation_id,
        )(_plain(taken.path, handler))
        for taken, handler in routes
    ]


def _plain(path: str, handler: Handler) -> Callable[[Call], Awaitable[Response[Any]]]:
    """The framework knows what a parameter is by its name."""

    async def handle(request: Call) -> Response[Any]:
        route.visit(request).route = path
        return await handler(request)

    return handle


def _refused(request: Call, error: Exception) -> Response[bytes]:
    visit: Visit = request.scope["state"]["visit"]
    answer = visit.refuse(error)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(
        answer.body,
        status_code=answer.status,
        headers=headers,
        media_type=problems.MEDIA_TYPE,
    )
