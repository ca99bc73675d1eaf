"""The seeds that fuzzing starts from: small valid inputs of each target, the same whenever they are made.

.venv/bin/python -m tests.fuzz.seeds
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pikepdf
import yaml
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import Campaign, ExpectedNode, NodeRecord, Tool, config_path, encode
from certify.audit.proof import make_proof
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Baseline, BaselineDevice, Witness, make_document
from certify.documents.merkle import prove, record_root
from certify.evidence.output import Family
from certify.keys.signers import pem_text
from certify.policy.ratings import parse_ratings
from certify.statement.paper.contents import NAME
from certify.trust.revocations import Revocation, Revocations
from tests.certify.evidence import outputs as tools
from tests.certify.judged import basis_of, statement_of
from tests.certify.measured import centre_yaml, node_name, of_node, simulated, test_campaign
from tests.certify.signed import AFTER, BEFORE, CENTRE, NOW, campaign, evidence, heartbeat, receipt, record, sha
from tests.fuzz.fixed import CORPUS, MESSAGE, SM2_PKCS8, SM2_SIGNATURE, SM2_SPKI, fixed_key, fixed_root, write
from tests.fuzz.targets import TARGETS

GOLDEN = Path(__file__).parent.parent / "certify" / "golden"
BASELINE = Baseline(
    centre_id=CENTRE,
    taken_at=BEFORE,
    devices=(BaselineDevice(uuid="gpu-1a2b3c", serial=None, die_id="7f"),),
)
INVENTORY = b"""\
centre_id: gz
taken_at: 2026-03-01T08:00:00.000000Z
devices: [{uuid: gpu-1a2b3c, serial: null, die_id: null}]
"""
RATINGS = b"""\
accelerators:
  - {id: x1, name: X1, vendor: V, match: [{name: X, memory_gb: 64}, {name: Y, part: die}], count_unit: package,
     dies_per_unit: 2, tflops: {fp16: "383", fp64_matrix: "95.7"}, memory_gb: 128, tdp_w: 560, confidence: low,
     silicon: {units: 220, highest_clock_mhz: 1700,
               fp16: {flop_per_clock_per_unit: 1024, rating_clock_mhz: 1700, silicon_confidence: high}},
     best_known: {fp16: {tflops: "294", source: a page}}, year: 2021, simulated: true,
     sources: [a data sheet], notes: ""}
"""
NODES = 3
WITNESS = Witness(
    centre_id=CENTRE,
    witnessed_at=NOW,
    level="recomputed",
    checks=("signature", "records"),
    tool=Tool(version="0.1.0", sha256=sha("tool")),
)


def seeds() -> Iterator[tuple[str, str, bytes]]:
    """Yield target, name and content of every seed."""
    made = payloads()
    for kind, content in made.items():
        yield f"payload-{kind}", kind, content
    first = sealed(made["capacity-statement"], "operator")
    lines = record_lines()
    sidecar = (GOLDEN / "gpu-00000.samples.csv.gz").read_bytes()
    yield "envelope", "witness", sealed(made["witness"], "witness")
    yield "envelope", "two", sealed(made["campaign"], "root", "operator")
    yield "canonical", "tool", encode(WITNESS.tool)
    yield "canonical", "campaign", encode(campaign(nodes=(ExpectedNode(node_id="n", pool="p"),)))
    yield "canonical", "window", encode(campaign().windows[0])
    yield "sealed-record", "record", made["node-record"]
    yield "sealed-heartbeat", "heartbeat", made["heartbeat"]
    yield "sealed-root", "root", made["trust-root"]
    yield "sealed-revocations", "list", made["revocations"]
    yield "record-list", "lines", b"\x07{}\n\n[1]\nlast"
    yield "record-list", "records", b"\xff" + lines
    yield "sample-file", "golden", sidecar
    yield "sample-table", "golden", gzip.decompress(sidecar)
    yield "package", "tar", tar(first, lines, sidecar)
    yield "package", "gzip", gzip.compress(tar(first, lines, sidecar), mtime=0)
    for name, key in (("ed25519", fixed_key("node").public.spki), ("sm2", SM2_SPKI)):
        yield "spki", name, key
        yield "public-key", name, pem_text(b"PUBLIC KEY", key)
    der = bytes.fromhex("302e020100300506032b657004220420") + bytes(range(32))
    yield "private-key", "ed25519", pem_text(b"PRIVATE KEY", der)
    yield "private-key", "sm2", pem_text(b"PRIVATE KEY", SM2_PKCS8)
    yield "signature-ed25519", "good", fixed_key("node").sign(MESSAGE)
    yield "signature-sm2", "good", SM2_SIGNATURE
    yield "centre", "demo", config_path("centres", "demo.yaml").read_bytes()
    yield "centre", "full", yaml.safe_dump(centre_yaml(), allow_unicode=True).encode()
    yield "policy", "guangzhou-2000p", renamed(config_path("policies", "guangzhou-2000p.yaml"))
    yield "profile", "smoke", config_path("profiles", "smoke.yaml").read_bytes()
    yield "ratings", "table", RATINGS
    yield "ratings", "kept", parse_ratings(RATINGS, "ratings").content
    yield "inventory", "one", INVENTORY
    for name, text in (("now", NOW), ("leap", "2024-02-29T23:59:59.999999Z"), ("first", "0001-01-01T00:00:00.000000Z")):
        yield "time", name, text.encode()
    for size, index in ((1, 0), (2, 1), (7, 6), (33, 4)):
        steps = prove([bytes([n]) for n in range(size)], index)
        yield "merkle", f"{index}-of-{size}", bytes([size - 1, index]) + b"".join(steps)
    yield "proof", "one", proof()
    yield "pdf", "plain", pdf(pikepdf.ObjectStreamMode.disable)
    yield "pdf", "packed", pdf(pikepdf.ObjectStreamMode.generate)
    for family, name, content in outputs():
        yield f"output-{family}", name, content
    yield "qr", "one", f"PETASEAL1:sha256:{sha('payload')}:gz-test/1:1.799PFLOPS".encode()


def outputs() -> Iterator[tuple[Family, str, bytes]]:
    """Yield family, name and content of an output of each tool."""
    yield "hpl", "hpl", tools.hpl(tools.Row(), tools.Row(n=9000, seconds=1.25, residual=70.0, verdict="FAILED"))
    yield "hpl", "nvidia", tools.nvidia(tools.Row(n=90000, seconds=40.25, start=None))
    yield "hpl", "hpcc", tools.hpcc()
    yield "hpl", "mxp", tools.mxp()
    yield "hpl", "hpcg", tools.hpcg()
    yield "nccl-tests", "table", tools.nccl()
    yield "nccl-tests", "json", tools.nccl_json()
    yield "hccl-test", "table", tools.hccl()


def measured_records() -> Iterator[tuple[bytes, NodeRecord]]:
    """Yield payload and record of each node of a campaign, in the order of a list; they name no machine."""
    node = fixed_key("node")
    nowhere = record(node).environment
    base = replace(simulated(1, "smoke", ("fp16",)).record, environment=nowhere, tool=WITNESS.tool)
    made = (of_node(base, index, planned(), node) for index in range(NODES))
    payloads = {make_document("node-record", one, sha("samples")): one for one in made}
    yield from sorted(payloads.items(), key=lambda item: hashlib.sha256(item[0]).digest())


def planned() -> Campaign:
    """Return their campaign."""
    return test_campaign(load_profile("smoke"), ("fp16",), NODES)


def record_lines() -> bytes:
    """Return their list."""
    return b"".join(sealed(payload, "node") for payload, _ in measured_records())


def statement() -> bytes:
    """Return the payload of their statement."""
    root = record_root(hashlib.sha256(payload).hexdigest() for payload, _ in measured_records())
    made = statement_of((one for _, one in measured_records()), basis_of(planned(), "smoke"))
    return make_document("capacity-statement", replace(made, records_root=root), root)


def proof() -> bytes:
    """Return the proof of one of them."""
    file = write("statement.dsse.json", sealed(statement(), "operator"))
    return encode(make_proof(file, write("records.jsonl", record_lines()), node_name(1))) + b"\n"


def payloads() -> dict[str, bytes]:
    """Return a payload of each kind of document."""
    revocations = Revocations(
        trust_id="cn-test",
        version=1,
        issued_at=BEFORE,
        expires_at=AFTER,
        revocations=(Revocation(keyid=sha("key"), revoked_at=BEFORE, reason="丢失 lost"),),
        statements=(),
    )
    return {
        "node-record": make_document("node-record", record(fixed_key("node")), sha("samples")),
        "campaign": make_document("campaign", campaign()),
        "capacity-statement": statement(),
        "baseline": make_document("baseline", BASELINE),
        "witness": make_document("witness", WITNESS, sha("statement")),
        "receipt": make_document("receipt", receipt(), sha("statement")),
        "heartbeat": make_document("heartbeat", heartbeat(fixed_key("node"))),
        "evidence": make_document("evidence", evidence(), sha("output")),
        "trust-root": make_document("trust-root", fixed_root()),
        "revocations": make_document("revocations", revocations),
    }


def sealed(payload: bytes, *names: str) -> bytes:
    return seal(payload, PAYLOAD_TYPE, [fixed_key(name) for name in names])


def pdf(packing: pikepdf.ObjectStreamMode) -> bytes:
    """Return the smallest PDF with a statement attached, and a record of what drew it."""
    made, out = pikepdf.new(), io.BytesIO()
    made.add_blank_page(page_size=(99, 99))
    made.attachments[NAME] = pikepdf.AttachedFileSpec(made, b'{"payload":"e30="}', filename=NAME)
    made.docinfo["/Keywords"] = "petaseal-engine=typst 0.15.2"
    made.save(out, deterministic_id=True, object_stream_mode=packing)
    return out.getvalue()


def renamed(path: Path) -> bytes:
    """Return an installed configuration under a name of its own, which it may not share with another one."""
    return path.read_bytes().replace(path.stem.encode(), b"my-own")


def tar(first: bytes, lines: bytes, sidecar: bytes) -> bytes:
    members = {
        "statement.dsse.json": first[:600],
        "records.jsonl": lines[:300],
        "samples/gpu-00000.samples.csv.gz": sidecar[:200],
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1.5 if name == "records.jsonl" else 0
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def main() -> None:
    """Write the corpus anew."""
    made = list(seeds())
    shutil.rmtree(CORPUS, ignore_errors=True)
    for target, name, content in made:
        assert target in TARGETS, target
        path = CORPUS / target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
