"""Which roots a verifier accepts after which: every attack on the succession by name, and what stays possible."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from bench.errors import InputError, RefusedError
from certify.documents import dsse
from certify.documents import kinds as documents
from certify.trust.describing import lacking
from certify.trust.editing import Validity, first, following, listed, rotated, with_key, without_keys
from certify.trust.revocations import Revocations, RevokedRecords, Withdrawal
from certify.trust.root import Root, accept, accept_revocations, open_revocations, read_root, read_versions
from certify.trust.store import Anchor, Memory, accept_files, open_anchor
from tests.certify.signed import AFTER, BEFORE, CENTRE, NOW, Cast, b64, envelope, rewritten, sha

CAST = Cast()
SECOND_ISSUED = "2026-02-01T00:00:00.000000Z"
THIRD_ISSUED = "2026-02-15T00:00:00.000000Z"


def made(*signed_by: str, version: int = 1, issued_at: str = BEFORE, **changes: Any) -> Root:
    """Return a version of the test's root, signed by some of its people."""
    payload = documents.make_document("trust-root", CAST.root(version=version, issued_at=issued_at, **changes))
    return read_root(dsse.seal(payload, documents.PAYLOAD_TYPE, [CAST[name] for name in signed_by]), f"v{version}")


def keys_with(*names: str, **validity: str) -> dict[str, Any]:
    return {**CAST.root().keys, **{CAST.ids[name]: CAST.entry(name, **validity) for name in names}}


def of_roots(*names: str, threshold: int = 2) -> dict[str, Any]:
    """Return the fields of a root whose root keys are others."""
    keys = keys_with(*names)
    return {"keys": keys, "roles": (CAST.holds("root", *names, threshold=threshold), *CAST.root().roles[1:])}


V1 = made("root1", "root2")
V2 = made("root2", "root3", version=2, issued_at=SECOND_ISSUED)
V3 = made("root1", "root3", version=3, issued_at=THIRD_ISSUED)
OTHERS = of_roots("root3", "outsider")  # root1 and root2 go, the outsider comes
ROTATED = made("root1", "root3", "outsider", version=2, issued_at=SECOND_ISSUED, **OTHERS)
AFTER_ROTATION = made("root3", "outsider", version=3, issued_at=THIRD_ISSUED, **OTHERS)
STALE = made("root1", "root2", expires_at=NOW)
SHORT = "2026-02-20T00:00:00.000000Z"
AGED = made("root1", "root2", keys=keys_with("root1", "root2", valid_until=SHORT))
RENEWED = made("root1", "root2", "root3", version=2, issued_at=SECOND_ISSUED)


class Case(NamedTuple):
    roots: tuple[Root, ...]
    known: Root | None
    fingerprint: Root | str | None
    code: str | None  # None: accepted
    now: str = NOW


CASES = {
    "first, by its fingerprint": Case((V1,), None, V1, None),
    "a later one as the first, by its fingerprint": Case((V3,), None, V3, None),
    "the same again": Case((V1,), V1, None, None),
    "the next": Case((V2,), V1, None, None),
    "the next, with its fingerprint": Case((V2,), V1, V2, None),
    "two versions in order": Case((V2, V3), V1, None, None),
    "three versions from the first's fingerprint": Case((V1, V2, V3), None, V1, None),
    "a list that begins before what is known": Case((V1, V2, V3), V2, None, None),
    "other root keys, by both thresholds": Case((ROTATED,), V1, None, None),
    "on after other root keys": Case((ROTATED, AFTER_ROTATION), V1, None, None),
    "old keys have ended since, at the time of issue they had not": Case((RENEWED,), AGED, None, None),
    "first, without a fingerprint": Case((V1,), None, None, "trust-root-unpinned"),
    "first, with another's fingerprint": Case((V1,), None, V2, "trust-root-fingerprint"),
    "known, with another's fingerprint": Case((V1,), V1, V2, "trust-root-fingerprint"),
    "nonsense as fingerprint": Case((V1,), None, "", "trust-root-fingerprint"),
    "the fingerprint of the last of a list is not that of its first": Case((V1, V2), None, V2, "trust-root-unpinned"),
    "rollback": Case((V1,), V2, None, "trust-root-rollback"),
    "rollback with the right fingerprint": Case((V1,), V3, V1, "trust-root-rollback"),
    "rollback of a whole list": Case((V1, V2), V3, None, "trust-root-rollback"),
    "skip": Case((V3,), V1, None, "trust-root-skipped"),
    "skip inside a list": Case((V1, V3), None, V1, "trust-root-skipped"),
    "skip with the right fingerprint": Case((V3,), V1, V3, "trust-root-skipped"),
    "freeze": Case((STALE,), STALE, None, "trust-root-expired"),
    "freeze from the first": Case((STALE,), None, STALE, "trust-root-expired"),
    "freeze of the next": Case((made("root2", "root3", version=2, expires_at=NOW),), V1, None, "trust-root-expired"),
    "a stale one that leads on": Case((STALE, V2), None, STALE, None),
    "another of the same number": Case((made("root2", "root3"),), V1, None, None),  # other signatures, one payload
    "fork": Case((made("root1", "root2", expires_at="2026-09-01T00:00:00.000000Z"),), V1, None, "trust-root-forked"),
    "fork at the second": Case(
        (made("root1", "root2", version=2, issued_at=THIRD_ISSUED),), V2, None, "trust-root-forked"
    ),
    "issued before the one that it follows": Case(
        (made("root1", "root2", version=2, issued_at="2025-12-01T00:00:00.000000Z"),), V1, None, "trust-root-rollback"
    ),
    "another root": Case((made("root1", "root2", trust_id="other"),), V1, None, "trust-root-other"),
    "issued in the future": Case((V2,), V1, None, "trust-root-not-yet-valid", BEFORE),
    "a clock that is a minute behind": Case((V2,), V1, None, None, "2026-01-31T23:59:00.000000Z"),
    "a clock that is an hour behind": Case((V2,), V1, None, "trust-root-not-yet-valid", "2026-01-31T23:00:00.000000Z"),
    "one old key of two": Case(
        (made("root3", "outsider", version=2, issued_at=SECOND_ISSUED, **OTHERS),), V1, None, "trust-root-signatures"
    ),
    "the old threshold without the new": Case(
        (made("root1", "root2", version=2, issued_at=SECOND_ISSUED, **OTHERS),), V1, None, "trust-root-signatures"
    ),
    "a thief of one key lowers the threshold": Case(
        (made("root1", version=2, issued_at=SECOND_ISSUED, **of_roots("root1", threshold=1)),),
        V1,
        None,
        "trust-root-signatures",
    ),
    "a thief brings keys of his own": Case(
        (made("outsider", version=2, issued_at=SECOND_ISSUED, **of_roots("outsider", threshold=1)),),
        V1,
        None,
        "trust-root-signatures",
    ),
    "operators make a root": Case(
        (made("operator1", "operator2", version=2, issued_at=SECOND_ISSUED),), V1, None, "trust-root-signatures"
    ),
    "one key too few": Case((made("root1"),), None, made("root1"), "trust-root-signatures"),
    "one key under the old root is revoked there": Case(
        (made("root1", "root2", version=2, issued_at=SECOND_ISSUED, revocations=CAST.revoked("root2")),),
        made("root1", "root3", revocations=CAST.revoked("root2")),
        None,
        "trust-root-signatures",
    ),
    "what was revoked is no longer": Case(
        (made("root1", "root2", version=2, issued_at=SECOND_ISSUED),),
        made("root1", "root2", revocations=CAST.revoked("node")),
        None,
        "trust-root-rollback",
    ),
    "signed by a key that the root itself revokes": Case(
        (made("root1", "root2", version=2, issued_at=SECOND_ISSUED, revocations=CAST.revoked("root2")),),
        V1,
        None,
        "trust-root-signatures",
    ),
    "by old keys after their time": Case(
        (made("root1", "root2", version=2, issued_at=SHORT, keys=keys_with("root1", "root2")),),
        AGED,
        None,
        "trust-root-signatures",
    ),
    "its own keys have ended": Case((AGED,), AGED, None, "trust-root-signatures"),
}


@pytest.mark.parametrize("name", CASES)
def test_succession(name: str) -> None:
    case = CASES[name]
    told = case.fingerprint.fingerprint if isinstance(case.fingerprint, Root) else case.fingerprint
    if case.code is None:
        accepted = accept(case.roots, case.known, told, case.now)
        assert accepted.root.version == case.roots[-1].root.version
        return
    with pytest.raises(RefusedError) as refused:
        accept(case.roots, case.known, told, case.now, [f"file {i}" for i, _ in enumerate(case.roots)])
    assert refused.value.code == case.code
    assert str(refused.value).startswith("file ")


def write(folder: Path, root: Root, name: str = "root.json") -> Path:
    path = folder / name
    path.write_bytes(root.content)
    return path


def test_what_was_accepted_is_remembered(tmp_path: Path) -> None:
    state = tmp_path / "state"
    one, two, three = (write(tmp_path, root, f"{i}.json") for i, root in enumerate((V1, V2, V3)))
    with pytest.raises(RefusedError, match="trust-root-unpinned"):
        accept_files([one], NOW, state)
    assert not (state / "trust" / "roots").exists()
    assert accept_files([one], NOW, state, V1.fingerprint).not_checked == (
        f"what was revoked since {BEFORE}: give --revocations [revocations-not-given]",
    )
    accept_files([two, three], NOW, state)
    for old in ([one], [two], [one, two]):
        with pytest.raises(RefusedError, match="trust-root-rollback"):
            accept_files(old, NOW, state)
    trusted = open_anchor(Anchor(trust=three, state=state), NOW).trusted
    assert trusted.role_of(CAST.ids["operator1"]) == "operator"
    with pytest.raises(RefusedError, match="trust-root-unpinned"):
        accept_files([three], NOW, None)  # no state: nothing is known
    other = write(tmp_path, made("root1", "root2", trust_id="other"), "other.json")
    with pytest.raises(RefusedError, match="trust-root-unpinned"):  # another root has its own memory
        accept_files([other], NOW, state)


def test_a_state_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder belongs")
    accepted = accept_files([write(tmp_path, V1)], NOW, tmp_path / "state", V1.fingerprint)
    assert any("rollback" in what for what in accepted.not_checked)


def test_a_memory_that_is_damaged_is_never_taken_for_none(tmp_path: Path) -> None:
    state, one = tmp_path / "state", write(tmp_path, V1)
    accept_files([one], NOW, state, V1.fingerprint)
    (kept,) = (state / "trust" / "roots").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(RefusedError):
        accept_files([one], NOW, state, V1.fingerprint)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"public_key": Path("a"), "trust": Path("b")},
        {"public_key": Path("a"), "fingerprint": "00"},
        {"public_key": Path("a"), "revocations": Path("b")},
        {"trust": Path("a"), "witness_keys": (Path("b"),)},
    ],
)
def test_what_does_not_belong_together(given: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        Anchor(**given)
    assert refused.value.code == "trust-missing"


def accepting(root: Path, state: str) -> None:
    """Accept a root, in a process of its own."""
    accept_files([root], NOW, Path(state))


def test_two_that_accept_at_once_leave_the_newer(tmp_path: Path) -> None:
    state = tmp_path / "state"
    one, two, three = (write(tmp_path, root, f"{i}.json") for i, root in enumerate((V1, V2, V3)))
    accept_files([one, two], NOW, state, V1.fingerprint)
    holds = Memory(state / "trust", "cn-test")
    with holds.locked() as locked:
        assert locked
        later = get_context("spawn").Process(target=accepting, args=(three, str(state)))
        later.start()
        later.join(1)
        assert later.is_alive()  # it waits for whoever is at it
    later.join(60)
    assert later.exitcode == 0
    with pytest.raises(RefusedError, match="trust-root-rollback"):
        accept_files([two], NOW, state)


def test_one_id_never_hides_behind_another(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for trust_id in ("cn-test", "cn-test.revocations", "cn-test.dsse.json"):
        root = made("root1", "root2", trust_id=trust_id)
        accept_files([write(tmp_path, root, "r.json")], NOW, state, root.fingerprint)
    accept_files([write(tmp_path, V2)], NOW, state)


# --- revocation lists ---
MEASURED = RevokedRecords(records_root=sha("records"), campaign_sha256=sha("campaign"), starts_at=BEFORE)
BAD = Withdrawal(payload_sha256=sha("bad"), revoked_at=NOW, reason="a mistake")


def revoking(*signed_by: str, version: int = 1, issued_at: str = SECOND_ISSUED, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "trust_id": "cn-test",
        "version": version,
        "issued_at": issued_at,
        "expires_at": AFTER,
        "revocations": CAST.revoked("operator1"),
        "statements": (BAD,),
    }
    payload = documents.make_document("revocations", Revocations(**{**values, **changes}))
    return dsse.seal(payload, documents.PAYLOAD_TYPE, [CAST[name] for name in signed_by])


def loaded(content: bytes, known: bytes | None = None, now: str = NOW) -> Revocations:
    listed = open_revocations(content, V1, "a list")
    before = None if known is None else open_revocations(known, V1)
    accept_revocations(listed, before, now, "a list")
    return listed


LATER_REVOKED = tuple(replace(one, revoked_at="2026-06-01T00:00:00.000000Z") for one in CAST.revoked("operator1"))
LISTS: dict[str, tuple[Callable[[], object], str]] = {
    "one key of two": (lambda: loaded(revoking("root1")), "revocations-signatures"),
    "by operators": (lambda: loaded(revoking("operator1", "operator2")), "revocations-signatures"),
    "by a stranger": (lambda: loaded(revoking("outsider")), "revocations-signatures"),
    "of another root": (lambda: loaded(revoking("root1", "root2", trust_id="other")), "trust-root-other"),
    "expired": (lambda: loaded(revoking("root1", "root2", expires_at=NOW)), "revocations-expired"),
    "from the future": (lambda: loaded(revoking("root1", "root2"), now=BEFORE), "revocations-not-yet-valid"),
    "an older one": (
        lambda: loaded(revoking("root1", "root2"), revoking("root1", "root2", version=2)),
        "revocations-rollback",
    ),
    "another of the same number": (
        lambda: loaded(revoking("root1", "root2", statements=()), revoking("root1", "root2")),
        "revocations-rollback",
    ),
    "a root key": (
        lambda: loaded(revoking("root1", "root2", revocations=CAST.revoked("root3"))),
        "revocations-invalid",
    ),
    "a key twice": (
        lambda: revoking("root1", "root2", revocations=CAST.revoked("node", "node")),
        "revocations-invalid",
    ),
    "a key that is no longer revoked": (
        lambda: loaded(revoking("root1", "root2", version=2, revocations=()), revoking("root1", "root2")),
        "revocations-rollback",
    ),
    "records that are no longer revoked": (
        lambda: loaded(
            revoking("root1", "root2", version=2),
            revoking("root1", "root2", statements=(replace(BAD, records=MEASURED),)),
        ),
        "revocations-rollback",
    ),
    "a statement that is no longer revoked": (
        lambda: loaded(revoking("root1", "root2", version=2, statements=()), revoking("root1", "root2")),
        "revocations-rollback",
    ),
    "a key that is revoked later than before": (
        lambda: loaded(revoking("root1", "root2", version=2, revocations=LATER_REVOKED), revoking("root1", "root2")),
        "revocations-rollback",
    ),
    "reversed": (lambda: revoking("root1", "root2", expires_at=BEFORE), "revocations-invalid"),
    "a trust root": (lambda: loaded(V1.content), "predicate-type-wrong"),
    "edited": (
        lambda: loaded(
            rewritten({**envelope(revoking("root1", "root2")), "payload": b64(b'{"a":1}')}),
        ),
        "signature-invalid",
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_is_refused(name: str) -> None:
    act, code = LISTS[name]
    with pytest.raises(RefusedError) as refused:
        act()
    assert refused.value.code == code


def test_a_list_revokes_keys_at_every_time_and_statements_from_their_time_on() -> None:
    trusted = V1.trusted.with_revocations(loaded(revoking("root1", "root3")))
    both = frozenset(CAST.ids[name] for name in ("operator1", "operator2"))
    for at in (BEFORE, NOW, "2026-12-01T00:00:00.000000Z"):
        with pytest.raises(RefusedError, match="key-revoked"):
            trusted.check("campaign", both, CENTRE, at)
    trusted.check_withdrawn(sha("bad"), MEASURED, BEFORE)
    trusted.check_withdrawn(sha("good"), MEASURED, NOW)
    with pytest.raises(RefusedError, match="statement-revoked"):
        trusted.check_withdrawn(sha("bad"), MEASURED, NOW)


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("the same records", {}, "records-revoked"),
        ("fewer of them, or more", {"records_root": sha("other")}, "records-revoked"),
        ("the same root under another start", {"starts_at": AFTER}, "records-revoked"),
        ("the campaign run again", {"records_root": sha("other"), "starts_at": AFTER}, None),
        ("another campaign", {"records_root": sha("other"), "campaign_sha256": sha("other")}, None),
    ],
)
def test_a_statement_over_records_that_were_revoked_with_another(
    name: str, changes: dict[str, Any], code: str | None
) -> None:
    entry = Withdrawal(payload_sha256=sha("bad"), revoked_at=NOW, reason="a throttled clock", records=MEASURED)
    trusted = V1.trusted.with_revocations(loaded(revoking("root1", "root2", statements=(entry,))))
    again = replace(MEASURED, **changes)
    trusted.check_withdrawn(sha("reissued"), again, BEFORE)
    if code is None:
        trusted.check_withdrawn(sha("reissued"), again, NOW)
        return
    with pytest.raises(RefusedError) as refused:
        trusted.check_withdrawn(sha("reissued"), again, NOW)
    assert refused.value.code == code, name
    assert "a throttled clock" in refused.value.what


def test_a_later_list_takes_no_records_back_to_life() -> None:
    entry = Withdrawal(payload_sha256=sha("bad"), revoked_at=NOW, reason="x", records=MEASURED)
    alone = replace(entry, records=UNSET)
    both = loaded(revoking("root1", "root2", statements=(entry,)))
    trusted = V1.trusted.with_revocations(both).with_revocations(replace(both, statements=(alone,)))
    with pytest.raises(RefusedError, match="records-revoked"):
        trusted.check_withdrawn(sha("reissued"), MEASURED, NOW)


@pytest.mark.parametrize(
    ("dated", "holds"),
    [(None, False), ("2026-02-28T00:00:00.000000Z", True), (NOW, False), ("2026-06-01T00:00:00.000000Z", False)],
)
def test_what_somebody_else_dates_before_the_revocation_stays_signed(dated: str | None, holds: bool) -> None:
    """The people's keys are revoked from NOW on."""
    trusted = V1.trusted.with_revocations(loaded(revoking("root1", "root3")))
    both = frozenset(CAST.ids[name] for name in ("operator1", "operator2"))
    if holds:
        assert trusted.check("campaign", both, CENTRE, "2026-06-01T00:00:00.000000Z", attested_before=dated) == both
        return
    with pytest.raises(RefusedError, match="key-revoked"):
        trusted.check("campaign", both, CENTRE, "2026-06-01T00:00:00.000000Z", attested_before=dated)


def test_a_remembered_list_goes_on_revoking(tmp_path: Path) -> None:
    state, root, listed_file = tmp_path / "state", write(tmp_path, V1), tmp_path / "revocations.json"
    listed_file.write_bytes(revoking("root1", "root2", version=2))
    accepted = accept_files([root], NOW, state, V1.fingerprint, listed_file)
    assert accepted.not_checked == ()
    again = accept_files([root], NOW, state)
    assert CAST.ids["operator1"] in again.trusted.revoked
    assert again.not_checked == ()
    listed_file.write_bytes(revoking("root1", "root2"))
    with pytest.raises(RefusedError, match="revocations-rollback"):
        accept_files([root], NOW, state, None, listed_file)


# --- making roots ---

VALID, OWN = Validity(NOW, 366), Validity(BEFORE, 3660)


def test_versions_that_are_made_follow_each_other() -> None:
    public = {name: CAST[name].public for name in ("root1", "root2", "root3", "operator1", "node")}
    one = first("cn-made", [public["root1"], public["root2"]], 2, Validity(BEFORE, 366), OWN)
    two = with_key(following(one, VALID), public["operator1"], "operator", [CENTRE], None, OWN)
    three = rotated(following(two, VALID), [public["root3"]], [CAST.ids["root1"]], None, OWN)
    four = without_keys(following(three, VALID), [CAST.ids["operator1"]], NOW, "stolen")

    def signed(root: Any, *names: str) -> Root:
        payload = documents.make_document("trust-root", root)
        return read_root(dsse.seal(payload, documents.PAYLOAD_TYPE, [CAST[name] for name in names]))

    chain = [
        signed(one, "root1", "root2"),
        signed(two, "root1", "root2"),
        signed(three, "root1", "root2", "root3"),
        signed(four, "root2", "root3"),
    ]
    last = accept(chain, None, chain[0].fingerprint, NOW)
    assert [d.role for d in last.root.roles] == ["root", "operator"]
    assert CAST.ids["root1"] not in last.root.keys
    with pytest.raises(RefusedError, match="key-revoked"):
        last.trusted.check("campaign", frozenset([CAST.ids["operator1"]]), CENTRE, NOW)
    assert lacking(signed(three, "root2", "root3"), chain[1].trusted) == 1
    assert lacking(signed(three, "root1", "root2"), chain[1].trusted) == 1
    assert lacking(signed(three, "root1", "root2", "root3"), chain[1].trusted) == 0


def test_a_key_joins_those_that_hold_its_role() -> None:
    root = CAST.root()
    more = with_key(root, CAST["outsider"].public, "operator", [CENTRE], 3, OWN)
    (held,) = (d for d in more.roles if d.role == "operator" and d.centre_ids == (CENTRE,))
    assert (held.threshold, len(held.keys)) == (3, 3)
    assert with_key(root, CAST["outsider"].public, "registry", [], None, OWN).roles[-1].role == "registry"
    for role, centres in (("operator", []), ("witness", [CENTRE]), ("operator", [CENTRE, "wh-centre"])):
        with pytest.raises(RefusedError, match="trust-root-invalid"):
            with_key(root, CAST["outsider"].public, role, centres, None, OWN)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="key-two-roles"):
        with_key(root, CAST["node"].public, "witness", [], None, OWN)


def test_root_keys_change_only_as_such() -> None:
    root = CAST.root()
    with pytest.raises(InputError, match="key-unknown"):
        rotated(root, [], [CAST.ids["node"]], None, OWN)
    with pytest.raises(InputError, match="key-two-roles"):
        rotated(root, [CAST["root1"].public], [], None, OWN)
    with pytest.raises(RefusedError, match="trust-root-invalid"):  # two must sign, and one would be left
        rotated(root, [], [CAST.ids["root1"], CAST.ids["root2"]], None, OWN)
    with pytest.raises(InputError, match="key-two-roles"):
        first("cn-made", [CAST["root1"].public] * 2, 1, VALID, OWN)


def test_a_list_goes_on_from_the_one_before() -> None:
    one = listed(CAST.root(), None, [CAST.ids["node"]], {}, NOW, "lost", VALID)
    two = listed(CAST.root(), one, [], {sha("bad"): UNSET}, NOW, "a mistake", VALID)
    assert (two.version, len(two.revocations), len(two.statements)) == (2, 1, 1)
    with pytest.raises(RefusedError, match="revocations-invalid"):
        listed(CAST.root(), two, [CAST.ids["node"]], {}, NOW, "again", VALID)
    assert replace(two, version=1) != one


def test_records_that_turn_out_bad_are_added_to_what_was_revoked_alone() -> None:
    one = listed(CAST.root(), None, [], {sha("bad"): UNSET}, BEFORE, "wrong park", VALID)
    two = listed(CAST.root(), one, [], {sha("bad"): MEASURED}, NOW, "a throttled clock", VALID)
    (entry,) = two.statements
    assert (entry.records, entry.revoked_at, entry.reason) == (MEASURED, BEFORE, "wrong park")
    with pytest.raises(RefusedError, match="revocations-invalid"):  # they are there already
        listed(CAST.root(), two, [], {sha("bad"): MEASURED}, NOW, "again", VALID)


def test_a_second_signature_is_added_to_what_is_there() -> None:
    begun = made("root1")
    whole = read_root(dsse.countersign(begun.envelope, CAST["root2"]))
    assert whole.content == V1.content
    with pytest.raises(RefusedError, match="signature-duplicate"):
        dsse.countersign(begun.envelope, CAST["root1"])


@pytest.mark.parametrize("line", [b"{}\n", b"\n", b"{\n", b"{}\r", b"x"])
def test_a_file_of_millions_of_lines_is_refused_without_making_millions_of_them(line: bytes) -> None:
    content = line * (2**20)
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError) as refused:
            read_versions(content, "roots")
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.code in ("trust-root-chain", "json-invalid", "document-too-large")
    assert taken < 3 * len(content) + 2**20
