"""Proofs of inclusion: one record is shown to be a statement's without the others; every tampering has its code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import PetasealError
from bench.record import encode
from bench.units import utc_text
from certify.audit import proof
from certify.documents.caps import CAPS
from certify.trust.store import Anchor
from tests.bad_input.command import petaseal
from tests.certify.measured import Measured, measured, node_name

NODES = 5
AT = utc_text(1_900_000_000_000_000_000)


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    found = measured(tmp_path_factory.mktemp("centre"), NODES, 1, "smoke", ("fp16",))
    found.certify()
    return found


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    found = measured(tmp_path_factory.mktemp("other"), 2, 1, "smoke", ("fp16",))
    found.certify()
    return found


def statement(centre: Measured) -> Path:
    return centre.folder / "out" / "statement.dsse.json"


def made(centre: Measured, index: int = 2, records: Path | None = None) -> proof.Proof:
    return proof.make_proof(statement(centre), records or centre.folder / "out" / "records.jsonl", node_name(index))


def checked(centre: Measured, path: Path) -> proof.Proven:
    return proof.check_proof(path, statement(centre), Anchor(public_key=centre.public_key), AT, AT)


def code_of(centre: Measured, path: Path) -> str | None:
    try:
        checked(centre, path)
    except PetasealError as error:
        return error.code
    return None


@pytest.mark.parametrize("index", range(NODES))
def test_every_record_can_be_proven(centre: Measured, tmp_path: Path, index: int) -> None:
    for records in (None, centre.records):
        file = tmp_path / f"{'folder' if records else 'lines'}.json"
        proof.write_proof(made(centre, index, records), file)
        proven = checked(centre, file)
        assert proven.record.predicate.node_id == node_name(index)
        assert any("among those of the statement" in line for line in proof.describe(proven))
        assert json.loads(json.dumps(proof.as_json(proven)))["included"] is True
    lines = (centre.folder / "out" / "records.jsonl").read_bytes().splitlines(keepends=True)
    assert made(centre, index).record in lines  # the exact line, so that its own seal can be checked


def test_a_statement_of_one_record(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    one = measured(tmp_path / "one", 1, 1, "smoke", ("fp16",))
    one.certify()
    proof.write_proof(made(one, 0), tmp_path / "p.json")
    assert made(one, 0).audit_path == ()
    assert code_of(one, tmp_path / "p.json") is None


Value = dict[str, Any]


def swap(value: Value) -> None:
    path = value["audit_path"]
    path[0], path[1] = path[1], path[0]


def edit_record(value: Value) -> None:
    line = base64.b64decode(value["record"])
    place = line.index(b"payload") + 20
    value["record"] = base64.b64encode(
        line[:place] + (b"B" if line[place : place + 1] == b"A" else b"A") + line[place + 1 :]
    ).decode()


LIES: dict[str, tuple[Callable[[Value], object], str]] = {
    "another index": (lambda v: v.update(leaf_index=v["leaf_index"] ^ 1), "proof-invalid"),
    "an index outside": (lambda v: v.update(leaf_index=v["tree_size"]), "proof-invalid"),
    "a larger tree": (lambda v: v.update(tree_size=v["tree_size"] + 1), "proof-invalid"),
    "a smaller tree": (lambda v: v.update(tree_size=v["tree_size"] - 1), "proof-invalid"),
    "a step less": (lambda v: v["audit_path"].pop(), "proof-invalid"),
    "a step more": (lambda v: v["audit_path"].append("ab" * 32), "proof-invalid"),
    "another step": (lambda v: v["audit_path"].__setitem__(0, "ab" * 32), "proof-invalid"),
    "steps swapped": (swap, "proof-invalid"),
    "too many steps": (lambda v: v.update(audit_path=["ab" * 32] * 65), "proof-invalid"),
    "a step in capitals": (lambda v: v["audit_path"].__setitem__(0, "AB" * 32), "proof-invalid"),
    "another node": (lambda v: v.update(node_id=node_name(4)), "proof-invalid"),
    "another statement": (lambda v: v.update(statement_sha256="ab" * 32), "proof-differs"),
    "another kind": (lambda v: v.update(kind="urn:petaseal:record-proof/v0.1"), "proof-invalid"),
    "a field more": (lambda v: v.update(comment="x"), "proof-invalid"),
    "a field less": (lambda v: v.pop("tree_size"), "proof-invalid"),
    "an edited record": (edit_record, "not-canonical"),
    "a negative index": (lambda v: v.update(leaf_index=-1), "proof-invalid"),
    "a float": (lambda v: v.update(leaf_index=2.0), "proof-invalid"),
    "no record": (lambda v: v.update(record=""), "json-invalid"),
}


@pytest.mark.parametrize("lie", LIES)
def test_every_tampering_has_its_code(centre: Measured, tmp_path: Path, lie: str) -> None:
    change, expected = LIES[lie]
    proofs = (made(centre, index) for index in range(4))  # the last leaf of five is one step from the root
    value = json.loads(encode(next(one for one in proofs if len(one.audit_path) > 1)))
    change(value)
    (tmp_path / "p.json").write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    code = code_of(centre, tmp_path / "p.json")
    if lie == "an edited record":  # whatever the edit breaks first, the record's own seal or form
        assert code not in (None, "proof-invalid")
    else:
        assert code == expected


FORMS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda text: b"", "file-empty"),
    "brackets": (lambda text: b"[" * 100_000, "proof-invalid"),
    "spaces": (lambda text: text.replace(b":", b": ", 1), "proof-invalid"),
    "no newline": (lambda text: text[:-1], "proof-invalid"),
    "two newlines": (lambda text: text + b"\n", "proof-invalid"),
    "a key twice": (lambda text: b'{"kind":"x",' + text[1:], "proof-invalid"),
    "cut": (lambda text: text[:-20], "proof-invalid"),
    "not JSON": (lambda text: b"\xff\xfe" + text, "proof-invalid"),
    "too large": (lambda text: b" " * (CAPS.proof_bytes + 1), "file-too-large"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_proof_has_one_form(centre: Measured, tmp_path: Path, form: str) -> None:
    change, expected = FORMS[form]
    (tmp_path / "p.json").write_bytes(change(encode(made(centre)) + b"\n"))
    assert code_of(centre, tmp_path / "p.json") == expected


def test_a_record_of_another_statement(centre: Measured, other: Measured, tmp_path: Path) -> None:
    """Another centre's record cannot be proven in, even under the right name and with a right path of its own."""
    theirs = made(other, 1)
    proof.write_proof(theirs, tmp_path / "theirs.json")
    assert code_of(centre, tmp_path / "theirs.json") == "proof-differs"
    value = json.loads(encode(made(centre, 1)))
    value["record"] = base64.b64encode(theirs.record).decode()
    (tmp_path / "mixed.json").write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    assert code_of(centre, tmp_path / "mixed.json") == "proof-invalid"


def test_another_key_does_not_do(centre: Measured, other: Measured, tmp_path: Path) -> None:
    proof.write_proof(made(centre), tmp_path / "p.json")
    with pytest.raises(PetasealError) as refused:
        proof.check_proof(tmp_path / "p.json", statement(centre), Anchor(public_key=other.public_key), AT, AT)
    assert refused.value.code == "key-not-trusted"


def test_records_of_another_statement_prove_nothing(centre: Measured, other: Measured) -> None:
    with pytest.raises(PetasealError) as refused:
        made(centre, 1, other.folder / "out" / "records.jsonl")
    assert refused.value.code == "records-root"


def test_the_commands(centre: Measured, tmp_path: Path) -> None:
    out, file = centre.folder / "out", tmp_path / "p.json"
    proved = petaseal("audit", "prove", out, "--node", node_name(3), "--out", file)
    assert (proved.status, proved.err) == (0, "")
    again = petaseal("audit", "prove", out, "--node", node_name(3), "--out", file)
    assert (again.status, again.code) == (2, "output-exists")
    nobody = petaseal("audit", "prove", out, "--node", "nobody", "--out", tmp_path / "q.json")
    assert (nobody.status, nobody.code) == (2, "unknown-name")
    good = petaseal("audit", "check", file, "--statement", statement(centre), "--public-key", centre.public_key)
    assert (good.status, good.err) == (0, "")
    assert f"node {node_name(3)}" in good.out
    keyless = petaseal("audit", "check", file, "--statement", statement(centre))
    assert (keyless.status, keyless.code) == (2, "trust-missing")
