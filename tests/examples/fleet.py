"""A simulated centre of 150 nodes with eight cards of 1.7 PFLOPS: old devices among them, a lost node, a slow rack.

The whole way is the product's own: campaign, records by the real measuring loop under simulated time, collect, certify,
rehearse, diagnose, package. Made up are the centre, its cards and the day; drawn anew are the keys alone.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest.mock import patch

import yaml
from msgspec.structs import replace

from bench.devices.fake import Fake
from bench.profile import load_profile
from bench.record import Campaign, Device, NodeClock, digest, encode
from bench.record.closing import Exchange, closing_of
from bench.record.folder import Folder
from bench.record.node import Environment
from bench.record.roster import EngineNode
from bench.record.status import Launched, Published, Status
from bench.scenario import NODE_VARIABLE, Scenario, Script, Throttle
from bench.units import utc_ns, utc_text
from certify.campaign.candidates import SAMPLES_SUFFIX
from certify.campaign.collect import collect
from certify.campaign.opening import CreatedCampaign, open_folder
from certify.campaign.rehearsal import rehearse
from certify.campaign.workloads import CreateOptions
from certify.documents.kinds import RECORD_SUFFIX, Baseline, BaselineDevice
from certify.keys.files import load_private, new_key
from certify.keys.signers import load_scheme, spki_text
from certify.statement.baseline import sign_baseline
from certify.statement.campaign import of_campaign
from certify.statement.issue import IssueRequest, certify
from certify.statement.summary import IssuedStatement
from tests.bench.fleet import Simulated, simulate_node
from tests.certify.measured import seal_record

SEED = 20261116
SECOND_NS = 10**9
CREATED_NS = utc_ns("2026-11-16T01:00:00.000000Z")
BEGINS = "2026-11-16T02:00:00.000000Z"
ISSUED_NS = utc_ns("2026-11-18T02:00:00.000000Z")
POLICIES = ("guangzhou-2000p",)
NODES, DEVICES, RACK = 150, 8, 8
MODEL, ROW = "Fake-1700", "petaseal-fake-1700"
RATE_GFLOP_S = 1_530_000  # nine tenths of the rating, which is a good share
LOST = "gpu113"
SLOW_RACK = "rack07"
OLD_NODES = ("gpu001", "gpu002")  # they stood there on the day of the old inventory
GONE = "gpu901"  # its devices stand in the old inventory, and are no longer there
CENTRE: dict[str, Any] = {
    "centre_id": "example-2000p",
    "name": {"zh": "示例智算中心（模拟）", "en": "Example centre (simulated)"},
    "operator": "示例运营单位 (example)",
    "uscc": None,
    "owner_type": "enterprise",
    "jurisdiction": "CN-440100",
    "district": None,
    "tier": "city_dc",
    "lifecycle": "in_operation",
    "project_id": "EXAMPLE-2026-01",
    "park": {"name": "示例产业园 (example)", "evidence_sha256": "0a" * 32},
    "facility": {
        "id": "hall-1",
        "definition": "同一备案号、同一机房 (one filing, one hall)",
        "evidence_sha256": "0b" * 32,
    },
    "guide_year": None,
    "baseline": "baseline.dsse.json",
    "baseline_date": "2025-12-31",
    "other_subsidies": [],
    "pools": [{"pool": "ai", "class": "intelligent", "nodes": "all", "devices": "all"}],
}
ENVIRONMENT = Environment(
    os="simulated",
    kernel="simulated",
    architecture="x86_64",
    python="simulated",
    virtualised=False,
    container=False,
    cpus=128,
    cpu_quota_mcpu=None,
    memory_limit_bytes=None,
    unset=(),
    libraries={},
    switches={"environment": "off", "fake.emulation": "off"},
)


class Centre(NamedTuple):
    """What was made of the simulated centre, in a folder that is thrown away."""

    root: Path
    opened: CreatedCampaign
    key: Path
    issued: IssuedStatement
    statement: Path  # folder
    rehearsal: Path  # folder

    @property
    def folder(self) -> Folder:
        """The campaign's folder."""
        return self.opened.folder


def names() -> list[str]:
    """Return the engine's names of all nodes."""
    return [f"gpu{index:03d}" for index in range(1, NODES + 1)]


def rack_of(name: str) -> str:
    """Return the rack in which a node stands."""
    return f"rack{(int(name.removeprefix('gpu')) - 1) // RACK + 1:02d}"


@contextmanager
def at(now_ns: int) -> Iterator[None]:
    """Let commands take a time of the example for the present, and seeded numbers for random ones; keys stay random."""
    random = Random(f"{SEED}/{now_ns}")  # nothing secret is drawn from it
    with ExitStack() as stack:
        stack.enter_context(patch.object(time, "time_ns", lambda: now_ns))
        stack.enter_context(patch.object(secrets, "token_hex", lambda size: random.randbytes(size).hex()))
        yield


@contextmanager
def on_node(name: str) -> Iterator[None]:
    """Let fakes be those of a node, each with an identity of its own."""
    with patch.dict(os.environ, {NODE_VARIABLE: f"example-2000p/{name}"}):
        yield


def scenario_of(name: str) -> Scenario:
    """Return what the cards of a node do: like one another, but for a little noise; those of one rack throttle."""
    random = Random(f"{SEED}/{name}")
    node = random.gauss(1, 0.004)
    devices = {
        str(place): {
            "rate_gflop_s": {"fp16": round(RATE_GFLOP_S * node * random.gauss(1, 0.004))},
            "noise_ppm": random.randint(1_500, 2_500),
            "noise_correlation": random.uniform(0.2, 0.5),
            "noise_interval_s": random.uniform(0.8, 1.2),
            "power_mw": random.randint(930_000, 960_000),
            "temperature_c": random.randint(61, 67) + (18 if rack_of(name) == SLOW_RACK else 0),
            "temperature_rise_c": 30,
            "temperature_rise_s": 40.0,
        }
        for place in range(DEVICES)
    }
    # The air of one rack is too warm: its cards lower their clocks all the time.
    throttle = (Throttle(from_s=-600, to_s=3_600, rate_ppm=860_000),) if rack_of(name) == SLOW_RACK else ()
    script = Script(clock_mhz=1_590, throttle=throttle, telemetry_interval_s=5.0)
    return Scenario(
        model=MODEL,
        plays=ROW,
        default=script,
        devices=devices,
        memory_bytes=144 * 10**9,
        cache_bytes=2**20,
        units=128,
        max_clock_mhz=1_700,
    )


def devices_of(name: str) -> list[Device]:
    """Return the devices of a node, with their identities."""
    with on_node(name):
        return [found.device for found in Fake(scenario_of(name)).find(str(DEVICES))]


def old_inventory() -> Baseline:
    """Return what stood in the centre before: the devices of two nodes, and some that were taken away since."""
    old = [device for name in (*OLD_NODES, GONE) for device in devices_of(name)]
    return Baseline(
        centre_id=CENTRE["centre_id"],
        taken_at=f"{CENTRE['baseline_date']}T00:00:00.000000Z",
        devices=tuple(BaselineDevice(uuid=one.uuid, serial=one.serial, die_id=one.die_id) for one in old),
    )


def measure(opened: CreatedCampaign) -> None:
    """Leave in a campaign's folder what its launch leaves: T0, each node's record and samples, and who was lost."""
    folder, campaign = opened.folder, opened.campaign
    asked_ns = utc_ns(BEGINS) - 20 * SECOND_NS
    published = utc_text(asked_ns + 5 * SECOND_NS)
    folder.publish(Published(BEGINS, published, NODES))
    exchange = Exchange(asked_ns, asked_ns + SECOND_NS // 2, asked_ns + SECOND_NS)
    clock = NodeClock(source="chrony", uncertainty_ns=1_000_000)
    exchanges = {node.node_id: exchange for node in campaign.nodes}
    folder.closing_file.write_bytes(
        encode(closing_of(digest(campaign), BEGINS, published, clock, exchanges, ())) + b"\n"
    )
    over = utc_text(utc_ns(BEGINS) + campaign.closes_ns + 60 * SECOND_NS)
    lost = tuple(node.node_id for node in opened.roster.nodes if node.name == LOST)
    command = ("petaseal", "campaign", "launch", "campaign")
    folder.write_launched(Launched("slurm", (), None, command, utc_text(CREATED_NS), over, lost))
    campaign_sha256 = digest(campaign)
    for node in opened.roster.nodes:
        if node.name == LOST:
            fell_silent = utc_text(utc_ns(BEGINS) + 400 * SECOND_NS)
            last = Status(node.node_id, "measuring", fell_silent, utc_text(CREATED_NS), published, workload="fp16")
            folder.write_status(last)
            continue
        write(folder, node.node_id, measured_node(node.name, node.node_id, opened, campaign_sha256))


def measured_node(name: str, node_id: str, opened: CreatedCampaign, campaign_sha256: str) -> Simulated:
    """Return a node's record, which nobody has signed yet, and its samples."""
    campaign: Campaign = opened.campaign
    with on_node(name):
        made = simulate_node(scenario_of(name), DEVICES, opened.profile, ("fp16",), node_id, campaign)
    changed = replace(made.record, environment=ENVIRONMENT, campaign_sha256=campaign_sha256)
    return Simulated(changed, made.rows)


def write(folder: Folder, node_id: str, made: Simulated) -> None:
    """Sign a node's record with a key that nobody keeps, and write it where the node writes it."""
    key = load_scheme("ed25519").generate()
    record = replace(made.record, signer_spki=spki_text(key.public))
    place = folder.records(node_id)
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{node_id}{SAMPLES_SUFFIX}").write_bytes(made.samples)
    (place / f"{node_id}{RECORD_SUFFIX}").write_bytes(seal_record(record, key, made.samples))


def make(root: Path) -> Centre:
    """Make the centre, measure it and state it.

    Args:
        root: an empty folder for all of it; what is published is picked from it.
    """
    key, centre = root / "operator.pem", root / "centre.yaml"
    new_key(key, None)
    centre.write_text(yaml.safe_dump(CENTRE, allow_unicode=True, sort_keys=False), encoding="utf-8")
    sign_baseline(old_inventory(), key, None, root / str(CENTRE["baseline"]))
    engine = [EngineNode(name, None, f"gpu:{DEVICES}", rack_of(name), None) for name in names()]
    with at(CREATED_NS):
        options = CreateOptions(
            str(centre),
            load_profile("certification"),
            POLICIES,
            root / "campaign",
            precisions=("fp16",),
            starts_from=BEGINS,
            engine="slurm",
        )
        opened = open_folder(options, load_private(key), engine, CREATED_NS)
    measure(opened)
    folder = opened.folder
    with at(ISSUED_NS):
        collect(folder)
        source = of_campaign(folder.root, None, None, None, ())
        request = IssueRequest(**source._asdict(), keys=(key,), out=root / "statement")
        issued = certify(request)
        rehearse(IssueRequest(**source._asdict(), keys=(key,), out=root / "rehearsal"), 1)
    return Centre(root, opened, key, issued, root / "statement", root / "rehearsal")
