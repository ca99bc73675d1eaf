"""Whose keys an audit takes: those that the campaign enrols for its nodes, and what witnesses dated before a theft."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.errors import RefusedError
from bench.profile import load_profile
from bench.record import Campaign, Tool, digest
from bench.units import utc_ns, utc_text
from certify.audit import proof
from certify.audit.run import AuditReport, AuditRequest, audit
from certify.documents import dsse
from certify.documents.caps import CAPS
from certify.documents.kinds import PAYLOAD_TYPE, make_document, parse_payload
from certify.documents.statement import CapacityStatement
from certify.judge.scope import Scope
from certify.keys.files import load_private
from certify.keys.signers import PrivateKey, spki_text
from certify.policy.policies import load_policy
from certify.trust.dating import make_witness
from certify.trust.revocations import Revocation
from certify.trust.store import Anchor
from certify.trust.trusted_set import Delegation, TrustedKey, TrustRoot
from tests.bad_input.command import petaseal
from tests.certify.measured import (
    CENTRE_ID,
    Measured,
    measured,
    node_name,
    of_node,
    seal_record,
    simulated,
    test_campaign,
)
from tests.certify.signed import fingerprint, new_key, sha

AT_NS = 1_900_000_000_000_000_000
START, END = "2020-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))


@pytest.fixture
def policy(tmp_path: Path) -> str:
    """Return the file of a policy that demands enrolled keys, and two witnesses."""
    changed = {"policy": "enrolled", "node_keys": "enrolled", "witnesses": 2}
    file = tmp_path / "enrolled.yaml"
    file.write_text(yaml.safe_dump(msgspec.to_builtins(load_policy("guangzhou-2000p")) | changed, allow_unicode=True))
    return str(file)


def lay(folder: Path, enrolled: Sequence[PrivateKey | None], sealed_by: Sequence[PrivateKey], **more: Any) -> Measured:
    """Lay out a centre whose campaign enrols some keys, and whose records are sealed by others, uncertified."""
    (folder / "centre").mkdir()
    centre = measured(folder / "centre", len(enrolled), 1, "smoke", ("fp16",))
    campaign = test_campaign(load_profile("smoke"), ("fp16",), len(enrolled))
    named = [None if key is None else key.public.keyid for key in enrolled]
    nodes = tuple(replace(node, keyid=keyid) for node, keyid in zip(campaign.nodes, named, strict=True))
    write(centre, replace(campaign, nodes=nodes, **more), sealed_by)
    return centre


def write(centre: Measured, campaign: Campaign, sealed_by: Sequence[PrivateKey]) -> None:
    base = simulated(1, "smoke", ("fp16",))
    for index, key in enumerate(sealed_by):
        record = of_node(base.record, index, campaign, key)
        record = replace(record, campaign=campaign if campaign.self_issued else None)
        centre.record(index).write_bytes(seal_record(record, key, base.samples))
    centre.close(campaign)
    payload = make_document("campaign", campaign)
    centre.campaign.write_bytes(dsse.seal(payload, PAYLOAD_TYPE, [load_private(centre.key)]))


def audited(centre: Measured, *policies: str, **changes: Any) -> AuditReport:
    wanted: dict[str, Any] = {"anchor": Anchor(public_key=centre.public_key), "policies": policies}
    return audit(AuditRequest(centre.folder / "out", AT_NS, **{**wanted, **changes}, samples=centre.records))


def codes(report: AuditReport) -> set[str]:
    return {issue.code for issue in report.issues}


def certify_blindly(centre: Measured, *args: Any, **changes: Any) -> None:
    """Certify as a dishonest operator's own build does: it looks at no key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scope, "key_codes", lambda self, record: ())
        centre.certify(*args, **changes)


# Keys of nodes
def test_records_under_their_enrolled_keys(tmp_path: Path, policy: str) -> None:
    keys = [new_key(), new_key()]
    centre = lay(tmp_path, keys, keys)
    centre.certify(policies=(policy,))
    report = audited(centre, policy)
    assert [str(issue) for issue in report.issues] == []
    assert report.statement.classes[0].counted.devices == 2
    assert any("witnesses: the policy enrolled demands 2" in what for what in report.not_checked)


def test_a_record_under_another_key_than_the_enrolled_one(tmp_path: Path) -> None:
    """Whatever the policy: where the campaign names a key, no other one seals the record."""
    keys = [new_key(), new_key()]
    centre = lay(tmp_path, keys, [keys[0], new_key()])
    centre.certify()
    honest = audited(centre)  # the statement excludes the record too
    assert [str(issue) for issue in honest.issues] == []
    assert honest.statement.classes[0].counted.devices == 1
    assert not any("witnesses:" in what for what in honest.not_checked)
    certify_blindly(centre, centre.folder / "lie")
    shutil.rmtree(centre.folder / "out")
    (centre.folder / "lie").rename(centre.folder / "out")
    lie = audited(centre)
    assert {"codes-differ", "findings-differ", "sums-differ"} <= codes(lie)
    assert any("node-key-differs" in issue.what and node_name(1) in issue.where for issue in lie.issues)


@pytest.mark.parametrize("self_issued", [False, True])
def test_a_record_under_a_key_that_nobody_enrolled(tmp_path: Path, policy: str, self_issued: bool) -> None:
    """A campaign that a node issued for itself may name its own key: that enrols nobody."""
    key = new_key()
    more = {"self_issued": True, "centre_id": None} if self_issued else {}
    centre = lay(tmp_path, [key if self_issued else None], [key], **more)
    certify_blindly(centre, policies=(policy,), campaign=None if self_issued else centre.campaign)
    report = audited(centre, policy)
    assert {"codes-differ", "findings-differ", "sums-differ"} <= codes(report)
    assert any("node-key-not-enrolled" in issue.what for issue in report.issues)


def test_one_key_that_is_enrolled_for_two_nodes(tmp_path: Path, policy: str) -> None:
    keys = [new_key(), new_key()]
    centre = lay(tmp_path, keys, keys)
    centre.certify(policies=(policy,))
    file = centre.folder / "out" / "statement.dsse.json"
    payload = dsse.parse_envelope(file.read_bytes(), CAPS.statement_bytes).payload
    stated: CapacityStatement = parse_payload("capacity-statement", payload).predicate
    nodes = tuple(replace(node, keyid=keys[0].public.keyid) for node in stated.campaign.nodes)
    campaign = replace(stated.campaign, nodes=nodes)
    for lie, code in (
        (replace(stated, campaign=campaign), "campaign-differs"),
        (replace(stated, campaign=campaign, campaign_sha256=digest(campaign)), "campaign-invalid"),
    ):
        sealed = make_document("capacity-statement", lie, lie.records_root)
        file.write_bytes(dsse.seal(sealed, PAYLOAD_TYPE, [load_private(centre.key)]))
        found = codes(audited(centre, policy))
        assert {code, "campaign-invalid", "codes-differ"} <= found  # node 1 is under another key than now named


# Witnesses
def test_a_statement_under_a_revoked_key_that_a_witness_dated(tmp_path: Path) -> None:
    """The key was stolen after a witness saw the statement: ``run`` and ``check`` take it as ``verify`` does."""
    (tmp_path / "centre").mkdir()
    centre = measured(tmp_path / "centre", 2, 1, "smoke", ("fp16",))
    made = centre.certify()
    out, issued = centre.folder / "out", made.statement.issue.issued_at
    operator, witness = load_private(centre.key), new_key()
    trust = root_of(tmp_path, operator, witness, utc_text(utc_ns(issued) + 10**9))
    anchor = Anchor(trust=trust, fingerprint=fingerprint(trust))
    shown, file = tmp_path / "p.json", out / "statement.dsse.json"
    proof.write_proof(proof.make_proof(file, out / "records.jsonl", node_name(0)), shown)

    def answers(*named: Path) -> list[str | None]:
        at = utc_text(AT_NS)
        found: list[str | None] = []
        asks: tuple[Callable[[], bool], ...] = (
            lambda: audited(centre, anchor=anchor, witnesses=named).against == 0,
            lambda: proof.check_proof(shown, file, anchor, at, at, named).record.predicate.node_id == node_name(0),
        )
        for ask in asks:
            try:
                assert ask()
                found.append(None)
            except RefusedError as error:
                found.append(error.code)
        return found

    word = make_witness(
        made.statement,
        made.payload_sha256,
        "recomputed",
        ("records",),
        Tool(version="0.1.0", sha256=sha("tool")),
        witness,
        issued,
    )
    elsewhere, beside = tmp_path / "w.json", out / "witness-a.dsse.json"
    elsewhere.write_bytes(word)
    assert answers() == ["key-revoked"] * 2
    assert answers(elsewhere) == [None] * 2
    beside.write_bytes(b"{}")  # nobody vouched for what lies there
    assert answers() == ["key-revoked"] * 2
    beside.write_bytes(word)
    assert answers() == [None] * 2
    elsewhere.write_bytes(b"{}")  # what was named is looked at
    assert None not in answers(elsewhere)
    elsewhere.write_bytes(word)
    beside.unlink()
    given = ("--trust", trust, "--fingerprint", anchor.fingerprint, "--witness", elsewhere)
    assert petaseal("audit", out, *given, "--samples", centre.records).status == 0
    assert petaseal("audit", "check", shown, "--statement", file, *given, "--json").status == 0


def root_of(folder: Path, operator: PrivateKey, witness: PrivateKey, revoked_at: str) -> Path:
    """Sign a trust root in which the operator's key was revoked."""
    root = new_key()

    def ids(key: PrivateKey) -> tuple[str, ...]:
        return (key.public.keyid,)

    entries = {
        key.public.keyid: TrustedKey(scheme="ed25519", spki=spki_text(key.public), valid_from=START, valid_until=END)
        for key in (root, operator, witness)
    }
    roles = (
        Delegation(role="root", centre_ids=None, threshold=1, keys=ids(root)),
        Delegation(role="operator", centre_ids=(CENTRE_ID,), threshold=1, keys=ids(operator)),
        Delegation(role="witness", centre_ids=None, threshold=1, keys=ids(witness)),
    )
    gone = Revocation(keyid=operator.public.keyid, revoked_at=revoked_at, reason="stolen")
    value = TrustRoot(
        trust_id="cn-test", version=1, issued_at=START, expires_at=END, keys=entries, roles=roles, revocations=(gone,)
    )
    path = folder / "trust-root.json"
    path.write_bytes(dsse.seal(make_document("trust-root", value), PAYLOAD_TYPE, [root]))
    return path
