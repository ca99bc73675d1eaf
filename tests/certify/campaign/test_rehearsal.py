"""A rehearsal: the verdicts as if the devices were real, which nothing and nobody may take for a statement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.errors import PetasealError
from certify.campaign.rehearsal import WATERMARK, as_if, rehearse, scaled
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import DOCUMENTS
from certify.policy.capacity import Capacity
from certify.policy.centre import Declaration, load_centre
from certify.policy.policies import load_policy
from certify.policy.thresholds import BaselineMatch, ClassEvidence, PolicyEvidence, Unrecorded
from certify.policy.verdicts import evaluate
from certify.statement.baseline import empty_baseline, sign_baseline
from certify.statement.issue import IssueRequest
from tests.bad_input.command import petaseal
from tests.certify.measured import Measured, measured
from tests.certify.statement.test_page import Reader

POLICY = load_policy("guangzhou-2000p")
P = 10**9  # MFLOP/s in a PFLOPS
DECLARED: frozenset[Declaration] = frozenset({"project", "park", "facility"})


def evidence(**changes: Any) -> PolicyEvidence:
    """Return what a smoke run of simulated devices gives: 2 PFLOPS, 3 nominal."""
    sums = Capacity(8, 2 * P, 2 * P, 2 * P, 3 * P)
    found = PolicyEvidence(
        classes={"intelligent": ClassEvidence(clean=sums)},
        grade="smoke",
        simulated=True,
        jurisdiction="CN-440100",
        declarations=DECLARED,
        baseline=BaselineMatch(0, 0, 8, 0),
        newly_added={"intelligent": ClassEvidence(clean=sums)},
    )
    return found._replace(**changes)


def scale(found: PolicyEvidence) -> tuple[str, str | None]:
    (verdict,) = (one for one in evaluate(POLICY, found) if one.condition == "scale-2000p")
    return verdict.verdict, verdict.reason


def laid(folder: Path, **centre: Any) -> Measured:
    """Lay out a simulated centre of two nodes with an empty baseline."""
    told = {"baseline": "baseline.dsse.json", "baseline_date": "2025-12-31", **centre}
    one = measured(folder, profile="smoke", precisions=("fp16",), **told)
    baseline = empty_baseline(load_centre(str(one.centre)), None, "empty hall")
    sign_baseline(baseline, one.key, None, folder / "baseline.dsse.json")
    return one


def arguments(one: Measured, out: Path) -> tuple[object, ...]:
    given = ("--centre", one.centre, "--campaign", one.campaign, "--key", one.key)
    return ("certify", one.records, *given, "--out", out)


# What is set aside: pure
@pytest.mark.parametrize(
    ("times", "expected"),
    [(600, ("not_met", None)), (700, ("insufficient_evidence", "basis-unstated")), (1000, ("met", None))],
)
def test_met_and_not_met_can_be_rehearsed(times: int, expected: tuple[str, str | None]) -> None:
    assert scale(evidence()) == ("insufficient_evidence", "simulated")
    lifted, setting = as_if(evidence(), (POLICY,), times)
    assert scale(setting) == expected
    assert [one.code for one in lifted] == ["simulated", "grade-too-low", "times"]
    assert lifted[-1].text.en == f"as if each node stood for {times:,} nodes like it"


def test_a_real_run_of_minutes_lifts_its_grade_only() -> None:
    lifted, setting = as_if(evidence(simulated=False), (POLICY,), 1)
    assert [one.code for one in lifted] == ["grade-too-low"]
    assert scale(setting) == ("not_met", None)
    assert as_if(evidence(simulated=False, grade="certification"), (POLICY,), 1)[0] == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"jurisdiction": None}, "outside-jurisdiction"),
        ({"declarations": frozenset()}, "not-declared"),
        ({"baseline": None}, "no-baseline"),
        ({"grade": None}, "nothing-counted"),
    ],
)
def test_nothing_else_is_set_aside(changes: dict[str, Any], reason: str) -> None:
    assert scale(as_if(evidence(**changes), (POLICY,), 1000)[1]) == ("insufficient_evidence", reason)


def test_more_nodes_have_more_of_everything_and_what_is_unknown_stays_so() -> None:
    one = ClassEvidence(
        clean=Capacity(2, 5, 6, None, 8, 1),
        untested=Capacity(devices=1, nominal_mflop_s=7, without_rating=1),
        unrecorded=Unrecorded(frozenset({"a", "b"}), 1, 9, without_rating=True),
    )
    more = scaled(one, 10)
    assert more.clean == Capacity(20, 50, 60, None, 80, 10)
    assert (more.untested.devices, more.untested.nominal_mflop_s) == (10, 70)
    assert (more.unrecorded.nodes, more.unrecorded.at_most_mflop_s, more.unrecorded.without_rating) == (30, 90, True)
    unknown = one._replace(unrecorded=Unrecorded(frozenset({"a"}), 0, None))
    assert scaled(unknown, 10).unrecorded.at_most_mflop_s is None
    _, setting = as_if(evidence(baseline=BaselineMatch(5, 2, 6)), (POLICY,), 10)
    assert setting.baseline == BaselineMatch(devices=23, still_present=20, new_devices=60)


def test_a_missing_node_that_may_be_in_two_classes_stands_for_so_many_nodes_once() -> None:
    ai = ClassEvidence(unrecorded=Unrecorded(frozenset({"a", "b"}), 0, 9))
    hpc = ClassEvidence(unrecorded=Unrecorded(frozenset({"b"}), 1, 4))
    both = scaled(ai, 10).plus(ClassEvidence()).plus(scaled(hpc, 10)).unrecorded
    assert (both.nodes, both.at_most_mflop_s) == (30, 130)


# What is written
def test_a_rehearsal_says_in_every_view_that_it_proves_nothing(tmp_path: Path) -> None:
    one, out = laid(tmp_path), tmp_path / "rehearsal"
    answer = petaseal(*arguments(one, out), "--rehearse", "--times", 2000)
    assert answer.status == 0
    lines = answer.out.splitlines()
    assert lines[0] == lines[-1] == f"{WATERMARK.en} / {WATERMARK.zh}"
    assert all(line.startswith("rehearsal: ") for line in lines[1:-2])
    assert "nothing was signed" in lines[-2]
    assert sorted(path.name for path in out.iterdir()) == ["rehearsal.html", "rehearsal.json"]
    page = (out / "rehearsal.html").read_text()
    assert page.count(WATERMARK.en) == page.count(WATERMARK.zh) >= 10
    assert "算力能力声明书" not in page
    assert Reader(page).open == []  # whole in itself
    assert "print-color-adjust" in page  # a printed page bears it too
    told = json.loads(petaseal(*arguments(one, tmp_path / "two"), "--rehearse", "--json").out)
    assert told["rehearsal"]["rehearsal"] == {"zh": WATERMARK.zh, "en": WATERMARK.en}
    assert [one["code"] for one in told["rehearsal"]["lifted"]] == ["simulated", "grade-too-low"]


def test_no_verifier_and_no_registry_takes_a_rehearsal(tmp_path: Path) -> None:
    one, out = laid(tmp_path), tmp_path / "rehearsal"
    petaseal(*arguments(one, out), "--rehearse")
    file = out / "rehearsal.json"
    shown = json.loads(file.read_text())
    assert shown.keys().isdisjoint({"payload", "payloadType", "signatures", "_type", "predicateType", "predicate"})
    assert shown["not_a_statement"] is True
    assert "rehearsal" not in DOCUMENTS
    with pytest.raises(PetasealError):  # with this a registry opens whatever comes in, of any kind
        parse_envelope(file.read_bytes(), CAPS.statement_bytes)
    answer = petaseal("verify", file, "--public-key", one.public_key, "--accept-simulated")
    assert answer.status == 1
    assert answer.out.startswith("REFUSED")
    assert petaseal("verify", out, "--public-key", one.public_key).status == 2  # its folder holds no statement


def test_what_is_refused_of_a_statement_is_refused_of_a_rehearsal(tmp_path: Path) -> None:
    one = laid(tmp_path)
    (tmp_path / "baseline.dsse.json").unlink()
    answer = petaseal(*arguments(one, tmp_path / "out"), "--rehearse")
    assert answer.code == "file-missing"
    assert not (tmp_path / "out").exists()


def test_a_rehearsal_overwrites_nothing_and_stands_beside_no_statement(tmp_path: Path) -> None:
    one, out = laid(tmp_path), tmp_path / "out"
    assert petaseal(*arguments(one, out), "--times", 2).code == "usage"  # a statement never extrapolates
    petaseal(*arguments(one, out), "--rehearse")
    assert petaseal(*arguments(one, out), "--rehearse").code == "output-exists"
    assert petaseal(*arguments(one, tmp_path / "stated")).status == 0
    assert petaseal(*arguments(one, tmp_path / "stated"), "--rehearse").code == "output-exists"


def test_the_figures_are_those_of_the_statement(tmp_path: Path) -> None:
    one = laid(tmp_path)
    made = one.certify()
    request = IssueRequest(
        records=one.records,
        centre=str(one.centre),
        policies=("guangzhou-2000p",),
        keys=(one.key,),
        campaign=one.campaign,
        out=tmp_path / "rehearsal",
    )
    rehearsed = rehearse(request, 1).rehearsal.rehearsed
    for real, found in zip(made.statement.verdicts, rehearsed, strict=True):
        assert (found.condition, found.growth) == (real.condition, real.growth)
        assert [b.observed_mflop_s for b in found.bases] == [b.observed_mflop_s for b in real.bases]
    assert (rehearsed[1].verdict, rehearsed[3].verdict) == ("declared", "not_met")
