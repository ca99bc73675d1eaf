"""A scheduler that reads only the feed of nodes picks those that it may use, and an oracle that reads only the signed
records, the centre files and what was done picks the same ones.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.profile import load_profile
from bench.record import NodeRecord
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, Heartbeat, make_document
from certify.keys.signers import spki_text
from certify.policy.ratings import installed_ratings
from certify.registry.api.common import ActAsk
from certify.registry.api.nodes import NodeLine
from certify.registry.base import tokens
from certify.registry.base.registry import Registry
from certify.registry.client.nodes import NodeFollower
from certify.registry.intake import presence, transitions
from certify.registry.service.app import create_app
from certify.registry.state.feed import PoolFilter
from certify.registry.state.feeds.node_feed import node_feed
from certify.registry.storage import tables
from tests.certify.kinds import at_rates, kind_of
from tests.certify.measured import Measured, node_name
from tests.certify.registry import laid
from tests.certify.registry.intake.test_ingest import PLATFORM, rows, submit_whole
from tests.certify.registry.laid import CENTRE, Laid, certified, lay_keys
from tests.certify.registry.within import Within

GIB, GB = 2**30, 10**9
OURS = ("wh-ascend", "gz-nvidia", "gz-small", "gz-free", "gz-silent")  # centres of one further operator
# driver's name, vendor, least memory that it reports, TFLOPS
KINDS = {
    "910B2": ("Ascend910B2", "Huawei", 64, 300),
    "910B4": ("Ascend910B4", "Huawei", 32, 250),
    "H20": ("NVIDIA H20", "NVIDIA", 96, 140),
}


@dataclass(frozen=True)
class Site:
    """A centre as it is laid out, and what is done there."""

    place: str
    kinds: tuple[str, ...]  # of its nodes, in order
    managed: bool = True
    silent: tuple[int, ...] = ()  # nodes that say nothing


# One key signs for all nodes of the further centres: two each, as it would else name one machine in two centres.
SITES = {
    CENTRE: Site("CN-440115", ("910B2", "910B4", "910B2"), silent=(2,)),  # mixed, one silent
    "wh-ascend": Site("CN-420100", ("910B2", "910B2")),
    "gz-nvidia": Site("CN-440100", ("H20", "H20")),
    "gz-small": Site("CN-440106", ("910B4", "910B4")),
    "gz-free": Site("CN-440100", ("910B2", "910B2"), managed=False),
    "gz-silent": Site("CN-440100", ("910B2", "910B2"), silent=(0, 1)),
}


def dressed(kind: str, record: NodeRecord) -> NodeRecord:
    """Return a record as an honest node with such devices gives it: it is not simulated."""
    name, vendor, memory_gb, tflops = KINDS[kind]
    rating = installed_ratings().match(vendor, name, memory_gb * GB)
    assert rating is not None
    rated = at_rates(record, {"fp16": tflops * 10**6}, load_profile("smoke"))
    return kind_of(rating, name).dress(rated)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys of an operator with several centres, beside the others."""
    for name, role in (("other", "operator"), ("other-node", "node")):
        monkeypatch.setitem(laid.PEOPLE, name, (role, (*OURS, laid.OTHER)))
    return lay_keys(tmp_path / "keys")


@pytest.fixture
def centres(tmp_path: Path, keys: Path) -> dict[str, Measured]:
    """Every site, measured and certified, with nodes whose numbers are nobody else's."""
    made = {}
    for at, (centre_id, site) in enumerate(SITES.items()):
        first = at * 10

        def change(number: int, record: NodeRecord, site: Site = site, first: int = first) -> NodeRecord:
            return dressed(site.kinds[number - first], record)

        folder = tmp_path / centre_id
        made[centre_id], _ = certified(
            folder, keys, centre_id, nodes=len(site.kinds), first=first, change=change, jurisdiction=site.place
        )
    return made


@pytest.fixture
def filled(registry: Registry, place: Laid, centres: dict[str, Measured]) -> Registry:
    """A registry in which all of that was done."""
    for at, (centre_id, site) in enumerate(SITES.items()):
        decided = submit_whole(registry, centres[centre_id], PLATFORM)
        assert decided.decision == "accepted", decided
        if site.managed:
            for act in ("register", "manage"):
                ask = ActAsk(act=act, centre_id=centre_id, project_id=f"P-{centre_id}", pool="main", reason="agreed")
                transitions.apply_transition(registry, ask, PLATFORM)
        for number in range(len(site.kinds)):
            if number not in site.silent:
                say(registry, place, centre_id, node_name(at * 10 + number))
    return registry


def say(registry: Registry, place: Laid, centre_id: str, node_id: str) -> None:
    """Send the heartbeat of a node."""
    key = place.key("node" if centre_id == CENTRE else "other-node")
    (devices,) = {row.devices_sha256 for row in rows(registry, tables.node_lines) if row.node_id == node_id}
    beat = Heartbeat(
        centre_id=centre_id,
        node_id=node_id,
        nonce=presence.nonce(registry, centre_id, node_id).nonce,
        sent_at=registry.now,
        devices_sha256=devices,
        signer_spki=spki_text(key.public),
    )
    assert presence.beat(registry, dsse.seal(make_document("heartbeat", beat), PAYLOAD_TYPE, [key])).online


def picked(lines: Iterable[NodeLine], least_memory_bytes: int = 64 * GB) -> set[tuple[str, str]]:
    """Return what a scheduler picks out of the lines of nodes: all that it needs stands in them."""
    return {
        (line.centre_id, line.node_id)
        for line in lines
        if line.city == "CN-440100"
        and line.state == "schedulable"
        and line.schedulable_mflop_s > 0
        and any(
            model.model.startswith("Ascend") and (model.memory_bytes or 0) >= least_memory_bytes
            for model in line.models
        )
    }


def judged_by_documents(
    centres: dict[str, Measured], late: frozenset[tuple[str, str]] = frozenset()
) -> set[tuple[str, str]]:
    """Return the same from the signed documents and from what was done; `late` are nodes that spoke later."""
    nodes = set()
    for at, (centre_id, site) in enumerate(SITES.items()):
        out = centres[centre_id].folder / "out"
        place = opened((out / "statement.dsse.json").read_bytes())["centre"]["jurisdiction"]
        for line in (out / "records.jsonl").read_bytes().splitlines():
            record = opened(line)
            number = int(record["node_id"].rpartition("-")[2]) - at * 10
            models = [record["models"][device["model"]] for device in record["devices"]]
            fits = all(one["vendor"] == "Huawei" and one["memory_bytes"] >= 64 * GB for one in models)
            node = centre_id, record["node_id"]
            heard = number not in site.silent or node in late
            if place.startswith("CN-4401") and fits and site.managed and heard:
                nodes.add(node)
    return nodes


def opened(envelope: bytes) -> Any:
    return json.loads(base64.b64decode(json.loads(envelope)["payload"]))["predicate"]


def test_the_feed_alone_picks_what_the_documents_say(
    filled: Registry, place: Laid, centres: dict[str, Measured]
) -> None:
    expected = judged_by_documents(centres)
    assert expected == {(CENTRE, "gpu-00000")}
    with filled.store.writing() as connection:
        _, secret = tokens.create_token(connection, "scheduler", "platform", None, filled.now, 1)
    client = Within(create_app(filled), secret=secret)
    everything = NodeFollower(lambda *, since: node_feed(filled.store, filled.now, 300, PoolFilter(), since))
    everything.poll()
    assert picked(everything.lines.values()) == expected
    # the registry's own filters leave the same
    asked = client.get("/v1/nodes?jurisdiction=CN-440100&vendor=Huawei&model=Ascend*&state=schedulable").json()
    assert {
        (one["centre_id"], one["node_id"]) for one in asked["items"] if one["models"][0]["memory_bytes"] >= 64 * GB
    } == expected
    late = frozenset([(CENTRE, "gpu-00002"), ("gz-silent", "gpu-00051")])
    for centre_id, node_id in late:
        say(filled, place, centre_id, node_id)
    changes = everything.poll()
    assert changes is not None
    assert {(one.centre_id, one.node_id) for one in changes.items} == late
    assert picked(everything.lines.values()) == judged_by_documents(centres, late) == expected | late
    # and its pools: which of them are worth asking about
    pools = client.get("/v1/capacity?jurisdiction=CN-440100&model=Ascend*&state=schedulable").json()["items"]
    assert {pool["centre_id"] for pool in pools} == {CENTRE, "gz-small", "gz-silent"}
