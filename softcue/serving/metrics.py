"""Metrics in Prometheus' text format; no label goes by an adapter's name, so they stay few."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from softcue.serving.needs import Answered

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# of the service's numbers, those that only grow
GROWING = frozenset(("requests", "rows", "batches", "refused", "late", "hits", "misses", "evictions"))
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE"))


class Metrics:
    """What a server counts of itself."""

    def __init__(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Count in a registry of its own; the numbers of `facts` are shown beside."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "softcue_requests",
            "HTTP requests by verb, route and status.",
            ("verb", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "softcue_request_seconds",
            "Seconds from a request's first byte to its answer's last.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._answers = Counter(
            "softcue_answers",
            "Rows answered, by the adapter's method and kind.",
            ("method", "kind"),
            registry=self.registry,
        )
        self._tokens = Counter("softcue_tokens", "Tokens read in rows answered.", registry=self.registry)
        self.under_way = Gauge(
            "softcue_requests_under_way", "HTTP requests not answered yet.", registry=self.registry
        )
        self.registry.register(_Facts(facts))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._request_of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._answer_of: dict[tuple[str, str], Counter] = {}

    def count_request(self, verb: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered. route: as it was declared, not as it was asked for."""
        key = (verb if verb in METHODS else "other", route, status)
        own = self._request_of.get(key)
        if own is None:
            own = self._request_of[key] = (
                self._requests.labels(key[0], route, str(status)),
                self._seconds.labels(route),
            )
        own[0].inc()
        own[1].observe(seconds)

    def count_answers(self, answers: Sequence[Answered]) -> None:
        """Count rows that were answered."""
        for answer in answers:
            key = (answer.entry.method, answer.entry.kind)
            own = self._answer_of.get(key)
            if own is None:
                own = self._answer_of[key] = self._answers.labels(*key)
            own.inc()
        self._tokens.inc(sum(answer.tokens for answer in answers))

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)


class _Facts(Collector):
    """The service's own numbers."""

    def __init__(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        for name, value in self._facts().items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            kind = CounterMetricFamily if name in GROWING else GaugeMetricFamily
            yield kind(f"softcue_service_{name}", f"{name.replace('_', ' ')} of the service.", value)
