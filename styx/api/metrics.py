"""What is measured, as Prometheus reads it. The only place that knows its library.

Nothing is kept here: each scrape reads the numbers that the parts keep for themselves. So two servers in
one process know nothing of each other, and counting costs the hot path no more than an addition.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from litestar import Response
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from styx.api import measures, route
from styx.api.backend import Backend
from styx.api.measures import Measure, Reading
from styx.api.route import Call
from styx.kit.tally import Spread

PATH: Final = "/metrics"
MEDIA_TYPES: Final = ("text/plain", "application/openmetrics-text")


class Metrics:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @route.get(PATH, "getMetrics", str, media_types=MEDIA_TYPES)
    async def metrics(self, call: Call) -> Response[bytes]:
        """Measures for Prometheus.

        Each server answers for itself: a standby says `styx_leader 0`, and nothing of tasks and agents.
        OpenMetrics for those who accept it.
        """
        gate, engine = route.visit(call).gate, self._backend.engine
        readings = measures.of_leader(gate.traffic, gate.lag, engine, self._backend.logs.counts)
        media_type, body = exposition(readings, call.headers.get("accept", ""))
        return Response(body, headers={"content-type": media_type})


def exposition(readings: Iterable[Reading], accept: str) -> tuple[str, bytes]:
    """The media type that `accept` asks for, and the text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Readings(readings))
    ProcessCollector(registry=registry)
    encode, media_type = choose_encoder(accept)
    return media_type, encode(registry)


class _Readings(Collector):
    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        families: dict[Measure, Metric] = {}
        for reading in self._readings:
            family = families.get(reading.measure)
            if family is None:
                family = families[reading.measure] = _family(reading.measure)
            _add(family, reading)
        yield from families.values()


def _family(measure: Measure) -> Metric:
    match measure.kind:
        case "gauge":
            return GaugeMetricFamily(measure.name, measure.about, labels=measure.labels)
        case "counter":
            return CounterMetricFamily(measure.name, measure.about, labels=measure.labels)
        case "histogram":
            return HistogramMetricFamily(measure.name, measure.about, labels=measure.labels)


def _add(family: Metric, reading: Reading) -> None:
    match family, reading.value:
        case HistogramMetricFamily(), Spread() as spread:
            family.add_metric(reading.labels, list(_buckets(spread)), spread.total)
        case ((GaugeMetricFamily() | CounterMetricFamily()), (int() | float() as value)):
            family.add_metric(reading.labels, value)
        case _:
            raise AssertionError(f"{reading.measure.name}: {reading.value!r}")


def _buckets(spread: Spread) -> Iterator[tuple[str, float]]:
    """Each holds what the ones before it hold, too."""
    sum_ = 0
    for bound, count in zip((*map(float, spread.bounds), "+Inf"), spread.counts, strict=True):
        sum_ += count
        yield str(bound), sum_
