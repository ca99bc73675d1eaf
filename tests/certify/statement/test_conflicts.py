"""One statement against others: every conflict, and beside it what looks like one and is none."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.errors import InputError, RefusedError
from bench.profile import load_profile
from bench.record import Tool, digest
from bench.record.identities import DeviceKeys
from bench.units import utc_ns, utc_text
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.documents.statement import CapacityStatement
from certify.keys.files import load_private, load_public
from certify.policy.reasons import effect_of
from certify.statement.claim import Claim, ClaimReader, DeviceIndex, Shown, _read_device_index, _show, read_claim
from certify.statement.conflicts import compare, conflicts
from certify.trust.dating import make_witness
from certify.trust.opening import Verifier
from certify.trust.revocations import Revocation, Withdrawal
from certify.trust.trusted_set import TrustedSet
from tests.certify.judged import basis_of, statement_of
from tests.certify.measured import CENTRE_ID, Measured, measured, of_node, simulated, test_campaign
from tests.certify.signed import new_key, sha

NOON = "2026-06-01T12:00:00.000000Z"  # of the answer
CARD, SLICE = DeviceKeys("cuda:0", ("card1",)), DeviceKeys("mig:0", ("slice1",), "card1")
SLICES = tuple(DeviceKeys(f"mig:{i}", (f"old{i}",), "card1") for i in range(7))
CUT_ANEW = tuple(DeviceKeys(f"mig:{i}", (f"new{i}",), "card1") for i in range(7))
MOVED = ("device-moved",)
OTHER_CARD = DeviceKeys("cuda:1", ("card2", "77777"))


@cache
def statement() -> CapacityStatement:
    """Return the statement of one simulated node."""
    base = simulated(1, "smoke", ("fp16",))
    campaign = test_campaign(load_profile("smoke"), ("fp16",), 1)
    return statement_of([of_node(base.record, 0, campaign, new_key())], basis_of(campaign, "smoke"))


@dataclass(frozen=True)
class Made:
    """A claim in a few words. Its campaign is its own unless it names another's."""

    number: int = 1
    before: str | None = None  # payload of the statement that it names as the one before
    supersedes: bool = True
    payload: str | None = None
    centre: str = "gz-centre"
    project: str | None = "P-1"
    issued: str = "2026-04-01T00:00:00.000000Z"
    until: str = "2026-10-01T00:00:00.000000Z"
    starts: str = "2026-03-01T00:00:00.000000Z"
    campaign: str | None = None
    challenge: str | None = None
    signers: tuple[str, ...] = ("key",)
    samples: str | None = None
    record: str | None = None
    devices: tuple[Any, ...] = (CARD,)
    pools: Any = "all"  # devices
    node: str = "node-1"
    read: bool = True

    @property
    def nodes(self) -> list[str]:
        """The nodes that have a record."""
        return [self.node if place == 0 else f"{self.node}-{place}" for place in range(len(self.signers))]

    def claim(self, name: str) -> Claim:
        """Return the claim; `name` makes whatever was not given its own."""
        base = statement()
        pools = (replace(base.centre.pools[0], devices=self.pools),)
        centre = replace(base.centre, centre_id=self.centre, project_id=self.project, pools=pools)
        campaign = replace(
            base.campaign,
            campaign_id=self.campaign or f"c-{name}",
            centre_id=self.centre,
            challenge=self.challenge or sha(f"challenge {name}"),
            pools=(replace(base.campaign.pools[0], devices=self.pools),),
            nodes=tuple(replace(base.campaign.nodes[0], node_id=node) for node in self.nodes),
        )
        named = None if self.before is None else sha(self.before)
        issue = replace(
            base.issue,
            sequence=self.number,
            previous_sha256=named,
            supersedes=(named,) if named and self.supersedes else (),
            issued_at=self.issued,
            valid_until=self.until,
        )
        changed = replace(
            base, centre=centre, campaign=campaign, campaign_sha256=digest(campaign), starts_at=self.starts, issue=issue
        )
        device_index = DeviceIndex(changed.places)
        for place, (node_id, signer) in enumerate(zip(self.nodes, self.signers, strict=True)):
            record = sha(self.record or f"record {name} {place}")
            devices = list(self.devices) if place == 0 else []
            device_index.see(Shown(record, sha(self.samples or f"samples {record}"), node_id, signer, devices))
        return Claim(name, changed, sha(self.payload or name), device_index if self.read else None)


# The second measurement of the same machines, in its own time; alone it is no conflict but for its number.
LATER: dict[str, Any] = {"starts": "2026-05-01T00:00:00.000000Z", "issued": "2026-05-02T00:00:00.000000Z"}
NEXT: dict[str, Any] = {"number": 2, "before": "mine", **LATER}
ELSEWHERE: dict[str, Any] = {"centre": "wh-centre", "signers": ("key2",)}
APART: dict[str, Any] = {
    **ELSEWHERE,
    **LATER,
    "issued": "2026-10-01T00:00:00.000000Z",
    "until": "2027-10-01T00:00:00.000000Z",
}
window_ns = statement().campaign.closes_ns - statement().campaign.windows[0].load_ns


def shifted(ns: int) -> str:
    """Return a start so long after that of `Made`."""
    return utc_text(1_772_323_200_000_000_000 + ns)


@dataclass(frozen=True)
class Case:
    mine: Made
    other: Made
    codes: tuple[str, ...]
    at: str = NOON


CASES = {
    # numbers
    "one number, two statements": Case(Made(), Made(**LATER, devices=()), ("sequence-forked",)),
    "the same statement": Case(Made(), Made(payload="mine"), ()),
    "one number in another project": Case(Made(), Made(project="P-2", **LATER, devices=(OTHER_CARD,)), ()),
    "one number in another centre": Case(Made(), Made(**ELSEWHERE, **LATER, devices=(OTHER_CARD,)), ()),
    "one number where nobody has a project": Case(
        Made(project=None), Made(project=None, **LATER, devices=()), ("sequence-forked",)
    ),
    "a fork is one at every time": Case(
        Made(), Made(**LATER | {"issued": "2026-09-01T00:00:00.000000Z"}, devices=()), ("sequence-forked",)
    ),
    "the successor of another one of this number": Case(
        Made(), Made(number=2, before="stranger", **LATER, devices=()), ("sequence-forked",)
    ),
    "superseded": Case(Made(), Made(**NEXT), ("superseded",)),
    "superseded only later": Case(Made(), Made(**NEXT), (), at="2026-05-01T23:59:59.999999Z"),
    "superseded from its issue on": Case(Made(), Made(**NEXT), ("superseded",), at=LATER["issued"]),
    "a successor that supersedes nothing, of other devices": Case(
        Made(), Made(**NEXT, supersedes=False, devices=(OTHER_CARD,)), ()
    ),
    "a successor that supersedes nothing": Case(Made(), Made(**NEXT, supersedes=False), ("device-claimed-twice",)),
    "another centre cannot supersede": Case(
        Made(), Made(number=2, before="mine", **ELSEWHERE, **LATER, devices=(OTHER_CARD,)), ()
    ),
    "another centre cannot supersede, nor claim the same": Case(
        Made(), Made(number=2, before="mine", **ELSEWHERE, **LATER), ("device-claimed-twice",)
    ),
    "the predecessor": Case(Made(number=2, before="other", **LATER), Made(), ()),
    "another predecessor than named": Case(
        Made(number=2, before="stranger", **LATER), Made(devices=()), ("predecessor-differs",)
    ),
    "a predecessor of another project": Case(
        Made(number=2, before="other", **LATER), Made(project="P-2", devices=()), ("predecessor-differs",)
    ),
    "a predecessor two numbers before": Case(
        Made(number=3, before="other", **LATER), Made(devices=()), ("predecessor-differs",)
    ),
    "a gap before": Case(Made(number=3, before="two", **LATER), Made(), ()),
    "a gap after, and the same devices": Case(Made(), Made(number=3, before="two", **LATER), ("device-claimed-twice",)),
    # campaigns
    "a challenge in two campaigns": Case(
        Made(challenge="ab" * 16),
        Made(challenge="ab" * 16, **ELSEWHERE, **LATER, devices=(OTHER_CARD,)),
        ("challenge-reused",),
    ),
    "one campaign, stated for two projects": Case(
        Made(campaign="c", challenge="ab" * 16, pools=("cuda:9",)),
        Made(campaign="c", challenge="ab" * 16, project="P-2", pools=("cuda:9",)),
        (),
    ),
    "one name, two campaigns": Case(
        Made(campaign="c"), Made(campaign="c", project="P-2", **LATER, devices=(OTHER_CARD,)), ("campaign-forked",)
    ),
    "one name in two centres": Case(
        Made(campaign="c"), Made(campaign="c", **ELSEWHERE, **LATER, devices=(OTHER_CARD,)), ()
    ),
    # devices
    "a device in two projects": Case(Made(), Made(project="P-2", **LATER), ("device-claimed-twice",)),
    "a device in two centres": Case(Made(), Made(**ELSEWHERE, **LATER), ("device-claimed-twice",)),
    "another device with one of its serial numbers": Case(
        Made(devices=(OTHER_CARD,)),
        Made(**ELSEWHERE, **LATER, devices=(DeviceKeys("cuda:9", ("77777",)),)),
        ("device-claimed-twice",),
    ),
    "a card that was seen before as the board of a part": Case(
        Made(devices=(DeviceKeys("mig:0", ("slice1",), "card1", "board1"),)),
        Made(**ELSEWHERE, **LATER, devices=(DeviceKeys("cuda:9", ("board1",)),)),
        ("device-claimed-twice",),
    ),
    "places that are alike": Case(
        Made(devices=(DeviceKeys("cuda:0", ("card1",), place="10000"),)),
        Made(**ELSEWHERE, **LATER, devices=(DeviceKeys("cuda:0", ("card3",), place="10000"),)),
        (),
    ),
    "a whole here and its slice there": Case(
        Made(), Made(project="P-2", **LATER, devices=(SLICE,)), ("device-claimed-twice",)
    ),
    "a slice here and its whole there": Case(
        Made(devices=(SLICE,)), Made(project="P-2", **LATER), ("device-claimed-twice",)
    ),
    "two slices of one whole": Case(
        Made(devices=(SLICE,)),
        Made(project="P-2", **LATER, devices=(DeviceKeys("mig:1", ("slice2",), "card1"),)),
        ("device-claimed-twice",),
    ),
    "a card cut anew": (
        Case(Made(devices=SLICES), Made(project="P-2", **LATER, devices=CUT_ANEW), ("device-claimed-twice",))
    ),
    "a card cut anew, and superseded": Case(Made(number=2, before="other", **LATER, devices=CUT_ANEW), Made(), ()),
    "a card cut anew after the validity": Case(
        Made(devices=SLICES), Made(**APART | {"centre": "gz-centre", "project": "P-2"}, devices=CUT_ANEW), ()
    ),
    "a card that moved and was cut anew": Case(Made(devices=SLICES), Made(**APART, devices=CUT_ANEW), MOVED),
    "slices that nobody claims": Case(
        Made(devices=SLICES), Made(project="P-2", **LATER, devices=CUT_ANEW, pools=("cuda:9",)), ()
    ),
    "slices of two cards": Case(
        Made(devices=SLICES), Made(project="P-2", **LATER, devices=(DeviceKeys("mig:0", ("x",), "card2"),)), ()
    ),
    "a device that is in no pool of the other": Case(Made(), Made(project="P-2", **LATER, pools=("cuda:9",)), ()),
    "a device that is in no pool of this one": Case(Made(pools=("cuda:9",)), Made(project="P-2", **LATER), ()),
    "validity that touches": Case(
        Made(), Made(project="P-2", **LATER | {"issued": "2026-10-01T00:00:00.000000Z"}), (), at="2026-11-01"
    ),
    "validity that overlaps by a microsecond": Case(
        Made(until="2026-10-01T00:00:00.000001Z"),
        Made(
            project="P-2", **LATER | {"issued": "2026-10-01T00:00:00.000000Z", "until": "2027-01-01T00:00:00.000000Z"}
        ),
        ("device-claimed-twice",),
        at="2026-11-01",
    ),
    "before the other was issued": Case(Made(), Made(project="P-2", **LATER), (), at="2026-05-01T23:59:59.999999Z"),
    "a device that moved": Case(Made(), Made(**APART), ("device-moved",)),
    "a device that stayed in its centre": Case(Made(), Made(**APART | {"centre": "gz-centre", "project": "P-2"}), ()),
    "windows that overlap by a microsecond": Case(
        Made(), Made(**APART | {"starts": shifted(window_ns - 1000)}), ("device-in-two-windows",)
    ),
    "windows that touch": Case(Made(), Made(**APART | {"starts": shifted(window_ns)}), ("device-moved",)),
    "windows in one, of other devices": Case(
        Made(), Made(**APART | {"starts": Made.starts}, devices=(OTHER_CARD,)), ()
    ),
    "in two windows, though superseded": Case(
        Made(number=2, before="other"), Made(), ("device-in-two-windows", "machine-in-two-windows")
    ),
    "one measurement, stated again": Case(
        Made(number=2, before="other", campaign="c", challenge="ab" * 16, record="r"),
        Made(campaign="c", challenge="ab" * 16, record="r"),
        (),
    ),
    # machines
    "a machine in two windows": Case(Made(), Made(project="P-2", devices=(OTHER_CARD,)), ("machine-in-two-windows",)),
    "a machine in two windows under two names, with its device": Case(
        Made(),
        Made(**ELSEWHERE | {"signers": ("key",)}, node="node-2"),
        ("device-in-two-windows", "device-claimed-twice", "machine-in-two-windows"),
    ),
    "two nodes of two centres under one key": Case(
        Made(), Made(**ELSEWHERE | {"signers": ("key",)}, devices=(OTHER_CARD,)), ("node-key-shared",)
    ),
    "two nodes of one centre under one key": Case(
        Made(), Made(project="P-2", node="node-2", devices=(OTHER_CARD,)), ("node-key-shared",)
    ),
    "a machine in another centre": Case(
        Made(), Made(**APART | {"signers": ("key",)}, devices=(OTHER_CARD,)), ("machine-moved",)
    ),
    "a machine under another name": Case(
        Made(), Made(project="P-2", **LATER, node="node-2", devices=(OTHER_CARD,)), ("machine-moved",)
    ),
    "a machine under its name": Case(Made(), Made(project="P-2", **LATER, devices=(OTHER_CARD,)), ()),
    "a key of several nodes is no machine": Case(
        Made(signers=("key", "key")),
        Made(**ELSEWHERE | {"signers": ("key",)}, devices=(OTHER_CARD,)),
        (),
    ),
    # samples
    "two records on the same samples": Case(
        Made(samples="s"), Made(samples="s", project="P-2", **LATER, devices=()), ("samples-reused",)
    ),
    "one record, and so the same samples": Case(
        Made(samples="s", record="r", campaign="c", challenge="ab" * 16),
        Made(samples="s", record="r", campaign="c", challenge="ab" * 16, project="P-2", devices=()),
        (),
    ),
    # without records only what is signed in the statement can be compared
    "without the other's records": Case(Made(), Made(**ELSEWHERE, read=False), ()),
    "without this one's records": Case(Made(read=False), Made(**ELSEWHERE), ()),
    "a fork without records": Case(Made(read=False), Made(read=False, **LATER), ("sequence-forked",)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_conflicts(case: Case) -> None:
    mine, other = case.mine.claim("mine"), case.other.claim("other")
    found = conflicts(mine, other, case.at)
    assert tuple(conflict.code for conflict in found) == case.codes
    assert all(conflict.effect in ("refuse", "note") and "other" in conflict.what for conflict in found)


@pytest.mark.parametrize("name", [name for name in CASES if "touch" in name or "overlap by" in name])
def test_intervals_are_compared_from_both_sides(name: str) -> None:
    case = CASES[name]
    found = conflicts(case.other.claim("other"), case.mine.claim("mine"), case.at)
    assert tuple(conflict.code for conflict in found) == case.codes


def test_every_conflict_has_a_case_and_an_effect() -> None:
    codes = {code for case in CASES.values() for code in case.codes}
    assert len(codes) == 12
    notes = {code for code in codes if effect_of(code) == "note"}
    assert notes == {"device-moved", "machine-moved", "node-key-shared"}


def test_a_fork_voids_both() -> None:
    one, two = Made(devices=()).claim("one"), Made(devices=(), **LATER).claim("two")
    assert (
        [c.code for c in conflicts(one, two, NOON)]
        == [c.code for c in conflicts(two, one, NOON)]
        == ["sequence-forked"]
    )


def test_devices_are_counted_once_and_the_first_is_named() -> None:
    devices = [DeviceKeys(f"cuda:{i}", (f"card{i}", f"9999{i}")) for i in range(8)]
    mine = Made(devices=tuple(devices)).claim("mine")
    other = Made(devices=tuple(devices[2:]), node="node-7", **ELSEWHERE, **LATER).claim("other")
    (found,) = conflicts(mine, other, NOON)
    assert "6 device(s), the first node-1/cuda:2 (there node-7/cuda:2)" in found.what


def test_a_chain_that_is_whole_replaces_through_what_is_between() -> None:
    one, two = Made().claim("one"), Made(number=2, before="one", **LATER).claim("two")
    third: dict[str, Any] = {"starts": "2026-05-20T00:00:00.000000Z", "issued": "2026-05-21T00:00:00.000000Z"}
    three = Made(number=3, before="two", **third).claim("three")
    chain = {claim.payload_sha256: claim for claim in (one, two, three)}
    assert [c.code for c in conflicts(one, three, NOON, chain)] == ["superseded"]
    assert conflicts(three, one, NOON, chain) == []
    loose = Made(number=2, before="one", supersedes=False, **LATER).claim("two")
    broken = {claim.payload_sha256: claim for claim in (one, loose, three)}
    assert [c.code for c in conflicts(three, one, NOON, broken)] == ["device-claimed-twice"]
    assert conflicts(three, one, NOON) == []  # number 2 is not here: `compare` says so


def test_statements_that_supersede_each_other_end() -> None:
    one = Made(number=5, before="two", payload="one").claim("one")
    two = Made(number=6, before="one", payload="two", **LATER).claim("two")
    assert "superseded" in [c.code for c in conflicts(one, two, NOON)]
    assert "superseded" not in [c.code for c in conflicts(two, one, NOON)]


# On disk
@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Return a centre with three statements: 1, a second one of number 1, and 2, which follows the first."""
    found = measured(tmp_path_factory.mktemp("centre"), nodes=3, profile="smoke", precisions=("fp16",))
    found.certify(found.folder / "one")
    found.certify(found.folder / "fork", valid_days=100)
    found.certify(found.folder / "two", sequence=2, previous=found.folder / "one" / "statement.dsse.json")
    return found


def trust_of(centre: Measured) -> TrustedSet:
    return TrustedSet.single(load_public(centre.public_key))


def claim_of(centre: Measured, name: str, at: str | None = None) -> Claim:
    return read_claim(centre.folder / name, Verifier(trust_of(centre), at or utc_text(time.time_ns())))


def test_a_claim_is_read_from_a_folder_or_a_file(centre: Measured) -> None:
    claim = claim_of(centre, "one")
    assert claim.device_index is not None
    assert len(claim.device_index.claimed) == 6
    assert len(claim.device_index.devices) == 12  # a uuid and a serial number each
    assert claim.device_index.shared_keys == 1
    assert claim.chain == (CENTRE_ID, "P-2026-01")
    again = claim_of(centre, "one/statement.dsse.json")
    assert (again.payload_sha256, again.device_index is None) == (claim.payload_sha256, False)


def test_a_reader_travels_to_workers(centre: Measured) -> None:
    reader = ClaimReader(centre.folder / "one" / "records.jsonl", Verifier(trust_of(centre), NOON), _show_any)
    assert pickle.loads(pickle.dumps(reader)) == reader


def _show_any(opened: Any) -> Shown:
    return _show(opened.predicate.campaign_sha256, opened.predicate.starts_at, opened)


def test_compare_on_disk(centre: Measured) -> None:
    now, trust = utc_text(time.time_ns()), trust_of(centre)
    one, two = centre.folder / "one", centre.folder / "two"
    found = compare(claim_of(centre, "one"), [two, one], Verifier(trust, now), accept_simulated=True)
    assert found.refusal is not None
    assert (found.refusal.code, found.refusal.where) == ("superseded", str(one))
    assert "number 2" in found.refusal.what
    assert any("statement(s) that were given" in what and "1 statement" in what for what in found.not_checked)
    found = compare(claim_of(centre, "two"), [one], Verifier(trust, now), accept_simulated=True)
    assert (found.refusal, found.notes, found.conflicts) == (None, (), ())
    assert [what for what in found.not_checked if "later statement" in what]
    assert not [what for what in found.not_checked if "not given" in what]
    found = compare(claim_of(centre, "two"), [centre.folder / "fork"], Verifier(trust, now), accept_simulated=True)
    assert found.refusal is not None
    assert found.refusal.code == "predecessor-differs"
    found = compare(claim_of(centre, "one"), [centre.folder / "fork"], Verifier(trust, now), accept_simulated=True)
    assert found.refusal is not None
    assert found.refusal.code == "sequence-forked"


def test_what_is_refused_itself_says_nothing(centre: Measured, tmp_path: Path) -> None:
    now, mine = utc_text(time.time_ns()), claim_of(centre, "one")
    outsider = TrustedSet.single(new_key().public)
    found = compare(mine, [centre.folder / "fork"], Verifier(outsider, now), accept_simulated=True)
    assert (found.refusal, found.conflicts) == (None, ())
    assert any("key-not-trusted" in what for what in found.not_checked)
    found = compare(mine, [centre.folder / "fork"], Verifier(trust_of(centre), now))
    assert found.refusal is None
    assert any("simulated" in what for what in found.not_checked)
    with pytest.raises(InputError) as refused:
        compare(mine, [tmp_path / "none"], Verifier(trust_of(centre), now))
    assert refused.value.code == "file-missing"


@pytest.mark.parametrize(
    ("damage", "why"),
    [("other", "records-root"), ("none", "not given"), ("torn", "json-invalid"), ("link", "not-regular-file")],
)
def test_bad_records_hide_no_fork(centre: Measured, tmp_path: Path, damage: str, why: str) -> None:
    shutil.copytree(centre.folder / "fork", tmp_path / "fork")
    records = tmp_path / "fork" / "records.jsonl"
    lines = records.read_bytes().splitlines(keepends=True)
    records.unlink()
    if damage == "other":
        records.write_bytes(lines[0])
    elif damage == "torn":
        records.write_bytes(b"".join(lines)[:-40])
    elif damage == "link":
        records.symlink_to(centre.folder / "one" / "records.jsonl")
    now, trust = utc_text(time.time_ns()), trust_of(centre)
    found = compare(claim_of(centre, "one"), [tmp_path / "fork"], Verifier(trust, now), accept_simulated=True)
    assert found.refusal is not None
    assert found.refusal.code == "sequence-forked"
    assert any("devices, machines and samples" in what and why in what for what in found.not_checked)


@pytest.mark.parametrize("change", [{"campaign_sha256": sha("another")}, {"starts_at": Made.starts}])
def test_records_of_another_measurement_claim_nothing(centre: Measured, tmp_path: Path, change: dict[str, str]) -> None:
    """Whoever copies another centre's records into his own list cannot void its statement with them."""
    stated = claim_of(centre, "one").statement
    copied = replace(stated, **change)
    line = (centre.folder / "one" / "records.jsonl").read_bytes()
    (tmp_path / "records.jsonl").write_bytes(line)
    with pytest.raises(RefusedError) as refused:
        _read_device_index(tmp_path / "records.jsonl", copied, Verifier(trust_of(centre), NOON))
    assert refused.value.code == "campaign-differs"


def test_records_are_read_wherever_they_lie(centre: Measured, tmp_path: Path) -> None:
    now, trust = utc_text(time.time_ns()), trust_of(centre)
    bare = tmp_path / "statement.dsse.json"
    shutil.copyfile(centre.folder / "fork" / bare.name, bare)
    for given in ([bare, centre.folder / "fork"], [centre.folder / "fork", bare]):
        found = compare(claim_of(centre, "one"), given, Verifier(trust, now), accept_simulated=True)
        assert [conflict.code for conflict in found.conflicts][:2] == ["sequence-forked", "device-claimed-twice"]
        assert not any("its records" in what for what in found.not_checked)


def test_a_statement_that_binds_another_campaign_than_it_holds(centre: Measured, tmp_path: Path) -> None:
    stated = replace(claim_of(centre, "one").statement, campaign_sha256=sha("another"))
    payload = make_document("capacity-statement", stated, stated.records_root)
    (tmp_path / "lie.json").write_bytes(dsse.seal(payload, PAYLOAD_TYPE, [load_private(centre.key)]))
    with pytest.raises(RefusedError) as refused:
        read_claim(tmp_path / "lie.json", Verifier(trust_of(centre), utc_text(time.time_ns())))
    assert refused.value.code == "campaign-differs"


# A statement that contradicts itself: what it would say against an honest one must not count.
CONTRADICTIONS: dict[str, tuple[Callable[[CapacityStatement], CapacityStatement], str]] = {
    "another centre": (lambda s: replace(s, centre_sha256=sha("another")), "campaign-differs"),
    "a campaign of another centre": (lambda s: with_campaign(s, centre_id="wh-centre"), "centre-differs"),
    "a spot check's campaign": (lambda s: with_campaign(s, purpose="spot-check"), "campaign-invalid"),
    "a campaign that names a node twice": (
        lambda s: with_campaign(s, nodes=(*s.campaign.nodes, s.campaign.nodes[0])),
        "campaign-invalid",
    ),
    "windows that were not over": (
        lambda s: replace(
            s,
            measured_from=s.starts_at,
            measured_until=s.starts_at,
            issue=replace(s.issue, issued_at=s.starts_at, valid_until=s.measured_until),
        ),
        "issued-before-measured",
    ),
    "measured after its issue": (lambda s: replace(s, measured_until=s.issue.valid_until), "times-reversed"),
    "valid for a century": (
        lambda s: replace(s, issue=replace(s.issue, valid_until="2126-01-01T00:00:00.000000Z")),
        "validity-too-long",
    ),
    "a first that names another": (
        lambda s: replace(s, issue=replace(s.issue, previous_sha256=sha("one"))),
        "sequence-invalid",
    ),
    "supersedes a stranger": (lambda s: replace(s, issue=replace(s.issue, supersedes=(sha("x"),))), "sequence-invalid"),
    "another root": (lambda s: s, "records-root"),
}


def with_campaign(statement: CapacityStatement, **changes: Any) -> CapacityStatement:
    campaign = replace(statement.campaign, **changes)
    return replace(statement, campaign=campaign, campaign_sha256=digest(campaign))


@pytest.mark.parametrize("how", CONTRADICTIONS)
def test_a_statement_that_contradicts_itself_voids_no_honest_one(centre: Measured, tmp_path: Path, how: str) -> None:
    change, code = CONTRADICTIONS[how]
    stated = change(claim_of(centre, "fork").statement)  # as it was it would be a fork
    root = sha("another") if how == "another root" else stated.records_root
    payload = make_document("capacity-statement", stated, root)
    evil = tmp_path / "evil.json"
    evil.write_bytes(dsse.seal(payload, PAYLOAD_TYPE, [load_private(centre.key)]))
    now, trust = utc_text(time.time_ns()), trust_of(centre)
    found = compare(claim_of(centre, "one"), [evil], Verifier(trust, now), accept_simulated=True)
    assert (found.refusal, found.conflicts) == (None, ())
    assert any("refused itself" in what and code in what for what in found.not_checked), found.not_checked


def test_a_statement_of_other_rules_still_claims(centre: Measured, tmp_path: Path) -> None:
    """Its figures are judged by nobody here; its number and its devices are its own all the same."""
    shutil.copytree(centre.folder / "fork", tmp_path / "fork")
    stated = replace(claim_of(centre, "fork").statement, rules="petaseal-rules/9")
    payload = make_document("capacity-statement", stated, stated.records_root)
    sealed = dsse.seal(payload, PAYLOAD_TYPE, [load_private(centre.key)])
    (tmp_path / "fork" / "statement.dsse.json").write_bytes(sealed)
    now, trust = utc_text(time.time_ns()), trust_of(centre)
    found = compare(claim_of(centre, "one"), [tmp_path / "fork"], Verifier(trust, now), accept_simulated=True)
    assert [conflict.code for conflict in found.conflicts][:2] == ["sequence-forked", "device-claimed-twice"]


def test_a_statement_under_a_revoked_key_that_a_witness_dated_still_claims(centre: Measured, tmp_path: Path) -> None:
    """Its key was stolen afterwards: the statement holds by itself, and so it claims its devices."""
    shutil.copytree(centre.folder / "fork", tmp_path / "fork")
    fork, now = claim_of(centre, "fork"), utc_text(time.time_ns())
    witness, stolen = new_key(), load_public(centre.public_key)
    gone = Revocation(keyid=stolen.keyid, revoked_at=utc_text(utc_ns(fork.issue.issued_at) + 10**9), reason="stolen")
    trust = dataclasses.replace(TrustedSet.single(stolen, [witness.public]), revoked={stolen.keyid: gone})
    with pytest.raises(RefusedError) as refused:
        read_claim(tmp_path / "fork", Verifier(trust, now))
    assert refused.value.code == "key-revoked"
    (tmp_path / "fork" / "witness-a.dsse.json").write_bytes(b"{}")  # passed over
    with pytest.raises(RefusedError):
        read_claim(tmp_path / "fork", Verifier(trust, now))
    for key, holds in ((new_key(), False), (witness, True)):  # a stranger's word is passed over as well
        tool = Tool(version="0.1.0", sha256=sha("tool"))
        dated_at = fork.issue.issued_at
        sealed = make_witness(fork.statement, fork.payload_sha256, "recomputed", ("records",), tool, key, dated_at)
        (tmp_path / "fork" / "witness-b.dsse.json").write_bytes(sealed)
        if holds:
            assert read_claim(tmp_path / "fork", Verifier(trust, now)).payload_sha256 == fork.payload_sha256
        else:
            with pytest.raises(RefusedError):
                read_claim(tmp_path / "fork", Verifier(trust, now))
    found = compare(claim_of(centre, "one"), [tmp_path / "fork"], Verifier(trust, now), accept_simulated=True)
    assert found.refusal is not None
    assert found.refusal.code == "sequence-forked"


def test_holes_in_the_numbers_are_said(centre: Measured) -> None:
    mine = claim_of(centre, "two")
    found = compare(mine, [], Verifier(trust_of(centre), NOON))
    assert any(what.startswith("number 1 of") for what in found.not_checked)
    far = replace(mine.statement, issue=replace(mine.statement.issue, sequence=2**53 - 1))
    found = compare(Claim("far", far, "0" * 64), [], Verifier(trust_of(centre), NOON))
    assert any(what.startswith(f"number 1 to {2**53 - 2} of") for what in found.not_checked)
    assert any("its records were not given" in what for what in found.not_checked)


def test_a_revoked_statement_claims_nothing(centre: Measured) -> None:
    fork = claim_of(centre, "fork")
    now = utc_text(time.time_ns())
    gone = Withdrawal(payload_sha256=fork.payload_sha256, revoked_at=fork.issue.issued_at, reason="issued twice")
    trust = dataclasses.replace(trust_of(centre), withdrawn={fork.payload_sha256: gone})
    found = compare(claim_of(centre, "one"), [centre.folder / "fork"], Verifier(trust, now), accept_simulated=True)
    assert found.refusal is None
    assert any("statement-revoked" in what for what in found.not_checked)
