"""Metrics of a registry for Prometheus: capacity by state, decisions, alarms, and the age of the last submission."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, func, select

from bench.units import utc_ns
from certify.registry.api.common import ENDED, REACHED, Rates
from certify.registry.api.views import Lifecycle
from certify.registry.base.registry import Registry
from certify.registry.state.cache import lifecycle_of, reader_of
from certify.registry.state.model import Snapshot
from certify.registry.storage.tables import alarms, decisions

FLOP_PER_MFLOP = 10**6
_RATES = ("certified", "sustained", "nominal")


class Metrics(Collector):
    """The figures of one registry, looked up when they are asked for. Decisions are only ever added: so are these."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._decided: tuple[int, Counter[tuple[str, str, str]]] = (0, Counter())
        self._metrics = CollectorRegistry()
        self._metrics.register(self)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._metrics)

    def describe(self) -> list[Metric]:
        """Return nothing: what there is is only known when it is collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every figure, of one moment."""
        at, stale_after_s = self._registry.now, self._registry.settings.stale_after_s
        store = self._registry.store
        with store.reading() as connection:
            snapshot = reader_of(store).present(connection, at, stale_after_s)
            sums = lifecycle_of(store, connection, snapshot, at)
            decided = self._decisions(connection)
            alarms_by_code = connection.execute(select(alarms.c.code, func.count()).group_by(alarms.c.code)).all()
            last = connection.scalar(select(decisions.c.at).order_by(decisions.c.id.desc()).limit(1))
        yield _statements(snapshot)
        yield from _capacity(sums)
        nodes = sum(pool.nodes_online for pool in snapshot.pools)
        yield GaugeMetricFamily(
            "petaseal_registry_nodes_online", "Certified nodes that were heard of a moment ago.", nodes
        )
        yield _decided(decided)
        family = GaugeMetricFamily("petaseal_registry_alarms", "Alarms.", labels=["code"])
        for code, count in alarms_by_code:
            family.add_metric([code], count)
        yield family
        if last is not None:
            text = "Seconds since the last submission, accepted or refused."
            since_s = (utc_ns(at) - utc_ns(last)) / 10**9
            yield GaugeMetricFamily("petaseal_registry_last_submission_seconds", text, since_s)

    def _decisions(self, connection: Connection) -> Counter[tuple[str, str, str]]:
        """Return how many decisions there are of each kind, outcome and code."""
        with self._lock:
            last, counts = self._decided
            key = (decisions.c.kind, decisions.c.decision, func.coalesce(decisions.c.code, ""))
            query = select(*key, func.count(), func.max(decisions.c.id)).where(decisions.c.id > last).group_by(*key)
            counts = counts.copy()
            for kind, decision, code, count, newest in connection.execute(query):
                counts[(kind, decision, code)] += count
                last = max(last, newest)
            self._decided = (last, counts)
        return counts


def _statements(snapshot: Snapshot) -> Metric:
    states = Counter(latest.state for latest in snapshot.latest_statements)
    accepted = sum(centre.statements for centre in snapshot.centre_states.values())
    # those that are not the latest of their chain: none of them is in the snapshot
    states["superseded"] = accepted - len(snapshot.latest_statements)
    family = GaugeMetricFamily("petaseal_registry_statements", "Accepted statements by state.", labels=["state"])
    for state in (*REACHED, *ENDED):
        family.add_metric([state], states[state])
    return family


def _capacity(sums: Lifecycle) -> Iterator[Metric]:
    """Yield the sum of each state: every device stands in one of them, simulated ones in none."""
    labels = ["state", "class", "precision"]
    for name in _RATES:
        text = f"Sum of {name} rates by state, class and precision, FLOP/s; precisions are never mixed."
        family = GaugeMetricFamily(f"petaseal_registry_{name}_flops", text, labels=labels)
        for line in sums.lines:
            family.add_metric([line.state, line.pool_class, line.precision], _flops(line.own, name))
        yield family


def _flops(rates: Rates, name: str) -> int:
    rate_mflop_s: int = getattr(rates, f"{name}_mflop_s")
    return rate_mflop_s * FLOP_PER_MFLOP


def _decided(decided: Counter[tuple[str, str, str]]) -> Metric:
    labels = ["kind", "decision", "code"]
    family = CounterMetricFamily("petaseal_registry_decisions", "Submissions that were decided.", labels=labels)
    for key, count in sorted(decided.items()):
        family.add_metric(list(key), count)
    return family
