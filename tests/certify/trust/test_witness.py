"""Witnesses: who recomputed a statement, when, and what that is worth under a policy and after a theft."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from bench.errors import RefusedError
from bench.record import Tool
from bench.units import utc_ns, utc_text
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, Witness, make_document
from certify.keys.files import load_private, new_key, public_path
from certify.keys.signers import PrivateKey
from certify.policy.policies import load_policy
from certify.trust.dating import RECOMPUTED, Witnessed, make_witness, witnessed_before
from certify.trust.revocations import Revocation
from certify.trust.store import Anchor
from certify.trust.trusted_set import Delegation, TrustedSet
from certify.verify import verifier as verify
from certify.verify.describe import describe_report
from certify.verify.evidence import Evidence, VerifyRequest
from certify.verify.report import VerificationReport, steps_of
from tests.bad_input.command import petaseal
from tests.certify import signed
from tests.certify.exceptional import above_best_known, exceptional_policy
from tests.certify.measured import CENTRE_ID, Measured, measured
from tests.certify.verify.test_verifier import People, code

TOOL = Tool(version="0.1.0", sha256="ab" * 32)
SECOND_NS = 10**9


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("centre")
    policy = msgspec.to_builtins(load_policy("guangzhou-2000p")) | {"policy": "witnessed", "witnesses": 1}
    (folder / "witnessed.yaml").write_text(yaml.safe_dump(policy, allow_unicode=True))
    place = measured(folder, nodes=2, devices=1, precisions=("fp16",))
    place.certify(policies=(str(folder / "witnessed.yaml"),))
    new_key(folder / "witness.pem", None)
    return place


def checked(centre: Measured, **changes: Any) -> VerificationReport:
    """Verify under the policy that demands a witness."""
    return centre.verify(**{"policies": (str(centre.folder / "witnessed.yaml"),), **changes})


def witnessed(
    centre: Measured, path: Path, key: PrivateKey | None = None, subject: str | None = None, **changes: Any
) -> Path:
    """Write a witness document by hand, with anything changed."""
    report = checked(centre, demand_witnesses=False)
    assert report.statement is not None
    assert report.payload_sha256 is not None
    values: dict[str, Any] = {
        "centre_id": CENTRE_ID,
        "witnessed_at": utc_text(utc_ns(report.statement.issue.issued_at) + SECOND_NS),
        "level": "recomputed",
        "checks": ("signature", "records"),
        "tool": TOOL,
    }
    payload = make_document("witness", Witness(**{**values, **changes}), subject or report.payload_sha256)
    signing = key or load_private(centre.folder / "witness.pem")
    path.write_bytes(dsse.seal(payload, PAYLOAD_TYPE, [signing]))
    return path


def known(centre: Measured) -> dict[str, Any]:
    return {"witness_keys": (public_path(centre.folder / "witness.pem"),)}


def test_a_policy_demands_a_witness(centre: Measured, tmp_path: Path) -> None:
    assert code(checked(centre)) == "witness-missing"
    report = checked(centre, witnesses=(witnessed(centre, tmp_path / "w.json"),), **known(centre))
    assert code(report) is None
    (one,) = report.witnesses
    assert one.keyid == load_private(centre.folder / "witness.pem").public.keyid
    assert any(line.startswith("witnessed by ") for line in describe_report(report))
    assert report.as_json()["witnesses"][0]["keyid"] == one.keyid


def test_what_needs_a_witness_counts_with_one(tmp_path: Path) -> None:
    place = measured(tmp_path, nodes=2, devices=1, precisions=("fp16",), change=above_best_known)
    policies = (exceptional_policy(tmp_path),)
    made = place.certify(policies=policies)
    (line,) = made.statement.classes
    assert (line.counted.devices, line.with_witness.devices, line.untested.devices) == (0, 2, 2)
    assert line.with_witness.certified_mflop_s > 0
    said = "without a witness: 599.9"
    assert any("counts nothing " + said in text for text in made.lines())
    alone = place.verify(policies=policies)
    assert code(alone) is None
    assert any("counts nothing " + said in text for text in describe_report(alone))
    (told,) = alone.as_json()["with_witness"]
    assert (told["devices"], told["counts"]) == (2, False)
    assert told["certified_mflop_s"] == line.with_witness.certified_mflop_s
    new_key(tmp_path / "witness.pem", None)
    document = make_witness(
        made.statement,
        alone.payload_sha256 or "",
        "recomputed",
        ("records",),
        TOOL,
        load_private(tmp_path / "witness.pem"),
        utc_text(utc_ns(made.statement.issue.issued_at) + SECOND_NS),
    )
    (tmp_path / "witness.dsse.json").write_bytes(document)
    keys = (public_path(tmp_path / "witness.pem"),)
    report = place.verify(policies=policies, witnesses=(tmp_path / "witness.dsse.json",), witness_keys=keys)
    assert code(report) is None
    assert any("counts with the witness: +599.9" in text for text in describe_report(report))
    assert report.as_json()["with_witness"] == [{**told, "counts": True}]


def test_one_witness_twice_is_one(centre: Measured, tmp_path: Path) -> None:
    policy = msgspec.to_builtins(load_policy("guangzhou-2000p")) | {"policy": "two", "witnesses": 2}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(policy, allow_unicode=True))
    out = tmp_path / "out"
    centre.certify(out=out, policies=(str(tmp_path / "two.yaml"),))
    report = centre.verify(out, policies=(str(tmp_path / "two.yaml"),), demand_witnesses=False)
    assert report.payload_sha256 is not None
    first = witnessed(centre, tmp_path / "a.json", subject=report.payload_sha256)
    again = witnessed(centre, tmp_path / "b.json", subject=report.payload_sha256, checks=("totals",))
    new_key(tmp_path / "second.pem", None)
    second = load_private(tmp_path / "second.pem")
    other = witnessed(centre, tmp_path / "c.json", second, report.payload_sha256)
    keys = (*known(centre)["witness_keys"], public_path(tmp_path / "second.pem"))

    def answer(*files: Path) -> str | None:
        given: Any = {"policies": (str(tmp_path / "two.yaml"),), "witnesses": files, "witness_keys": keys}
        return code(centre.verify(out, **given))

    assert answer(first) == "witness-missing"
    assert answer(first, again) == "witness-missing"
    assert answer(first, first) == "witness-missing"
    assert answer(first, other) is None


Forge = Callable[[Measured, Path], dict[str, Any]]


def by(**changes: Any) -> Forge:
    return lambda centre, path: {"witnesses": (witnessed(centre, path, **changes),), **known(centre)}


FORGED: dict[str, tuple[Forge, str]] = {
    "of another statement": (by(subject="ab" * 32), "witness-differs"),
    "of another centre": (by(centre_id="elsewhere"), "witness-differs"),
    "who looked at the signature only": (by(level="signature"), "witness-level"),
    "before the statement was issued": (by(witnessed_at="2026-01-01T00:00:00.000000Z"), "witness-time"),
    "from the future": (by(witnessed_at="2999-01-01T00:00:00.000000Z"), "witness-time"),
    "by nobody who is known": (by(key=signed.new_key()), "key-not-trusted"),
    "without a key to know him by": (
        lambda centre, path: {"witnesses": (witnessed(centre, path),)},
        "key-not-trusted",
    ),
    "by the operator itself": (
        lambda centre, path: {"witnesses": (witnessed(centre, path, load_private(centre.key)),), **known(centre)},
        "role-not-allowed",
    ),
    "by the operator, named as a witness too": (
        lambda centre, path: {
            "witnesses": (witnessed(centre, path, load_private(centre.key)),),
            "witness_keys": (centre.public_key,),
        },
        "key-two-roles",
    ),
    "the statement itself": (
        lambda centre, path: {"witnesses": (centre.folder / "out" / "statement.dsse.json",), **known(centre)},
        "predicate-type-wrong",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_witness_document_that_is_refused(centre: Measured, tmp_path: Path, name: str) -> None:
    how, expected = FORGED[name]
    assert code(checked(centre, **how(centre, tmp_path / "w.json"))) == expected


def test_a_document_is_made_only_of_what_was_recomputed(centre: Measured) -> None:
    report = checked(centre, demand_witnesses=False, records=None)
    assert report.statement is not None
    with pytest.raises(RefusedError, match="witness-level"):
        make_witness(report.statement, "ab" * 32, report.level, ("signature",), TOOL, signed.new_key(), signed.NOW)
    assert "signature" not in RECOMPUTED


# --- under a trust root: the operator's key was stolen ---


@pytest.fixture
def people(centre: Measured, tmp_path: Path) -> People:
    return People(tmp_path, [load_private(centre.key)], [signed.new_key(), signed.new_key()])


def root_with(centre: Measured, people: People, stolen_from: str, witness_revoked_from: str | None = None) -> Path:
    """Write a root that names a witness and revokes the operator's key from a time on."""
    witness = load_private(centre.folder / "witness.pem")
    gone = [Revocation(keyid=people.operators[0].public.keyid, revoked_at=stolen_from, reason="stolen")]
    if witness_revoked_from is not None:
        gone.append(Revocation(keyid=witness.public.keyid, revoked_at=witness_revoked_from, reason="stolen"))
    return people.write(
        more=(Delegation(role="witness", centre_ids=None, threshold=1, keys=(witness.public.keyid,)),),
        more_keys=(witness,),
        revocations=tuple(gone),
    )


@pytest.mark.parametrize(
    ("after_ns", "with_witness", "expected"),
    [
        (60 * SECOND_NS, True, None),  # witnessed a second after the issue, stolen a minute after it
        (60 * SECOND_NS, False, "key-revoked"),
        (0, True, "key-revoked"),  # stolen before anybody else saw it
        (SECOND_NS, True, "key-revoked"),  # in the same moment
    ],
)
def test_a_revoked_key_and_the_day_that_somebody_else_saw_it(
    centre: Measured, people: People, tmp_path: Path, after_ns: int, with_witness: bool, expected: str | None
) -> None:
    statement = checked(centre, demand_witnesses=False).statement
    assert statement is not None
    issued_ns = utc_ns(statement.issue.issued_at)
    root = root_with(centre, people, utc_text(issued_ns + after_ns))
    files = (witnessed(centre, tmp_path / "w.json"),) if with_witness else ()
    for at_ns in (issued_ns + 30 * SECOND_NS, issued_ns + 3600 * SECOND_NS):
        report = checked(
            centre,
            public_key=None,
            trust=root,
            fingerprint=signed.fingerprint(root),
            witnesses=files,
            at_ns=at_ns,
            demand_witnesses=with_witness,
        )
        assert code(report) == expected


def test_a_revoked_witness_dates_nothing(centre: Measured, people: People, tmp_path: Path) -> None:
    statement = checked(centre, demand_witnesses=False).statement
    assert statement is not None
    later = utc_text(utc_ns(statement.issue.issued_at) + 60 * SECOND_NS)
    root = root_with(centre, people, later, later)
    files = (witnessed(centre, tmp_path / "w.json"),)
    given: dict[str, Any] = {"public_key": None, "trust": root, "fingerprint": signed.fingerprint(root)}
    at_ns = utc_ns(later) + SECOND_NS
    assert code(checked(centre, witnesses=files, at_ns=at_ns, **given)) == "key-revoked"


def test_one_witness_alone_dates_nothing_where_two_are_demanded() -> None:
    early, late = Witnessed("a", "2026-03-01T08:00:00.000000Z", "audited"), Witnessed("b", signed.NOW, "audited")
    assert witnessed_before((), 0) is None
    assert witnessed_before((late, early), 0) == witnessed_before((late, early), 1) == early.witnessed_at
    assert witnessed_before((early,), 2) is None  # a thief of one witness's key says what he likes
    assert witnessed_before((early, late), 2) == late.witnessed_at


def test_a_witness_dates_nothing_before_its_key_was_valid(centre: Measured, people: People, tmp_path: Path) -> None:
    witness = load_private(centre.folder / "witness.pem")
    statement = checked(centre, demand_witnesses=False).statement
    assert statement is not None
    issued_ns = utc_ns(statement.issue.issued_at)
    root = people.write(
        more=(Delegation(role="witness", centre_ids=None, threshold=1, keys=(witness.public.keyid,)),),
        more_keys=(witness,),
        more_from=utc_text(issued_ns + 3600 * SECOND_NS),
    )
    given: dict[str, Any] = {"public_key": None, "trust": root, "fingerprint": signed.fingerprint(root)}
    files = (witnessed(centre, tmp_path / "w.json"),)
    report = checked(centre, witnesses=files, at_ns=issued_ns + 7200 * SECOND_NS, **given)
    assert code(report) == "key-not-yet-valid"


def test_that_only_a_witness_saves_a_statement_is_said(centre: Measured, people: People, tmp_path: Path) -> None:
    statement = checked(centre, demand_witnesses=False).statement
    assert statement is not None
    root = root_with(centre, people, utc_text(utc_ns(statement.issue.issued_at) + 60 * SECOND_NS))
    files = (witnessed(centre, tmp_path / "w.json"),)
    given: dict[str, Any] = {"public_key": None, "trust": root, "fingerprint": signed.fingerprint(root)}
    report = checked(centre, witnesses=files, **given)
    assert code(report) is None
    note, _ = report.as_json()["notes"]  # and that both nodes signed with one key
    assert "was revoked at" in note
    assert "accepted only because somebody who is trusted saw" in note
    assert any(line.startswith("NOTE: key ") for line in describe_report(report))


def test_a_document_that_merely_lies_there_refuses_nothing(centre: Measured, tmp_path: Path) -> None:
    shutil.copytree(centre.folder / "out", tmp_path / "out")
    witnessed(centre, tmp_path / "out" / "witness.dsse.json", key=signed.new_key())
    report = verify.verify(
        VerifyRequest(
            Evidence(tmp_path / "out", policies=(str(centre.folder / "witnessed.yaml"),)).in_folder(tmp_path / "out"),
            Anchor(centre.public_key),
            at_ns=time.time_ns(),
            accept_simulated=True,
            demand_witnesses=False,
        )
    )
    assert code(report) is None
    assert report.level == "recomputed"
    assert any("witness.dsse.json, which lies there: key-not-trusted" in what for what in report.not_checked)


def test_names_of_files_write_nothing_on_a_terminal(centre: Measured, tmp_path: Path) -> None:
    evil = tmp_path / "\x1b]0;pwned\x07\nACCEPTED: level audited.json"
    evil.write_bytes(b"{}")
    report = checked(centre, demand_witnesses=False, others=(evil,))
    assert all(line.isprintable() for line in describe_report(report))
    assert not any(line.startswith("ACCEPTED: level audited") for line in describe_report(report))


def test_a_moment_at_the_end_of_time(centre: Measured, tmp_path: Path) -> None:
    path = witnessed(centre, tmp_path / "w.json", witnessed_at="9999-12-31T23:59:59.999999Z")
    assert code(checked(centre, witnesses=(path,), **known(centre))) == "witness-time"


def test_keys_that_the_user_names_have_one_role_each() -> None:
    operator, other = signed.new_key().public, signed.new_key().public
    trusted = TrustedSet.named((operator,), (other,))
    assert (trusted.role_of(operator.keyid), trusted.role_of(other.keyid)) == ("operator", "witness")
    with pytest.raises(RefusedError, match="key-two-roles"):
        TrustedSet.named((operator,), (operator,))


# --- the command ---


def test_the_command_recomputes_and_signs(centre: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))
    out = centre.folder / "out"
    given = ("--public-key", centre.public_key, "--policy", centre.folder / "witnessed.yaml", "--accept-simulated")
    told = (out / "statement.dsse.json", "--records", out / "records.jsonl", *given)
    made = petaseal("witness", *told, "--key", centre.folder / "witness.pem", "--out", tmp_path / "w.json", "--json")
    assert made.status == 0, made.err
    assert json.loads(made.out)["level"] == "recomputed"
    witness = ("--witness", tmp_path / "w.json", "--witness-key", public_path(centre.folder / "witness.pem"))
    assert petaseal("verify", *told, *witness).status == 0
    assert petaseal("verify", *told).code == "witness-missing"
    again = petaseal("witness", *told, "--key", centre.folder / "witness.pem", "--out", tmp_path / "w.json")
    assert (again.code, again.status) == ("output-exists", 2)
    own = petaseal("witness", *told, "--key", centre.key, "--out", tmp_path / "own.json")
    assert (own.code, own.status) == ("key-two-roles", 1)
    assert not (tmp_path / "own.json").exists()
    (tmp_path / "some.jsonl").write_bytes((out / "records.jsonl").read_bytes().splitlines(True)[0])
    told = (out / "statement.dsse.json", "--records", tmp_path / "some.jsonl", *given)
    answer = petaseal("witness", *told, "--key", centre.folder / "witness.pem", "--out", tmp_path / "no.json")
    assert (answer.code, answer.status) == ("records-count", 1)
    assert not (tmp_path / "no.json").exists()


def test_every_step_has_a_name_that_a_document_can_hold(centre: Measured) -> None:
    report = checked(centre, demand_witnesses=False, samples=centre.records)
    names = steps_of(report)
    assert len(set(names)) == len(report.checked)
    witness = Witness(centre_id=CENTRE_ID, witnessed_at=signed.NOW, level="audited", checks=names, tool=TOOL)
    assert make_document("witness", witness, "ab" * 32)
