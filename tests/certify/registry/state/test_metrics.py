"""What a registry says of itself to Prometheus, and the board and rules that read it."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from bench.units import utc_ns
from certify.registry.base.registry import Registry
from certify.registry.service.app import create_app
from certify.registry.state.traffic import BOUNDS_S
from tests.certify.registry import rows
from tests.certify.registry.rows import PoolOf, add_statement
from tests.certify.registry.within import Within

Figures = dict[tuple[str, ...], float]


def figures(client: Within) -> Figures:
    """Return every sample by its name and the values of its labels."""
    return {
        (one.name, *(f"{name}={one.labels[name]}" for name in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for one in family.samples
    }


def test_pools_centres_and_storage_are_counted(registry: Registry) -> None:
    registry = replace(registry, clock_ns=lambda: utc_ns(rows.T0) + 60 * 10**9)
    with registry.store.writing() as connection:
        add_statement(connection, "gz-1", [PoolOf(nodes=3), PoolOf(pool="hpc", pool_class="supercomputing")])
        rows.manage(connection, "gz-1")
        rows.beat(connection, "gz-1", rows.node_ids(PoolOf())[0], at=rows.T0)
        add_statement(connection, "gz-2", [PoolOf()])
        add_statement(connection, "gz-3", [PoolOf()], simulated=True)
    found = figures(Within(create_app(registry)))

    def of(name: str, **labels: str) -> float:
        return found[(f"petaseal_registry_{name}", *(f"{key}={value}" for key, value in labels.items()))]

    pools = {state: of("pools", state=state) for state in ("certified", "managed", "schedulable", "expired")}
    assert sum(pools.values()) == 3
    assert pools["schedulable"] >= 1
    assert (of("centres", state="schedulable"), of("centres", state="certified")) == (1, 1)
    assert of("nodes") == 3 + 1 + 1
    assert of("trust_accepted") == 1
    assert of("trust_expires_seconds") > 0
    assert of("database_bytes") > 10_000
    assert of("disk_free_bytes") > 0
    assert of("snapshot_age_seconds") == 0
    assert (of("verifications", state="running"), of("verifications", state="waiting")) == (0, 0)


def test_a_root_that_is_refused_is_seen(registry: Registry) -> None:
    registry.place.path(registry.settings.trust).write_bytes(b"{}")
    found = figures(Within(create_app(registry)))
    assert found[("petaseal_registry_trust_accepted",)] == 0
    assert found[("petaseal_registry_trust_state", "state=file-refused")] == 1
    # of the version that is followed meanwhile
    assert found[("petaseal_registry_trust_grace_seconds",)] > found[("petaseal_registry_trust_expires_seconds",)] > 0


def test_requests_are_counted_by_what_no_client_can_make_up(registry: Registry) -> None:
    client = Within(create_app(registry))
    for index in range(30):
        client.get(f"/v1/nothing-{index}")
        client.get(f"/v1/statements/{index:064x}")
        client.get(f"/zh/centres/nobody-{index}")
        client.request(f"BREW{index}", "/v1")
    for _ in range(3):
        client.get("/v1/cities")  # twice out of the response cache
    client.post("/v1/heartbeats", content=b"{}", headers={"content-type": "application/json"})
    found = figures(client)
    requests = {key[1:]: value for key, value in found.items() if key[0] == "petaseal_registry_requests_total"}
    assert requests == {
        ("method=GET", "route=none", "status=4xx"): 30,
        ("method=GET", "route=/v1/statements/{sha256}", "status=4xx"): 30,
        ("method=GET", "route=/zh/centres/{centre_id}", "status=4xx"): 30,
        ("method=other", "route=/v1", "status=4xx"): 30,
        ("method=GET", "route=/v1/cities", "status=2xx"): 3,
        ("method=POST", "route=/v1/heartbeats", "status=4xx"): 1,
    }
    assert [value for key, value in found.items() if key[0] == "petaseal_registry_beats_total"] == [0, 1]
    buckets = [
        value
        for key, value in found.items()
        if key[0] == "petaseal_registry_request_seconds_bucket" and "route=/v1/cities" in key
    ]
    assert len(buckets) == len(BOUNDS_S) + 1
    assert buckets[-1] == found["petaseal_registry_request_seconds_count", "method=GET", "route=/v1/cities"] == 3
    assert found["petaseal_registry_request_seconds_sum", "method=GET", "route=/v1/cities"] > 0
