"""``results/example-cpu``: a real processor, measured by ``petaseal run``; what is stated of it, and its README."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec

from bench.output import NodeFiles
from bench.profile import load_profile
from bench.record import NodeRecord
from bench.terminal.closing import closing_lines
from bench.units import SECOND_NS, full_name, ratio_ppm, truncated, utc_ns, utc_text
from certify.campaign.candidates import SAMPLES_SUFFIX
from certify.commands.run import closing_of
from certify.documents.kinds import RECORD_SUFFIX
from certify.keys.files import new_key, public_path
from certify.statement.campaign import DEFAULT_POLICIES
from certify.statement.describe import judge_record
from certify.statement.issue import IssueRequest, certify
from tests.examples.fleet import at
from tests.examples.shown import (
    PAGE,
    PDF,
    PUBLIC_KEY,
    README,
    RECORDS,
    REPORT,
    RESULTS,
    STATEMENT,
    WIDTH,
    block,
    filled,
    meanings,
    opened,
    page_of,
    petaseal,
    screen,
    sized,
)

FOLDER = RESULTS / "example-cpu"
MEASURED = FOLDER / "records"  # what the run left: the one thing here that cannot be made again
RUN = "run --profile standard --device cpu --replace-identities --out records"
REPLACED = "identities-replaced"
FILES = {
    STATEMENT: "the signed statement",
    PAGE: "the statement as a page",
    PDF: "the statement on paper, with the signed statement in it",
    REPORT: "the rate and the clock over time (`report html`)",
    "records": "what the run left: the signed record, and its samples (`*.samples.csv.gz`)",
    RECORDS: "the record as the statement binds it",
    PUBLIC_KEY: "the public key of the operator, whose private key was thrown away",
}


def measure(profile: str = "standard") -> None:
    """Measure the processor of this machine, and keep that: seven minutes in which nobody else may use it."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "records"
        words = ("run", "--profile", profile, "--device", "cpu", "--replace-identities", "--out", str(folder))
        lines = petaseal(*words, status=1)  # identities that are replaced are void
        if not record_in(folder).measurements:  # what is kept so far is better than none
            raise SystemExit("\n".join([*lines, "no figure: measure again when nobody else uses the processor"]))
        keep(folder)


def keep(folder: Path) -> None:
    """Keep a record and its samples."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    MEASURED.mkdir(parents=True)
    for suffix in (RECORD_SUFFIX, SAMPLES_SUFFIX):
        (file,) = folder.glob(f"*{suffix}")
        shutil.copy(file, MEASURED)


def make() -> None:
    """State the committed record anew, with a key that is thrown away."""
    for name in (STATEMENT, RECORDS, PAGE, PDF, PUBLIC_KEY):
        (FOLDER / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as root:
        key, out = Path(root) / "operator.pem", Path(root) / "statement"
        new_key(key, None)
        with at(issued_ns(measured())):
            certify(IssueRequest(records=MEASURED, centre="demo", policies=DEFAULT_POLICIES, keys=(key,), out=out))
        for name in (STATEMENT, RECORDS):
            shutil.copy(out / name, FOLDER)
        shutil.copy(public_path(key), FOLDER / PUBLIC_KEY)
    draw()


def draw() -> None:
    """Draw what people read from what stands there signed: page, paper, report and README."""
    (FOLDER / PAGE).write_text(page_of(FOLDER / STATEMENT), encoding="utf-8")
    for name, words in ((PDF, ("pdf", str(FOLDER / STATEMENT))), (REPORT, ("html", str(MEASURED)))):
        (FOLDER / name).unlink(missing_ok=True)
        petaseal("report", *words, "--out", str(FOLDER / name))
    (FOLDER / README).write_text(readme(), encoding="utf-8")


def measured() -> NodeRecord:
    """Return the record that is kept."""
    return record_in(MEASURED)


def record_in(folder: Path) -> NodeRecord:
    """Return the one record in a folder."""
    (file,) = folder.glob(f"*{RECORD_SUFFIX}")
    record: NodeRecord = opened("node-record", file.read_bytes()).predicate
    return record


def run_screen() -> list[str]:
    """Return the end of the run that made the record, as ``petaseal run`` shows it."""
    record = measured()
    assert record.campaign is not None
    judged = judge_record(record, record.campaign, load_profile(record.profile))
    certify_it = ("petaseal", "certify", "records", "--centre", "demo", "--key", "operator.pem", "--out", "statement")
    further = (("petaseal", "keys", "new", "--out", "operator.pem"), certify_it)
    files = NodeFiles(Path("records"), record.node_id)
    return [line for line, _ in closing_lines(closing_of(record, files, judged, {}, "standard", further), WIDTH)]


def issued_ns(record: NodeRecord) -> int:
    """Return when its statement is issued: a minute after the measurement."""
    return utc_ns(record.ended_at) // SECOND_NS * SECOND_NS + 60 * SECOND_NS


def checked_at() -> str:
    """Return the moment for which the README checks the statement: an hour after it was issued."""
    return utc_text(issued_ns(measured()) + 3600 * SECOND_NS)


def readme() -> str:
    """Return the README of the folder, with what the commands in it print now."""
    record = measured()
    assert record.campaign is not None
    profile = load_profile(record.profile)
    measurement = next(one for one in record.measurements if one.precision == "fp64")
    (figure,) = measurement.figures()
    judged = judge_record(record, record.campaign, profile)
    effects, _, _, most = judged[figure.device, str(measurement.workload)]
    counts = [code for code, effect in effects.items() if effect in ("void", "hold") and code != REPLACED]
    statement = opened("capacity-statement", (FOLDER / STATEMENT).read_bytes()).predicate
    folder = f"results/{FOLDER.name}"
    key, when = ("--public-key", f"{folder}/{PUBLIC_KEY}"), ("--at", checked_at())
    samples = ("--samples", f"{folder}/records", "--require", "audited")
    assert most is not None
    return filled(
        "cpu.md.j2",
        {
            "s": msgspec.to_builtins(statement),
            "r": record,
            "model": record.models[0],
            "name": full_name(record.models[0].vendor, record.models[0].model),
            "m": measurement,
            "f": figure,
            "others": counts,
            "files": [(name, sized(FOLDER / name), what) for name, what in FILES.items()],
            "least": most,
            "of_limit": ratio_ppm(figure.sustained_mflop_s, most),
            "row_error": truncated(figure.row_error_ppm or 0, 10**6, 2),
            "rms_error": truncated(figure.rms_error_ppm or 0, 10**6, 2),
            "window_s": seconds(sum(figure.subwindow_ns)),
            "warm_s": seconds(figure.warmup_ns, 0),
            "fastest_s": seconds(min(figure.subwindow_ns), 3),
            "slowest_s": seconds(max(figure.subwindow_ns), 3),
            "codes": meanings(effects),
            "screens": {
                "run": block(RUN, run_screen()),
                "verify": screen("verify", folder, *key, *samples, *when),
                "paper": screen("verify", f"{folder}/{PDF}", *key, "--require", "page", *when, most=3),
            },
        },
    )


def seconds(ns: int, decimals: int = 1) -> str:
    """Return a time in seconds as text, truncated."""
    return truncated(ns, SECOND_NS, decimals)
