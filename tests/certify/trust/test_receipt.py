"""Registries' receipts: who may date a statement with one, and what that is worth after a key was stolen."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from bench.errors import InputError, RefusedError
from bench.record import Tool
from bench.units import utc_ns, utc_text
from certify.audit import proof
from certify.audit import run as auditing
from certify.documents import dsse
from certify.documents.caps import CAPS
from certify.documents.kinds import PAYLOAD_TYPE, OpenedDocument, Receipt, Witness, make_document, parse_payload
from certify.keys.files import load_private, new_key, public_path
from certify.keys.signers import PrivateKey, pem_text
from certify.policy.policies import load_policy
from certify.statement.claim import open_attested
from certify.statement.package import opened, pack
from certify.trust.dating import first_receipt, open_receipt
from certify.trust.opening import Verifier
from certify.trust.revocations import Revocation
from certify.trust.root import read_root
from certify.trust.store import Anchor
from certify.trust.trusted_set import Delegation, TrustedSet
from certify.verify import verifier as verify
from certify.verify.describe import describe_report
from certify.verify.report import VerificationReport, steps_of
from tests.bad_input.command import petaseal
from tests.certify import signed
from tests.certify.measured import CENTRE_ID, Measured, measured, node_name, verify_request
from tests.certify.verify.test_verifier import People, code

SECOND_NS = 10**9
STATEMENT = "statement.dsse.json"


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    place = measured(tmp_path_factory.mktemp("centre"), nodes=2, devices=1, profile="smoke", precisions=("fp16",))
    place.certify()
    return place


@dataclass
class Platform:
    """A trust root with a registry and a witness, and what the registry signs."""

    centre: Measured
    people: People
    registry: PrivateKey
    witness: PrivateKey
    statement: OpenedDocument[Any]
    folder: Path

    @property
    def issued_ns(self) -> int:
        return utc_ns(self.statement.predicate.issue.issued_at)

    def after(self, seconds: float) -> str:
        """Return a time so long after the issue of the statement."""
        return utc_text(self.issued_ns + round(seconds * SECOND_NS))

    def root(self, stolen_after_s: float | None = 60, *gone: PrivateKey, **validity: Any) -> Path:
        """Write the trust root, in which the operator's key was stolen, and `gone` revoked at the same time."""
        moment = "" if stolen_after_s is None else self.after(stolen_after_s)
        stolen = [self.people.operators[0], *gone] if moment else []
        return self.people.write(
            more=(
                Delegation(role="registry", centre_ids=None, threshold=1, keys=(self.registry.public.keyid,)),
                Delegation(role="witness", centre_ids=None, threshold=1, keys=(self.witness.public.keyid,)),
            ),
            more_keys=(self.registry, self.witness),
            revocations=tuple(Revocation(keyid=key.public.keyid, revoked_at=moment, reason="stolen") for key in stolen),
            **validity,
        )

    def receipt(
        self,
        seconds: float = 1,
        *keys: PrivateKey,
        path: Path | None = None,
        subject: str | None = None,
        **changes: Any,
    ) -> Path:
        """Write a receipt of so many seconds after the issue, with anything changed."""
        values: dict[str, Any] = {
            "centre_id": CENTRE_ID,
            "received_at": self.after(seconds),
            "decision": "accepted",
            "code": None,
            "level": "recomputed",
        }
        value = Receipt(**{**values, **changes})
        payload = make_document("receipt", value, subject or self.statement.payload_sha256)
        path = path or self.folder / f"r-{seconds}.json"
        path.write_bytes(dsse.seal(payload, PAYLOAD_TYPE, keys or [self.registry]))
        return path

    def check(self, root: Path, *receipts: Path, at_s: float = 3600, **changes: Any) -> VerificationReport:
        """Verify the statement so many seconds after its issue."""
        given = {
            "public_key": None,
            "trust": root,
            "fingerprint": signed.fingerprint(root),
            "receipts": receipts,
            "at_ns": self.issued_ns + round(at_s * SECOND_NS),
        }
        return self.centre.verify(**{**given, **changes})

    def trusted(self, root: Path) -> TrustedSet:
        return TrustedSet.from_root(read_root(root.read_bytes()).root)


@pytest.fixture
def platform(centre: Measured, tmp_path: Path) -> Platform:
    people = People(tmp_path, [load_private(centre.key)], [signed.new_key(), signed.new_key()])
    envelope = dsse.parse_envelope((centre.folder / "out" / STATEMENT).read_bytes(), CAPS.statement_bytes)
    statement = parse_payload("capacity-statement", envelope.payload)
    return Platform(centre, people, signed.new_key(), signed.new_key(), statement, tmp_path)


# What it dates


@pytest.mark.parametrize(
    ("received_s", "stolen_s", "expected"),
    [
        ((1,), 60, None),
        ((), 60, "key-revoked"),
        ((1,), 0, "key-revoked"),  # stolen before anybody else saw it
        ((1,), 1, "key-revoked"),  # in the same moment
        ((1,), 1.000001, None),
        ((59.999999,), 60, None),
        ((61,), 60, "key-revoked"),
        ((90, 1, 120), 60, None),  # the earliest counts, in whatever order they are given
        ((120, 90, 61), 60, "key-revoked"),
        ((-60,), 60, None),  # the registry's clock is a minute behind
    ],
)
@pytest.mark.parametrize("level", ["signature", "audited"])
def test_a_stolen_key_and_the_day_that_a_registry_received_it(
    platform: Platform, received_s: tuple[float, ...], stolen_s: float, expected: str | None, level: str
) -> None:
    receipts = [platform.receipt(seconds, level=level) for seconds in received_s]
    root = platform.root(stolen_s)
    report = platform.check(root, *receipts)
    assert code(report) == expected
    assert (report.receipt is None) == (not received_s)
    if received_s:
        assert report.receipt is not None
        assert report.attested_before == report.receipt.received_at == platform.after(min(received_s))


def test_what_is_told_of_it(platform: Platform) -> None:
    first = platform.receipt(1)
    report = platform.check(platform.root(), first, platform.receipt(2, level="signature"))
    keyid, at = platform.registry.public.keyid, platform.after(1)
    assert f"received by registry {keyid} at {at}, level recomputed" in describe_report(report)
    assert report.as_json()["receipt"] == {"keyid": keyid, "received_at": at, "level": "recomputed"}
    assert "receipt of a registry" in report.checked
    assert "receipt-of-a-registry" in steps_of(report)
    note, _ = report.notes  # and that both nodes signed with one key
    assert note.endswith(
        f"accepted only because somebody who is trusted saw the statement before, at {at} [signed-before-revocation]"
    )
    unsaved = platform.check(platform.root(None), first)
    assert code(unsaved) is None
    assert [note.endswith("[node-key-shared]") for note in unsaved.notes] == [True]
    assert platform.check(platform.root(None)).as_json()["receipt"] is None


def test_it_dates_alone_where_a_policy_demands_two_witnesses(platform: Platform, tmp_path: Path) -> None:
    """One witness of two dates nothing; the registry is the platform's own, and dates without them."""
    policy = msgspec.to_builtins(load_policy("guangzhou-2000p")) | {"policy": "two", "witnesses": 2}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(policy, allow_unicode=True))
    out = tmp_path / "out"
    platform.centre.certify(out, policies=(str(tmp_path / "two.yaml"),))
    envelope = dsse.parse_envelope((out / STATEMENT).read_bytes(), CAPS.statement_bytes)
    platform.statement = parse_payload("capacity-statement", envelope.payload)
    root = platform.root()
    given: dict[str, Any] = {
        "statement": out / STATEMENT,
        "policies": (str(tmp_path / "two.yaml"),),
        "witnesses": (witnessed(platform, tmp_path / "w.json"),),
        "demand_witnesses": False,
    }
    assert code(platform.check(root, **given)) == "key-revoked"
    assert code(platform.check(root, platform.receipt(), **given)) is None
    given["demand_witnesses"] = True
    assert code(platform.check(root, platform.receipt(), **given)) == "witness-missing"  # it stands in for none


def witnessed(platform: Platform, path: Path, seconds: float = 1) -> Path:
    value = Witness(
        centre_id=CENTRE_ID,
        witnessed_at=platform.after(seconds),
        level="recomputed",
        checks=("records",),
        tool=Tool(version="0.1.0", sha256="ab" * 32),
    )
    payload = make_document("witness", value, platform.statement.payload_sha256)
    path.write_bytes(dsse.seal(payload, PAYLOAD_TYPE, [platform.witness]))
    return path


@pytest.mark.parametrize(("witness_s", "receipt_s"), [(1, 61), (61, 1)])
def test_the_earlier_of_a_witness_and_a_registry_counts(
    platform: Platform, tmp_path: Path, witness_s: float, receipt_s: float
) -> None:
    witness = witnessed(platform, tmp_path / "w.json", witness_s)
    report = platform.check(platform.root(), platform.receipt(receipt_s), witnesses=(witness,))
    assert code(report) is None
    assert report.attested_before == platform.after(1)


@pytest.mark.parametrize(("seen_s", "expected"), [(59, None), (60, "key-revoked")])
def test_a_verifier_that_is_a_registry_knows_itself_when_it_saw_it(
    platform: Platform, seen_s: float, expected: str | None
) -> None:
    report = platform.check(platform.root(), seen_at=platform.after(seen_s))
    assert code(report) == expected
    assert report.attested_before == platform.after(seen_s)
    assert report.receipt is None


def test_it_dates_what_the_nodes_signed_too(platform: Platform, tmp_path: Path) -> None:
    """A node's key that was revoked later: its record was in the statement that the registry received."""
    envelope = dsse.parse_envelope(platform.centre.record(0).read_bytes(), CAPS.record_bytes)
    gone = Revocation(keyid=envelope.signatures[0].keyid, revoked_at=platform.after(60), reason="lost")
    root = platform.people.write(
        more=(Delegation(role="registry", centre_ids=None, threshold=1, keys=(platform.registry.public.keyid,)),),
        more_keys=(platform.registry,),
        revocations=(gone,),
    )
    assert code(platform.check(root)) == "key-revoked"
    assert code(platform.check(root, platform.receipt())) is None


# What it does not


Forge = Callable[[Platform], Path]


def co_signed(platform: Platform) -> Path:
    """Return a receipt by a registry that signed the statement too."""
    out = platform.folder / "out"
    shutil.copytree(platform.centre.folder / "out", out)
    keys = [platform.people.operators[0], platform.registry]
    (out / STATEMENT).write_bytes(dsse.seal(platform.statement.payload, PAYLOAD_TYPE, keys))
    return platform.receipt()


FORGED: dict[str, tuple[Forge, str]] = {
    "of another statement": (lambda p: p.receipt(subject="ab" * 32), "receipt-differs"),
    "of another centre": (lambda p: p.receipt(centre_id="wh-centre"), "receipt-differs"),
    "of a refusal": (
        lambda p: p.receipt(decision="refused", code="device-claimed-twice", level=None),
        "receipt-of-refusal",
    ),
    "of a refusal of another statement": (
        lambda p: p.receipt(decision="refused", code="expired", level=None, subject="ab" * 32),
        "receipt-differs",
    ),
    "before the statement was issued": (lambda p: p.receipt(-CAPS.time_skew_s - 1), "receipt-time"),
    "long before": (lambda p: p.receipt(received_at="2026-01-01T00:00:00.000000Z"), "receipt-time"),
    "from the future": (lambda p: p.receipt(3600 + CAPS.time_skew_s + 1), "receipt-time"),
    "at the end of time": (lambda p: p.receipt(received_at="9999-12-31T23:59:59.999999Z"), "receipt-time"),
    "by nobody who is known": (lambda p: p.receipt(1, signed.new_key()), "key-not-trusted"),
    "by the operator itself": (lambda p: p.receipt(1, p.people.operators[0]), "role-not-allowed"),
    "by a witness": (lambda p: p.receipt(1, p.witness), "role-not-allowed"),
    "by a keeper of the root": (lambda p: p.receipt(1, p.people.roots[0]), "role-not-allowed"),
    "by the registry and the operator": (
        lambda p: p.receipt(1, p.registry, p.people.operators[0]),
        "role-not-allowed",
    ),
    "by a registry that signed the statement too": (co_signed, "key-two-roles"),
    "that is the statement itself": (lambda p: p.centre.folder / "out" / STATEMENT, "predicate-type-wrong"),
    "that is a witness's document": (lambda p: witnessed(p, p.folder / "w.json"), "predicate-type-wrong"),
    "edited under its signature": (lambda p: edited(p), "signature-invalid"),
    "that is no file at all": (lambda p: filled(p, b"{}"), "schema-invalid"),
    "larger than one can be": (lambda p: filled(p, b" " * (CAPS.witness_bytes + 1)), "file-too-large"),
}


def edited(platform: Platform) -> Path:
    """Return a receipt of yesterday, under the signature of today's."""
    today, yesterday = platform.receipt(30), platform.receipt(1)
    value = signed.envelope(today.read_bytes())
    value["payload"] = signed.envelope(yesterday.read_bytes())["payload"]
    today.write_bytes(signed.rewritten(value))
    return today


def filled(platform: Platform, content: bytes) -> Path:
    path = platform.folder / "r.json"
    path.write_bytes(content)
    return path


def answer(platform: Platform, root: Path, **changes: Any) -> tuple[str | None, VerificationReport | None]:
    """Return the code of an answer; wrong input, such as a file that is too large, gives no report."""
    out = platform.folder / "out"
    statement = out if out.exists() else platform.centre.folder / "out"
    try:
        report = platform.check(root, statement=statement / STATEMENT, **changes)
    except InputError as error:
        return error.code, None
    return code(report), report


@pytest.mark.parametrize("name", FORGED)
def test_a_receipt_that_is_refused(platform: Platform, name: str) -> None:
    """Named, it refuses the statement; lying beside it, nobody vouched for it, and it dates nothing."""
    make, expected = FORGED[name]
    path, stolen = make(platform), platform.root()
    assert answer(platform, stolen, receipts=(path,))[0] == expected
    both = name == "by a registry that signed the statement too"
    alone = "role-not-allowed" if both else None  # of the statement, which a registry may not sign
    assert answer(platform, stolen, receipts_in_folder=(path,))[0] == (alone or "key-revoked")
    sound = platform.root(None)
    found, report = answer(platform, sound, receipts_in_folder=(path,))
    assert found == alone
    assert report is not None
    assert report.receipt is None
    assert report.attested_before is None
    assert f"the receipt {path.name}, which lies there: {expected} [receipt-skipped]" in report.not_checked


@pytest.mark.parametrize(
    ("validity", "gone", "expected"),
    [
        ({"more_from": 30}, False, "key-not-yet-valid"),  # at the moment that it says it received the statement
        ({"more_from": 1}, False, None),
        ({"more_until": 3600}, False, "key-expired"),
        ({"more_until": 3600.000001}, False, None),
        ({}, True, "key-revoked"),  # its thief dates what he likes, also before the theft
    ],
)
def test_the_registry_s_key_at_other_times(
    platform: Platform, validity: dict[str, float], gone: bool, expected: str | None
) -> None:
    times = {name: platform.after(seconds) for name, seconds in validity.items()}
    root = platform.root(60, *([platform.registry] if gone else []), **times)
    path = platform.receipt()
    assert code(platform.check(root, path)) == expected
    beside = platform.check(root, receipts_in_folder=(path,))
    assert code(beside) == (expected and "key-revoked")
    assert (beside.receipt is None) == (expected is not None)


def test_with_a_public_key_no_registry_is_known(platform: Platform) -> None:
    path = platform.receipt()
    given: dict[str, Any] = {"public_key": platform.centre.public_key}
    assert code(platform.centre.verify(receipts=(path,), **given)) == "key-not-trusted"
    beside = platform.centre.verify(receipts_in_folder=(path,), **given)
    assert code(beside) is None
    assert beside.receipt is None
    assert f"the receipt {path.name}, which lies there: key-not-trusted [receipt-skipped]" in beside.not_checked
    witness = platform.folder / "registry.pem.pub"
    witness.write_bytes(pem_text(b"PUBLIC KEY", platform.registry.public.spki))
    named = platform.centre.verify(receipts=(path,), witness_keys=(witness,), **given)
    assert code(named) == "role-not-allowed"  # who vouches for a witness vouches for no registry


def test_a_bad_one_hides_no_good_one(platform: Platform) -> None:
    bad, good = platform.receipt(2, signed.new_key()), platform.receipt(1)
    root = platform.root()
    assert code(platform.check(root, receipts_in_folder=(bad, good))) is None
    assert code(platform.check(root, good, bad)) == "key-not-trusted"
    assert code(platform.check(root, good, receipts_in_folder=(bad,))) is None


def test_the_first_fault_has_its_own_code(platform: Platform) -> None:
    trust = platform.trusted(platform.root(None))
    with pytest.raises(RefusedError) as caught:
        open_receipt(platform.receipt(centre_id="wh-centre"), platform.statement, Verifier(trust, platform.after(3600)))
    assert caught.value.code == "receipt-differs"
    assert "wh-centre" in str(caught.value)
    assert first_receipt((), (), platform.statement, Verifier(trust, platform.after(3600))) == (None, ())


# Beside the statement, in a package, and on the command line


def laid(platform: Platform) -> Path:
    """Return a folder of the statement, with a receipt and much that is none."""
    out = platform.folder / "laid"
    shutil.copytree(platform.centre.folder / "out", out)
    platform.receipt(path=out / "receipt.dsse.json")
    platform.receipt(1, signed.new_key(), path=out / "receipt-of-a-stranger.dsse.json")
    os.mkfifo(out / "receipt-fifo.dsse.json")
    (out / "receipts.txt").write_text("nothing of ours")
    return out


def in_folder(platform: Platform, root: Path, place: Path) -> VerificationReport:
    request = verify_request(
        statement=place,
        at_ns=platform.issued_ns + 3600 * SECOND_NS,
        trust=root,
        fingerprint=signed.fingerprint(root),
        accept_simulated=True,
    )
    return verify.verify(replace(request, evidence=request.evidence.in_folder(place)))


def test_in_a_folder_and_in_a_package(platform: Platform) -> None:
    out, root = laid(platform), platform.root()
    report = in_folder(platform, root, out)
    assert code(report) is None
    assert report.level == "recomputed"
    assert sorted(line for line in report.not_checked if line.startswith("the receipt")) == [
        "the receipt receipt-fifo.dsse.json, which lies there: not-regular-file [receipt-skipped]",
        "the receipt receipt-of-a-stranger.dsse.json, which lies there: key-not-trusted [receipt-skipped]",
    ]
    (out / "receipt-fifo.dsse.json").unlink()
    packed = pack(out, platform.folder / "package.tar.gz")
    assert {"receipt.dsse.json", "receipt-of-a-stranger.dsse.json"} < set(packed.members)
    with opened(packed.path) as place:
        assert (place / "receipt.dsse.json").read_bytes() == (out / "receipt.dsse.json").read_bytes()
        report = in_folder(platform, root, place)
    assert code(report) is None
    assert report.receipt is not None
    (out / "receipt.dsse.json").unlink()
    assert code(in_folder(platform, root, out)) == "key-revoked"


def test_so_many_that_lie_there_are_looked_at(platform: Platform) -> None:
    out = platform.folder / "laid"
    shutil.copytree(platform.centre.folder / "out", out)
    for number in range(CAPS.package_receipts):
        (out / f"receipt-{number}.dsse.json").write_bytes(b"{}")
    platform.receipt(path=out / "receipt-x.dsse.json")
    report = in_folder(platform, platform.root(None), out)
    assert len([line for line in report.not_checked if line.startswith("the receipt")]) == CAPS.package_receipts
    assert report.receipt is None
    assert "1 receipt(s) beyond the first 8 by name: receipt-x.dsse.json [receipts-cut]" in report.not_checked
    for number in range(CAPS.package_witnesses + 5):
        (out / f"witness-{number:02}.dsse.json").write_bytes(b"{}")
    names = "witness-08.dsse.json, witness-09.dsse.json, witness-10.dsse.json and 2 more"
    cut = f"5 witness document(s) beyond the first 8 by name: {names} [witnesses-cut]"
    assert cut in in_folder(platform, platform.root(None), out).not_checked


def test_beside_another_s_statement_and_in_an_audit(platform: Platform) -> None:
    out, root = laid(platform), platform.root()
    trust, at = platform.trusted(root), platform.after(3600)
    dated = open_attested(out / STATEMENT, Verifier(trust, at))[1].attested_before
    assert dated == platform.after(1)
    path = shutil.move(out / "receipt.dsse.json", platform.folder / "moved.json")
    anchor = Anchor(None, root, signed.fingerprint(root), None, (), None)
    shown = proof.make_proof(out / STATEMENT, out / "records.jsonl", node_name(0))
    proof.write_proof(shown, platform.folder / "proof.json")
    request = auditing.AuditRequest(folder=out, at_ns=utc_ns(at), anchor=anchor, samples=platform.centre.records)
    for act in (
        lambda given: open_attested(out / STATEMENT, Verifier(trust, at), receipts=given),
        lambda given: proof.check_proof(platform.folder / "proof.json", out / STATEMENT, anchor, at, at, (), given),
        lambda given: auditing.audit(replace(request, receipts=given)),
    ):
        act((path,))
        with pytest.raises(RefusedError) as caught:
            act(())
        assert caught.value.code == "key-revoked"


def test_the_commands(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(platform.folder / "state"))
    out, root = platform.centre.folder / "out", platform.root()
    trusted = ("--trust", root, "--fingerprint", signed.fingerprint(root))
    given = (out, *trusted, "--accept-simulated", "--at", platform.after(3600))
    path = platform.receipt()
    assert petaseal("verify", *given).code == "key-revoked"
    done = petaseal("verify", *given, "--receipt", path, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["receipt"]["received_at"] == platform.after(1)
    assert petaseal("verify", *given, "--receipt", path, "--receipt", out / STATEMENT).code == "predicate-type-wrong"
    audited = ("audit", "run", out, *trusted, "--samples", platform.centre.records, "--at", platform.after(3600))
    assert petaseal(*audited).code == "key-revoked"
    assert petaseal(*audited, "--receipt", path).status == 0


def test_a_witness_takes_a_receipt_that_lies_there(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(platform.folder / "state"))
    new_key(platform.folder / "witness.pem", None)
    platform.witness = load_private(platform.folder / "witness.pem")
    assert public_path(platform.folder / "witness.pem").exists()
    out = platform.folder / "laid"
    shutil.copytree(platform.centre.folder / "out", out)
    root = platform.root()
    given = (out, "--trust", root, "--fingerprint", signed.fingerprint(root), "--accept-simulated")
    command = ("witness", *given, "--key", platform.folder / "witness.pem", "--out", platform.folder / "w.json")
    assert petaseal(*command).code == "key-revoked"
    platform.receipt(path=out / "receipt.dsse.json")
    made = petaseal(*command, "--json")
    assert made.status == 0, made.err
    assert "receipt-of-a-registry" in json.loads(made.out)["checks"]
