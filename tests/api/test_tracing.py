"""Spans as a collector gets them: a real receiver of OTLP/HTTP, which decodes what comes."""

import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from styx import site
from styx.core.task import TaskState
from styx.engine import spans as telling
from styx.engine.spans import Spans
from styx.errors import SetupError
from styx.wire import agent as wire
from tests.api.conftest import Site, ended
from tests.api.test_metrics import scrape
from tests.support import engines, peer
from tests.support.engines import a_submit, log_files, until

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Proto
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from styx.api.otlp import Exporter

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = "00f067aa0ba902b7"
TRACEPARENT: Final = f"00-{TRACE}-{PARENT}-01"

ENDS: Final = {"process.exit.code", "styx.exit.signal"}  # one excludes the other


class Collector:
    def __init__(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                if collector.status == 200:
                    collector.requests.append(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None: ...

        self.status = 200
        self.requests: list[ExportTraceServiceRequest] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> list[Proto]:
        return [
            span
            for request in self.requests
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def of(self, name: str) -> list[Proto]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def collector() -> Iterator[Collector]:
    opened = Collector()
    thread = threading.Thread(target=opened.server.serve_forever, args=(0.01,))
    thread.start()
    yield opened
    opened.server.shutdown()
    thread.join()
    opened.server.server_close()


@asynccontextmanager
async def exporting(engine: Any, url: str) -> AsyncIterator[Exporter]:
    """The engine's spans go there, when the test flushes or ends."""
    engine.tracer = Spans()
    exporter = Exporter(engine.tracer, url, send_s=1.0)
    yield exporter
    await exporter.close()


def said(span: Proto) -> dict[str, object]:
    return {
        pair.key: getattr(pair.value, str(pair.value.WhichOneof("value")))
        for pair in span.attributes
    }


async def submit(site: Site, **headers: str) -> str:
    task = {"name": "train", "command": "true"}
    return (await site.post("/tasks", task, headers=headers))["task_id"]


async def assigned(agent: peer.Peer, task_id: str) -> str:
    """The traceparent that the task gets; the agent starts it."""
    assign = await agent.hear(wire.Assign, lambda assign: assign.key.task_id == task_id)
    agent.say(wire.EvAccepted(assign.key), wire.EvStarted(assign.key))
    await agent.hear(wire.EvOk, lambda ok: ok.key == assign.key and ok.kind == "started")
    return assign.traceparent


async def test_from_the_submitters_span_to_the_attempt(site, agent, collector):
    async with exporting(site.engine, collector.url):
        task_id = await submit(site, traceparent=TRACEPARENT)
        given = await assigned(agent, task_id)
        key = next(iter(site.engine.world.attempts))
        await ended(agent, key, code=3, ran_ms=250)
    (sent,), (turn,), (commit,), (attempt,) = map(
        collector.of, (telling.SUBMIT, telling.TURN, telling.COMMIT, telling.ATTEMPT)
    )
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert sent.parent_span_id.hex() == PARENT
    assert sent.kind == Proto.SPAN_KIND_SERVER
    assert turn.parent_span_id == attempt.parent_span_id == sent.span_id
    assert commit.parent_span_id == turn.span_id
    assert given == f"00-{TRACE}-{attempt.span_id.hex()}-01", "what the task is told"
    assert len({span.span_id for span in collector.spans}) == 4
    assert sent.start_time_unix_nano <= turn.start_time_unix_nano <= commit.start_time_unix_nano
    assert commit.end_time_unix_nano <= turn.end_time_unix_nano
    assert commit.end_time_unix_nano <= sent.end_time_unix_nano <= attempt.end_time_unix_nano
    assert 0 <= attempt.end_time_unix_nano - attempt.start_time_unix_nano <= 250_000_000
    told = said(attempt)
    assert (told["styx.task.id"], told["styx.attempt"]) == (task_id, 1)
    assert (told["styx.state"], told["styx.reason"]) == ("failed", "exit_code")
    assert (told["process.exit.code"], told["styx.task.name"]) == (3, "train")
    assert told["styx.agent.name"] == next(iter(site.engine.world.agents.values())).name
    assert (attempt.status.code, attempt.status.message) == (Status.STATUS_CODE_ERROR, "exit_code")
    assert said(sent)["http.route"] == "/api/v1/tasks"
    resource = collector.requests[0].resource_spans[0].resource
    assert "styx" in [pair.value.string_value for pair in resource.attributes]


async def test_the_page_names_every_span_and_attribute(site, agent, collector):
    page = (Path(__file__).parents[2] / "docs" / "tracing.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", page, re.MULTILINE)
    told = {name: set(re.findall(r"`([\w.]+)`", attributes)) for name, attributes in rows}
    async with exporting(site.engine, collector.url):
        await assigned(agent, await submit(site))
        end = {"cpu_ms": 1, "max_rss_bytes": 1}
        await ended(agent, next(iter(site.engine.world.attempts)), code=0, **end)
    shown = {span.name: said(span).keys() | (told[span.name] & ENDS) for span in collector.spans}
    assert shown == told


async def test_of_itself_a_job_begins_a_trace(site, agent, collector):
    async with exporting(site.engine, collector.url):
        task_id = await submit(site, traceparent="00-nonsense")
        await assigned(agent, task_id)
        await ended(agent, next(iter(site.engine.world.attempts)), code=0)
    (sent,), (attempt,) = collector.of(telling.SUBMIT), collector.of(telling.ATTEMPT)
    job_id = str(said(sent)["styx.job.id"])
    assert sent.trace_id == attempt.trace_id == bytes.fromhex(job_id.replace("-", ""))
    assert sent.parent_span_id == b""
    assert attempt.status.code == Status.STATUS_CODE_UNSET


async def test_who_wants_no_spans_gets_none(site, agent, collector):
    async with exporting(site.engine, collector.url) as exporter:
        given = await assigned(agent, await submit(site, traceparent=f"00-{TRACE}-{PARENT}-00"))
        assert given.startswith(f"00-{TRACE}-")
        assert given.endswith("-00")
        await ended(agent, next(iter(site.engine.world.attempts)), code=0)
        await exporter.flush()
        assert (collector.spans, site.engine.tracer.dropped) == ([], 0)


async def test_the_next_server_goes_on_with_the_trace(database, tmp_path, collector):
    logs = log_files(database, tmp_path)
    fact = a_submit()
    traced = type(fact)(fact.job_id, fact.task_ids, fact.spec, traceparent=TRACEPARENT)
    async with engines.running(database, logs) as engine, peer.connected(engine) as agent:
        await agent.introduce()
        await engine.post(traced)
        given = await assigned(agent, fact.task_ids[0])
    async with (
        engines.running(database, logs) as engine,
        exporting(engine, collector.url),
        peer.connected(engine) as agent,
    ):
        (key,) = engine.world.attempts
        await agent.introduce(peer.running(key))
        await ended(agent, key, code=0)
        assert await until(lambda: not engine.world.tasks)
    (attempt,) = collector.of(telling.ATTEMPT)
    assert given == f"00-{TRACE}-{attempt.span_id.hex()}-01"
    assert attempt.trace_id.hex() == TRACE
    assert said(attempt)["styx.state"] == "succeeded"


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(site, agent, collector):
    collector.status = 500
    async with exporting(site.engine, collector.url) as exporter:
        task_id = await submit(site)
        await exporter.flush()
        await assigned(agent, task_id)
        collector.status = 200
        await ended(agent, next(iter(site.engine.world.attempts)), code=0)
        await until(lambda: not site.engine.world.tasks)
        await exporter.flush()
        seen = await scrape(site)
        assert seen("styx_otel_spans_dropped_total") == 3, "submit, turn and commit"
        assert seen("styx_otel_spans_total") == len(collector.spans) == 1


async def test_what_waits_is_bounded(database, tmp_path, monkeypatch):
    monkeypatch.setattr(telling, "LIMIT", 3)
    async with engines.running(database, log_files(database, tmp_path)) as engine:
        engine.tracer = spans = Spans()
        for _ in range(3):
            await engine.post(a_submit())
        await until(lambda: spans.dropped)
        assert await until(lambda: spans.dropped == 3)
        assert len(spans.take(10)) == 3
        assert engine.world.census.tasks[TaskState.READY] == 3


def test_nothing_of_it_is_loaded_by_a_server_that_exports_nothing():
    code = "import sys, styx.site; print([m for m in sys.modules if 'telemetry' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "styx.api.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SetupError) as refused:
        site._exporter(Spans(), "http://localhost:4318")
    assert "styx[otel]" in refused.value.hint
    assert site._exporter(Spans(), "") is None
    with pytest.raises(SetupError, match="localhost:4317"):
        site._exporter(Spans(), "localhost:4317")
