"""A campaign's folder as its nodes leave it: signed records of simulated devices, each node with a rate of its own."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import Campaign, NodeRecord, Precision, digest, encode
from bench.record.folder import Folder
from bench.record.roster import Roster, RosterNode, RosterPool
from bench.record.status import Launched, Published, Status
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, RECORD_SUFFIX, make_document, parse_payload
from certify.keys.files import load_private, new_key
from certify.keys.signers import PrivateKey, load_scheme
from certify.policy.policies import load_policy
from tests.bench.fleet import Simulated, simulate_node
from tests.certify.measured import Measured, centre_yaml, node_name, of_node, seal_record, test_campaign, test_closing

POLICY = "guangzhou-2000p"
PROFILE = "smoke"
COUNTED: Precision = "fp16"
DEVICES = 2
AT = "2026-03-01T08:00:00.000000Z"


@cache
def simulated(index: int) -> Simulated:
    """Return the simulation of a node, whose rate is no other's."""
    campaign = test_campaign(load_profile(PROFILE), (COUNTED,), 1)
    rate = {"rate_gflop_s": {COUNTED: 300_000 + 1_000 * index}}
    return simulate_node(rate, DEVICES, PROFILE, (COUNTED,), node_name(0), campaign)


@cache
def node_key() -> PrivateKey:
    """Return the key that all nodes sign with."""
    return load_scheme("ed25519").generate()


@cache
def campaign_of(nodes: int) -> Campaign:
    """Return a campaign of so many nodes."""
    campaign = test_campaign(load_profile(PROFILE), (COUNTED,), nodes)
    return replace(campaign, policies={POLICY: digest(load_policy(POLICY))})


def record_of(index: int, nodes: int, key: PrivateKey | None = None) -> NodeRecord:
    """Return a node's record."""
    return of_node(simulated(index).record, index, campaign_of(nodes), key or node_key())


@cache
def envelope_of(index: int, nodes: int) -> bytes:
    """Return a node's record, signed."""
    return sealed(record_of(index, nodes), index)


def sealed(record: NodeRecord, index: int, key: PrivateKey | None = None) -> bytes:
    """Return a record's envelope, which binds the samples of node `index`."""
    return seal_record(record, key or node_key(), simulated(index).samples)


def sealed_by_another(envelope: bytes) -> bytes:
    """Return the envelope of the same payload under a key that the record does not name."""
    payload = dsse.parse_envelope(envelope, 2**26).payload
    assert parse_payload("node-record", payload).predicate.signer_spki
    return dsse.seal(payload, PAYLOAD_TYPE, [load_scheme("ed25519").generate()])


class Laid(NamedTuple):
    """A campaign's folder, and the key that signed it."""

    folder: Folder
    key: Path
    nodes: int

    @property
    def centre(self) -> Measured:
        """The collected records as a centre to certify."""
        root = self.folder.root
        return Measured(root.parent, self.key, self.folder.centre, self.folder.campaign, self.folder.collected)

    def record_file(self, index: int) -> Path:
        """Return where a node's record lies."""
        return self.folder.records(node_name(index)) / f"{node_name(index)}{RECORD_SUFFIX}"

    def samples_file(self, index: int) -> Path:
        """Return where a node's samples lie."""
        return self.folder.records(node_name(index)) / f"{node_name(index)}.samples.csv.gz"

    def measure(self, *indices: int) -> None:
        """Lay the records and samples of some nodes where they write them."""
        for index in indices:
            self.record_file(index).parent.mkdir(parents=True, exist_ok=True)
            self.record_file(index).write_bytes(envelope_of(index, self.nodes))
            self.samples_file(index).write_bytes(simulated(index).samples)

    def tell(self, index: int, state: Any, *, ready: bool = False, **more: Any) -> None:
        """Write a node's status."""
        ready_at = AT if ready else None
        self.folder.write_status(Status(node_name(index), state, AT, AT, ready_at=ready_at, **more))

    def lose(self, *indices: int) -> None:
        """Say that the coordinator took nodes as lost."""
        lost = tuple(node_name(index) for index in indices)
        self.folder.write_launched(Launched("local", (), None, ("petaseal",), AT, AT, lost))


def lay(place: Path, nodes: int, measured: bool = True, started: bool = True, **changes: Any) -> Laid:
    """Lay out a campaign of so many nodes, with all their records.

    Args:
        place: an empty folder; the campaign's own is ``campaign`` in it.
        nodes: how many.
        measured: whether every node has left its record.
        started: whether T0 was published.
        changes: of the campaign, before it is signed: its records are then another campaign's.
    """
    key = place / "operator.pem"
    new_key(key, None)
    folder = Folder(place / "campaign")
    folder.root.mkdir()
    campaign = replace(campaign_of(nodes), **changes)
    payload = make_document("campaign", campaign)
    folder.campaign.write_bytes(dsse.seal(payload, PAYLOAD_TYPE, [load_private(key)]))
    folder.centre.write_text(yaml.safe_dump(centre_yaml(), allow_unicode=True))
    folder.roster_file.write_bytes(encode(roster_of(campaign)))
    laid = Laid(folder, key, nodes)
    if started:
        folder.publish(Published(campaign.starts_from, campaign.issued_at, nodes))
        folder.closing_file.write_bytes(encode(test_closing(campaign)) + b"\n")
    if measured:
        laid.measure(*range(nodes))
    return laid


def roster_of(campaign: Campaign) -> Roster:
    """Return the roster of a campaign in one pool: the engine calls its nodes n0, n1, ..."""
    return Roster(
        campaign_sha256=digest(campaign),
        salt="5a" * 16,
        nodes=tuple(RosterNode(node.node_id, f"n{i}", "main", None) for i, node in enumerate(campaign.nodes)),
        left_out=(),
        pools=(RosterPool("main", "intelligent", COUNTED, f"fake:{DEVICES}", None, None, DEVICES, 700_000),),
        targets=(),
        heartbeat_ns=5 * 10**9,
    )


def edit_json(path: Path, **changes: Any) -> None:
    """Change some fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))
