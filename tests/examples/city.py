"""``results/example-2000p``: what is published of the simulated centre, and its README."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.record import NodeRecord
from bench.terminal.summary import summarised
from bench.units import MFLOP_PER_PFLOP, ratio_ppm, truncated
from certify.campaign.candidates import SAMPLES_SUFFIX
from certify.campaign.rehearsal import Rehearsal, render
from certify.documents.kinds import RECORD_SUFFIX
from certify.documents.statement import CapacityStatement
from certify.fleet.describe import summary_of
from certify.fleet.report import FleetReport
from certify.policy.policies import load_policy
from certify.policy.ratings import installed_ratings
from certify.statement.package import opened as unpacked
from certify.statement.package import pack
from tests.examples import fleet
from tests.examples.shown import (
    PAGE,
    PDF,
    PUBLIC_KEY,
    README,
    RECORDS,
    REPORT,
    RESULTS,
    STATEMENT,
    block,
    filled,
    page_of,
    petaseal,
    screen,
    sized,
)
from tests.examples.shown import opened as read

FOLDER = RESULTS / "example-2000p"
PACKAGE = "example-2000p.tar.gz"
AT = "2026-11-20T00:00:00.000000Z"
LOOKED_AT = ("gpu049", "gpu057", "gpu058")  # one of the slow rack, and two of the next
BASES = {"certified": "可核验下限", "sustained": "持续", "nominal": "标称"}
FILES = {
    PACKAGE: "the whole as one package: statement, the records of all nodes, page, old inventory",
    PAGE: "the statement as a page",
    PDF: "the statement on paper, with the signed statement in it",
    PUBLIC_KEY: "the public key of the operator, whose private key was thrown away",
    "rehearsal.html": "the verdicts as if the cards were real (`certify --rehearse`), with `rehearsal.json`",
    "diagnosis/index.html": "which nodes to look at (`campaign diagnose`), with `diagnosis.json` and its picture",
    REPORT: "all nodes side by side, and three of them over time (`report html`)",
    "samples": "the samples of these three nodes, one of them in the slow rack",
    "campaign": "the campaign's folder without its records: the signed campaign, the centre file, the old inventory,"
    " who was lost, and the names and racks of the nodes, which stay at a real centre",
}
CAMPAIGN = (  # of its folder
    "campaign.dsse.json",
    "centre.yaml",
    "baseline.dsse.json",
    "closing.json",
    "launch.json",
    "roster.json",
    "start.json",
    "collected/attendance.json",
)


class Published(NamedTuple):
    """What the files of the example say."""

    statement: CapacityStatement
    rehearsal: Rehearsal
    diagnosis: FleetReport
    records: tuple[NodeRecord, ...]


def make() -> None:
    """Make the whole folder anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    with tempfile.TemporaryDirectory() as root:
        made = fleet.make(Path(root))
        FOLDER.mkdir(parents=True)
        pack(made.statement, FOLDER / PACKAGE)
        shutil.copy(made.rehearsal / "rehearsal.json", FOLDER)
        shutil.copy(f"{made.key}.pub", FOLDER / PUBLIC_KEY)
        for name in CAMPAIGN:
            (FOLDER / "campaign" / name).parent.mkdir(exist_ok=True)
            shutil.copy(made.folder.root / name, FOLDER / "campaign" / name)
            (FOLDER / "campaign" / name).chmod(0o644)
        (FOLDER / "samples").mkdir()
        for node in made.opened.roster.nodes:
            if node.name in LOOKED_AT:
                shutil.copy(made.folder.collected / f"{node.node_id}{SAMPLES_SUFFIX}", FOLDER / "samples")
    draw()


def draw() -> None:
    """Draw what people read from what stands there signed: pages, paper, report and README."""
    package = FOLDER / PACKAGE
    with tempfile.TemporaryDirectory() as root:
        place = Path(root) / "statement"
        with unpacked(package) as members:
            shutil.copytree(members, place)
        (place / PAGE).write_text(page_of(place / STATEMENT), encoding="utf-8")
        (place / PDF).unlink(missing_ok=True)
        petaseal("report", "pdf", str(place))
        package.unlink()
        pack(place, package)
        for name in (PAGE, PDF):
            shutil.copy(place / name, FOLDER)
        campaign = laid_out(Path(root))
        shutil.rmtree(FOLDER / "diagnosis", ignore_errors=True)
        key = ("--public-key", str(FOLDER / PUBLIC_KEY))
        petaseal("campaign", "diagnose", str(campaign), *key, "--out", str(FOLDER / "diagnosis"))
        (FOLDER / REPORT).unlink(missing_ok=True)
        petaseal(*report_words(campaign), "--out", str(FOLDER / REPORT))
    rehearsal = read_rehearsal()
    (FOLDER / "rehearsal.html").write_text(render(rehearsal, [load_policy(name) for name in fleet.POLICIES]))
    (FOLDER / README).write_text(readme(), encoding="utf-8")


def laid_out(root: Path) -> Path:
    """Lay out the campaign's folder as it was collected, in an empty one, with the samples of three nodes."""
    campaign = root / "campaign"
    shutil.copytree(FOLDER / "campaign", campaign)
    with unpacked(FOLDER / PACKAGE) as members:
        for line in (members / RECORDS).read_bytes().splitlines():
            node_id = read("node-record", line).predicate.node_id
            (campaign / "collected" / f"{node_id}{RECORD_SUFFIX}").write_bytes(line)
    for path in (FOLDER / "samples").iterdir():
        shutil.copy(path, campaign / "collected")
    return campaign


def report_words(campaign: Path) -> tuple[str, ...]:
    """Return the command that draws the report of the campaign, but for where to."""
    over_time = (word for name in LOOKED_AT for word in ("--node", name))
    return ("report", "html", str(campaign), "--public-key", str(FOLDER / PUBLIC_KEY), *over_time)


def read_rehearsal() -> Rehearsal:
    """Return the rehearsal that is kept."""
    return msgspec.json.decode((FOLDER / "rehearsal.json").read_bytes(), type=Rehearsal)


def published() -> Published:
    """Return what the files of the folder say."""
    with unpacked(FOLDER / PACKAGE) as members:
        statement = read("capacity-statement", (members / STATEMENT).read_bytes()).predicate
        lines = (members / RECORDS).read_bytes().splitlines()
    return Published(
        statement,
        read_rehearsal(),
        msgspec.json.decode((FOLDER / "diagnosis" / "diagnosis.json").read_bytes(), type=FleetReport),
        tuple(read("node-record", line).predicate for line in lines),
    )


def slow_rack(of: Published) -> dict[str, int]:
    """Return how many cards the slow rack has, by how much they are slower than the others, and what that costs."""
    rates: dict[bool, list[int]] = {True: [], False: []}
    for record in of.records:
        in_rack = fleet.rack_of(of.diagnosis.names[record.node_id]) == fleet.SLOW_RACK
        rates[in_rack] += [f.sustained_mflop_s for m in record.measurements for f in m.figures()]
    usual = sum(rates[False]) // len(rates[False])
    lost = usual * len(rates[True]) - sum(rates[True])
    return {"devices": len(rates[True]), "lost": lost, "off": lost * 10**6 // (usual * len(rates[True]))}


def readme() -> str:
    """Return the README of the folder, with what the commands in it print now."""
    of = published()
    values = msgspec.to_builtins(of.statement)
    scale = next(one for one in of.rehearsal.rehearsed if one.condition == "scale-2000p")
    sums = of.statement.classes[0]
    verdicts = {one.condition: one for one in of.statement.verdicts}
    growth = verdicts["newly-added"].growth
    assert growth is not None
    assert scale.threshold_mflop_s is not None
    assert scale.missing_at_most_mflop_s is not None
    added = {one.basis: one.observed_mflop_s or 0 for one in scale.bases}
    policy = load_policy("guangzhou-2000p")
    row = next(unit for unit in installed_ratings().units if unit.accelerator == fleet.ROW)
    samples = [path.stat().st_size for path in (FOLDER / "samples").glob(f"*{SAMPLES_SUFFIX}")]
    bases = [
        {
            "basis": one.basis,
            "observed": one.observed_mflop_s,
            "gap": f"{truncated((one.observed_mflop_s or 0) - scale.threshold_mflop_s, MFLOP_PER_PFLOP, 3)}",
            "verdict": said(one.verdict, one.reason),
        }
        for one in scale.bases
    ]
    return filled(
        "2000p.md.j2",
        {
            "s": values,
            "nodes": fleet.NODES,
            "per_node": fleet.DEVICES,
            "rated": row.rates["fp16"].nominal_mflop_s,
            "row": fleet.ROW,
            "paper": row.rates["fp16"].nominal_mflop_s * fleet.NODES * fleet.DEVICES,
            "files": [(name, sized(FOLDER / name), what) for name, what in FILES.items()],
            "samples_mb": f"{sum(samples) * of.statement.records // len(samples) / 1e6:.0f}",
            "growth": growth,
            "bases": bases,
            "words": BASES,
            "scale": said(scale.verdict, scale.reason),
            "scale_upper": scale.upper_mflop_s,
            "missing": scale.missing_at_most_mflop_s,
            "with_lost": added["nominal"] + scale.missing_at_most_mflop_s,
            "added": added,
            "counted": sums.counted,
            "existing": sums.in_baseline,
            "of_nominal": ratio_ppm(sums.counted.sustained_mflop_s, sums.counted.nominal_mflop_s),
            "conditions": [
                {
                    "condition": condition.condition,
                    "title": f"{condition.title.zh} {condition.title.en}",
                    "verdict": said(verdicts[condition.condition].verdict, verdicts[condition.condition].reason),
                    "real": next(
                        said(one.verdict, one.reason)
                        for one in of.rehearsal.rehearsed
                        if one.condition == condition.condition
                    ),
                }
                for condition in policy.conditions
            ],
            "slow": slow_rack(of),
            "least": of.statement.ceilings[0].least_mflop_s,
            "screens": screens(),
        },
    )


WRITTEN = "written to campaign/diagnosis/index.html"


def screens() -> dict[str, str]:
    """Return what the commands of the README print."""
    folder = f"results/{FOLDER.name}"
    key = ("--public-key", f"{folder}/{PUBLIC_KEY}")
    when = ("--accept-simulated", "--at", AT)
    command = f"campaign diagnose campaign --public-key {PUBLIC_KEY}"  # of a folder that is not published
    return {
        "verify": screen("verify", f"{folder}/{PACKAGE}", *key, "--require", "recomputed", *when),
        "paper": screen("verify", f"{folder}/{PDF}", *key, "--require", "page", *when, most=3),
        "diagnose": block(command, summarised(summary_of(published().diagnosis, "en", WRITTEN), None)),
    }


def said(verdict: str, reason: str | None) -> str:
    """Return a verdict with its reason."""
    return f"`{verdict}`" + (f": `{reason}`" if reason else "")
