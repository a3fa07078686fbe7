"""The real HTTP server on a free port, in the loop of the test; behind it all of Styx but the processes."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from styx.api import serve, server
from styx.api.backend import Backend
from styx.api.listener import bind
from styx.config import Config, Server, Webhooks
from styx.core.ids import AttemptKey, TaskId
from styx.engine.loop import Engine, utc_now
from styx.engine.schedules import Schedules
from styx.engine.secrets import Secrets
from styx.kit.lag import Lag
from styx.store.files import Files
from styx.store.logs import LogFiles
from styx.store.masterkeys import MasterKeys
from styx.store.postgres import Database
from styx.store.schedules import ScheduleRows
from styx.store.secrets import SecretRows
from styx.wire import agent as wire
from tests.support import engines, peer
from tests.support.peer import Peer

TOKEN = "styx_0123456789ab_secret_00000000"
HELLO = {"name": "test", "command": "echo", "args": ["Hello"]}


@asynccontextmanager
async def serving(app, *, graceful_s: float = 2.0) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Yields its URL and the event that stops it; leaves when it has stopped."""
    listener = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve.serve_asgi(app, listener, stop, graceful_s=graceful_s))
        try:
            yield url, stop
        finally:
            stop.set()


@dataclass
class Site:
    """A server, and a client of it that has the token."""

    url: str
    http: httpx.AsyncClient
    engine: Engine
    logs: LogFiles
    database: Database
    schedules: Schedules  # whoever wants due times runs it
    secrets: Secrets

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.http.get(f"/api/v1{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, document: Any = None, *, status: int = 201, **more: Any) -> Any:
        answer = await self.http.post(f"/api/v1{path}", json=document, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def submit(self, **task: Any) -> str:
        return (await self.post("/tasks", {"command": "true", **task}))["task_id"]

    async def refused(self, status: int, method: str, path: str, **more: Any) -> Any:
        """A problem, as every refusal has to be."""
        answer = await self.http.request(method, path, **more)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert problem["request_id"] == answer.headers["x-request-id"]
        assert problem["title"]
        assert problem["detail"]
        return problem


@asynccontextmanager
async def running(
    database: Database, home: Path, webhooks: Webhooks | None = None
) -> AsyncIterator[Site]:
    logs = LogFiles(database, home / "logs")
    config = Config(home=str(home), server=Server(max_body_bytes=4 << 20, failed_auth_per_minute=0))
    async with engines.running(database, logs, retry_base_s=0.05) as engine:
        schedules = Schedules(engine, ScheduleRows(database), clock=utc_now)
        files = Files(database, max_bundle_bytes=4 << 20, max_total_bytes=6 << 20)
        hooked = webhooks or Webhooks()
        rows = SecretRows(database, MasterKeys(config))
        secrets = Secrets(rows, clock=utc_now, monotonic=time.monotonic)
        behind = server.application(
            Backend(engine, database.query, logs, schedules, files, secrets, hooked)
        )
        app = server.gate(behind, config, TOKEN, Lag(time.monotonic))
        async with serving(app) as (url, _):
            bearer = {"authorization": f"Bearer {TOKEN}"}
            async with httpx.AsyncClient(base_url=url, headers=bearer, timeout=30) as client:
                yield Site(url, client, engine, logs, database, schedules, secrets)
    logs.close()


@pytest.fixture
async def site(database: Database, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(database, tmp_path) as site:
        yield site


@pytest.fixture(scope="session")
def empty_url(postgres) -> Iterator[str]:
    url = postgres.borrow()
    yield url
    postgres.give_back(url)


@pytest.fixture(scope="session")
async def empty(empty_url: str, tmp_path_factory) -> AsyncIterator[Site]:
    """One for all the tests in which every submit is refused: each a server of its own costs too much."""
    database = await Database.open(empty_url)
    async with running(database, tmp_path_factory.mktemp("empty")) as site:
        yield site
        assert await site.get("/tasks") == []
    await database.close()


@pytest.fixture
async def agent(site: Site) -> AsyncIterator[Peer]:
    """An agent of two cores, which does what its test says."""
    async with peer.connected(site.engine) as connected:
        await connected.introduce()
        yield connected


async def started(agent: Peer, task_id: str, n: int = 1, rank: int = 0) -> AttemptKey:
    """The agent takes the assignment of the task and starts it."""
    key = AttemptKey(TaskId(task_id), n, rank)
    await agent.hear(wire.Assign, lambda assign: assign.key == key)
    agent.say(wire.EvAccepted(key), wire.EvStarted(key))
    await agent.hear(wire.EvOk, lambda ok: ok.key == key and ok.kind == "started")
    return key


async def ended(agent: Peer, key: AttemptKey, **exit_: Any) -> None:
    """The process has ended, and the server has it in writing."""
    agent.say(wire.EvExited(key, peer.Exit(**exit_)))
    await agent.hear(wire.EvOk, lambda ok: ok.key == key and ok.kind == "exited")


async def wrote(agent: Peer, key: AttemptKey, data: bytes, *, offset: int = 0, stream: int = 1):
    """The server has the bytes."""
    for start in range(0, len(data), wire.MAX_LOG_BYTES):
        piece = data[start : start + wire.MAX_LOG_BYTES]
        agent.say(peer.a_log(key, piece, offset=offset + start, stream=stream))
        end = offset + start + len(piece)
        await agent.hear(
            wire.LogOk, lambda ok, end=end: (ok.key, ok.stream, ok.next) == (key, stream, end)
        )


@pytest.fixture
def token() -> str:
    return TOKEN
