"""What is fuzzed: one function for each parser, from bytes to nothing.

A target raises `PetasealError` where the bytes are refused, and nothing else but an `AssertionError`, a defect: what is
accepted has one byte form, is accepted again as the same value, and says the same to another parser.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import tempfile
import unicodedata
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn, get_args

import msgspec

from bench.errors import InputError, PetasealError, RefusedError
from bench.profile import load_profile
from bench.record import Campaign, Profile, Tool, Window, encode, parse_yaml
from bench.units import utc_ns, utc_text
from certify.audit.proof import Proof, check_proof
from certify.documents import dsse
from certify.documents import kinds as documents
from certify.documents.caps import CAPS
from certify.documents.evidence import BusRun, SolveRun
from certify.documents.kinds import DOCUMENTS, PAYLOAD_TYPE, Baseline, make_document, parse_payload
from certify.documents.merkle import leaf_hash, node_hash, prove, verify_inclusion
from certify.evidence.output import Family, is_refused
from certify.evidence.reading import read_output
from certify.keys import files as keys
from certify.keys.signers import keyid, pem_text, public_key
from certify.policy.centre import load_centre
from certify.policy.policies import load_policy
from certify.policy.ratings import decode_ratings, load_ratings
from certify.samples import table
from certify.statement import package
from certify.statement.paper import contents
from certify.statement.paper.opening import ChildAnswer
from certify.statement.paper.qr import QrCode
from certify.statement.records import Chunk, chunks_of, envelopes
from certify.trust import root as trust_root
from certify.trust.opening import Verifier
from certify.trust.store import Anchor
from certify.trust.trusted_set import TrustedSet
from tests.certify.signed import NOW
from tests.fuzz.fixed import (
    MESSAGE,
    SM2_SIGNATURE,
    SM2_SPKI,
    fixed_key,
    fixed_root,
    place,
    proven_records,
    proven_statement,
    write,
)

Target = Callable[[bytes], None]

# Documents


def envelope(data: bytes) -> None:
    """An envelope is its canonical JSON and at most one newline."""
    parsed = dsse.parse_envelope(data, CAPS.record_bytes)
    body = encode(parsed)
    assert data in (body, body + b"\n")
    assert dsse.parse_envelope(body, CAPS.record_bytes) == parsed


def payload(name: str, data: bytes) -> None:
    """A payload is what one would make of its own content, and the same to a parser that is not petaseal's."""
    opened = parse_payload(name, data)
    own = DOCUMENTS[name].digest == "predicate"
    assert make_document(name, opened.predicate, None if own else opened.subject_digest) == data
    assert opened.payload_sha256 == hashlib.sha256(data).hexdigest()
    _check_json(data)


def canonical_value(data: bytes) -> None:
    """A value of several small types, each of which decides alone."""
    refusals = []
    for kind in (Tool, Window, documents.Subject, Campaign):
        try:
            value: Any = dsse.decode(data, kind)
        except RefusedError as error:
            refusals.append(error)
            continue
        assert encode(value) == data
        assert dsse.decode(data, kind) == value
        _check_json(data)
    if len(refusals) == 4:
        raise refusals[0]


def sealed_own(name: str, data: bytes) -> None:
    """A payload that a node itself sealed, opened as its record or heartbeat."""
    key = fixed_key("node")
    content = dsse.seal(data, PAYLOAD_TYPE, [key])
    opened = Verifier(TrustedSet.single(fixed_key("operator").public), NOW).node_document(name, content)
    assert (opened.payload, set(opened.signers), opened.self_asserted) == (data, {key.public.keyid}, True)


def sealed_root(data: bytes) -> None:
    """A payload that the holder of a root key sealed, read as a trust root."""
    root = trust_root.read_root(dsse.seal(data, PAYLOAD_TYPE, [fixed_key("root")]))
    trust_root.check_self_signed(root, NOW)
    assert fixed_key("root").public.keyid in root.root.keys
    assert make_document("trust-root", root.root) == data
    assert root.fingerprint == hashlib.sha256(data).hexdigest()


def sealed_revocations(data: bytes) -> None:
    """A payload that the holder of a root key sealed, read as a revocation list."""
    listed = trust_root.open_revocations(dsse.seal(data, PAYLOAD_TYPE, [fixed_key("root")]), _read_fixed_root())
    assert make_document("revocations", listed) == data


def _check_json(data: bytes) -> None:
    """Check by the standard library what canonical JSON is: RFC 8785 limited to integers, ASCII keys, NFC."""

    def no_number(text: str) -> NoReturn:
        raise AssertionError(f"the number {text}")

    def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        assert all(key.isascii() for key, _ in pairs)
        return dict(pairs)

    text = data.decode()
    value = json.loads(text, object_pairs_hook=no_key_twice, parse_float=no_number, parse_constant=no_number)
    assert json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == text
    assert unicodedata.is_normalized("NFC", text)
    assert all(abs(number) < 2**53 for number in _integers(value))


def _integers(value: Any) -> list[int]:
    if isinstance(value, dict | list):
        return [n for part in (value.values() if isinstance(value, dict) else value) for n in _integers(part)]
    return [value] if isinstance(value, int) else []


# Record lists, samples, packages


def record_list(data: bytes) -> None:
    """A list gives the same lines wherever it is cut; the first byte says into which shares."""
    size, content = data[0] + 1 if data else 1, data[1:]
    path = write("records.jsonl", content)
    shares, total = chunks_of(path)
    assert total == len(content)
    whole = [line for share in shares for _, line in envelopes(path, share)]
    assert b"".join(whole) == content
    assert all(line.count(b"\n") == line.endswith(b"\n") for line in whole)
    assert all(line.endswith(b"\n") for line in whole[:-1])
    if len(content) < 200 * size:  # each share opens the file
        cut = [Chunk((), at, min(at + size, total)) for at in range(0, total, size)]
        assert [line for share in cut for _, line in envelopes(path, share)] == whole


def sample_file(data: bytes) -> None:
    """A sidecar is what its rows make, to another reader of gzip too."""
    lines = [table.HEADER.decode(), *(line for rows in table.figures(data, Path("samples")) for line in rows.lines())]
    assert gzip.decompress(data).decode() == "\n".join(lines) + "\n"


def sample_table(data: bytes) -> None:
    """The same from the unpacked table, which a fuzzer would never get right through gzip."""
    sample_file(gzip.compress(data, 1, mtime=0))


def package_file(data: bytes) -> None:
    """A package has the members that another reader of tar finds, and packs again to the same ones."""
    with tempfile.TemporaryDirectory(dir=place()) as name:
        folder = Path(name) / "folder"
        folder.mkdir()
        package.unpack(io.BytesIO(data), folder)
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            theirs = {entry.name: archive.extractfile(entry) for entry in archive if entry.isfile()}
            assert {name: file.read() for name, file in theirs.items() if file} == found
        made = package.pack(folder, Path(name) / "again.tar")
        assert set(made.members) == set(found)
        with package.opened(made.path) as again:
            assert {name: (again / name).read_bytes() for name in found} == found


# Keys and signatures


def public_key_file(data: bytes) -> None:
    """A public key has one id, and is written in one way that is read as the same key."""
    loaded = keys.load_public(write("key.pub", data))
    again = keys.load_public(write("key.pub", pem_text(b"PUBLIC KEY", loaded.spki)))
    assert (again, again.keyid) == (loaded, keyid(loaded.spki))


def private_key_file(data: bytes) -> None:
    """A private key that loads signs, and its public half verifies that."""
    path = write("key.pem", data)
    path.chmod(0o600)
    key = keys.load_private(path)
    assert key.public.verify(key.sign(MESSAGE), MESSAGE)
    assert public_key(key.public.spki) == key.public


def spki(data: bytes) -> None:
    """A key has exactly the one SPKI that it was read from, and verifies nothing that it did not sign."""
    key = public_key(data)
    assert (key.spki, key.keyid) == (data, keyid(data))
    assert public_key(data, thorough=False) == key
    assert not key.verify(bytes(64), data)
    assert not key.verify(SM2_SIGNATURE, data)


def signature_ed25519(data: bytes) -> None:
    """One message has one signature, which Ed25519 makes without chance."""
    key = fixed_key("node")
    _check_signature(key.public.verify(data, MESSAGE), data, key.sign(MESSAGE))


def signature_sm2(data: bytes) -> None:
    """A signature that is known has no other encoding, and no other one can be made from it."""
    _check_signature(public_key(SM2_SPKI).verify(data, MESSAGE), data, SM2_SIGNATURE)


def _check_signature(good: bool, data: bytes, only: bytes) -> None:
    assert good == (data == only)
    if not good:
        raise RefusedError("signature-invalid", "does not hold")


@cache
def _read_fixed_root() -> trust_root.Root:
    return trust_root.read_root(dsse.seal(make_document("trust-root", fixed_root()), PAYLOAD_TYPE, [fixed_key("root")]))


# Configuration, times, proofs


def config(load: Callable[[str], Any], data: bytes) -> None:
    """A file is read twice as the same value, and that value is one of canonical JSON."""
    path = str(write("config.yaml", data))
    value = load(path)
    assert encode(load(path)) == encode(value)


def inventory(data: bytes) -> None:
    """The YAML of a baseline, which becomes a signed document or is refused."""
    value = parse_yaml(data, Baseline, "inventory")
    assert parse_payload("baseline", make_document("baseline", value)).predicate == value


def profile(data: bytes) -> None:
    """A profile whose arithmetic is checked besides."""
    config(load_profile, data)
    found = load_profile(str(write("config.yaml", data)))
    assert parse_yaml(encode(found), Profile, "profile") == found  # whatever lists of shapes it names, they stand in it


def ratings(data: bytes) -> None:
    """A table of ratings, in YAML or as a release keeps it, has one canonical form, which is read as the same table."""
    found = load_ratings(write("ratings.yaml", data))
    again = decode_ratings(found.content, "ratings")
    assert (again.content, again.digest) == (found.content, found.digest)


def time_text(data: bytes) -> None:
    """A time has one spelling, and texts are in the order of their times."""
    try:
        text = data.decode()
        moment = utc_ns(text)
    except ValueError as error:  # what `utc_ns` refuses with
        raise InputError("time-invalid", str(error)) from None
    assert utc_text(moment) == text
    assert (text < NOW) == (moment < utc_ns(NOW))


def merkle_proof(data: bytes) -> None:
    """A proof that holds is the one that is made from the leaves. Two bytes say which leaf of how many."""
    size, index = (data[0] % 33 + 1, data[1]) if len(data) > 1 else (1, 0)
    leaves = [bytes([n]) for n in range(size)]
    steps = [data[at : at + 32] for at in range(2, len(data), 32)]
    if not verify_inclusion(bytes([index]), index, size, steps, merkle_root(leaves)):
        raise RefusedError("proof-invalid", "does not hold")
    assert steps == prove(leaves, index)


def proof_file(data: bytes) -> None:
    """A proof that holds is that of a record which the statement has, and is in its one form."""
    statement, key = _proven()
    record = check_proof(write("proof.json", data), statement, Anchor(public_key=key), NOW, NOW).record
    payloads = [dsse.parse_envelope(line, len(line)).payload for line in proven_records()]
    assert record.payload in payloads
    stated = msgspec.json.decode(data, type=Proof)
    assert payloads[stated.leaf_index] == record.payload
    assert encode(stated) + b"\n" == data
    assert stated.record.rstrip(b"\n") + b"\n" in proven_records()


@cache
def _proven() -> tuple[Path, Path]:
    spki = fixed_key("operator").public.spki
    return proven_statement(), write("operator.pem.pub", pem_text(b"PUBLIC KEY", spki))


def merkle_root(leaves: list[bytes]) -> bytes:
    """Return the tree hash as RFC 6962 section 2.1 defines it."""
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(merkle_root(leaves[:split]), merkle_root(leaves[split:]))


# Paper


def pdf_file(data: bytes) -> None:
    """What is attached to a PDF is the same whenever it is read, and whatever is no PDF is said to be none.

    The verifier does this in a process of its own; here a fault of the library ends the fuzzer, which then reports it.
    """
    said, statement = contents.answer(data)
    if (fault := said.get("fault")) is not None:
        raise RefusedError("pdf-encrypted" if fault == "encrypted" else "pdf-invalid", str(said.get("why", fault)))
    assert contents.answer(data) == (said, statement)
    assert msgspec.convert(said, ChildAnswer).statements or not statement


def qr_code(data: bytes) -> None:
    """A code has one text."""
    code = QrCode.parse(data.decode(errors="surrogateescape"))
    assert ":".join(("PETASEAL1:sha256", *code)).encode() == data


# Other tools' output


def tool_output(family: Family, data: bytes) -> None:
    """An output is read the same with other line ends; what is read fits into a document."""
    output = read_output(family, data, "output")
    if family != "nccl-tests":  # whose JSON may have line ends within
        assert read_output(family, data.replace(b"\n", b"\r\n"), "output") == output
    for run in (*output.runs, *output.failed):
        assert msgspec.json.decode(encode(run), type=SolveRun) == run
        assert is_refused(run.codes) == (run in output.failed)
    for bus in output.buses:
        assert msgspec.json.decode(encode(bus), type=BusRun) == bus
    assert output.runs or output.failed or output.buses
    assert 0 < len(output.tool) <= 256


TARGETS: dict[str, Target] = {
    "envelope": envelope,
    **{f"payload-{name}": partial(payload, name) for name in DOCUMENTS},
    "canonical": canonical_value,
    "sealed-record": partial(sealed_own, "node-record"),
    "sealed-heartbeat": partial(sealed_own, "heartbeat"),
    "sealed-root": sealed_root,
    "sealed-revocations": sealed_revocations,
    "record-list": record_list,
    "sample-file": sample_file,
    "sample-table": sample_table,
    "package": package_file,
    "public-key": public_key_file,
    "private-key": private_key_file,
    "spki": spki,
    "signature-ed25519": signature_ed25519,
    "signature-sm2": signature_sm2,
    "centre": partial(config, load_centre),
    "policy": partial(config, load_policy),
    "profile": profile,
    "ratings": ratings,
    "inventory": inventory,
    "time": time_text,
    "merkle": merkle_proof,
    "proof": proof_file,
    "pdf": pdf_file,
    "qr": qr_code,
    **{f"output-{family}": partial(tool_output, family) for family in get_args(Family)},
}


def accepts(target: Target, data: bytes) -> bool:
    """Return whether a target accepts an input; anything but a refusal is raised."""
    try:
        target(data)
    except PetasealError as error:
        refusal = error
    else:
        return True
    assert refusal.code
    assert "\n" not in str(refusal)
    return False
