"""Spans to a collector, over OTLP/HTTP. The only place that knows OpenTelemetry's libraries, which the
extra `otel` brings: imported by `app` when an endpoint is configured, and by nobody else.

What cannot be delivered is dropped and counted: a collector that is away costs no task anything.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from styx import __version__
from styx.engine.spans import SUBMIT, Span, Spans

PATH: Final = "/v1/traces"
PERIOD_S: Final = 1.0
BATCH: Final = 512  # spans a request
SEND_S: Final = 2.0  # a request, with the library's retries of it; a stop waits for so long at most
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SCOPE: Final = InstrumentationScope("styx", __version__)

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Exporter:
    """`run` it as a loop, `close` it after the last turn. `endpoint` is the base address of a collector."""

    def __init__(self, spans: Spans, endpoint: str, *, send_s: float = SEND_S) -> None:
        # It would log each batch that fails; we say once that the collector is away.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._spans = spans
        self._send_s = send_s
        self._away = False
        self._client = OTLPSpanExporter(endpoint.rstrip("/") + PATH, timeout=send_s)
        # With what $OTEL_RESOURCE_ATTRIBUTES says of this server.
        named = {"service.name": "styx", "service.version": __version__}
        self._resource = Resource.create({**named, "host.name": socket.gethostname()})

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            await self.flush()

    async def close(self) -> None:
        """Send what is left, as far as that is quickly done."""
        if not self._away:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._send_s):
                    await self.flush()
        self._client.shutdown()

    async def flush(self) -> None:
        """Send what waits. Never raises: what the collector does not take is dropped."""
        while batch := self._spans.take(BATCH):
            delivered = await asyncio.to_thread(self._send, batch)
            if delivered:
                self._spans.exported += len(batch)
            else:
                self._spans.dropped += len(batch)
            self._say(away=not delivered)

    def _send(self, batch: Sequence[Span]) -> bool:
        shown = [_shown(span, self._resource) for span in batch]
        return self._client.export(shown) is SpanExportResult.SUCCESS

    def _say(self, *, away: bool) -> None:
        if away and not self._away:
            log.warning("spans are dropped: the collector takes none")
        elif self._away and not away:
            log.info("the collector takes spans again", dropped=self._spans.dropped)
        self._away = away


def _shown(span: Span, resource: Resource) -> ReadableSpan:
    """Made by hand, as the library's own way would hold it open from start to end, in one process."""
    return ReadableSpan(
        span.name,
        context=_context(span.trace_id, span.id),
        parent=_context(span.trace_id, span.parent) if span.parent else None,
        resource=resource,
        attributes=span.attributes,
        kind=SpanKind.SERVER if span.name == SUBMIT else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.failed) if span.failed else Status(),
        start_time=_nanoseconds(span.began),
        end_time=_nanoseconds(span.ended),
        instrumentation_scope=_SCOPE,
    )


def _context(trace_id: str, span_id: str) -> SpanContext:
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=sampled)


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND * 1_000
