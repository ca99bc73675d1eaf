"""A registry's folder as its owner lays it out, with everybody's keys, and measured centres that submit to it.

All devices are simulated, so that the settings accept that. Centres share one simulation: one is laid out in
milliseconds.
"""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import ExpectedNode, NodeRecord, Precision, Tool, digest
from bench.units import DAY_NS, utc_ns, utc_text
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, Level, Role, Witness, make_document
from certify.keys.files import load_private, load_public, new_key, public_path
from certify.keys.signers import PrivateKey, load_scheme
from certify.policy.centre import Centre
from certify.registry.base.registry import FILE
from certify.statement.summary import IssuedStatement
from certify.trust import editing as trust_edit
from certify.trust.revocations import Revocations, RevokedRecords
from certify.trust.root import read_root
from certify.trust.store import Anchor, accept_files
from certify.trust.trusted_set import TrustRoot
from tests.certify.measured import (
    Measured,
    centre_yaml,
    node_name,
    of_node,
    placed,
    seal_record,
    simulated,
    test_campaign,
)

CENTRE = "gz-test"
OTHER = "wh-test"
SINCE = "2026-01-01T00:00:00.000000Z"
PEOPLE: dict[str, tuple[Role, tuple[str, ...]]] = {
    "root": ("root", ()),
    "operator": ("operator", (CENTRE,)),
    "other": ("operator", (OTHER,)),
    "witness": ("witness", ()),
    "node": ("node", (CENTRE,)),
    "other-node": ("node", (OTHER,)),
    "registry": ("registry", ()),
}


@dataclass(frozen=True)
class Laid:
    """A registry's folder, and the folder with everybody's keys, which no registry has."""

    root: Path
    keys: Path

    def file(self, name: str) -> Path:
        """Return the private key file of one of `PEOPLE`."""
        return self.keys / f"{name}.pem"

    def key(self, name: str) -> PrivateKey:
        """Return the private key of one of `PEOPLE`."""
        return load_private(self.file(name))

    def keyid(self, name: str) -> str:
        """Return the id of somebody's key."""
        return load_public(public_path(self.file(name))).keyid

    @property
    def trust(self) -> Path:
        """The trust root."""
        return self.root / "trust-root.json"

    @property
    def anchor(self) -> Anchor:
        """Where a verifier's trust begins who knows the same root."""
        return Anchor(trust=self.trust, fingerprint=read_root(self.trust.read_bytes()).fingerprint)

    def revocations(
        self,
        keyids: tuple[str, ...] = (),
        statements: tuple[str, ...] = (),
        at: str | None = None,
        records: Mapping[str, RevokedRecords] | None = None,
    ) -> bytes:
        """Return a signed revocation list, its first version; statements fall alone, and those of `records` with them.

        `records` is by payload digest.
        """
        named: dict[str, RevokedRecords | UnsetType] = {**dict.fromkeys(statements, UNSET), **(records or {})}
        root: TrustRoot = read_root(self.trust.read_bytes()).root
        now = utc_text(time.time_ns())
        valid = trust_edit.Validity(now, 30)
        listed: Revocations = trust_edit.listed(root, None, keyids, named, at or now, "stolen", valid)
        return trust_edit.sealed("revocations", listed, [self.key("root")])

    def new_root(self, root: TrustRoot) -> None:
        """Sign a further version of the trust root and lay it in the registry's folder."""
        self.trust.write_bytes(trust_edit.sealed("trust-root", root, [self.key("root")]))


def witness(
    place: Laid, payload_sha256: str, at: str | None = None, level: Level = "recomputed", version: str = "0.1.0"
) -> bytes:
    """Return a witness's document on a statement of `CENTRE`, by a tool of a version; now, unless a time is given."""
    said = Witness(
        centre_id=CENTRE,
        witnessed_at=at or utc_text(time.time_ns()),
        level=level,
        checks=("records",),
        tool=Tool(version=version, sha256="ab" * 32),
    )
    return dsse.seal(make_document("witness", said, payload_sha256), PAYLOAD_TYPE, [place.key("witness")])


def lay_keys(folder: Path) -> Path:
    """Make everybody's keys."""
    folder.mkdir()
    for name in PEOPLE:
        new_key(folder / f"{name}.pem", None)
    return folder


def lay_registry(root: Path, keys: Path, database: str = "sqlite", **settings: Any) -> Laid:
    """Lay out a registry's folder: settings, its own key, and a trust root that lists everybody.

    Args:
        root: the folder to make.
        keys: of `lay_keys`.
        database: as the settings name it.
        settings: further ones, or other values.
    """
    root.mkdir()
    laid = Laid(root, keys)
    own = root / "registry.pem"
    own.write_bytes(laid.file("registry").read_bytes())
    own.chmod(0o600)
    valid = trust_edit.Validity(SINCE, (time.time_ns() - utc_ns(SINCE)) // DAY_NS + 366)
    publics = {name: load_public(public_path(laid.file(name))) for name in PEOPLE}
    made = trust_edit.first("cn-test", [publics["root"]], 1, valid, valid)
    for name, (role, centres) in PEOPLE.items():
        if role != "root":
            made = trust_edit.with_key(made, publics[name], role, centres, None, valid)
    laid.new_root(made)
    accept_files((laid.trust,), utc_text(time.time_ns()), root / "state", laid.anchor.fingerprint)
    content = {
        "name": {"zh": "测试算力登记平台", "en": "Test registry"},
        "trust": laid.trust.name,
        "key": own.name,
        "database": database,
        "accept_simulated": True,
        **settings,
    }
    (root / FILE).write_text(yaml.safe_dump(content, allow_unicode=True))
    return laid


def lay_centre(
    folder: Path,
    keys: Path,
    centre_id: str = CENTRE,
    nodes: int = 1,
    devices: int = 1,
    first: int = 0,
    campaign_id: str = "2026-03",
    enrolled: bool = True,
    change: Callable[[int, NodeRecord], NodeRecord] = lambda index, record: record,
    signing: PrivateKey | None = None,
    profile: str = "smoke",
    precisions: tuple[Precision, ...] = ("fp16",),
    **centre: Any,
) -> Measured:
    """Lay out a measured centre as `tests.certify.measured` does, signed by the people of `lay_keys`.

    Args:
        folder: to make.
        keys: of `lay_keys`.
        centre_id: `CENTRE` or `OTHER`, whose operator signs.
        nodes: how many.
        devices: of each node.
        first: number of the first node, and so which devices they hold: equal numbers are equal devices.
        campaign_id: of its campaign, from which the challenge follows.
        enrolled: whether the key that signs the records is the one that the trust root lists.
        change: what becomes of each node's record before it is signed.
        signing: signs the records in place of the centre's node key.
        profile: by name.
        precisions: that all of its pools measure.
        centre: further values of the centre file, or other ones.
    """
    folder.mkdir()
    people = Laid(folder, keys)
    operator, node = ("operator", "node") if centre_id == CENTRE else ("other", "other-node")
    for name in (people.file(operator), public_path(people.file(operator))):
        copy = folder / name.name.replace(f"{operator}.pem", "operator.pem")
        copy.write_bytes(name.read_bytes())
        copy.chmod(0o600)
    base = simulated(devices, profile, precisions)
    numbers = range(first, first + nodes)
    campaign = replace(
        test_campaign(load_profile(profile), precisions, nodes),
        campaign_id=campaign_id,
        series=campaign_id,
        centre_id=centre_id,
        challenge=digest([centre_id, campaign_id])[:32],
        nodes=tuple(ExpectedNode(node_id=node_name(number), pool="main") for number in numbers),
    )
    told = {"project_id": f"P-{centre_id}", **centre}
    content = centre_yaml(centre_id=centre_id, **told)
    if "pools" in centre:
        campaign = placed(campaign, msgspec.convert(content, Centre))
    signing = signing or (people.key(node) if enrolled else load_scheme("ed25519").generate())
    template, campaign_sha256 = replace(base.record, challenge=campaign.challenge), digest(campaign)
    records = folder / "records"
    records.mkdir()
    for number in numbers:
        record = of_node(template, number, campaign, signing, campaign_sha256)
        record = change(number, record)
        # a further, empty member of the file: the same samples, and not the same bytes in two records
        samples = base.samples + gzip.compress(b"", mtime=zlib.crc32(f"{campaign.challenge}/{number}".encode()))
        (records / f"{record.node_id}.record.dsse.json").write_bytes(seal_record(record, signing, samples))
        (records / f"{record.node_id}.samples.csv.gz").write_bytes(samples)
    sealed = dsse.seal(make_document("campaign", campaign), PAYLOAD_TYPE, [people.key(operator)])
    (folder / "campaign.dsse.json").write_bytes(sealed)
    (folder / "centre.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    found = Measured.at(folder)
    found.close(campaign)
    return found


def certified(folder: Path, keys: Path, centre_id: str = CENTRE, **changes: Any) -> tuple[Measured, IssuedStatement]:
    """Lay out a centre and make its first statement, in ``out`` of its folder."""
    centre = lay_centre(folder, keys, centre_id, **changes)
    return centre, centre.certify()
