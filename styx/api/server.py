"""The HTTP application: every route under one gate.

litestar routes and answers; what a route takes and gives is read by `route` and described by `schema`,
so the framework neither validates nor documents.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from litestar import Litestar, Response, asgi
from litestar.handlers import HTTPRouteHandler

from styx import __version__
from styx.api import problems, route
from styx.api.agents import Agents
from styx.api.auth import Guard
from styx.api.backend import Backend
from styx.api.events import Events
from styx.api.gate import Gate, Visit
from styx.api.health import Health
from styx.api.jobs import Jobs
from styx.api.logs import Logs
from styx.api.route import Call, Handler, Route
from styx.api.schema import Schema
from styx.api.sockets import STREAM_PATH, AgentSocket, StreamSocket
from styx.api.tasks import Tasks
from styx.config import Config
from styx.core.policy import Policy
from styx.engine.loop import Engine
from styx.store.logs import LogFiles
from styx.store.postgres import Database
from styx.wire import agent as wire


def build(engine: Engine, database: Database, logs: LogFiles, config: Config, token: str) -> Gate:
    """The application for `serve.serve_asgi`. `token` is the administrator's."""
    scheduler = config.scheduler
    policy = Policy(
        retry_base_s=scheduler.retry_base_s,
        retry_cap_s=scheduler.retry_cap_s,
        reserve_after_s=scheduler.reserve_after_s,
    )
    backend = Backend(engine, database.query, logs, policy)
    schema = Schema(__version__)
    parts = (
        Health(backend),
        Tasks(backend),
        Jobs(backend),
        Agents(backend),
        Logs(backend),
        Events(backend),
        schema,
    )
    routes = [declared for part in parts for declared in route.of(part)]
    schema.describe(routes)
    app = Litestar(
        [
            *_handlers(routes),
            asgi(wire.PATH, copy_scope=False)(AgentSocket(engine)),
            asgi(STREAM_PATH, copy_scope=False)(StreamSocket(engine)),
        ],
        exception_handlers={Exception: _refused},
        openapi_config=None,
        logging_config=None,
    )
    guard = Guard(config, token)
    return Gate(cast("Any", app), guard, submit_body_bytes=config.server.max_body_bytes)


def _handlers(routes: Sequence[tuple[Route, Handler]]) -> list[HTTPRouteHandler]:
    return [
        HTTPRouteHandler(
            taken.path.replace("{id}", "{id:str}"),
            http_method=cast("Any", taken.method),
            status_code=taken.status,
            media_type=taken.media_types[0],
            name=taken.operation_id,
        )(_plain(handler))
        for taken, handler in routes
    ]


def _plain(handler: Handler) -> Callable[[Call], Awaitable[Response[Any]]]:
    """The framework knows what a parameter is by its name."""

    async def handle(request: Call) -> Response[Any]:
        return await handler(request)

    return handle


def _refused(request: Call, error: Exception) -> Response[bytes]:
    visit: Visit = request.scope["state"]["visit"]
    answer = problems.answer(error, visit.request_id)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(
        answer.body,
        status_code=answer.status,
        headers=headers,
        media_type=problems.MEDIA_TYPE,
    )
