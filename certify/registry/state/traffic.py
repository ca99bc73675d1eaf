"""What one running service has answered since it began, for Prometheus: requests, how long they took, heartbeats.

Two services on one database count each for itself; Prometheus adds them up. Labels are of closed lists (routes as they
are declared, known methods, reason codes), so that no client can make their number grow.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from certify.policy.reasons import reasons

# of a read from memory up to the verification of a large statement
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"


class Traffic:
    """Counts of one service; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, str]] = Counter()  # (method, route, class of status)
        self._buckets: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * (len(BOUNDS_S) + 1))
        self._sums_s: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._beats: Counter[str | None] = Counter()

    def answered(self, method: str, route: str | None, status: int | None, took_s: float) -> None:
        """Count one request.

        Args:
            method: as it was asked.
            route: the template of its path, as ``/v1/statements/{sha256}``; None where no route has its path.
            status: None where the client went away before there was one.
            took_s: seconds until the whole answer was sent.
        """
        key = (method if method in METHODS else OTHER, route or "none")
        bucket = sum(bound < took_s for bound in BOUNDS_S)
        with self._lock:
            self._requests[(*key, "none" if status is None else f"{status // 100}xx")] += 1
            self._buckets[key][bucket] += 1
            self._sums_s[key] += took_s

    def beat(self, code: str | None) -> None:
        """Count one heartbeat of one node: accepted (None), or refused with a reason code."""
        with self._lock:
            self._beats[code if code is None or code in reasons() else OTHER] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield every figure, of one moment."""
        with self._lock:
            requests, beats, sums_s = self._requests.copy(), self._beats.copy(), dict(self._sums_s)
            buckets = {key: list(counts) for key, counts in self._buckets.items()}
        text = "Requests that were answered, by route, method and class of status."
        counted = CounterMetricFamily("petaseal_registry_requests", text, labels=["method", "route", "status"])
        for labels, count in sorted(requests.items()):
            counted.add_metric(list(labels), count)
        yield counted
        text = "Seconds from a request's headers to the end of its answer, by route and method."
        took = HistogramMetricFamily("petaseal_registry_request_seconds", text, labels=["method", "route"])
        names = [*map(str, BOUNDS_S), "+Inf"]
        for key, counts in sorted(buckets.items()):
            took.add_metric(list(key), list(zip(names, accumulate(counts), strict=True)), sums_s[key])
        yield took
        text = "Heartbeats of nodes, accepted or refused with a reason code."
        heard = CounterMetricFamily("petaseal_registry_beats", text, labels=["outcome", "code"])
        for code, count in sorted({None: 0, **beats}.items(), key=lambda pair: pair[0] or ""):
            heard.add_metric(["refused" if code else "accepted", code or ""], count)
        yield heard
