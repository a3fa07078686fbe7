"""The HTTP API, call by call.

Every id argument takes an id, a unique prefix of at least four characters, a name, or `last`.
"""

import math
import os
import re
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from styx import __version__, config
from styx.errors import StyxError
from styx.sdk import address, failures
from styx.sdk.aio import streams
from styx.sdk.aio.transport import Transport
from styx.sdk.events import Written
from styx.sdk.exchange import CALL_TIMEOUT_S, JSON, PATIENCE_S, Answer, Query
from styx.sdk.fields import Document, Submittable
from styx.wire import http as wire

BASE: Final = "/api/v1"
PAGE: Final = 1_000  # rows a request; the server's largest
WAIT_S: Final = 30.0  # that one request waits for an end; well below what proxies allow
TAIL: Final = 20  # lines of standard error in a `TaskFailed`
UNHAPPY: Final = ("failed,lost", "cancelled,skipped")  # causes before consequences
_NEXT: Final = re.compile(r'<([^>]*)>;\s*rel="?next"?')

T = TypeVar("T")


class AsyncCalls:
    """A client of one server, or of several on one database (`url` names all, separated by commas);
    without arguments, of the configured or the local one.

    Waits up to `patience_s` for a server that is away or busy, repeating the request: a submit is
    never done twice. `on_wait` is told, once an outage, for what it waits. For one thread.

    Raises from every method: Unreachable, ServerFailed, and the RequestErrors (NotFound, …).
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience_s: float = PATIENCE_S,
        first_contact_s: float | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        on_wait: Callable[[StyxError], None] = lambda _: None,
    ) -> None:
        if url is None or token is None:
            found = address.find(config.load().config, url)
            url, token = found.url, found.token if token is None else token
        self.url = address.checked(url)
        self._token = token
        self._patience_s = patience_s
        self._transport = Transport(
            self.url,
            token,
            patience_s=patience_s,
            first_contact_s=first_contact_s,
            timeout_s=timeout_s,
            on_wait=on_wait,
        )

    async def health(self) -> wire.Health:
        return await self._read(wire.Health, "/health", base="")

    # --- submit -----------------------------------------------------------------------------------

    async def submit(self, task: Document, *, key: str = "") -> wire.Submitted:
        """Submit one task, as `POST /tasks` takes it. The same `key` again gives the same task."""
        return await self._post(wire.Submitted, "/tasks", body=task, key=key)

    async def submit_job(
        self, job: Document | Submittable, *, key: str = "", no_cache: bool = False
    ) -> wire.JobSubmitted:
        """Submit a job, as `POST /jobs` takes it, or a `@job`. `no_cache`: run all of it, whatever
        succeeded before.
        """
        query: Query = {"no_cache": "true" if no_cache else None}
        body = self._body(job)
        return await self._post(wire.JobSubmitted, "/jobs", query=query, body=body, key=key)

    async def plan_job(
        self, job: Document | Submittable, *, no_cache: bool = False
    ) -> wire.JobPlan:
        """What would become of it if it were submitted now; nothing is made."""
        query: Query = {"plan": "true", "no_cache": "true" if no_cache else None}
        return await self._post(wire.JobPlan, "/jobs", query=query, body=self._body(job))

    # --- tasks ------------------------------------------------------------------------------------

    async def task(self, task_id: str) -> wire.TaskDetail:
        return await self._read(wire.TaskDetail, f"/tasks/{segment(task_id)}")

    def tasks(
        self, *, limit: int | None = None, **filters: str | None
    ) -> AsyncIterator[wire.TaskView]:
        """Newest first, page by page; filters are status, job, label, name, since."""
        return self._pages(wire.TaskView, "/tasks", filters, limit)

    async def cancel(self, task_id: str, *, force: bool = False) -> wire.CancelAccepted:
        query: Query = {"force": "true" if force else None}
        return await self._post(
            wire.CancelAccepted, f"/tasks/{segment(task_id)}/cancel", query=query
        )

    async def retry(self, task_id: str) -> wire.Submitted:
        """Submit it once more, as a new task."""
        return await self._post(wire.Submitted, f"/tasks/{segment(task_id)}/retry")

    async def explain(self, task_id: str) -> wire.Explanation:
        return await self._read(wire.Explanation, f"/tasks/{segment(task_id)}/explain")

    async def history(self, task_id: str) -> list[wire.HistoryView]:
        return await self._read(list[wire.HistoryView], f"/tasks/{segment(task_id)}/events")

    async def wait(
        self, task_id: str, *, timeout_s: float | None = None, check: bool = False
    ) -> wire.TaskDetail:
        """Return the task once it is over. Raises: TimeoutError; with `check` also TaskFailed."""
        over = await self._over(
            wire.TaskDetail, f"/tasks/{segment(task_id)}", _task_is_over, timeout_s
        )
        if check and over.status != "succeeded":
            raise await self._failed(over)
        return over

    async def logs(
        self,
        task_id: str,
        *,
        stream: str = "out",
        follow: bool = False,
        tail: int | None = None,
        attempt: int | None = None,
    ) -> AsyncGenerator[bytes]:
        """One stream (`out` or `err`), exactly as the task wrote it: of one attempt, the last unless
        given. `tail` begins so many lines before the end. With `follow` until the task is over, over
        its retries too.
        """
        if not follow:
            query: Query = {"stream": stream, "attempt": attempt, "tail": tail}
            async with aclosing(
                streams.text(self._transport, _logs_path(task_id), query)
            ) as pieces:
                async for piece in pieces:
                    yield piece
            return
        followed = self.follow(task_id, stream=stream, attempt=attempt, tail=tail)
        async with aclosing(followed) as written:
            async for part in written:
                yield part.data

    def follow(
        self,
        task_id: str,
        *,
        stream: str = "",
        attempt: int | None = None,
        tail: int | None = None,
        from_beginning: bool = False,
    ) -> AsyncGenerator[Written]:
        """What the task writes until it is over: both streams unless one is given, each piece with its
        place, each byte once. From the current attempt on, or all of them `from_beginning`; or one
        attempt only.
        """
        query: Query = {"follow": 1, "stream": stream, "attempt": attempt, "tail": tail}
        last_id = streams.BEGINNING if from_beginning else ""
        return streams.output(self._transport, _logs_path(task_id), query, last_id=last_id)

    # --- jobs -------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> wire.JobDetail:
        return await self._read(wire.JobDetail, f"/jobs/{segment(job_id)}")

    def jobs(
        self, *, limit: int | None = None, **filters: str | None
    ) -> AsyncIterator[wire.JobView]:
        return self._pages(wire.JobView, "/jobs", filters, limit)

    async def cancel_job(self, job_id: str, *, force: bool = False) -> wire.CancelAccepted:
        query: Query = {"force": "true" if force else None}
        return await self._post(wire.CancelAccepted, f"/jobs/{segment(job_id)}/cancel", query=query)

    async def retry_job(self, job_id: str) -> wire.JobSubmitted:
        """Submit what did not succeed once more, as a new job."""
        return await self._post(wire.JobSubmitted, f"/jobs/{segment(job_id)}/retry")

    async def wait_job(
        self, job_id: str, *, timeout_s: float | None = None, check: bool = False
    ) -> wire.JobView:
        """Return the job once all its tasks are over. Raises: TimeoutError; with `check` also TaskFailed,
        of the first task that did.
        """
        path = f"/jobs/{segment(job_id)}"
        over = await self._over(wire.JobView, path, _job_is_over, timeout_s)
        if check and over.status != "succeeded":
            for statuses in UNHAPPY:
                rows = [row async for row in self.tasks(job=over.id, status=statuses, limit=PAGE)]
                if rows:
                    raise await self._failed(min(rows, key=_end))
        return over

    # --- agents and events ------------------------------------------------------------------------

    def agents(
        self, *, limit: int | None = None, **filters: str | None
    ) -> AsyncIterator[wire.AgentView]:
        return self._pages(wire.AgentView, "/agents", filters, limit)

    async def agent(self, agent_id: str) -> wire.AgentView:
        return await self._read(wire.AgentView, f"/agents/{segment(agent_id)}")

    async def drain(self, agent_id: str) -> wire.AgentView:
        return await self._post(wire.AgentView, f"/agents/{segment(agent_id)}/drain")

    async def resume(self, agent_id: str) -> wire.AgentView:
        return await self._post(wire.AgentView, f"/agents/{segment(agent_id)}/resume")

    def events(self, *, last_id: str = "") -> AsyncIterator[wire.FeedEvent]:
        """Changes as they happen, without end; goes on after `last_id`, also over broken lines."""
        return streams.changes(self._transport, f"{BASE}/events", last_id=last_id)

    async def audit(self, *, since: int = 0) -> AsyncIterator[wire.AuditView]:
        """Who asked for what, from there on, the oldest first."""
        while True:
            query: Query = {"since": str(since), "limit": PAGE}
            rows = await self._read(list[wire.AuditView], "/audit", query=query)
            for row in rows:
                yield row
            if len(rows) < PAGE:
                return
            since = rows[-1].seq

    # --- the client itself ------------------------------------------------------------------------

    def is_local(self) -> bool:
        """Whether the server is the one of this home, on this machine."""
        return address.is_local(self.url)

    def another(self) -> Self:
        """A client of the same server, for another thread."""
        return type(self)(self.url, self._token, patience_s=self._patience_s)

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _body(self, job: Document | Submittable) -> Document:
        return job if isinstance(job, Mapping) else job.body(here=self.is_local())

    async def _failed(self, task: wire.TaskView) -> failures.TaskFailed:
        tail = [piece async for piece in self.logs(task.id, stream="err", tail=TAIL)]
        return failures.TaskFailed(task, b"".join(tail))

    async def _read(
        self, model: type[T], path: str, *, query: Query | None = None, base: str = BASE
    ) -> T:
        return _decoded(await self._transport.call("GET", base + path, query=query), model)

    async def _over(
        self, model: type[T], path: str, is_over: Callable[[T], bool], timeout_s: float | None
    ) -> T:
        """Raises: TimeoutError."""
        deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, deadline_s - time.monotonic())
            found = await self._read(model, path, query={"wait": f"{min(WAIT_S, left_s):.3f}"})
            if is_over(found):
                return found
            if left_s <= 0:
                raise TimeoutError(f"not over after {timeout_s:g} s")

    async def _post(
        self,
        model: type[T],
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        key: str = "",
        media_type: str = JSON,
    ) -> T:
        # One key for all repeats of this call: whatever breaks, it is done once.
        key = key or os.urandom(16).hex()
        answer = await self._transport.call(
            "POST",
            BASE + path,
            query=query,
            body=body,
            key=key,
            traceparent=config.traceparent(),
            media_type=media_type,
        )
        return _decoded(answer, model)

    async def _put(self, model: type[T], path: str, body: object) -> T:
        return _decoded(await self._transport.call("PUT", BASE + path, body=body), model)

    async def _delete(self, model: type[T], path: str) -> T:
        return _decoded(await self._transport.call("DELETE", BASE + path), model)

    async def _pages(
        self, model: type[T], path: str, filters: Mapping[str, str | None], limit: int | None
    ) -> AsyncIterator[T]:
        left = sys.maxsize if limit is None else limit
        target: str | None = BASE + path
        query: Query = {**filters, "limit": min(PAGE, left)}
        while target and left > 0:
            answer = await self._transport.call("GET", target, query=query)
            rows = _decoded(answer, list[model])
            for row in rows[:left]:
                yield row
            left -= len(rows)
            target, query = _next_page(answer), {}


def _decoded(answer: Answer, model: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=model)
    except msgspec.MsgspecError as error:
        raise failures.ServerFailed(
            f"not the answer that was expected: {error}",
            status=answer.status,
            hint=f"this is styx {__version__}; is the server another version?",
        ) from error


def _next_page(answer: Answer) -> str | None:
    """The path and query of `Link: <…>; rel="next"`."""
    found = _NEXT.search(answer.headers.get("link", ""))
    if found is None:
        return None
    parts = urlsplit(found[1])
    return f"{parts.path}?{parts.query}"


def _logs_path(task_id: str) -> str:
    return f"{BASE}/tasks/{segment(task_id)}/logs"


def _task_is_over(row: wire.TaskDetail) -> bool:
    return row.status in wire.TERMINAL


def _job_is_over(row: wire.JobView) -> bool:
    return row.finished_at is not None


def _end(row: wire.TaskView) -> datetime:
    return row.finished_at or row.created_at


def segment(reference: str) -> str:
    """A reference as one segment of a path."""
    return quote(reference, safe="")
