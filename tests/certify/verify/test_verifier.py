"""Every refusal of ``docs/verification.md``: a true statement is changed in one place, signed anew, and refused.

What is changed is signed by the operator's own key wherever the signature is not the point: an operator who lies.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.errors import InputError, RefusedError
from bench.record import NodeRecord, config_path
from bench.units import utc_ns, utc_text
from certify.documents import dsse
from certify.documents.caps import CAPS
from certify.documents.kinds import PAYLOAD_TYPE, make_document, parse_payload
from certify.documents.merkle import record_root
from certify.keys.files import load_private, new_key, public_path
from certify.keys.signers import PrivateKey, spki_text
from certify.policy.ratings import load_ratings
from certify.trust.revocations import Revocation
from certify.trust.trusted_set import Delegation, TrustedKey, TrustRoot
from certify.verify import verifier as verify
from certify.verify.describe import describe_report
from certify.verify.report import LEVELS, VerificationReport
from tests.bad_input.command import petaseal
from tests.certify import signed
from tests.certify.attacks import canonical
from tests.certify.attacks import field as put
from tests.certify.measured import CENTRE_ID, DAY, Measured, measured, withdraw

DAY_NS = 86_400 * 10**9
P = 10**9
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Return a certified centre of three nodes."""
    found = measured(tmp_path_factory.mktemp("centre"), nodes=3, profile="smoke")
    found.certify()
    return found


@pytest.fixture
def work(centre: Measured, tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the statement's folder, to be changed."""
    shutil.copytree(centre.folder / "out", tmp_path / "out")
    yield tmp_path / "out"
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"statement.dsse.json"}  # verify removes nothing


def payload_of(envelope: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(dsse.parse_envelope(envelope.read_bytes(), CAPS.statement_bytes).payload)
    return value


def edit(centre: Measured, out: Path, change: Edit, key: PrivateKey | None = None) -> None:
    """Change the statement's payload and sign it anew, by the operator if nobody else is named."""
    value = payload_of(out / "statement.dsse.json")
    change(value)
    sealed = dsse.seal(canonical(value), PAYLOAD_TYPE, [key or load_private(centre.key)])
    (out / "statement.dsse.json").write_bytes(sealed)


def code(report: VerificationReport) -> str | None:
    """Return the code of a refusal after checking that it is one printable line, and that nothing is granted."""
    if report.refusal is None:
        return None
    assert str(report.refusal).isprintable()
    assert len(str(report.refusal)) <= 500
    assert report.refused
    assert report.level is None
    value = report.as_json()
    assert (value["accepted"], value["code"], value["predicate"]) == (False, report.refusal.code, None)
    text = "\n".join(describe_report(report))
    assert text.startswith("REFUSED")
    assert report.refusal.code in text
    assert "ACCEPTED" not in text
    return report.refusal.code


def several(*changes: Edit) -> Edit:
    def change(value: dict[str, Any]) -> None:
        for one in changes:
            one(value)

    return change


def digest_of(value: Any) -> str:
    return signed.sha(canonical(value).decode())


def long_before(value: dict[str, Any]) -> None:
    """Put the measurement 31 days back, and with it the end of the validity."""
    stated, campaign = value["predicate"], value["predicate"]["campaign"]
    for of, name in (
        (stated, "starts_at"),
        (stated["issue"], "valid_until"),
        (campaign, "issued_at"),
        (campaign, "starts_from"),
        (campaign, "starts_until"),
    ):
        of[name] = utc_text(utc_ns(of[name]) - 31 * DAY_NS)


COLUMNS = ("node_id", "asked_ns", "answered_ns", "seen_ns")  # of a closing document


def rebound(change: Edit, name: str) -> Edit:
    """Return a change of the centre or campaign with all that binds it made right again: an operator who knows how."""

    def rebind(value: dict[str, Any]) -> None:
        change(value)
        of = value["predicate"]
        of[f"{name}_sha256"] = digest_of(of[name])
        if name == "campaign":
            closing, known = of["closing"], {node["node_id"] for node in of["campaign"]["nodes"]}
            kept = [place for place, node_id in enumerate(closing["node_id"]) if node_id in known]
            columns = {column: [closing[column][place] for place in kept] for column in COLUMNS}
            times = dict.fromkeys(("starts_at", "published_at"), of["starts_at"])
            of["closing"] = {**closing, **columns, **times, "campaign_sha256": of["campaign_sha256"]}

    return rebind


# Levels
def test_levels_rise_with_what_is_given(centre: Measured) -> None:
    steps: list[tuple[dict[str, Any], str]] = [
        ({"records": None}, "signature"),
        ({}, "recomputed"),
        ({"records": centre.records}, "recomputed"),
        ({"samples": centre.records}, "audited"),
    ]
    for given, level in steps:
        report = centre.verify(**given)
        assert code(report) is None
        assert (report.level, report.refused) == (level, False)
        assert any(what.startswith("cross-centre duplicates") for what in report.not_checked)
        assert any(what.startswith("trust") for what in report.not_checked)
        assert any(what.startswith("records") for what in report.not_checked) == (level == "signature")
        assert any(what.startswith("samples") for what in report.not_checked) == (level != "audited")
        text = "\n".join(describe_report(report))
        assert text.startswith(f"ACCEPTED: level {level}")
        assert all(f"NOT CHECKED: {what}" in text for what in report.not_checked)


@pytest.mark.parametrize(
    "given", [{"records": None}, {}, {"samples": True}], ids=["signature", "recomputed", "audited"]
)
@pytest.mark.parametrize("wanted", LEVELS)
def test_require_a_level_that_is_not_reached(centre: Measured, given: dict[str, Any], wanted: str) -> None:
    more = {"samples": centre.records} if given.get("samples") else given
    report = centre.verify(**more, require=(wanted,))
    assert report.level is not None
    reached = LEVELS.index(report.level) >= LEVELS.index(wanted) and wanted != "trusted"
    assert report.refused == (not reached)
    assert report.as_json()["accepted"] == reached
    assert report.as_json()["code"] == (None if reached else "requirement-unmet")
    if not reached:
        assert describe_report(report)[0].startswith("REQUIREMENT NOT MET")


def test_require_a_condition(centre: Measured) -> None:
    for condition in ("scale-2000p", "park", "guide"):  # not even `declared` is `met`
        report = centre.verify(require=(f"guangzhou-2000p/{condition}",))
        assert report.refused
        assert condition in report.unmet[0]
    with pytest.raises(InputError) as refused:
        centre.verify(require=("guangzhou-2000p/no-such",))
    assert refused.value.code == "unknown-name"


def test_require_all_of_several(centre: Measured) -> None:
    report = centre.verify(require=("recomputed", "audited", "guangzhou-2000p/park"))
    assert len(report.unmet) == 2


@pytest.mark.parametrize("given", [{"public_key": None}, {"trust": Path("root.json")}])
def test_exactly_one_of_trust_and_public_key(centre: Measured, given: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        centre.verify(**given)
    assert refused.value.code == "trust-missing"


def test_a_refusal_of_samples_reports_what_was_checked_before(centre: Measured, tmp_path: Path) -> None:
    report = centre.verify(samples=tmp_path)
    assert (code(report), report.refused) == ("samples-missing", True)
    assert report.checked[3:] == ["records", "run rules", "devices", "sums and verdicts"]
    assert (report.self_asserted, report.signers_of_records) == (3, 1)


def test_samples_need_records(centre: Measured) -> None:
    with pytest.raises(InputError) as refused:
        centre.verify(records=None, samples=centre.records)
    assert refused.value.code == "records-missing"


def test_the_key_beside_the_statement_is_never_taken(centre: Measured, work: Path, tmp_path: Path) -> None:
    thief = signed.new_key()
    edit(centre, work, lambda value: None, thief)
    (work / "statement.dsse.json.pub").write_bytes(centre.public_key.read_bytes())
    assert code(centre.verify(work)) == "key-not-trusted"


# Steps 1 to 9: the envelope and the payload; more in test_envelope_attacks.py
def test_step_1_caps(centre: Measured, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (work / "statement.dsse.json").stat().st_size
    monkeypatch.setattr(verify, "CAPS", replace(CAPS, statement_bytes=size))
    assert code(centre.verify(work)) is None
    monkeypatch.setattr(verify, "CAPS", replace(CAPS, statement_bytes=size - 1))
    with pytest.raises(InputError) as refused:
        centre.verify(work)
    assert refused.value.code == "file-too-large"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda content: content[:-2], "json-invalid"),
        (lambda content: b"\xef\xbb\xbf" + content, "json-invalid"),
        (lambda content: content.replace(b'{"payload"', b'{ "payload"'), "not-canonical"),
        (lambda content: content.replace(b'"payloadType"', b'"extra":1,"payloadType"'), "schema-invalid"),
        (lambda content: content.replace(b"=", b"", 1) if b"=" in content else content + b"\n", None),
        (lambda content: content.replace(PAYLOAD_TYPE.encode(), b"text/plain"), "signature-invalid"),
        (lambda content: content[:20] + (b"B" if content[20:21] == b"A" else b"A") + content[21:], "signature-invalid"),
    ],
)
def test_steps_2_to_6_the_envelope(
    centre: Measured, work: Path, change: Callable[[bytes], bytes], expected: str | None
) -> None:
    file = work / "statement.dsse.json"
    file.write_bytes(change(file.read_bytes()))
    found = code(centre.verify(work))
    assert found is not None
    assert expected in (None, found)


def test_step_6_payload_type_that_is_signed(centre: Measured, work: Path) -> None:
    payload = canonical(payload_of(work / "statement.dsse.json"))
    (work / "statement.dsse.json").write_bytes(dsse.seal(payload, "text/plain", [load_private(centre.key)]))
    assert code(centre.verify(work)) == "payload-type-wrong"


def test_step_8_another_document_of_the_same_operator(centre: Measured, work: Path) -> None:
    (work / "statement.dsse.json").write_bytes(centre.campaign.read_bytes())
    assert code(centre.verify(work)) == "predicate-type-wrong"


def better_step(value: dict[str, Any]) -> None:
    """Call the evidence better than it is, wherever it stands."""
    said = value["predicate"]
    for line in (*said["pools"], *said["classes"]):
        line["steps"][0]["step"] = "measured"
    for line in said["ceilings"]:
        line["step"] = "measured"


def decided(**changes: Any) -> Edit:
    """Return a lie: the demand is met, whatever the numbers beside it."""

    def change(value: dict[str, Any]) -> None:
        verdict = value["predicate"]["verdicts"][3]
        for one in (verdict, *verdict["bases"]):
            one.update(verdict="met", reason=None)
        verdict.update(changes)

    return change


STATED: dict[str, tuple[Edit, str | None]] = {
    # 7: the type
    "step 7 an unknown field": (lambda v: v["predicate"].update(extra=1), "schema-invalid"),
    "step 7 a field left out": (lambda v: v["predicate"].pop("findings"), "schema-invalid"),
    "step 7 bool for int": (put("records", True), "schema-invalid"),
    "step 7 negative": (put("classes.0.counted.devices", -1), "schema-invalid"),
    "step 7 2^53": (put("bookkeeping.certified_mflop_s", 2**53), "schema-invalid"),
    "step 7 hidden text": (put("centre.operator", "a\u200bb"), "text-forbidden-character"),
    "step 7 no verdicts": (put("verdicts", []), "schema-invalid"),
    "step 7 no policies": (put("policies", []), "schema-invalid"),
    "step 7 no records": (put("records", 0), "schema-invalid"),
    "step 8 subject": (lambda v: v["subject"][0].update(name="other.jsonl"), "subject-wrong"),
    "step 8 digest of another kind": (
        lambda v: v["subject"][0].update(digest={"sha256": v["predicate"]["records_root"]}),
        "subject-wrong",
    ),
    "rules of another version": (put("rules", "petaseal-rules/9.9"), None),
    # 10: times
    "step 10 valid for 400 days": (
        put("issue.valid_until", lambda text: utc_text(utc_ns(text) + 34 * DAY_NS)),
        "validity-too-long",
    ),
    "step 10 valid for one microsecond more": (
        put("issue.valid_until", lambda text: utc_text(utc_ns(text) + 1000)),
        "validity-too-long",
    ),
    "step 10 reversed": (put("issue.valid_until", "2026-01-01T00:00:00.000000Z"), "expired"),
    # 11: sequence
    "step 11 second without a first": (put("issue.sequence", 2), "sequence-invalid"),
    "step 11 first with one before": (put("issue.previous_sha256", "ab" * 32), "sequence-invalid"),
    "step 11 number 0": (put("issue.sequence", 0), "schema-invalid"),
    # 12: campaign, windows, centre
    "step 12 window edited": (
        put("campaign.windows.0.closes_ns", lambda n: n + 1),
        "campaign-differs",
    ),
    "step 12 window edited, digest too": (
        rebound(put("campaign.windows.0.closes_ns", 1), "campaign"),
        "window-invalid",
    ),
    "step 12 window longer than the profile's": (
        rebound(put("campaign.windows.1.closes_ns", lambda n: n + 1), "campaign"),
        "window-invalid",
    ),
    "step 12 windows not over at the issue": (
        several(
            rebound(put("campaign.windows.1.closes_ns", 86_400 * 10**9), "campaign"),
            put("issue.issued_at", f"{DAY}T23:00:00.000000Z"),  # at whatever hour this test runs
        ),
        "issued-before-measured",
    ),
    "step 12 a last window that puts off the age": (
        rebound(put("campaign.windows.1.closes_ns", 86_400 * 10**9 + 1), "campaign"),
        "window-invalid",
    ),
    "step 12 measured 31 days before": (rebound(long_before, "campaign"), "measurement-too-old"),
    "step 12 precision twice": (rebound(put("campaign.windows.1.precision", "fp16"), "campaign"), "window-invalid"),
    "step 12 node twice": (
        rebound(
            lambda v: v["predicate"]["campaign"]["nodes"].append(v["predicate"]["campaign"]["nodes"][0]), "campaign"
        ),
        "campaign-invalid",
    ),
    "step 12 issued before its campaign": (
        rebound(put("campaign.issued_at", "2099-01-01T00:00:00.000000Z"), "campaign"),
        "window-invalid",
    ),
    "step 12 started before it might": (put("starts_at", f"{DAY}T08:00:59.999999Z"), "window-invalid"),
    "step 12 started after it might": (put("starts_at", f"{DAY}T09:00:00.000001Z"), "window-invalid"),
    "step 12 another policy announced": (
        rebound(put("campaign.policies", {"guangzhou-2000p": "ab" * 32}), "campaign"),
        "policy-unknown",
    ),
    "step 12 verdicts of a policy that it does not name": (
        lambda v: v["predicate"]["verdicts"][0].update(policy="generous"),
        "verdict-differs",
    ),
    "step 12 another start": (
        lambda v: (
            v["predicate"].update(starts_at=f"{DAY}T08:01:01.000000Z"),
            v["predicate"]["closing"].update(starts_at=f"{DAY}T08:01:01.000000Z"),
        ),
        "start-differs",
    ),
    "step 12 closed at another start": (put("closing.starts_at", f"{DAY}T08:01:01.000000Z"), "closing-differs"),
    "step 12 closes another campaign": (put("closing.campaign_sha256", "ab" * 32), "closing-differs"),
    "step 12 start published after it": (put("closing.published_at", f"{DAY}T08:01:01.000000Z"), "closing-differs"),
    "step 12 closed with a node twice": (put("closing.node_id.1", "gpu-00000"), "closing-differs"),
    "step 7 columns of two lengths": (lambda v: v["predicate"]["closing"]["asked_ns"].pop(), "schema-invalid"),
    "step 12 another challenge": (rebound(put("campaign.challenge", "cd" * 16), "campaign"), "campaign-differs"),
    "step 12 a node left out": (
        rebound(lambda v: v["predicate"]["campaign"]["nodes"].pop(), "campaign"),
        "campaign-differs",
    ),
    "another centre": (put("centre.centre_id", "other"), "campaign-differs"),
    "another centre, digest too": (rebound(put("centre.centre_id", "other"), "centre"), "centre-differs"),
    "a centre with a wrong code": (rebound(put("centre.uscc", "91350100M000100Y44"), "centre"), "uscc-invalid"),
    "a centre without pools": (rebound(put("centre.pools", []), "centre"), "no-pools"),
    "measured after it was issued": (put("measured_until", "2099-01-01T00:00:00.000000Z"), "times-reversed"),
    "measured backwards": (put("measured_from", f"{DAY}T23:00:00.000000Z"), "times-reversed"),
    # 13: the records
    "step 13 root inside": (put("records_root", "ab" * 32), "records-root"),
    "step 13 root outside": (
        lambda v: v["subject"][0].update(digest={"rfc6962-sha256": "ab" * 32}),
        "records-root",
    ),
    "step 13 both roots": (
        several(put("records_root", "ab" * 32), lambda v: v["subject"][0].update(digest={"rfc6962-sha256": "ab" * 32})),
        "records-root",
    ),
    "step 13 one record more": (put("records", lambda n: n + 1), "records-count"),
    "step 13 one record less": (put("records", lambda n: n - 1), "records-count"),
    # 16: what follows from the records
    "step 16 ratings": (put("ratings_sha256", "ab" * 32), "ratings-unknown"),
    "step 16 policy altered": (put("policies.0.sha256", "ab" * 32), "policy-unknown"),
    "step 16 policy that nobody has": (put("policies.0.policy", "generous"), "policy-unknown"),
    "step 16 baseline claimed": (put("baseline_sha256", "ab" * 32), "baseline-differs"),
    "step 16 profile's name": (put("profile", "certification"), "statement-differs"),
    "step 16 profile's digest": (put("profile_sha256", "ab" * 32), "statement-differs"),
    "step 16 grade": (put("grade", "certification"), "statement-differs"),
    "step 16 nothing simulated": (put("simulated", False), "statement-differs"),
    "step 16 total one higher": (put("classes.0.counted.certified_mflop_s", lambda n: n + 1), "statement-differs"),
    "step 16 total one lower": (put("classes.0.counted.certified_mflop_s", lambda n: n - 1), "statement-differs"),
    "step 16 sum by step": (put("pools.0.steps.0.certified_mflop_s", lambda n: n - 1), "statement-differs"),
    "step 16 a better step": (put("classes.0.steps.0.step", "measured"), "statement-differs"),
    "step 16 sum under a limit": (put("ceilings.0.certified_mflop_s", lambda n: n + 1), "statement-differs"),
    "step 16 never scheduled": (put("pools.0.counted.never_scheduled_mflop_s", 1), "statement-differs"),
    "step 16 a better step everywhere": (better_step, "statement-differs"),
    "step 16 more with a witness than counts 0": (
        several(put("pools.0.with_witness.devices", 9), put("classes.0.with_witness.devices", 9)),
        "statement-differs",
    ),
    "step 16 a looser limit": (put("ceilings.0.least_mflop_s", lambda n: n + 1), "statement-differs"),
    "step 16 upper": (put("classes.0.counted.upper_mflop_s", None), "statement-differs"),
    "step 16 pool's total": (put("pools.0.counted.sustained_mflop_s", lambda n: n * 2), "statement-differs"),
    "step 16 bookkeeping": (put("bookkeeping.certified_mflop_s", lambda n: n + 1), "statement-differs"),
    "step 16 share": (put("bookkeeping.intelligent_share_ppm", 650_000), "statement-differs"),
    "step 16 untested devices hidden": (put("classes.0.untested.devices", lambda n: n + 1), "statement-differs"),
    "step 16 a missing node": (put("classes.0.nodes_missing", 1), "statement-differs"),
    "step 16 missing nodes of any size": (put("classes.0.missing_at_most_mflop_s", None), "statement-differs"),
    "step 16 a verdict's missing nodes": (put("verdicts.3.nodes_missing", 1), "statement-differs"),
    "step 16 what they could add": (put("verdicts.3.missing_at_most_mflop_s", 1), "statement-differs"),
    "step 16 no clock was compared": (put("closing", None), "statement-differs"),
    "step 16 a clock that differs": (put("closing.answered_ns.0", 5 * 10**9), "statement-differs"),
    "step 16 shown": (put("shown", []), "statement-differs"),
    "step 16 a finding dropped": (lambda v: v["predicate"]["findings"].pop(), "statement-differs"),
    "step 16 a finding made harmless": (put("findings.0.effect", "praise"), "statement-differs"),
    "step 16 not_counted longer": (
        lambda v: v["predicate"]["not_counted"].append(
            {"node_id": "x", "device": None, "workload": None, "codes": ["node-missing"]}
        ),
        "statement-differs",
    ),
    "step 16 inventory": (put("inventory.0.devices", lambda n: n + 1), "statement-differs"),
    "step 16 inventory's model": (put("inventory.0.model", "H100"), "statement-differs"),
    "step 16 verdict": (put("verdicts.3.verdict", "met"), "statement-differs"),
    "step 16 verdict without a demand": (decided(operator=None), "statement-differs"),
    "step 16 verdict without numbers": (decided(bases=[]), "statement-differs"),
    "step 16 verdict's reason": (put("verdicts.3.reason", None), "statement-differs"),
    "step 16 threshold": (put("verdicts.3.threshold_mflop_s", 1), "statement-differs"),
    "step 16 draft called in force": (put("verdicts.0.document_status", "in_force"), "statement-differs"),
    "step 16 a verdict dropped": (lambda v: v["predicate"]["verdicts"].pop(), "statement-differs"),
    "step 16 measured from": (put("measured_from", f"{DAY}T07:30:00.000000Z"), "statement-differs"),
    "step 16 a pool renamed": (rebound(put("centre.pools.0.pool", "other"), "centre"), "pool-differs"),
    "step 16 a pool of another class": (rebound(put("centre.pools.0.class", "edge"), "centre"), "statement-differs"),
    "step 16 declared afterwards": (rebound(put("centre.park.name", "another park"), "centre"), None),
}


@pytest.mark.parametrize("lie", STATED)
def test_a_statement_that_lies(centre: Measured, work: Path, lie: str) -> None:
    change, expected = STATED[lie]
    edit(centre, work, change)
    # None: what a centre declares does not follow from its records, and by other rules nothing is judged
    assert code(centre.verify(work)) == expected


SEEN_ALONE = (
    "step 16 total one higher",
    "step 16 total one lower",
    "step 16 sum by step",
    "step 16 a better step",
    "step 16 sum under a limit",
    "step 16 never scheduled",
    "step 16 more with a witness than counts 0",
    "step 16 missing nodes of any size",
)


@pytest.mark.parametrize("lie", [lie for lie in STATED if lie.startswith("step 16") and STATED[lie][1]])
def test_without_records_a_lie_about_them_is_not_seen_and_that_is_said(centre: Measured, work: Path, lie: str) -> None:
    edit(centre, work, STATED[lie][0])
    report = centre.verify(work, records=None)
    own = code(report) == "statement-differs"  # which does not fit its own parts
    assert own == (lie in SEEN_ALONE)
    assert own or code(report) in (None, "policy-unknown", "pool-differs", "baseline-differs")
    if report.refusal is None:
        assert report.level == "signature"
        assert "records, rules, sums and verdicts: give --records [records-not-given]" in report.not_checked


def test_a_shortened_list_of_what_does_not_count(tmp_path: Path) -> None:
    def wrong(index: int, record: NodeRecord) -> NodeRecord:
        first = record.measurements[0]
        first = msgspec.structs.replace(first, row_error_ppm=(None, *first.row_error_ppm[1:]))
        return msgspec.structs.replace(record, measurements=(first, *record.measurements[1:]))

    one = measured(tmp_path, nodes=1, profile="smoke", change=wrong)
    assert [entry.codes for entry in one.certify().statement.not_counted] == [("wrong-product",)]
    assert code(one.verify()) is None
    edit(one, tmp_path / "out", put("not_counted", []))
    assert code(one.verify()) == "statement-differs"


def test_the_difference_is_named(centre: Measured, work: Path) -> None:
    edit(centre, work, put("classes.0.counted.certified_mflop_s", 7))
    assert "classes[0].counted.certified_mflop_s is 7, computed " in str(centre.verify(work).refusal)


# 10: the time that is asked about
def test_step_10_a_statement_is_valid_from_its_issue_until_its_end(centre: Measured, work: Path) -> None:
    issued, until = (
        utc_ns(payload_of(work / "statement.dsse.json")["predicate"]["issue"][k]) for k in ("issued_at", "valid_until")
    )
    moments = [(issued - 1000, "not-yet-valid"), (issued, None), (until - 1000, None), (until, "expired")]
    for at_ns, expected in moments:
        assert code(centre.verify(work, at_ns=at_ns)) == expected


def test_a_simulated_statement_is_refused_unless_it_is_asked_for(centre: Measured) -> None:
    assert code(centre.verify(accept_simulated=False)) == "simulated"
    report = centre.verify()
    assert any("SIMULATED" in line for line in describe_report(report))
    assert any("SMOKE" in line for line in describe_report(report))


def test_an_altered_policy_under_an_official_name_is_no_input(centre: Measured, tmp_path: Path) -> None:
    text = config_path("policies", "guangzhou-2000p.yaml").read_text().replace("value: 2000", "value: 1")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError) as refused:
        centre.verify(policies=(str(tmp_path / "mine.yaml"),))
    assert refused.value.code == "policy-altered"


def test_a_policy_of_one_s_own_is_known_to_whom_it_is_given(centre: Measured, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    text = config_path("policies", "guangzhou-2000p.yaml").read_text()
    mine.write_text(text.replace("policy: guangzhou-2000p", "policy: mine"))
    centre.certify(tmp_path / "out", policies=(str(mine),))
    assert code(centre.verify(tmp_path / "out")) == "policy-unknown"
    assert code(centre.verify(tmp_path / "out", policies=(str(mine),))) is None
    mine.write_text(text.replace("policy: guangzhou-2000p", "policy: mine").replace("value: 2000", "value: 1999"))
    assert code(centre.verify(tmp_path / "out", policies=(str(mine),))) == "policy-unknown"


# 13: the records themselves
def lines(out: Path) -> list[bytes]:
    return (out / "records.jsonl").read_bytes().splitlines(keepends=True)


def twin(centre: Measured, **changes: Any) -> bytes:
    """Return the first record of the set, changed and sealed by a key of its own making."""
    key = signed.new_key()
    content = lines(centre.folder / "out")[0]
    opened = parse_payload("node-record", dsse.parse_envelope(content, CAPS.record_bytes).payload)
    record = msgspec.structs.replace(opened.predicate, signer_spki=spki_text(key.public), **changes)
    return dsse.seal(make_document("node-record", record, opened.subject_digest), PAYLOAD_TYPE, [key])


RECORDS: dict[str, tuple[Callable[[list[bytes], Measured], list[bytes]], str]] = {
    "dropped": (lambda found, _: found[1:], "records-count"),
    "doubled": (lambda found, _: [found[0], *found], "node-twice"),
    "reordered": (lambda found, _: [found[1], found[0], *found[2:]], "records-unsorted"),
    "reversed": (lambda found, _: found[::-1], "records-unsorted"),
    "edited by one byte": (
        lambda found, _: [found[0].replace(b"A", b"B", 1), *found[1:]],
        "",  # whichever check sees it first
    ),
    "signed anew by another": (lambda found, centre: [twin(centre), *found[1:]], ""),
    "of another node": (lambda found, centre: [*found, twin(centre, node_id="stranger")], "node-not-expected"),
    "of another campaign": (
        lambda found, centre: [twin(centre, campaign_sha256="0" * 64), *found[1:]],
        "campaign-differs",
    ),
    "one device in two nodes": (
        lambda found, centre: [*found[1:], twin(centre, node_id=absent(centre))],
        "",
    ),
}


def absent(centre: Measured) -> str:
    """Return the node of the last record: a second record of it."""
    payload = dsse.parse_envelope(lines(centre.folder / "out")[-1], CAPS.record_bytes).payload
    node: str = json.loads(payload)["predicate"]["node_id"]
    return node


@pytest.mark.parametrize("change", RECORDS)
def test_step_13_another_set_of_records(centre: Measured, work: Path, change: str) -> None:
    edited, expected = RECORDS[change]
    (work / "records.jsonl").write_bytes(b"".join(edited(lines(work), centre)))
    found = code(centre.verify(work))
    assert found is not None
    assert expected in ("", found)


def test_step_13_a_record_replaced_by_a_better_one_of_the_same_node(centre: Measured, work: Path) -> None:
    better = sorted([twin(centre, ended_at=f"{DAY}T23:00:00.000000Z"), *lines(work)[1:]], key=payload_digest)
    (work / "records.jsonl").write_bytes(b"".join(better))
    assert code(centre.verify(work)) == "records-root"


def payload_digest(content: bytes) -> str:
    return signed.sha(dsse.parse_envelope(content, CAPS.record_bytes).payload.decode())


def test_step_13_a_smaller_set_that_is_bound_again_says_which_nodes_are_missing(centre: Measured, work: Path) -> None:
    """An operator who drops a weak record and signs anew must leave the node's absence in the statement."""
    kept = lines(work)[1:]
    (work / "records.jsonl").write_bytes(b"".join(kept))
    root = record_root(map(payload_digest, kept))
    bound = several(
        put("records", 2), put("records_root", root), lambda v: v["subject"][0].update(digest={"rfc6962-sha256": root})
    )
    edit(centre, work, bound)
    assert code(centre.verify(work)) == "statement-differs"


def test_a_folder_of_records_is_as_good_as_the_list(centre: Measured, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    shutil.copytree(centre.records, folder)
    assert code(centre.verify(records=folder)) is None
    (folder / centre.record(0).name).unlink()
    assert code(centre.verify(records=folder)) == "records-count"


# Step 15 is a matter of the record set: two true records that hold one device
def test_step_15_one_device_in_two_nodes(tmp_path: Path) -> None:
    def same(index: int, record: NodeRecord) -> NodeRecord:
        device = msgspec.structs.replace(record.devices[0], serial="ABC" if index else " abc\n".strip())
        return msgspec.structs.replace(record, devices=(device, *record.devices[1:]))

    one = measured(tmp_path, nodes=2, profile="smoke", change=same)
    with pytest.raises(RefusedError) as refused:
        one.certify()
    assert refused.value.code == "duplicate-device"
    assert not (tmp_path / "out").exists()


# Trust
@dataclass
class People:
    """Keys on disk and the trust root that names them."""

    folder: Path
    operators: list[PrivateKey]
    roots: list[PrivateKey]
    node: PrivateKey | None = None

    def write(
        self,
        *,
        role: Any = "operator",
        centres: tuple[str, ...] | None = (CENTRE_ID,),
        threshold: int = 1,
        revoked: tuple[PrivateKey, ...] = (),
        operator_until: str = "2099-01-01T00:00:00.000000Z",
        expires_at: str = "2099-01-01T00:00:00.000000Z",
        signers: int = 2,
        more: tuple[Delegation, ...] = (),
        more_keys: tuple[PrivateKey, ...] = (),
        more_from: str | None = None,
        more_until: str | None = None,
        revocations: tuple[Revocation, ...] = (),
    ) -> Path:
        """Sign a trust root: two root keys must sign, and the operators hold `role`."""
        start, end = "2020-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"

        def entry(key: PrivateKey, until: str = end) -> TrustedKey:
            spki = spki_text(key.public)
            return TrustedKey(scheme="ed25519", spki=spki, valid_from=start, valid_until=until)

        def ids(keys: list[PrivateKey]) -> tuple[str, ...]:
            return tuple(key.public.keyid for key in keys)

        held = [
            Delegation(role="root", centre_ids=None, threshold=2, keys=ids(self.roots)),
            Delegation(role=role, centre_ids=centres, threshold=threshold, keys=ids(self.operators)),
        ]
        keys = {key.public.keyid: entry(key) for key in self.roots}
        for key in more_keys:
            validity = {"valid_from": more_from or start, "valid_until": more_until or end}
            keys[key.public.keyid] = msgspec.structs.replace(entry(key), **validity)
        keys |= {key.public.keyid: entry(key, operator_until) for key in self.operators}
        if self.node is not None:
            held.append(Delegation(role="node", centre_ids=(CENTRE_ID,), threshold=1, keys=ids([self.node])))
            keys[self.node.public.keyid] = entry(self.node)
        root = TrustRoot(
            trust_id="cn-test",
            version=1,
            issued_at=start,
            expires_at=expires_at,
            keys=keys,
            roles=(*held, *more),
            revocations=(
                *revocations,
                *(Revocation(keyid=key.public.keyid, revoked_at=start, reason="stolen") for key in revoked),
            ),
        )
        path = self.folder / "trust-root.json"
        path.write_bytes(dsse.seal(make_document("trust-root", root), PAYLOAD_TYPE, self.roots[:signers]))
        return path


@pytest.fixture
def people(centre: Measured, tmp_path: Path) -> People:
    return People(tmp_path, [load_private(centre.key), signed.new_key()], [signed.new_key(), signed.new_key()])


def trusted(centre: Measured, root: Path, **more: Any) -> VerificationReport:
    return centre.verify(**{"public_key": None, "trust": root, "fingerprint": signed.fingerprint(root), **more})


def test_a_trust_root_that_names_the_operator(centre: Measured, people: People) -> None:
    root = people.write()
    for given, level in (({"records": None}, "trusted"), ({}, "recomputed"), ({"samples": centre.records}, "audited")):
        report = trusted(centre, root, require=("trusted",), **given)
        assert code(report) is None
        assert (report.level, report.refused) == (level, False)
        assert "trust root" in report.checked
        assert not any(what.startswith("trust") for what in report.not_checked)
    assert report.self_asserted == 3  # records under keys that nobody enrolled
    assert any("self-asserted" in line for line in describe_report(report))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"role": "witness", "centres": None}, "role-not-allowed"),
        ({"role": "node"}, "role-not-allowed"),
        ({"centres": ("other",)}, "centre-not-allowed"),
        ({"threshold": 2}, "threshold-not-met"),
        ({"operator_until": "2020-01-02T00:00:00.000000Z"}, "key-expired"),
        ({"expires_at": "2020-01-02T00:00:00.000000Z"}, "trust-root-expired"),
        ({"signers": 1}, "trust-root-signatures"),
    ],
)
def test_steps_4_and_9_what_a_trust_root_does_not_allow(
    centre: Measured, people: People, how: dict[str, Any], expected: str
) -> None:
    assert code(trusted(centre, people.write(**how))) == expected


def test_step_9_a_threshold_of_two_needs_two_keys(centre: Measured, people: People, work: Path) -> None:
    root = people.write(threshold=2)
    payload = canonical(payload_of(work / "statement.dsse.json"))
    (work / "statement.dsse.json").write_bytes(dsse.seal(payload, PAYLOAD_TYPE, people.operators))
    given = {"statement": work / "statement.dsse.json"}
    report = trusted(centre, root, **given)
    assert code(report) is None
    assert len(report.signers) == 2


def test_step_10_a_revoked_key_is_refused_at_every_time(centre: Measured, people: People) -> None:
    assert code(trusted(centre, people.write(revoked=(people.operators[0],)))) == "key-revoked"
    assert code(trusted(centre, people.write(revoked=(people.operators[1],)))) is None


def test_step_5_a_key_that_the_root_does_not_name(centre: Measured, people: People) -> None:
    strangers = replace(people, operators=[signed.new_key()])
    assert code(trusted(centre, strangers.write())) == "key-not-trusted"


def test_step_5_another_public_key(centre: Measured, tmp_path: Path) -> None:
    new_key(tmp_path / "other.pem", None)
    assert code(centre.verify(public_key=public_path(tmp_path / "other.pem"))) == "key-not-trusted"


def test_a_private_key_is_no_public_key(centre: Measured) -> None:
    with pytest.raises(InputError):
        centre.verify(public_key=centre.key)


def test_every_code_of_the_table_is_known() -> None:
    from certify.policy.reasons import reasons

    assert {expected for _, expected in STATED.values() if expected} <= set(reasons())


# Rules of another version, and tables that were withdrawn
@pytest.mark.parametrize("records", [True, False])
def test_by_other_rules_a_statement_is_at_most_trusted(
    centre: Measured, people: People, work: Path, records: bool
) -> None:
    edit(centre, work, several(put("rules", "petaseal-rules/9.9"), put("classes.0.counted.certified_mflop_s", 7)))
    given: dict[str, Any] = {"samples": centre.records} if records else {"records": None}
    statement = {"out": work, "require": ("trusted",)}
    report = trusted(centre, people.write(), **statement, **given)
    assert (code(report), report.level, report.refused) == (None, "trusted", False)
    what = "follows the rules petaseal-rules/9.9, and this verifier petaseal-rules/0.2"
    assert report.as_json()["trusted_at_most"] == [{"code": "rules-differ", "what": what}]
    text = "\n".join(describe_report(report))
    assert f"NOT CHECKED: records, rules, sums and verdicts: {what} [rules-differ]" in text
    assert "NOT RECOMPUTED" in text
    assert not {"records", "run rules", "sums and verdicts"} & set(report.checked)
    assert trusted(centre, people.write(), **{**statement, "require": ("recomputed",)}, **given).unmet
    (unmet,) = centre.verify(work, require=("guangzhou-2000p/park",)).unmet
    assert unmet.endswith(what)


def test_by_other_rules_its_signature_validity_and_campaign_are_checked_all_the_same(
    centre: Measured, work: Path
) -> None:
    for change, expected in (
        (put("issue.sequence", 2), "sequence-invalid"),
        (put("issue.valid_until", "2026-01-01T00:00:00.000000Z"), "expired"),
        (rebound(put("campaign.windows.0.closes_ns", 1), "campaign"), "window-invalid"),
        (put("policies.0.sha256", "ab" * 32), "policy-unknown"),
    ):
        shutil.copyfile(centre.folder / "out" / "statement.dsse.json", work / "statement.dsse.json")
        edit(centre, work, several(put("rules", "petaseal-rules/9.9"), change))
        assert code(centre.verify(work)) == expected


@pytest.mark.parametrize(
    "bound",
    [
        lambda stated: stated["ratings_sha256"],
        lambda stated: stated["campaign"]["profile_sha256"],
        lambda stated: stated["policies"][0]["sha256"],
    ],
    ids=["ratings", "profile", "policy"],
)
def test_with_a_withdrawn_table_a_statement_is_at_most_trusted(
    centre: Measured, people: People, monkeypatch: pytest.MonkeyPatch, bound: Callable[[Any], str]
) -> None:
    sha256 = bound(payload_of(centre.folder / "out" / "statement.dsse.json")["predicate"])
    withdraw(monkeypatch, sha256, "its rating was a typing error")
    report = trusted(centre, people.write(), samples=centre.records)
    assert (code(report), report.level, report.refused) == (None, "trusted", False)
    (limit,) = report.as_json()["trusted_at_most"]
    assert limit["code"] == "table-withdrawn"
    assert limit["what"].endswith("of petaseal 0.2.0, which is withdrawn: its rating was a typing error")
    assert f"{limit['what']} [table-withdrawn]" in "\n".join(describe_report(report))
    with pytest.raises(RefusedError) as refused:
        centre.certify(people.folder / "again")
    assert refused.value.code == "table-withdrawn"
    assert not (people.folder / "again").exists()


def test_both_reasons_are_said(centre: Measured, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(centre, work, put("rules", "petaseal-rules/9.9"))
    withdraw(monkeypatch, payload_of(work / "statement.dsse.json")["predicate"]["ratings_sha256"], "a hole")
    assert [limit.code for limit in centre.verify(work).limits] == ["rules-differ", "table-withdrawn"]


def test_ratings_that_are_given(centre: Measured, work: Path, tmp_path: Path) -> None:
    """Whoever gives a table vouches for it: the simulated devices have no rating in either."""
    table = tmp_path / "ratings.yaml"
    table.write_text(config_path("accelerators.yaml").read_text().replace('fp16: "312"', 'fp16: "311"'))
    edit(centre, work, put("ratings_sha256", load_ratings(table).digest))
    assert code(centre.verify(work)) == "ratings-unknown"
    report = centre.verify(work, ratings=(str(table),))
    assert code(report) is None
    assert (
        "the table of ratings is none of petaseal's: you gave it, and what it says is yours to judge [table-given]"
        in report.not_checked
    )


def test_what_the_installed_tables_are_is_not_said(centre: Measured) -> None:
    report = centre.verify()
    assert (report.as_json()["tables"], report.as_json()["trusted_at_most"]) == ([], [])
    assert not any("earlier release" in line for line in describe_report(report))


# Profiles
def test_a_profile_that_the_verifier_does_not_have(tmp_path: Path) -> None:
    text = config_path("profiles", "smoke.yaml").read_text().replace("profile: smoke", "profile: mine")
    (tmp_path / "mine.yaml").write_text(text)
    one = measured(tmp_path, nodes=1, devices=1, profile=str(tmp_path / "mine.yaml"), precisions=("fp16",))
    with pytest.raises(RefusedError) as refused:
        one.certify()
    assert refused.value.code == "profile-unknown"
    one.certify(profile=str(tmp_path / "mine.yaml"))
    assert code(one.verify()) == "profile-unknown"
    assert code(one.verify(profiles=(str(tmp_path / "mine.yaml"),))) is None


def test_a_required_condition_needs_its_records(centre: Measured, work: Path) -> None:
    """Without records a verdict is only what the signer says, and no platform may rest on it."""
    met = several(put("verdicts.3.verdict", "met"), put("verdicts.3.reason", None))
    edit(centre, work, met)
    report = centre.verify(work, records=None, require=("guangzhou-2000p/scale-2000p",))
    assert report.refused
    assert "not recomputed" in report.unmet[0]


def test_the_steps_are_printed_in_the_order_in_which_they_are_done() -> None:
    answer = petaseal("verify", "--explain")
    assert answer.status == 0
    assert answer.out.splitlines() == verify.explain_steps()
    assert [int(line.split()[0]) for line in verify.explain_steps()] == [
        1,
        4,
        2,
        3,
        *range(5, 16),
        20,
        21,
        *range(16, 20),
    ]
