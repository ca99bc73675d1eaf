"""Small signed documents for the tests of `certify`: values, keys, and envelopes made byte by byte."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from bench.record import (
    Campaign,
    Device,
    DeviceModel,
    Environment,
    ExpectedNode,
    ExpectedPool,
    Figure,
    Measurement,
    NodeClock,
    NodeRecord,
    Tool,
    Window,
    columns,
    throughput_bounds,
)
from bench.units import gemm_mflop
from certify.documents import dsse
from certify.documents import kinds as documents
from certify.documents.evidence import ImportedEvidence, SolveRun
from certify.documents.kinds import Heartbeat, Receipt
from certify.judge import products
from certify.keys.signers import PrivateKey, load_scheme, spki_text
from certify.trust.revocations import Revocation
from certify.trust.trusted_set import Delegation, TrustedKey, TrustedSet, TrustRoot

NOW = "2026-03-01T12:00:00.000000Z"
BEFORE = "2026-01-01T00:00:00.000000Z"
STARTS = "2026-03-01T08:00:00.000000Z"
AFTER = "2027-01-01T00:00:00.000000Z"
CENTRE = "gz-centre"
SWITCHES = dict.fromkeys(  # all that the kernel records on a GPU (R1)
    (*products.OF_EVERY_KERNEL, *products.OF_TORCH_ON_CUDA, *products.OUR_KERNELS["gemm-torch"][1]), "off"
)


def sha(text: str) -> str:
    """Return a digest to fill a field with."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_key() -> PrivateKey:
    """Return a new Ed25519 key."""
    return load_scheme("ed25519").generate()


def campaign(**changes: Any) -> Campaign:
    """Return a campaign of one node."""
    value = Campaign(
        campaign_id="c-2026-03",
        self_issued=False,
        purpose="capacity",
        centre_id=CENTRE,
        centre_sha256=None,
        challenge="ab" * 16,
        challenge_source="self",
        profile="certification",
        profile_sha256=sha("profile"),
        policies={},
        issued_at=BEFORE,
        starts_from=STARTS,
        starts_until=STARTS,
        ramp_ns=0,
        windows=(Window(precision="fp16", choice="fixed", load_ns=0, opens_ns=300 * 10**9, closes_ns=960 * 10**9),),
        pools=(ExpectedPool(pool="pool-a", workloads=("fp16",)),),
        nodes=(ExpectedNode(node_id="node-1", pool="pool-a"),),
        left_out=(),
        series="c-2026-03",
        earlier=(),
    )
    return msgspec.structs.replace(value, **changes)


def figure(device: str) -> Figure:
    """Return one device's row."""
    times = tuple(20_000_000_000 + 1_000 * (i * i % 37) for i in range(30))
    bounds = throughput_bounds(gemm_mflop(8192, 8192, 8192, 12_000), times)
    return Figure(
        device=device,
        launches=12_000,
        subwindow_min_ns=min(times),
        subwindow_over_ns=tuple(time - min(times) for time in times),
        sustained_mflop_s=bounds.sustained_mflop_s,
        certified_mflop_s=bounds.certified_mflop_s,
        upper_mflop_s=bounds.upper_mflop_s,
        opened_ns=1_000_000,
        counted_until_ns=600_000_000_000,
        covered_until_ns=601_000_000_000,
        event_over_ns=0,
        preheat_ns=0,
        first_launch_ns=3_000_000,
        threads=None,
        warmup_ns=120_000_000_000,
        warmup_end="steady",
        duty_ppm=999_000,
        verified_launches=8,
        row_error_ppm=900_000,
        rms_error_ppm=450_000,
        samples=605,
        clock_samples=605,
        clock_gap_ns=1_200_000_000,
        power_samples=605,
        power_gap_ns=1_200_000_000,
        power_mean_mw=690_000,
        power_counter_mw=689_000,
        temperature_max_c=67,
        clock_mean_mhz=1_755,
        clock_max_mhz=1_980,
        throttled_ppm=0,
        ecc_uncorrected=0,
        foreign_processes=0,
    )


def record(key: PrivateKey, **changes: Any) -> NodeRecord:
    """Return the record of a node of one device, which names `key` as its signer."""
    value = NodeRecord(
        rules="petaseal-rules/0.2",
        tool=Tool(version="0.1.0", sha256=sha("tool")),
        node_id="node-1",
        centre_id=CENTRE,
        pool="pool-a",
        campaign_id="c-2026-03",
        campaign_sha256=sha("campaign"),
        challenge="ab" * 16,
        campaign=None,
        profile="certification",
        profile_sha256=sha("profile"),
        signer_spki=spki_text(key.public),
        starts_at=STARTS,
        started_at="2026-03-01T07:50:00.000000Z",
        ready_at="2026-03-01T07:55:00.000000Z",
        ended_at="2026-03-01T08:20:00.000000Z",
        clock=NodeClock(source="chrony", uncertainty_ns=1_000_000),
        environment=Environment(
            os="Debian 12",
            kernel="6.1.0",
            architecture="x86_64",
            python="3.11.7",
            virtualised=None,
            container=None,
            cpus=96,
            cpu_quota_mcpu=None,
            memory_limit_bytes=None,
            unset=(),
            libraries={"torch": "2.13.0"},
            switches=SWITCHES,
        ),
        models=(
            DeviceModel(
                kind="gpu",
                vendor="nvidia",
                model="H200",
                simulated=True,
                plays=None,
                count_unit="card",
                obtained={"uuid": "asserted"},
                bin=None,
                board_part=None,
                firmware=None,
                driver=None,
                library=None,
                library_sha256=None,
                memory_bytes=None,
                cache_bytes=None,
                units=132,
                max_clock_mhz=1_980,
                locked_clock_mhz=None,
                power_limit_mw=None,
                power_limit_default_mw=None,
                power_limit_max_mw=None,
                modes={},
                instruction_set=None,
                source="nvml",
                exposes=("power", "clock", "temperature", "throttle", "ecc", "processes"),
            ),
        ),
        devices=(
            Device(
                device="cuda:0",
                model=0,
                uuid="gpu-1a2b3c",
                serial=None,
                die_id=None,
                pci_address="0000:01:00.0",
                parent=None,
                numa_node=None,
            ),
        ),
        measurements=(
            Measurement(
                kernel="gemm-torch",
                precision="fp16",
                choice="fixed",
                accumulate="fp32",
                method="native",
                m=8192,
                n=8192,
                k=8192,
                operand_sets=2,
                operand_bytes=2**29,
                steal_ppm=None,
                other_load_ppm=None,
                throttle_reasons=(),
                **columns([figure("cuda:0")]),
            ),
        ),
        companions=(),
        failures=(),
        identities_replaced=False,
    )
    return msgspec.structs.replace(value, **changes)


def heartbeat(key: PrivateKey, **changes: Any) -> Heartbeat:
    """Return the heartbeat of the node, which names `key` as its signer."""
    value = Heartbeat(
        centre_id=CENTRE,
        node_id="node-1",
        nonce=sha("nonce"),
        sent_at=NOW,
        devices_sha256=sha("devices"),
        signer_spki=spki_text(key.public),
    )
    return msgspec.structs.replace(value, **changes)


def evidence(**changes: Any) -> ImportedEvidence:
    """Return what a centre brings of another tool: one run of HPL on its node."""
    run = SolveRun(
        n=60_000,
        nb=192,
        p=2,
        q=2,
        elapsed_ms=41_500,
        rate_mflop_s=3_470_100,
        residual_ppm=2_400,
        started_at=None,
        ended_at=None,
        codes=("solve-times-unknown",),
    )
    value = ImportedEvidence(
        kind="hpl",
        by="operator",
        centre_id=CENTRE,
        campaign_sha256=sha("campaign"),
        pool=None,
        nodes=("node-1",),
        tool="HPLinpack 2.3",
        file_sha256=sha("output"),
        file_bytes=4000,
        imported_at=NOW,
        importer=Tool(version="0.2.0", sha256=sha("tool")),
        runs=(run,),
    )
    return msgspec.structs.replace(value, **changes)


def receipt(**changes: Any) -> Receipt:
    """Return a registry's receipt of a statement that it accepted."""
    value = Receipt(centre_id=CENTRE, received_at=NOW, decision="accepted", code=None, level="recomputed")
    return msgspec.structs.replace(value, **changes)


def record_payload(key: PrivateKey, **changes: Any) -> bytes:
    """Return the payload of a record document."""
    return documents.make_document("node-record", record(key, **changes), sha("samples"))


def sealed(payload: bytes, *keys: PrivateKey, payload_type: str = documents.PAYLOAD_TYPE) -> bytes:
    """Return the envelope of a payload, which may be any bytes."""
    return dsse.seal(payload, payload_type, keys)


def envelope(content: bytes) -> dict[str, Any]:
    """Return an envelope as plain JSON values, to be changed."""
    value: dict[str, Any] = json.loads(content)
    return value


def rewritten(value: dict[str, Any]) -> bytes:
    """Return changed plain values as an envelope file in canonical form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def fingerprint(trust_root: Path) -> str:
    """Return what the owner of a trust root tells verifiers by another way than the file."""
    return hashlib.sha256(base64.b64decode(envelope(trust_root.read_bytes())["payload"])).hexdigest()


def b64(data: bytes) -> str:
    """Return standard base64."""
    return base64.b64encode(data).decode()


class Cast:
    """A trust root's people: keys by name, and the root that lists them."""

    def __init__(self) -> None:
        names = (
            "root1",
            "root2",
            "root3",
            "operator1",
            "operator2",
            "other",
            "witness",
            "node",
            "registry",
            "outsider",
        )
        self.private = {name: new_key() for name in names}
        self.ids = {name: key.public.keyid for name, key in self.private.items()}

    def __getitem__(self, name: str) -> PrivateKey:
        return self.private[name]

    def holds(self, role: documents.Role, *names: str, threshold: int = 1, centres: tuple[str, ...] = ()) -> Delegation:
        """Return the delegation of a role to some of the people."""
        keys = tuple(self.ids[name] for name in names)
        return Delegation(role=role, centre_ids=centres or None, threshold=threshold, keys=keys)

    def entry(self, name: str, valid_from: str = BEFORE, valid_until: str = AFTER) -> TrustedKey:
        """Return a person's key as a trust root lists it."""
        spki = spki_text(self.private[name].public)
        return TrustedKey(scheme="ed25519", spki=spki, valid_from=valid_from, valid_until=valid_until)

    def root(self, **changes: Any) -> TrustRoot:
        """Return the trust root: two of three root keys, two operators who must both sign, one elsewhere."""
        values: dict[str, Any] = {
            "trust_id": "cn-test",
            "version": 1,
            "issued_at": BEFORE,
            "expires_at": AFTER,
            "keys": {self.ids[name]: self.entry(name) for name in self.private if name != "outsider"},
            "roles": (
                self.holds("root", "root1", "root2", "root3", threshold=2),
                self.holds("operator", "operator1", "operator2", threshold=2, centres=(CENTRE,)),
                self.holds("operator", "other", centres=("wh-centre",)),
                self.holds("witness", "witness"),
                self.holds("node", "node", centres=(CENTRE,)),
                self.holds("registry", "registry"),
            ),
            "revocations": (),
        }
        return TrustRoot(**{**values, **changes})

    def trusted(self, **changes: Any) -> TrustedSet:
        """Return the set of the trust root."""
        return TrustedSet.from_root(self.root(**changes))

    def revoked(self, *names: str) -> tuple[Revocation, ...]:
        """Return revocations of some keys."""
        return tuple(Revocation(keyid=self.ids[name], revoked_at=NOW, reason="stolen") for name in names)
