"""Evidence in a statement: taken by certify, bound by the statement, opened and compared by step 21 of verify."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.errors import PetasealError, RefusedError
from certify.documents import dsse
from certify.documents.evidence import ImportedEvidence
from certify.documents.kinds import PAYLOAD_TYPE, make_document, parse_payload
from certify.documents.statement import CapacityStatement, EvidenceLine
from certify.keys.files import load_private, public_path
from certify.statement.brought.opening import documents_in
from certify.statement.package import members, opened, pack
from certify.trust.opening import Verifier
from certify.verify.report import VerificationReport
from tests.certify.attacks import statement as forged_statement
from tests.certify.evidence.outputs import Row, hpl, nccl, nvidia
from tests.certify.signed import AFTER, CENTRE, NOW, Cast, evidence, new_key, sealed, sha
from tests.certify.statement.brought.bringing import FAST, SLOW, Bringing, bringing, document_of, resealed

CAST = Cast()
NAME = "hpl.evidence.dsse.json"


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Bringing:
    """Return a centre whose statement under ``out`` binds one HPL output of two runs."""
    made = bringing(tmp_path_factory.mktemp("brought"))
    made.bring(hpl(FAST, SLOW))
    made.certify()
    return made


@pytest.fixture
def copied(issued: Bringing, tmp_path: Path) -> Bringing:
    """Return a copy that a test may change."""
    shutil.copytree(issued.folder, tmp_path / "centre")
    return Bringing(issued.centre.at(tmp_path / "centre"), tmp_path / "centre" / "witness.pem")


def verified(of: Bringing, **changes: Any) -> VerificationReport:
    """Verify a statement with its evidence folder."""
    out = of.folder / "out"
    return of.centre.verify(out, **{"brought": out / "evidence", **changes})


def refusal(report: VerificationReport) -> str | None:
    return None if report.refusal is None else report.refusal.code


def lines_of(of: Bringing, out: str = "out") -> tuple[EvidenceLine, ...]:
    content = dsse.parse_envelope((of.folder / out / "statement.dsse.json").read_bytes(), 2**26).payload
    made: CapacityStatement = parse_payload("capacity-statement", content).predicate
    return made.evidence


def test_the_statement_binds_what_was_brought_and_verify_opens_it(issued: Bringing) -> None:
    (line,) = lines_of(issued)
    assert (line.by, line.kind, line.tool, line.pool, line.pool_class) == (
        "operator",
        "hpl",
        "HPLinpack 2.3",
        "main",
        "supercomputing",
    )
    assert (line.nodes, line.runs, line.failed, line.n) == (2, 2, 0, FAST.n)
    assert line.rate_mflop_s == line.native_mflop_s == 3_470_000
    report = verified(issued)
    assert (refusal(report), report.level) == (None, "recomputed")
    assert "evidence" in report.checked
    assert not any("evidence-" in what for what in report.not_checked)


def test_without_the_documents_the_same_bytes_are_recomputed(issued: Bringing) -> None:
    report = verified(issued, brought=None)
    assert (refusal(report), report.level) == (None, "recomputed")
    assert any("[evidence-not-given]" in what for what in report.not_checked)
    assert "evidence" not in report.checked


def test_without_records_the_documents_are_opened(issued: Bringing) -> None:
    report = verified(issued, records=None)
    assert refusal(report) is None
    assert any("[evidence-nodes-not-compared]" in what for what in report.not_checked)


def test_without_the_output_its_figures_are_the_signers(copied: Bringing) -> None:
    (copied.folder / "out/evidence/hpl.output.txt").unlink()
    report = verified(copied)
    assert refusal(report) is None
    assert any("[evidence-output-not-given]" in what for what in report.not_checked)


def edited_rate(document: ImportedEvidence) -> ImportedEvidence:
    """Return a document whose first run is a thousand times faster."""
    run = replace(document.runs[0], rate_mflop_s=document.runs[0].rate_mflop_s * 1000)
    return replace(document, runs=(run, *document.runs[1:]))


def by_operator(of: Bringing, change: Callable[[ImportedEvidence], ImportedEvidence]) -> None:
    resealed(of.folder / "out/evidence" / NAME, load_private(of.centre.key), change)


def faster_without_its_output(of: Bringing) -> None:
    def faster(document: ImportedEvidence) -> ImportedEvidence:
        run = replace(document.runs[0], rate_mflop_s=document.runs[0].rate_mflop_s * 101 // 100)
        return replace(document, runs=(run, *document.runs[1:]))

    (of.folder / "out/evidence/hpl.output.txt").unlink()
    by_operator(of, faster)


def without_a_time_or_its_output(of: Bringing) -> None:
    def timeless(document: ImportedEvidence) -> ImportedEvidence:
        return replace(document, runs=tuple(replace(run, elapsed_ms=None) for run in document.runs))

    (of.folder / "out/evidence/hpl.output.txt").unlink()
    by_operator(of, timeless)


def removed(of: Bringing) -> None:
    (of.folder / "out/evidence" / NAME).unlink()


def added(of: Bringing) -> None:
    of.bring(hpl(Row(n=30_000, p=2, q=2, start=None)), "further")
    shutil.copy(of.evidence / "further.evidence.dsse.json", of.folder / "out/evidence")


def exchanged_output(of: Bringing) -> None:
    (of.folder / "out/evidence/hpl.output.txt").write_bytes(hpl(FAST))


def by_a_node_key(of: Bringing) -> None:
    resealed(of.folder / "out/evidence" / NAME, new_key(), edited_rate)


def of_another_campaign(of: Bringing) -> None:
    by_operator(of, lambda one: replace(one, campaign_sha256=sha("another")))


def of_another_centre(of: Bringing) -> None:
    by_operator(of, lambda one: replace(one, centre_id="sz-test"))


def of_an_unknown_node(of: Bringing) -> None:
    by_operator(of, lambda one: replace(one, nodes=(*one.nodes, "gpu-99999")))


def of_another_pool(of: Bringing) -> None:
    by_operator(of, lambda one: replace(one, pool="other"))


def later_than_the_statement(of: Bringing) -> None:
    by_operator(of, lambda one: replace(one, imported_at=AFTER.replace("2027", "2099")))


def passed_with_a_refusing_code(of: Bringing) -> None:
    by_operator(of, lambda one: replace(one, runs=(replace(one.runs[0], codes=("hpl-failed",)), *one.runs[1:])))


def passed_above_sixteen(of: Bringing) -> None:
    by_operator(of, lambda one: replace(one, runs=(replace(one.runs[0], residual_ppm=16_000_000), *one.runs[1:])))


def with_an_unknown_code(of: Bringing) -> None:
    by_operator(of, lambda one: replace(one, codes=("no-such-code",)))


def without_a_run(of: Bringing) -> None:
    by_operator(of, lambda one: replace(one, runs=()))


def edited_by_the_operator(of: Bringing) -> None:
    by_operator(of, edited_rate)


def with_another_subject(of: Bringing) -> None:
    path = of.folder / "out/evidence" / NAME
    payload = make_document("evidence", document_of(path), sha("another file"))
    path.write_bytes(dsse.seal(payload, PAYLOAD_TYPE, [load_private(of.centre.key)]))


FORGERIES: dict[str, tuple[Callable[[Bringing], None], str]] = {
    "a document removed": (removed, "evidence-missing"),
    "a document added": (added, "evidence-extra"),
    "the output exchanged": (exchanged_output, "evidence-file-differs"),
    "a figure edited and signed by a node": (by_a_node_key, "key-not-trusted"),
    "a figure edited by the operator": (edited_by_the_operator, "evidence-differs"),
    "a rate that N and time do not give, without the output": (faster_without_its_output, "evidence-invalid"),
    "no time, without the output": (without_a_time_or_its_output, "evidence-invalid"),
    "of another campaign": (of_another_campaign, "evidence-campaign-differs"),
    "of another centre": (of_another_centre, "centre-differs"),
    "of a node that is not expected": (of_an_unknown_node, "evidence-node-unknown"),
    "of another pool": (of_another_pool, "pool-differs"),
    "imported after the statement": (later_than_the_statement, "times-reversed"),
    "a failed run among those that passed": (passed_with_a_refusing_code, "evidence-invalid"),
    "a residual above sixteen": (passed_above_sixteen, "evidence-invalid"),
    "a code that there is not": (with_an_unknown_code, "evidence-invalid"),
    "without a run": (without_a_run, "evidence-invalid"),
    "another subject": (with_another_subject, "subject-wrong"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_document_is_refused(name: str, copied: Bringing) -> None:
    forge, code = FORGERIES[name]
    forge(copied)
    report = verified(copied)
    assert refusal(report) == code
    assert report.level is None


SAID: dict[str, tuple[str, Any]] = {
    "a higher Rmax": ("rate_mflop_s", 400 * 10**9),
    "a higher native rate": ("native_mflop_s", 400 * 10**9),
    "by the witness": ("by", "witness"),
    "of more nodes": ("nodes", 200),
    "another tool": ("tool", "HPLinpack 9"),
    "a note left out": ("codes", []),
    "a failed run hidden": ("failed", 1),
}


@pytest.mark.parametrize("name", SAID)
def test_what_the_statement_says_is_compared(name: str, copied: Bringing) -> None:
    field, value = SAID[name]
    change = forged_statement(lambda v: v["predicate"]["evidence"][0].update({field: value}))
    (copied.folder / "out/statement.dsse.json").write_bytes(change(copied.centre).statement)
    assert refusal(verified(copied)) == "evidence-differs"
    if name != "a note left out":  # which depends on the records
        assert refusal(verified(copied, records=None)) == "evidence-differs"


def test_a_line_twice_is_refused(copied: Bringing) -> None:
    change = forged_statement(lambda v: v["predicate"]["evidence"].append(v["predicate"]["evidence"][0]))
    (copied.folder / "out/statement.dsse.json").write_bytes(change(copied.centre).statement)
    assert refusal(verified(copied)) == "evidence-differs"


# --- who may sign ----------------------------------------------------------------------------------------------------


def opened_by(who: tuple[str, ...], trusted: Verifier | None = None, **changes: Any) -> str | None:
    """Return the code that refuses a document by some keys of the cast; None where it is opened."""
    document = evidence(**changes)
    content = sealed(make_document("evidence", document, document.file_sha256), *(CAST[one] for one in who))
    try:
        (trusted or Verifier(CAST.trusted(), NOW)).open("evidence", content, "a file")
    except RefusedError as error:
        return error.code
    return None


def test_the_role_is_the_one_that_the_document_names() -> None:
    assert opened_by(("operator1", "operator2")) is None
    assert opened_by(("witness",), by="witness") is None
    assert opened_by(("witness",), by="operator") == "role-differs"
    assert opened_by(("operator1", "operator2"), by="witness") == "role-differs"
    assert opened_by(("operator1", "operator2", "witness"), by="operator") == "role-differs"


def test_no_other_key_signs_evidence() -> None:
    assert opened_by(("node",)) == "role-not-allowed"
    assert opened_by(("registry",), by="witness") == "role-not-allowed"
    assert opened_by(("operator1",)) == "threshold-not-met"
    assert opened_by(("operator1", "operator2"), centre_id="sz-centre") == "centre-not-allowed"
    assert CENTRE != "sz-centre"


def test_a_revoked_key_brings_nothing() -> None:
    revoked = Verifier(CAST.trusted(revocations=CAST.revoked("witness")), NOW)
    assert opened_by(("witness",), revoked, by="witness") == "key-revoked"


def test_a_witness_brings_evidence_by_a_key_that_certify_and_verify_are_given(issued: Bringing, tmp_path: Path) -> None:
    shutil.copytree(issued.folder, tmp_path / "c")
    mine = Bringing(issued.centre.at(tmp_path / "c"), tmp_path / "c/witness.pem")
    shutil.rmtree(mine.evidence)
    mine.bring(hpl(FAST), "seen", key=load_private(mine.witness), by="witness")
    with pytest.raises(RefusedError) as refused:
        mine.certify("without")
    assert refused.value.code == "key-not-trusted"
    public = public_path(mine.witness)
    out = mine.certify("with", witness_keys=(public,))
    assert [line.by for line in lines_of(mine, "with")] == ["witness"]
    known = mine.centre.verify(out, brought=out / "evidence", witness_keys=(public,))
    assert (refusal(known), known.level) == (None, "recomputed")
    unknown = mine.centre.verify(out, brought=out / "evidence")
    assert refusal(unknown) is None
    assert any("[evidence-key-not-given]" in what for what in unknown.not_checked)
    # the operator's key cannot stand in for the witness's
    resealed(out / "evidence/seen.evidence.dsse.json", load_private(mine.centre.key))
    forged = mine.centre.verify(out, brought=out / "evidence", witness_keys=(public,))
    assert refusal(forged) == "role-differs"


# --- what certify takes ----------------------------------------------------------------------------------------------


def test_the_same_output_brought_twice_is_one(tmp_path: Path) -> None:
    mine = bringing(tmp_path)
    mine.bring(hpl(FAST), "first")
    mine.bring(hpl(FAST), "second", nodes=("gpu-00000",))
    mine.certify(evidence=(mine.evidence, mine.evidence, mine.evidence / "first.evidence.dsse.json"))
    assert len(lines_of(mine)) == 1
    assert len(documents_in([tmp_path / "out/evidence"])) == 1


def test_evidence_for_another_campaign_is_refused_before_anything_is_signed(tmp_path: Path) -> None:
    mine = bringing(tmp_path)
    mine.bring(hpl(FAST))
    resealed(mine.evidence / NAME, load_private(mine.centre.key), lambda one: replace(one, campaign_sha256=sha("x")))
    with pytest.raises(RefusedError) as refused:
        mine.certify()
    assert refused.value.code == "evidence-campaign-differs"
    assert not (tmp_path / "out").exists()


def test_runs_that_the_nodes_cannot_have_computed_do_not_count(tmp_path: Path) -> None:
    mine = bringing(tmp_path)
    grid = Row(n=60_000, seconds=41.5, p=4, q=16, start=None)  # 64 processes on 4 devices
    large = Row(n=300_000, seconds=5000.0, p=2, q=2, start=None)  # 720 GB on 320
    fast = Row(n=100_000, seconds=2.0, p=2, q=2, start=None)  # 333 TFLOPS, rated 230
    mine.bring(nvidia(FAST, grid, large, fast))
    mine.certify()
    (line,) = lines_of(mine)
    assert (line.runs, line.failed, line.rate_mflop_s, line.native_mflop_s) == (1, 3, 3_470_000, None)
    assert {"hpl-grid-does-not-fit", "hpl-memory-does-not-fit", "hpl-rate-above-rating"} <= set(line.failed_codes)
    assert "emulation-not-excluded" in line.codes
    assert refusal(verified(mine)) is None


def test_a_node_without_a_record_is_named(tmp_path: Path) -> None:
    mine = bringing(tmp_path, nodes=3)
    mine.bring(hpl(FAST))
    for path in mine.centre.records.glob("gpu-00002.*"):
        path.unlink()
    mine.certify()
    (line,) = lines_of(mine)
    assert "evidence-node-without-record" in line.codes


def test_bandwidths_are_shown_and_no_rate_is_made_of_them(tmp_path: Path) -> None:
    mine = bringing(tmp_path)
    mine.bring(nccl(), "buses", "nccl-tests")
    mine.certify()
    (line,) = lines_of(mine)
    assert line.rate_mflop_s is line.native_mflop_s is line.n is None
    assert line.buses
    assert all(bus.measured_mb_s is None for bus in line.buses)  # this campaign has no sweep of its own
    assert refusal(verified(mine)) is None


def test_too_many_documents_are_refused(tmp_path: Path) -> None:
    for index in range(65):
        (tmp_path / f"{index}.evidence.dsse.json").write_bytes(b"{}")
    with pytest.raises(RefusedError) as refused:
        documents_in([tmp_path])
    assert refused.value.code == "evidence-too-many"
    with pytest.raises(PetasealError) as missing:
        documents_in([tmp_path / "none"])
    assert missing.value.code == "file-missing"


def test_a_package_carries_the_evidence(issued: Bringing, tmp_path: Path) -> None:
    out = issued.folder / "out"
    assert {"evidence/hpl.evidence.dsse.json", "evidence/hpl.output.txt"} <= members(out).keys()
    made = pack(out, tmp_path / "statement.tar")
    with opened(made.path) as place:
        report = issued.centre.verify(place, brought=place / "evidence")
        assert (refusal(report), report.level) == (None, "recomputed")
        assert "evidence" in report.checked
