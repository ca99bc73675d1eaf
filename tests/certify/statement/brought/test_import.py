"""``petaseal import`` as a user gives it, the statement that comes of it, and what people read of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from bench.language import choose_language
from bench.record import config_path, digest
from certify.documents.caps import CAPS
from certify.documents.statement import BusLine, EvidenceLine
from certify.keys.files import load_private
from certify.statement.brought.words import detail_texts, evidence_rows, evidence_text
from tests.bad_input.command import Answer, contents, petaseal
from tests.certify.attacks import campaign_of, payload_of
from tests.certify.evidence.outputs import Row, hccl, hpl, nccl, nccl_json
from tests.certify.measured import of_node, seal_record, simulated
from tests.certify.signed import sha
from tests.certify.statement.brought.bringing import FAST, SLOW, Bringing, bringing, document_of
from tests.certify.statement.drawn import text_of, unbroken

ONE_NODE = Row(n=60_000, seconds=41.5, p=1, q=2, start=None)


@pytest.fixture(autouse=True)
def the_language_of_the_locale() -> Iterator[None]:
    """Undo what `--lang` chose in this process."""
    yield
    choose_language(None)


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Bringing:
    return bringing(tmp_path_factory.mktemp("importing"))


def imported(centre: Bringing, tool: str, content: bytes, out: Path, *more: object, name: str = "a.out") -> Answer:
    file = out.parent / name
    file.write_bytes(content)
    given = ("--campaign", centre.centre.campaign, "--key", centre.centre.key, "--out", out)
    return petaseal("import", tool, file, *given, *more)


def test_a_passed_run_becomes_a_signed_document(centre: Bringing, tmp_path: Path) -> None:
    answer = imported(
        centre, "hpl", hpl(FAST, Row(n=50_000, seconds=40.0, residual=17.5, verdict="FAILED")), tmp_path / "e"
    )
    assert answer.status == 0, answer.err
    assert "passed  N 60,000" in answer.out
    assert "FAILED  N 50,000" in answer.out
    assert "hpl-residual-too-large" in answer.out
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == ["a.evidence.dsse.json", "a.output.txt"]
    document = document_of(tmp_path / "e/a.evidence.dsse.json")
    assert (document.by, document.nodes, document.pool) == ("operator", ("gpu-00000", "gpu-00001"), None)
    assert (len(document.runs), len(document.failed)) == (1, 1)


def test_nothing_passed_is_an_answer_of_no(centre: Bringing, tmp_path: Path) -> None:
    failed = hpl(Row(residual=17.5, verdict="FAILED"))
    answer = imported(centre, "hpl", failed, tmp_path / "e")
    assert (answer.status, answer.code) == (1, "evidence-none-passed")
    assert not (tmp_path / "e").exists()
    as_json = imported(centre, "hpl", failed, tmp_path / "e", "--json")
    said = json.loads(as_json.out)
    assert said["passed"] is False
    assert said["documents"][0]["document"] is None


def test_a_gigabyte_is_refused_before_it_is_read(centre: Bringing, tmp_path: Path) -> None:
    file = tmp_path / "debug.log"
    file.touch()
    os.truncate(file, 2**30)
    given = ("--campaign", centre.centre.campaign, "--key", centre.centre.key, "--out", tmp_path / "e")
    answer = petaseal("import", "hpl", file, *given)
    assert answer.status != 0
    assert "larger than 64 MiB" in answer.err
    assert "evidence-too-large" in answer.err


def test_several_files_become_several_documents(centre: Bringing, tmp_path: Path) -> None:
    for name, row in (("one.out", FAST), ("two.out", SLOW)):
        (tmp_path / name).write_bytes(hpl(row))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/one.out").write_bytes(hpl(Row(n=30_000, p=2, q=2)))
    files = (tmp_path / "one.out", tmp_path / "two.out", tmp_path / "sub/one.out", tmp_path / "one.out")
    given = ("--campaign", centre.centre.campaign, "--key", centre.centre.key, "--out", tmp_path / "e", "--json")
    answer = petaseal("import", "hpl", *files, *given)
    assert answer.status == 0
    made = [Path(one["document"]).name for one in json.loads(answer.out)["documents"]]
    assert made == ["one.evidence.dsse.json", "two.evidence.dsse.json", "one-2.evidence.dsse.json"]


def test_nothing_is_written_where_one_file_is_no_output(centre: Bringing, tmp_path: Path) -> None:
    (tmp_path / "good.out").write_bytes(hpl(FAST))
    (tmp_path / "bad.out").write_bytes(b"a log of something else\n")
    given = ("--campaign", centre.centre.campaign, "--key", centre.centre.key, "--out", tmp_path / "e")
    answer = petaseal("import", "hpl", tmp_path / "good.out", tmp_path / "bad.out", *given)
    assert (answer.status, answer.code) == (2, "evidence-not-recognised")
    assert not (tmp_path / "e").exists()


def test_a_document_is_never_overwritten(centre: Bringing, tmp_path: Path) -> None:
    assert imported(centre, "hpl", hpl(FAST), tmp_path / "e").status == 0
    before = contents(tmp_path / "e")
    again = imported(centre, "hpl", hpl(SLOW), tmp_path / "e")
    assert (again.status, again.code) == (2, "output-exists")
    assert contents(tmp_path / "e") == before


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        (("--nodes", "gpu-[00000-00009]"), 1, "evidence-node-unknown"),
        (("--pool", "other"), 1, "pool-differs"),
        (("--as", "registry"), 2, "usage"),
        (("--utc-offset", "Beijing"), 2, "usage"),
        (("--utc-offset", "+15:00"), 2, "usage"),
        (("--nodes", "gpu-["), 2, "host-list-invalid"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    centre: Bringing, tmp_path: Path, more: tuple[str, ...], status: int, code: str
) -> None:
    answer = imported(centre, "hpl", hpl(FAST), tmp_path / "e", *more)
    assert (answer.status, answer.code) == (status, code)
    assert not (tmp_path / "e").exists()


def test_a_host_list_and_a_pool_name_the_nodes(centre: Bringing, tmp_path: Path) -> None:
    answer = imported(centre, "hpl", hpl(ONE_NODE), tmp_path / "e", "--nodes", "gpu-[00001]", "--pool", "main")
    assert answer.status == 0, answer.err
    document = document_of(tmp_path / "e/a.evidence.dsse.json")
    assert (document.nodes, document.pool) == (("gpu-00001",), "main")


def test_times_outside_the_campaign_are_said(centre: Bringing, tmp_path: Path) -> None:
    outside = Row(n=60_000, seconds=41.5, p=2, q=2)  # in May, by a clock in China
    answer = imported(centre, "hpl", hpl(outside), tmp_path / "e", "--utc-offset", "+08:00")
    assert answer.status == 0, answer.err
    assert "evidence-outside-campaign" in answer.out
    (run,) = document_of(tmp_path / "e/a.evidence.dsse.json").runs
    assert run.started_at == "2026-05-12T01:00:00.000000Z"


def test_records_in_the_campaigns_folder_refuse_what_the_nodes_cannot_do(centre: Bringing, tmp_path: Path) -> None:
    # the records lie in `records/` by the campaign's file
    answer = imported(centre, "hpl", hpl(Row(n=100_000, seconds=2.0, p=2, q=2, start=None)), tmp_path / "e")
    assert (answer.status, answer.code) == (1, "evidence-none-passed")
    assert "hpl-rate-above-rating" in answer.out


def test_a_large_output_is_bound_by_its_digest_alone(
    centre: Bringing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = hpl(FAST) + b"\n" * CAPS.evidence_output_bytes
    answer = imported(centre, "hpl", content, tmp_path / "e")
    assert answer.status == 0, answer.err
    assert [path.name for path in (tmp_path / "e").iterdir()] == ["a.evidence.dsse.json"]
    assert document_of(tmp_path / "e/a.evidence.dsse.json").file_bytes == len(content)


@pytest.mark.parametrize(
    ("tool", "content"), [("nccl-tests", nccl()), ("nccl-tests", nccl_json()), ("hccl-test", hccl())]
)
def test_bandwidths_are_imported(centre: Bringing, tmp_path: Path, tool: str, content: bytes) -> None:
    more = ("--collective", "all-reduce", "--ranks", "8")
    answer = imported(centre, tool, content, tmp_path / "e", *more)
    assert answer.status == 0, answer.err
    assert document_of(tmp_path / "e/a.evidence.dsse.json").buses


def test_a_self_issued_run_needs_the_centre(tmp_path: Path) -> None:
    mine = bringing(
        tmp_path,
        nodes=1,
        campaigned=lambda one: replace(one, self_issued=True, centre_id=None, challenge_source="self"),
    )
    campaign = campaign_of(mine.centre)
    key = load_private(mine.centre.key)
    base = simulated(2, "standard", ("fp16", "fp64"))
    record = replace(of_node(base.record, 0, campaign, key), campaign=campaign, pool="main")
    path = mine.centre.record(0)
    path.write_bytes(seal_record(record, key, base.samples))
    (tmp_path / "a.out").write_bytes(hpl(ONE_NODE))
    given = ("--campaign", path, "--key", mine.centre.key, "--out", tmp_path / "e")
    without = petaseal("import", "hpl", tmp_path / "a.out", *given)
    assert (without.status, without.code) == (2, "centre-missing")
    answer = petaseal("import", "hpl", tmp_path / "a.out", *given, "--centre", mine.centre.centre)
    assert answer.status == 0, answer.err
    document = document_of(tmp_path / "e/a.evidence.dsse.json")
    assert document.campaign_sha256 == digest(campaign)


# --- from there to a statement, by commands alone --------------------------------------------------------------------


def test_evidence_in_the_records_folder_is_taken_and_shown_alike_everywhere(tmp_path: Path) -> None:
    mine = bringing(tmp_path)
    assert imported(mine, "hpl", hpl(FAST, SLOW), mine.centre.records / "evidence").status == 0
    assert imported(mine, "nccl-tests", nccl(), tmp_path / "more", name="buses.out").status == 0
    given = ("--centre", mine.centre.centre, "--campaign", mine.centre.campaign, "--key", mine.centre.key)
    out = tmp_path / "out"
    made = petaseal("certify", mine.centre.records, *given, "--evidence", tmp_path / "more", "--out", out, "--all")
    assert made.status == 0, made.err
    common = ("--public-key", mine.centre.public_key, "--accept-simulated")
    verified = petaseal("verify", out, *common, "--all")
    assert verified.status == 0, verified.err
    as_json = json.loads(petaseal("verify", out, *common, "--json").out)
    assert "evidence" in as_json["checked"]
    lines = as_json["predicate"]["evidence"]
    assert sorted(line["kind"] for line in lines) == ["hpl", "nccl-tests"]
    page = (out / "statement.html").read_text()
    for said in ("Rmax (never mixed with the sum of the nodes) 3.470 TFLOPS by HPLinpack 2.3, N 60,000, 2 nodes",):
        assert said in made.out
        assert said in verified.out
        assert said in page
    assert "[evidence-brought]" in made.out
    assert "sizes; never counted" in verified.out
    assert f"--evidence {out / 'evidence'}" in made.out  # in the command that comes next
    assert "--evidence evidence" in page
    in_chinese = petaseal("verify", out, *common, "--all", "--lang", "zh").out
    assert "由运营方提供" in in_chinese
    assert "由运营方提供" in page


def test_the_pdf_says_the_same(tmp_path: Path) -> None:
    mine = bringing(tmp_path)
    mine.bring(hpl(FAST))
    out = mine.certify()
    (line,) = payload_of((out / "statement.dsse.json").read_bytes())["predicate"]["evidence"]
    assert line["rate_mflop_s"] == 3_470_000
    drawn = unbroken(text_of((out / "statement.pdf").read_bytes()))
    assert unbroken("Rmax (never mixed with the sum of the nodes) 3.470 TFLOPS by HPLinpack 2.3") in drawn


def by_rmax(folder: Path) -> Path:
    """Return the file of a policy that counts supercomputing by Rmax."""
    content = yaml.safe_load(config_path("policies", "wuhan-2025.yaml").read_text())
    content |= {"policy": "by-rmax", "jurisdiction": None}
    content["counting"]["supercomputing"]["capacity"] = "rmax"
    file = folder / "by-rmax.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True))
    return file


def test_a_verdict_by_rmax_is_recomputed_only_with_its_evidence(tmp_path: Path) -> None:
    mine = bringing(tmp_path)
    mine.bring(hpl(FAST))
    policy = str(by_rmax(tmp_path))
    out = mine.certify(policies=(policy,))
    seen = mine.centre.verify(out, brought=out / "evidence", policies=(policy,))
    assert (seen.refusal, seen.level) == (None, "recomputed")
    assert seen.statement is not None
    rmax = [one for one in seen.statement.verdicts if one.by_rmax == ("supercomputing",)]
    assert rmax
    assert rmax[0].bases[0].observed_mflop_s == 3_470_000
    unseen = mine.centre.verify(out, policies=(policy,))
    assert (unseen.refusal, unseen.level) == (None, "signature")
    condition = f"by-rmax/{rmax[0].condition}"
    wanted = mine.centre.verify(out, policies=(policy,), require=(condition,))
    assert wanted.unmet
    assert "--evidence" in wanted.unmet[0]


# --- words -----------------------------------------------------------------------------------------------------------


def line(**changes: object) -> EvidenceLine:
    value = EvidenceLine(
        evidence_sha256=sha("e"),
        kind="hpl",
        by="witness",
        tool="HPL-NVIDIA 25.9.0",
        file_sha256=sha("f"),
        pool="main",
        pool_class="supercomputing",
        nodes=1200,
        runs=1,
        failed=0,
        n=1_000_000,
        rate_mflop_s=400 * 10**9,
        native_mflop_s=None,
        codes=("emulation-not-excluded",),
        failed_codes=(),
        buses=(),
    )
    return replace(value, **changes)


def test_only_hpl_is_called_rmax() -> None:
    assert evidence_text(line(), "en") == (
        "brought by the witness: Rmax (never mixed with the sum of the nodes) 400.000 PFLOPS by HPL-NVIDIA 25.9.0,"
        " N 1,000,000, 1,200 nodes"
    )
    assert "mixed precision (no FP64 capacity)" in evidence_text(line(kind="hpl-mxp"), "en")
    assert "HPCG (no Rmax)" in evidence_text(line(kind="hpcg", n=None), "en")
    assert "no run that counts" in evidence_text(line(runs=0, rate_mflop_s=None, n=None), "en")
    assert evidence_rows((line(),))[0].codes == "emulation-not-excluded"


def test_bandwidths_stand_with_their_difference() -> None:
    bus = BusLine(
        collective="all-reduce",
        size_bytes=2**30,
        ranks=8,
        bus_mb_s=95_000,
        measured_mb_s=100_000,
        difference_ppm=-50_000,
    )
    other = replace(bus, collective="all-gather", measured_mb_s=None, difference_ppm=None)
    texts = detail_texts(
        line(kind="nccl-tests", buses=(bus, other), failed=2, failed_codes=("bus-wrong-values",)), "en"
    )
    assert texts[0].endswith("bus 95.000 GB/s, measured here 100.000 GB/s, difference -5.0 %")
    assert texts[1].endswith("bus 95.000 GB/s")
    assert texts[2] == "2 runs do not count: bus-wrong-values"
    many = detail_texts(line(kind="nccl-tests", buses=(bus,) * 12), "en")
    assert many[-1] == "and 4 more"
