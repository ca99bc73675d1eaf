"""A centre that was measured on simulated devices: signed records, samples, campaign, centre file and keys on disk.

The records come from the real measuring loop under simulated time; the other nodes are the first one's record with
identities of their own, signed anew, so that thousands are made quickly.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import Campaign, ExpectedNode, ExpectedPool, NodeClock, NodeRecord, Profile, digest, encode
from bench.record.campaign import windows
from bench.record.closing import Closing, Exchange, closing_of
from bench.record.folder import CLOSING
from bench.units import DAY_NS, utc_ns, utc_text
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.keys.files import load_private, new_key, public_path
from certify.keys.signers import PrivateKey, load_scheme, spki_text
from certify.policy import released
from certify.policy.centre import Centre
from certify.statement import issue
from certify.statement.summary import IssuedStatement
from certify.trust.dating import Attestations
from certify.trust.store import Anchor
from certify.verify import verifier as verify
from certify.verify.evidence import Evidence, VerifyRequest
from certify.verify.report import VerificationReport
from tests.bench.fleet import Simulated, simulate_node, workloads_in

CHALLENGE = "5eed" * 8
CENTRE_ID = "gz-test"
# Yesterday at 8:00 UTC: a measurement is stated within 30 days, by commands that take the time from the machine.
BEGIN_NS = (time.time_ns() // DAY_NS - 1) * DAY_NS + 8 * 3600 * 10**9
DAY = utc_text(BEGIN_NS)[:10]


@dataclass(frozen=True)
class Measured:
    """Where everything of a measured centre lies."""

    folder: Path
    key: Path
    centre: Path
    campaign: Path
    records: Path

    @classmethod
    def at(cls, folder: Path) -> Measured:
        """Return the centre that `measured` laid out in a folder."""
        return cls(
            folder,
            folder / "operator.pem",
            folder / "centre.yaml",
            folder / "campaign.dsse.json",
            folder / "records",
        )

    @property
    def public_key(self) -> Path:
        return public_path(self.key)

    def certify(self, out: Path | None = None, **changes: Any) -> IssuedStatement:
        """Make a statement as ``petaseal certify`` does."""
        request = issue.IssueRequest(
            records=self.records,
            centre=str(self.centre),
            policies=("guangzhou-2000p",),
            keys=(self.key,),
            campaign=self.campaign,
            out=out or self.folder / "out",
        )
        return issue.certify(issue.IssueRequest(**{**request.__dict__, **changes}))

    def verify(self, out: Path | None = None, **changes: Any) -> VerificationReport:
        """Verify the statement as ``petaseal verify`` does, at present."""
        out = out or self.folder / "out"
        request: dict[str, Any] = {
            "statement": out / "statement.dsse.json",
            "public_key": self.public_key,
            "records": out / "records.jsonl",
            "at_ns": time.time_ns(),
            "accept_simulated": True,
        }
        return verify.verify(verify_request(**{**request, **changes}))

    def close(self, campaign: Campaign, **changes: Any) -> None:
        """Lay what closes a campaign beside the records; nothing closes one that a node issued for itself."""
        (self.records / CLOSING).unlink(missing_ok=True)
        if not campaign.self_issued:
            (self.records / CLOSING).write_bytes(encode(replace(test_closing(campaign), **changes)) + b"\n")

    def record(self, index: int) -> Path:
        """Return the file of a node's record."""
        return self.records / f"{node_name(index)}.record.dsse.json"


def withdraw(patch: pytest.MonkeyPatch, sha256: str, why: str) -> None:
    """Mark a released table as withdrawn."""
    index = dict(released.index())
    index[sha256] = replace(index[sha256], withdrawn=why)
    patch.setattr(released, "index", lambda: index)


def verify_request(**given: Any) -> VerifyRequest:
    """Return a request of the fields of what it consists of: its files, their attestations and the anchor."""

    def part(of: type[Any]) -> dict[str, Any]:
        return {one.name: given.pop(one.name) for one in fields(of) if one.name in given}

    anchor, attestations = Anchor(**part(Anchor)), Attestations(**part(Attestations))
    return VerifyRequest(Evidence(**part(Evidence), attestations=attestations), anchor, **given)


def node_name(index: int) -> str:
    return f"gpu-{index:05d}"


def test_campaign(profile: Profile, precisions: tuple[str, ...], nodes: int) -> Campaign:
    """Return a centre's campaign of so many nodes, all in the pool ``main``."""
    measured = workloads_in(profile, precisions)
    return Campaign(
        campaign_id="2026-03",
        self_issued=False,
        purpose="capacity",
        centre_id=CENTRE_ID,
        centre_sha256=None,
        challenge=CHALLENGE,
        challenge_source="witness",
        profile=profile.profile,
        profile_sha256=digest(profile),
        policies={},
        issued_at=utc_text(BEGIN_NS - 3600 * 10**9),
        starts_from=utc_text(BEGIN_NS + 60 * 10**9),
        starts_until=utc_text(BEGIN_NS + 3600 * 10**9),
        ramp_ns=0,
        windows=windows(profile, measured),
        pools=(ExpectedPool(pool="main", workloads=tuple(map(str, measured))),),
        nodes=tuple(ExpectedNode(node_id=node_name(i), pool="main") for i in range(nodes)),
        left_out=(),
        series="2026-03",
        earlier=(),
    )


def test_closing(campaign: Campaign) -> Closing:
    """Return what closes a campaign whose nodes' clocks are all right, at the earliest start; no shape was settled."""
    t0_ns = utc_ns(campaign.starts_from)
    asked_ns, published_ns = t0_ns - 20 * 10**9, t0_ns - 15 * 10**9
    exchange = Exchange(asked_ns, asked_ns + 10**9 // 2, asked_ns + 2 * 10**9)
    clock = NodeClock(source="chrony", uncertainty_ns=1_000_000)
    exchanges = {node.node_id: exchange for node in campaign.nodes}
    return closing_of(digest(campaign), campaign.starts_from, utc_text(published_ns), clock, exchanges, ())


test_closing.__test__ = False  # type: ignore[attr-defined]
test_campaign.__test__ = False  # type: ignore[attr-defined]


def placed(campaign: Campaign, centre: Centre) -> Campaign:
    """Return a campaign with its nodes in the pools of a centre, each of which measures what the campaign measures."""
    names = tuple(str(window.workload) for window in campaign.windows)
    nodes = [(node, [pool.pool for pool in centre.pools_of(node.node_id)]) for node in campaign.nodes]
    return replace(
        campaign,
        pools=tuple(ExpectedPool(pool=one.pool, devices=one.devices, workloads=names) for one in centre.pools),
        nodes=tuple(replace(node, pool=pool, also=tuple(also)) for node, (pool, *also) in nodes),
    )


@cache
def simulated(devices: int, profile: str, precisions: tuple[str, ...]) -> Simulated:
    """Return one node's simulation, made once."""
    return simulate_node(
        {}, devices, profile, precisions, node_name(0), test_campaign(load_profile(profile), precisions, 1)
    )


def of_node(
    template: NodeRecord, index: int, campaign: Campaign, key: PrivateKey, campaign_sha256: str | None = None
) -> NodeRecord:
    """Return a record of another node of the campaign, with devices of its own.

    `campaign_sha256` spares the digest of a large campaign for each of its nodes.
    """
    devices = tuple(
        replace(
            device,
            uuid=f"gpu-{hashlib.sha256(f'{index}/{place}'.encode()).hexdigest()[:32]}",
            serial=f"{165_400_000_000 + index * 1024 + place}",
        )
        for place, device in enumerate(template.devices)
    )
    return replace(
        template,
        node_id=node_name(index),
        centre_id=campaign.centre_id,
        pool=next(iter(campaign.pools_of(node_name(index))), "main"),
        campaign_id=campaign.campaign_id,
        campaign_sha256=campaign_sha256 or digest(campaign),
        signer_spki=spki_text(key.public),
        devices=devices,
    )


def seal_record(record: NodeRecord, key: PrivateKey, samples: bytes) -> bytes:
    """Return a record's envelope."""
    payload = make_document("node-record", record, hashlib.sha256(samples).hexdigest())
    return dsse.seal(payload, PAYLOAD_TYPE, [key])


def centre_yaml(**changes: Any) -> dict[str, Any]:
    """Return the content of a centre file that declares everything that a policy asks for."""
    sha = "ab" * 32
    return {
        "centre_id": CENTRE_ID,
        "name": {"zh": "测试智算中心", "en": "Test centre"},
        "operator": "测试运营公司",
        "uscc": "91350100M000100Y43",
        "owner_type": "enterprise",
        "jurisdiction": "CN-440100",
        "district": "南沙",
        "tier": "cluster_zone",
        "lifecycle": "in_operation",
        "project_id": "P-2026-01",
        "park": {"name": "测试产业园", "evidence_sha256": sha},
        "facility": {"id": "B1", "definition": "一栋楼 one building", "evidence_sha256": sha},
        "domestic": True,
        "guide_year": None,
        "baseline": None,
        "baseline_date": None,
        "other_subsidies": [],
        "pools": [{"pool": "main", "class": "intelligent", "nodes": "all", "devices": "all"}],
        **changes,
    }


def measured(
    folder: Path,
    nodes: int = 2,
    devices: int = 2,
    profile: str = "standard",
    precisions: tuple[str, ...] = ("fp16", "fp64"),
    change: Callable[[int, NodeRecord], NodeRecord] = lambda index, record: record,
    campaigned: Callable[[Campaign], Campaign] = lambda campaign: campaign,
    **centre: Any,
) -> Measured:
    """Lay out a measured centre. `change` alters a record, and `campaigned` the campaign, before they are signed."""
    key_file = folder / "operator.pem"
    new_key(key_file, None)
    node_key = load_scheme("ed25519").generate()
    base = simulated(devices, profile, precisions)
    campaign = test_campaign(load_profile(profile), precisions, nodes)
    if "pools" in centre:
        campaign = placed(campaign, msgspec.convert(centre_yaml(**centre), Centre))
    campaign = campaigned(campaign)
    samples, campaign_sha256 = base.samples, digest(campaign)
    records = folder / "records"
    records.mkdir()
    for index in range(nodes):
        record = change(index, of_node(base.record, index, campaign, node_key, campaign_sha256))
        (records / f"{record.node_id}.record.dsse.json").write_bytes(seal_record(record, node_key, samples))
        (records / f"{record.node_id}.samples.csv.gz").write_bytes(samples)
    found = Measured.at(folder)
    found.close(campaign)
    sealed = dsse.seal(make_document("campaign", campaign), PAYLOAD_TYPE, [load_private(key_file)])
    (folder / "campaign.dsse.json").write_bytes(sealed)
    (folder / "centre.yaml").write_text(yaml.safe_dump(centre_yaml(**centre), allow_unicode=True))
    return found
