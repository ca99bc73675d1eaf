"""``petaseal trust`` as its users give it: two root keys in two hands, an operator, a witness, a theft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from certify.keys.files import load_public, new_key
from tests.bad_input.command import Answer, petaseal
from tests.certify.measured import CENTRE_ID, Measured, measured

PEOPLE = ("a", "b", "c", "witness", "node")


class Hands:
    """The people's key files, and the trust root that they make together."""

    def __init__(self, folder: Path, centre: Measured) -> None:
        self.folder = folder
        for name in PEOPLE:
            new_key(folder / f"{name}.pem", None)
        (folder / "operator.pem").write_bytes(centre.key.read_bytes())
        (folder / "operator.pem").chmod(0o600)
        (folder / "operator.pem.pub").write_bytes(centre.public_key.read_bytes())

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    def id_of(self, name: str) -> str:
        return load_public(self[f"{name}.pem.pub"]).keyid

    def keys(self, *names: str) -> tuple[object, ...]:
        return tuple(part for name in names for part in ("--key", self[f"{name}.pem"]))

    def trust(self, command: str, *args: object, by: tuple[str, ...] = (), out: str | None = None) -> Answer:
        made = ("--out", self[out]) if out else ()
        return petaseal("trust", command, *args, *self.keys(*by), *made)

    def good(self, command: str, *args: object, by: tuple[str, ...] = (), out: str | None = None) -> Any:
        answer = self.trust(command, *args, "--json", by=by, out=out)
        assert (answer.status, answer.err) == (0, ""), answer.err
        return json.loads(answer.out)

    def begin(self) -> str:
        """Make version 1 with two root keys, and 2 and 3 with an operator and a witness; return 1's fingerprint."""
        roots = ("--root", self["a.pem.pub"], "--root", self["b.pem.pub"], "--threshold", 2)
        fingerprint: str = self.good("init", "--id", "cn-test", *roots, by=("a", "b"), out="1.json")["fingerprint"]
        operator = ("--role", "operator", "--centre", CENTRE_ID, "--public-key", self["operator.pem.pub"])
        self.good("add", self["1.json"], *operator, by=("a", "b"), out="2.json")
        witness = ("--role", "witness", "--public-key", self["witness.pem.pub"])
        self.good("add", self["2.json"], *witness, by=("a", "b"), out="3.json")
        return fingerprint


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    place = measured(tmp_path_factory.mktemp("centre"), nodes=1, devices=1, precisions=("fp16",))
    place.certify()
    return place


@pytest.fixture
def hands(tmp_path: Path, centre: Measured) -> Hands:
    return Hands(tmp_path, centre)


def verifying(centre: Measured, *more: object) -> Answer:
    out = centre.folder / "out"
    told = ("verify", out / "statement.dsse.json", "--records", out / "records.jsonl", "--accept-simulated")
    return petaseal(*told, *more)


def test_from_two_hands_to_a_trusted_statement(centre: Measured, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = hands.begin()
    monkeypatch.setenv("PETASEAL_STATE", str(hands.folder / "verifier"))  # the keepers know their own root
    answer = verifying(centre, "--trust", hands["3.json"], "--require", "trusted")
    assert (answer.code, answer.status) == ("trust-root-unpinned", 1)
    versions = (hands["1.json"], hands["2.json"], hands["3.json"])
    accepted = hands.good("verify", *versions, "--fingerprint", fingerprint)
    assert (accepted["version"], accepted["trust_id"]) == (3, "cn-test")
    answer = verifying(centre, "--trust", hands["3.json"], "--require", "trusted", "--json")
    assert answer.status == 0, answer.err
    assert json.loads(answer.out)["trust_root"].startswith("cn-test, version 3, fingerprint ")
    assert verifying(centre, "--trust", hands["2.json"]).code == "trust-root-rollback"


def test_a_fingerprint_given_with_verify_is_enough_and_is_remembered(centre: Measured, hands: Hands) -> None:
    hands.begin()
    told = hands.good("show", hands["3.json"])["fingerprint"]
    assert verifying(centre, "--trust", hands["3.json"], "--fingerprint", told.upper()).status == 0
    assert verifying(centre, "--trust", hands["3.json"]).status == 0
    wrong = verifying(centre, "--trust", hands["3.json"], "--fingerprint", "ab" * 32)
    assert (wrong.code, wrong.status) == ("trust-root-fingerprint", 1)
    nonsense = verifying(centre, "--trust", hands["3.json"], "--fingerprint", "abc")
    assert (nonsense.code, nonsense.status) == ("usage", 2)


def test_signatures_are_added_one_hand_after_the_other(hands: Hands) -> None:
    roots = ("--root", hands["a.pem.pub"], "--root", hands["b.pem.pub"], "--threshold", 2)
    begun = hands.good("init", "--id", "cn-test", *roots, by=("a",), out="1.json")
    assert begun["signatures_lacking"] == 1
    told = ("--fingerprint", begun["fingerprint"])
    assert hands.trust("verify", hands["1.json"], *told).code == "trust-root-signatures"
    refused = hands.trust(
        *("add", hands["1.json"], "--role", "witness", "--public-key", hands["witness.pem.pub"], *told),
        by=("a",),
        out="2.json",
    )
    assert (refused.code, refused.status) == ("trust-root-signatures", 1)
    signed = hands.good("sign", hands["1.json"], by=("b",))
    assert (len(signed["signers"]), signed["fingerprint"]) == (2, begun["fingerprint"])
    assert hands.good("verify", hands["1.json"], *told)["version"] == 1
    assert hands.trust("sign", hands["1.json"], by=("b",)).code == "signature-duplicate"
    before = hands["1.json"].read_bytes()
    assert hands.trust("sign", hands["nothing.json"], by=("b",)).code == "file-missing"
    assert hands["1.json"].read_bytes() == before


def test_nothing_but_roots_and_lists_is_signed(centre: Measured, hands: Hands) -> None:
    statement = centre.folder / "out" / "statement.dsse.json"
    before = statement.read_bytes()
    answer = hands.trust("sign", statement, by=("a",))
    assert (answer.code, answer.status) == ("predicate-type-wrong", 1)
    assert statement.read_bytes() == before
    assert hands.trust("show", statement).code == "predicate-type-wrong"


def test_root_keys_change_hands(hands: Hands) -> None:
    fingerprint = hands.begin()
    change = (hands["3.json"], "--add", hands["c.pem.pub"], "--remove", hands.id_of("a"))
    made = hands.good("rotate", *change, by=("b", "c"), out="4.json")
    assert made["signatures_lacking"] == 1  # the old threshold is a and b
    versions = [hands[f"{i}.json"] for i in (1, 2, 3, 4)]
    told = ("--fingerprint", fingerprint)
    assert hands.trust("verify", *versions, *told).code == "trust-root-signatures"
    hands.good("sign", hands["4.json"], by=("a",))
    assert hands.good("verify", *versions, *told)["version"] == 4
    with_old = ("--role", "witness", "--public-key", hands["node.pem.pub"])
    assert hands.good("add", hands["4.json"], *with_old, by=("a", "b"), out="5.json")["signatures_lacking"] == 1
    assert hands.trust("verify", hands["5.json"]).code == "trust-root-signatures"


def test_a_stolen_key(centre: Measured, hands: Hands) -> None:
    hands.begin()
    told = ("--fingerprint", hands.good("show", hands["3.json"])["fingerprint"])
    assert verifying(centre, "--trust", hands["3.json"], *told).status == 0
    theft = ("--reason", "laptop stolen")
    hands.good("revoke", hands["3.json"], hands.id_of("operator"), *theft, by=("a", "b"), out="4.json")
    answer = verifying(centre, "--trust", hands["4.json"])
    assert (answer.code, answer.status) == ("key-revoked", 1)
    assert "laptop stolen" in answer.err
    assert verifying(centre, "--trust", hands["3.json"]).code == "trust-root-rollback"


def test_a_revocation_list(centre: Measured, hands: Hands) -> None:
    hands.begin()
    told = ("--fingerprint", hands.good("show", hands["3.json"])["fingerprint"])
    report = verifying(centre, "--trust", hands["3.json"], *told, "--json")
    payload = json.loads(report.out)["payload_sha256"]
    why = ("--list", "--reason", "measured in error")
    hands.good("revoke", hands["3.json"], hands.id_of("node"), *why, by=("a", "b"), out="r1.json")
    ok = verifying(centre, "--trust", hands["3.json"], "--revocations", hands["r1.json"], "--json")
    assert ok.status == 0, ok.err
    assert not any("revoked since" in what for what in json.loads(ok.out)["not_checked"])
    more = ("--statement", payload, "--reissue-allowed", "--previous", hands["r1.json"])
    made = hands.good("revoke", hands["3.json"], *more, *why, by=("a", "b"), out="r2.json")
    assert (made["predicate"]["version"], len(made["predicate"]["revocations"])) == (2, 1)
    answer = verifying(centre, "--trust", hands["3.json"], "--revocations", hands["r2.json"])
    assert (answer.code, answer.status) == ("statement-revoked", 1)
    assert verifying(centre, "--trust", hands["3.json"]).code == "statement-revoked"  # it is remembered
    assert verifying(centre, "--trust", hands["3.json"], "--revocations", hands["r1.json"]).code == (
        "revocations-rollback"
    )


WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "root as a role": (("add", "3.json", "--role", "root", "--public-key", "c.pem.pub"), "usage"),
    "unknown role": (("add", "3.json", "--role", "king", "--public-key", "c.pem.pub"), "usage"),
    "operator of no centre": (
        ("add", "3.json", "--role", "operator", "--public-key", "c.pem.pub"),
        "trust-root-invalid",
    ),
    "witness of a centre": (
        ("add", "3.json", "--role", "witness", "--centre", "x", "--public-key", "c.pem.pub"),
        "trust-root-invalid",
    ),
    "a root key as a witness": (("add", "3.json", "--role", "witness", "--public-key", "a.pem.pub"), "key-two-roles"),
    "a private key where a public one belongs": (
        ("add", "3.json", "--role", "witness", "--public-key", "c.pem"),
        "private-key-given",
    ),
    "a centre that is no name": (
        ("add", "3.json", "--role", "operator", "--centre", "../x", "--public-key", "c.pem.pub"),
        "usage",
    ),
    "revoke nothing": (("revoke", "3.json", "--reason", "x"), "usage"),
    "revoke no id": (("revoke", "3.json", "zz", "--reason", "x"), "usage"),
    "revoke an unknown key": (("revoke", "3.json", "ab" * 32, "--reason", "x"), "key-unknown"),
    "revoke a statement without a list": (("revoke", "3.json", "--statement", "ab" * 32, "--reason", "x"), "usage"),
    "revoke a digest, whose records nobody knows": (
        ("revoke", "3.json", "--statement", "ab" * 32, "--list", "--reason", "x"),
        "usage",
    ),
    "revoke a file that is no statement": (
        ("revoke", "3.json", "--statement", "2.json", "--list", "--reason", "x"),
        "predicate-type-wrong",
    ),
    "a time in words": (("revoke", "3.json", "ab" * 32, "--reason", "x", "--revoked-at", "yesterday"), "time-invalid"),
    "a reason that is no text": (("revoke", "3.json", "ab" * 32, "--reason", "\udcff"), "usage"),
    "a reason of two lines": (("revoke", "3.json", "ab" * 32, "--reason", "a\nb"), "usage"),
    "remove a stranger": (("rotate", "3.json", "--remove", "ab" * 32), "key-unknown"),
    "too high a threshold": (("rotate", "3.json", "--threshold", "3"), "trust-root-invalid"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_changes_nothing(hands: Hands, name: str) -> None:
    hands.begin()
    args, expected = WRONG[name]
    paths = {f.name for f in hands.folder.iterdir()}
    answer = hands.trust(*(str(hands[str(a)]) if a in paths else a for a in args), by=("a", "b"), out="new.json")  # type: ignore[arg-type]
    assert answer.code == expected
    assert answer.status == (1 if expected in ("trust-root-invalid", "predicate-type-wrong") else 2)
    assert not hands["new.json"].exists()


def test_what_is_there_is_never_overwritten(hands: Hands) -> None:
    hands.begin()
    before = hands["2.json"].read_bytes()
    answer = hands.trust("rotate", hands["3.json"], by=("a", "b"), out="2.json")
    assert (answer.code, answer.status) == ("output-exists", 2)
    assert hands["2.json"].read_bytes() == before


def test_a_keeper_changes_no_root_that_a_stranger_hands_him(hands: Hands) -> None:
    """One of the same id and number, with a root key of the stranger's own: the keeper would have signed for it."""
    hands.begin()
    roots = ("--root", hands["a.pem.pub"], "--root", hands["c.pem.pub"])
    stranger = petaseal("trust", "init", "--id", "cn-test", *roots, *hands.keys("c"), "--out", hands["theirs.json"])
    assert stranger.code == "trust-root-rollback"  # even its maker's own memory refuses it
    change = ("--role", "registry", "--public-key", hands["node.pem.pub"])
    refused = hands.trust("add", hands["theirs.json"], *change, by=("a",), out="new.json")
    assert (refused.code, refused.status) == ("trust-root-rollback", 1)
    assert not hands["new.json"].exists()


def test_a_list_goes_on_after_the_root_keys_have_changed_hands(centre: Measured, hands: Hands) -> None:
    hands.begin()
    why = ("--list", "--reason", "lost")
    hands.good("revoke", hands["3.json"], hands.id_of("node"), *why, by=("a", "b"), out="r1.json")
    change = (hands["3.json"], "--add", hands["c.pem.pub"], "--remove", hands.id_of("b"))
    hands.good("rotate", *change, by=("a", "b", "c"), out="4.json")
    hands.good("rotate", hands["4.json"], by=("a", "c"), out="5.json")
    made = hands.good("revoke", hands["5.json"], "ab" * 32, *why, by=("a", "c"), out="r2.json")
    assert (made["predicate"]["version"], len(made["predicate"]["revocations"])) == (2, 2)
    told = ("--trust", hands["5.json"], "--revocations", hands["r2.json"])
    assert verifying(centre, *told).status == 0


def test_a_statement_is_revoked_by_its_file(centre: Measured, hands: Hands) -> None:
    hands.begin()
    file = centre.folder / "out" / "statement.dsse.json"
    why = ("--list", "--reason", "measured in error", "--statement", file)
    hands.good("revoke", hands["3.json"], *why, by=("a", "b"), out="r1.json")
    answer = verifying(centre, "--trust", hands["3.json"], "--revocations", hands["r1.json"])
    assert (answer.code, answer.status) == ("statement-revoked", 1)


@pytest.mark.parametrize("reissue", [False, True])
def test_whether_a_revoked_statement_may_be_issued_again(
    centre: Measured, hands: Hands, tmp_path: Path, reissue: bool
) -> None:
    hands.begin()
    file = centre.folder / "out" / "statement.dsse.json"
    why = ("--list", "--reason", "measured in error", "--statement", file, *(["--reissue-allowed"] if reissue else []))
    hands.good("revoke", hands["3.json"], *why, by=("a", "b"), out="r1.json")
    shown = hands.trust("show", hands["r1.json"]).out
    assert ("its records: revoked with it" in shown) is not reissue
    again = centre.certify(tmp_path / "again", sequence=2, previous=file)
    told = ("verify", again.out, "--accept-simulated", "--trust", hands["3.json"])
    answer = petaseal(*told, "--revocations", hands["r1.json"])
    assert answer.status == int(not reissue), answer.err
    assert reissue or answer.code == "records-revoked"
    assert reissue or "measure again" in answer.err
    assert reissue or petaseal(*told).code == "records-revoked"  # it is remembered


def test_no_more_signatures_than_anybody_reads(hands: Hands) -> None:
    for i in range(9):
        new_key(hands[f"k{i}.pem"], None)
    roots = [part for i in range(9) for part in ("--root", hands[f"k{i}.pem.pub"])]
    eight = [part for i in range(8) for part in ("--key", hands[f"k{i}.pem"])]
    hands.good("init", "--id", "cn-many", *roots, *eight, out="many.json")
    before = hands["many.json"].read_bytes()
    assert hands.trust("sign", hands["many.json"], "--key", hands["k8.pem"]).code == "signature-too-many"
    assert hands["many.json"].read_bytes() == before
    refused = hands.trust("init", "--id", "cn-nine", *roots, *eight, "--threshold", 9, out="nine.json")
    assert refused.code == "trust-root-invalid"


def test_a_signature_that_nobody_checked_is_not_called_one(hands: Hands) -> None:
    hands.begin()
    hands.good("revoke", hands["3.json"], hands.id_of("node"), "--list", "--reason", "x", by=("a", "b"), out="r.json")
    forged = json.loads(hands["r.json"].read_bytes())
    forged["signatures"][0]["sig"] = "A" * 86 + "=="
    hands["forged.json"].write_text(json.dumps(forged, sort_keys=True, separators=(",", ":")))
    told = hands.trust("show", hands["forged.json"]).out
    assert "signed by" not in told
    assert told.count("NOT CHECKED without its root") == 2


def test_people_can_read_a_root(hands: Hands) -> None:
    hands.begin()
    lines = hands.trust("show", hands["3.json"]).out
    for text in ("version 3", f"operator for {CENTRE_ID}: 1 of 1", "root: 2 of 2", hands.id_of("witness")):
        assert text in lines
    assert lines.count("signed by ") == 2


def test_many_keys_become_one_version_or_none(hands: Hands) -> None:
    hands.begin()
    rows = ["role,centre,public_key,valid_until,threshold"]
    for i in range(40):
        new_key(hands[f"op-{i}.pem"], None)
        rows.append(f"operator,gz-{i},op-{i}.pem.pub,{'2126-12-31' if i else ''},")
    rows.append("node,gz-1 gz-2,node.pem.pub,2126-12-31T08:00:00.000000Z,1")
    hands["keys.csv"].write_text("\r\n".join([*rows, ",,,,", ""]), "utf-8-sig")
    made = hands.good("add", hands["3.json"], "--keys", hands["keys.csv"], by=("a", "b"), out="4.json")
    roles = {tuple(role["centre_ids"] or ()): role for role in made["predicate"]["roles"] if role["role"] == "operator"}
    assert len(roles) == 41
    assert made["predicate"]["version"] == 4
    (keyid,) = roles[("gz-7",)]["keys"]
    assert keyid == hands.id_of("op-7")
    assert made["predicate"]["keys"][keyid]["valid_until"] == "2126-12-31T00:00:00.000000Z"
    assert hands.good("verify", hands["4.json"])["version"] == 4
    new_key(hands["extra.pem"], None)
    for row, code, said in (
        ("king,,c.pem.pub,,", "table-invalid", "the role 'king' is none of"),
        ("root,,c.pem.pub,,", "table-invalid", "the role 'root' is none of"),
        ("operator,,c.pem.pub,,", "table-invalid", "a key of role operator needs a centre"),
        ("witness,gz-1,c.pem.pub,,", "table-invalid", "a key of role witness is of no centre"),
        ("operator,GZ,c.pem.pub,,", "table-invalid", "'GZ' is not a name of a centre"),
        ("operator,gz-99 gz-99,c.pem.pub,,", "table-invalid", "names one centre twice"),
        ("operator,gz-99,missing.pub,,", "file-missing", "missing.pub: no such file"),
        ("operator,gz-99,,,", "table-invalid", "names no file of a public key"),
        ("operator,gz-99,c.pem.pub,soon,", "table-invalid", "the time 'soon' is neither a date"),
        ("operator,gz-99,c.pem.pub,2020-01-01,", "table-invalid", "which is past"),
        ("operator,gz-99,c.pem.pub,,9", "table-invalid", "the threshold '9' is no number from 1 to 8"),
        ("operator,gz-99,op-3.pem.pub,,", "key-two-roles", "is in the trust root already"),
        ("operator,gz-98 gz-3,c.pem.pub,,", "trust-root-invalid", "speak for gz-3 together with gz-3 already"),
    ):
        hands["more.csv"].write_text(f"{rows[0]}\nwitness,,extra.pem.pub,,\n{row}\n")
        answer = hands.trust("add", hands["4.json"], "--keys", hands["more.csv"], by=("a", "b"), out="5.json")
        assert (answer.code, "more.csv, row 3: " in answer.err, said in answer.err) == (code, True, True), answer.err
        assert not hands["5.json"].exists()


def test_a_table_of_keys_stands_in_place_of_one(hands: Hands) -> None:
    hands.begin()
    hands["keys.csv"].write_text("role,centre,public_key\nnode,gz-1,node.pem.pub\n")
    both = ("--keys", hands["keys.csv"], "--role", "node")
    assert hands.trust("add", hands["3.json"], *both, by=("a", "b"), out="4.json").code == "usage"
    assert hands.trust("add", hands["3.json"], "--role", "node", by=("a", "b"), out="4.json").code == "usage"
    hands["keys.csv"].write_text("rolle,centre,public_key\nnode,gz-1,node.pem.pub\n")
    answer = hands.trust("add", hands["3.json"], *both[:2], by=("a", "b"), out="4.json")
    assert answer.code == "table-invalid"
    hands["keys.csv"].write_bytes(b"role,centre,public_key\nnode,\xff,node.pem.pub\n")
    assert hands.trust("add", hands["3.json"], *both[:2], by=("a", "b"), out="4.json").code == "table-invalid"


def test_several_versions_in_one_file(
    hands: Hands, centre: Measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Wherever a root is read; a keeper's change goes on from the last of them."""
    fingerprint = hands.begin()
    whole = b"".join(hands[f"{i}.json"].read_bytes() for i in (1, 2, 3))
    hands["chain.json"].write_bytes(whole)
    shown = hands.good("show", hands["chain.json"])
    assert (shown["predicate"]["version"], [one["version"] for one in shown["versions_before"]]) == (3, [1, 2])
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "elsewhere"))
    assert hands.trust("verify", hands["chain.json"]).code == "trust-root-unpinned"
    assert hands.good("verify", hands["chain.json"], "--fingerprint", fingerprint)["version"] == 3
    key = ("--role", "node", "--centre", CENTRE_ID, "--public-key", hands["node.pem.pub"])
    hands.good("add", hands["chain.json"], *key, by=("a",), out="4.json")
    hands["chain.json"].write_bytes(whole + hands["4.json"].read_bytes())
    assert hands.trust("verify", hands["chain.json"]).code == "trust-root-signatures"
    hands.good("sign", hands["chain.json"], by=("b",))
    assert hands["chain.json"].read_bytes().startswith(whole)
    assert hands.good("verify", hands["chain.json"])["version"] == 4
    assert verifying(centre, "--trust", hands["chain.json"]).status == 0
    # the newest fingerprint alone is enough: what lies before it in the file is not looked at
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "third"))
    last = shown["fingerprint"]
    assert hands.good("verify", hands["chain.json"], "--fingerprint", last)["version"] == 4
    hands["gap.json"].write_bytes(b"".join(hands[f"{i}.json"].read_bytes() for i in (1, 3)))
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "fourth"))
    assert hands.trust("verify", hands["gap.json"], "--fingerprint", fingerprint).code == "trust-root-skipped"
