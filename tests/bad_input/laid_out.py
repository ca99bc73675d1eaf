"""A measured centre to spoil, and the commands that must then say no."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bench.profile import load_profile
from bench.record import Figure, NodeRecord
from certify.documents.dsse import parse_envelope, seal
from certify.documents.kinds import PAYLOAD_TYPE, parse_payload
from certify.keys.signers import PrivateKey, load_scheme
from tests.bad_input.command import Answer, contents, petaseal
from tests.certify import measured as m
from tests.certify.measured import Measured, measured

LIMIT = 2**26
Change = Callable[[bytes], bytes]


def certified(centre: Measured, *more: object) -> Answer:
    """Certify a centre; an answer of no must leave the centre's folder as it was, and nothing in OUT."""
    before = contents(centre.folder)
    answer = petaseal(
        "certify",
        centre.records,
        *("--centre", centre.centre, "--key", centre.key, "--campaign", centre.campaign),
        *("--out", centre.folder / "out", *more),
    )
    if answer.status:
        assert answer.out == ""
        assert contents(centre.folder) == before
    return answer


def verified(centre: Measured, *more: object, key: bool = True) -> Answer:
    """Verify a centre's statement, which must leave everything as it was."""
    before = contents(centre.folder)
    out = centre.folder / "out"
    answer = petaseal(
        *("verify", out / "statement.dsse.json", "--records", out / "records.jsonl", "--accept-simulated"),
        *(("--public-key", centre.public_key) if key else ()),
        *more,
    )
    assert contents(centre.folder) == before
    return answer


def laid_out(place: Path, nodes: int = 2) -> Measured:
    """Return a measured centre: a copy of one that is measured once."""
    shutil.copytree(_template(nodes, False), place, dirs_exist_ok=True)
    return Measured.at(place)


def stated(place: Path) -> Measured:
    """Return a measured centre with its statement: a copy of one that is made once."""
    shutil.copytree(_template(2, True), place, dirs_exist_ok=True)
    return Measured.at(place)


@cache
def _template(nodes: int, with_statement: bool) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="petaseal-laid-out-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    centre = measured(folder, nodes=nodes)
    if with_statement:
        assert certified(centre).status == 0
    return folder


@cache
def samples() -> bytes:
    """Return the samples of every node of `laid_out`."""
    return m.simulated(2, "standard", ("fp16", "fp64")).samples


def widened(devices: int) -> Callable[[int, NodeRecord], NodeRecord]:
    """Return a change that gives the record of one device more of them, each with a figure and an identity."""
    from msgspec.structs import replace

    names = [f"fake:{place}" for place in range(devices)]

    def change(index: int, record: NodeRecord) -> NodeRecord:
        (device,) = record.devices
        identities = [hashlib.sha256(f"{index}/{name}".encode()).hexdigest()[:32] for name in names]
        return replace(
            record,
            devices=tuple(
                replace(
                    device, device=name, uuid=f"gpu-{identity}", serial=identity, pci_address=f"0000:{place:02x}:00.0"
                )
                for place, (name, identity) in enumerate(zip(names, identities, strict=True))
            ),
            measurements=tuple(
                replace(one, **{field: getattr(one, field) * devices for field in Figure._fields} | {"device": names})
                for one in record.measurements
            ),
        )

    return change


def payload_of(content: bytes) -> bytes:
    """Return the payload of an envelope."""
    return parse_envelope(content, LIMIT).payload


def sealed(payload: bytes, *keys: PrivateKey, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return the envelope of a payload, whatever it holds."""
    return seal(payload, payload_type, keys)


def new_key() -> PrivateKey:
    """Return a new Ed25519 key."""
    return load_scheme("ed25519").generate()


def record_by(key: PrivateKey, index: int = 0, nodes: int = 2, **changes: Any) -> NodeRecord:
    """Return a record of the centre of `measured` that names `key` as its signer."""
    from msgspec.structs import replace

    campaign = m.test_campaign(load_profile("standard"), ("fp16", "fp64"), nodes)
    base = m.simulated(2, "standard", ("fp16", "fp64")).record
    return replace(m.of_node(base, index, campaign, key), **changes)


def envelope_by(key: PrivateKey, index: int = 0, **changes: Any) -> bytes:
    """Return the envelope of `record_by`."""
    return m.seal_record(record_by(key, index, **changes), key, samples())


def resealed(index: int, change: Change) -> bytes:
    """Return a record whose own signer changed its payload before signing, in any way."""
    key = new_key()
    payload = payload_of(envelope_by(key, index))
    altered = change(payload)
    assert altered != payload
    return sealed(altered, key)


def edited(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return an envelope with its plain JSON values changed, in canonical form."""
    value = json.loads(content)
    change(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def as_lines(centre: Measured, *records: bytes) -> Path:
    """Write records as a ``records.jsonl`` and return its path."""
    path = centre.folder / "given.jsonl"
    path.write_bytes(b"".join(records))
    return path


def named(content: bytes) -> str:
    """Return the node that a record is of."""
    record: NodeRecord = parse_payload("node-record", payload_of(content)).predicate
    return record.node_id
