"""Metrics of a registry for Prometheus: capacity, pools and centres by state, decisions, alarms, trust, and itself.

Every label is of a closed list: no metric names a centre, a node or a device, however many there are.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, func, select
from sqlalchemy import text as sql

from bench.units import utc_ns
from certify.registry.api.cities import Lifecycle
from certify.registry.api.common import ENDED, REACHED, TRUST_STATES, Rates, State, TrustStatus
from certify.registry.base.registry import Registry
from certify.registry.state.cache import lifecycle_of, reader_of
from certify.registry.state.model import Snapshot
from certify.registry.state.traffic import Traffic
from certify.registry.storage.tables import alarms, decisions

FLOP_PER_MFLOP = 10**6
_RATES = ("certified", "sustained", "nominal")


class Metrics(Collector):
    """The figures of one registry, looked up when they are asked for. Decisions are only ever added: so are these."""

    def __init__(self, registry: Registry, traffic: Traffic) -> None:
        self._registry = registry
        self.traffic = traffic
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
        read_at = reader_of(store).read_at  # before this very question has it read anew
        with store.reading() as connection:
            snapshot = reader_of(store).present(connection, at, stale_after_s)
            sums = lifecycle_of(store, connection, snapshot, at)
            decided = self._decisions(connection)
            alarms_by_code = connection.execute(select(alarms.c.code, func.count()).group_by(alarms.c.code)).all()
            size_bytes = _database_bytes(connection)
            last = connection.scalar(select(decisions.c.at).order_by(decisions.c.id.desc()).limit(1))
        yield _statements(snapshot)
        yield from _capacity(sums)
        yield from _counts(snapshot)
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
            yield GaugeMetricFamily("petaseal_registry_last_submission_seconds", text, _seconds(at, last))
        yield from _trust(self._registry.trust_status(), at)
        yield from _itself(self._registry, size_bytes, _seconds(at, read_at or at))
        yield from self.traffic.collect()

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


def _counts(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield how many pools are in each state, and how many centres have come how far; simulated ones count nowhere."""
    pools = [pool.shown for one in snapshot.latest_statements if not one.in_no_sum for pool in one.pools]
    states = Counter(pool.state for pool in pools)
    family = GaugeMetricFamily("petaseal_registry_pools", "Pools of the newest statements by state.", labels=["state"])
    for state in (*REACHED, *ENDED):
        family.add_metric([state], states[state])
    yield family
    order = {state: index for index, state in enumerate((*ENDED, *REACHED))}
    furthest: dict[str, State] = {}
    for pool in pools:
        furthest[pool.centre_id] = max(pool.state, furthest.get(pool.centre_id, pool.state), key=order.__getitem__)
    reached = Counter(furthest.values())
    what = "Centres by the furthest state that a pool of theirs is in."
    family = GaugeMetricFamily("petaseal_registry_centres", what, labels=["state"])
    for state in (*REACHED, *ENDED):
        family.add_metric([state], reached[state])
    yield family
    nodes = sum(pool.nodes for pool in pools)
    yield GaugeMetricFamily("petaseal_registry_nodes", "Nodes of all pools; one of two pools counts in both.", nodes)


def _trust(trust: TrustStatus, at: str) -> Iterator[Metric]:
    """Yield how it stands with the trust root, and how long it stays so."""
    what = "1 where the registry accepts its trust root now, else 0."
    yield GaugeMetricFamily("petaseal_registry_trust_accepted", what, int(trust.state in ("good", "expiring")))
    what = "The state of the trust root: 1 for the one that it is in."
    family = GaugeMetricFamily("petaseal_registry_trust_state", what, labels=["state"])
    for state in TRUST_STATES:
        family.add_metric([state], int(state == trust.state))
    yield family
    if trust.expires_at is not None and trust.grace_until is not None:
        what = "Seconds until the newest accepted trust root expires; negative after that."
        yield GaugeMetricFamily("petaseal_registry_trust_expires_seconds", what, _seconds(trust.expires_at, at))
        what = "Seconds until nothing can be scheduled under the newest accepted trust root; negative after that."
        yield GaugeMetricFamily("petaseal_registry_trust_grace_seconds", what, _seconds(trust.grace_until, at))
    if (listed := trust.revocations) is not None:
        what = "Seconds until the newest accepted revocation list expires; negative after that."
        left = _seconds(listed.expires_at, at)
        yield GaugeMetricFamily("petaseal_registry_trust_revocations_expires_seconds", what, left)


def _itself(registry: Registry, database_bytes: int, snapshot_age_s: float) -> Iterator[Metric]:
    """Yield what the service needs and has: verifications, storage, and the age of what readers are shown."""
    running, waiting = registry.verifier.queue
    what = "Statements that are verified, and that wait for it."
    family = GaugeMetricFamily("petaseal_registry_verifications", what, labels=["state"])
    family.add_metric(["running"], running)
    family.add_metric(["waiting"], waiting)
    yield family
    yield GaugeMetricFamily("petaseal_registry_database_bytes", "Size of the database.", database_bytes)
    free_bytes = shutil.disk_usage(registry.place.root).free
    yield GaugeMetricFamily(
        "petaseal_registry_disk_free_bytes", "Free on the disk of the registry's folder.", free_bytes
    )
    what = "Seconds since the present state in memory was read from the database; it is read when something changed."
    yield GaugeMetricFamily("petaseal_registry_snapshot_age_seconds", what, snapshot_age_s)


def _database_bytes(connection: Connection) -> int:
    """Return the size of the database."""
    if connection.dialect.name == "sqlite":
        pages, size = (connection.execute(sql(f"PRAGMA {name}")).scalar_one() for name in ("page_count", "page_size"))
        return int(pages) * int(size)
    return int(connection.execute(sql("SELECT pg_database_size(current_database())")).scalar_one())


def _seconds(until: str, since: str) -> float:
    return (utc_ns(until) - utc_ns(since)) / 10**9
