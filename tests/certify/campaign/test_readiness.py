"""What ``centre check`` refuses, and what it says that a centre file leaves open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.errors import PetasealError
from certify.campaign.readiness import conditions_of, readiness_of
from certify.keys.files import new_key
from certify.policy.centre import Centre, load_centre
from certify.policy.policies import load_policy
from certify.statement.baseline import empty_baseline, sign_baseline
from tests.bad_input.command import petaseal
from tests.certify.judged import centre_of
from tests.certify.measured import centre_yaml

POLICY = "guangzhou-2000p"
DAY = "2025-12-31"
BASELINE = {"baseline": "baseline.dsse.json", "baseline_date": DAY}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "centre.yaml"
    path.write_text(yaml.safe_dump(centre_yaml(**changes), allow_unicode=True))
    return path


def with_baseline(folder: Path, day: str = DAY, **changes: Any) -> Path:
    """Write a centre file and an empty baseline beside it."""
    new_key(folder / "operator.pem", None)
    path = written(folder, **{**BASELINE, **changes})
    baseline = empty_baseline(load_centre(str(path)), day, "empty hall")
    sign_baseline(baseline, folder / "operator.pem", None, folder / "baseline.dsse.json")
    return path


def fields(centre: Centre) -> dict[str, set[str | None]]:
    return {one.condition: {gap.field for gap in one.gaps} for one in conditions_of(centre, load_policy(POLICY))}


# What is refused
def test_the_template_is_refused_and_each_of_its_values_is_named(tmp_path: Path) -> None:
    file = tmp_path / "centre.yaml"
    petaseal("centre", "new", "--out", file)
    answer = petaseal("centre", "check", file)
    assert (answer.code, answer.status) == ("centre-template", 2)
    assert "centre_id (my-centre), name (示例智算中心 Example computing centre), operator (示例运营单位)" in answer.err
    file.write_text(file.read_text().replace("my-centre", "gz").replace("示例运营单位", "某公司"))
    answer = petaseal("centre", "check", file)
    assert answer.code == "centre-template"
    assert "template's name (" in answer.err


@pytest.mark.parametrize(
    "sha256", ["00" * 32, "ff" * 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
)
@pytest.mark.parametrize("field", ["park", "facility", "other_subsidies", "evidence"])
def test_a_digest_of_nothing_is_refused(tmp_path: Path, field: str, sha256: str) -> None:
    named = {"name": "x", "evidence_sha256": sha256}
    changes: dict[str, Any] = {
        "park": named,
        "facility": {"id": "B1", "definition": "one", "evidence_sha256": sha256},
        "other_subsidies": [named],
        "evidence": {"land": sha256},
    }
    answer = petaseal("centre", "check", written(tmp_path, **{field: changes[field]}))
    assert (answer.code, answer.status) == ("digest-of-nothing", 2)
    assert field in answer.err


def test_a_baseline_that_is_not_there_has_a_sentence_of_its_own(tmp_path: Path) -> None:
    answer = petaseal("centre", "check", written(tmp_path, **BASELINE))
    assert (answer.code, answer.status) == ("baseline-missing", 2)
    assert "baseline.dsse.json" in answer.err
    assert "petaseal centre baseline" in answer.err


@pytest.mark.parametrize(
    ("changes", "day", "code"),
    [({}, "2025-12-30", "baseline-differs"), ({"centre_id": "another"}, DAY, "centre-differs")],
)
def test_a_baseline_of_another_centre_or_day(tmp_path: Path, changes: dict[str, Any], day: str, code: str) -> None:
    with_baseline(tmp_path, day)
    file = written(tmp_path, **BASELINE, **changes)
    with pytest.raises(PetasealError) as refused:
        readiness_of(str(file), (POLICY,))
    assert refused.value.code == code


def test_a_damaged_baseline(tmp_path: Path) -> None:
    file = with_baseline(tmp_path)
    (tmp_path / "baseline.dsse.json").write_text("{}")
    assert petaseal("centre", "check", file).status == 1


# What is open
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"park": None}, {"park": {"park"}, "scale-2000p": {"park"}}),
        ({"facility": None}, {"single-facility": {"facility"}, "scale-2000p": {"facility"}}),
        ({"project_id": None}, {"scale-2000p": {"project_id"}}),
        (
            {"baseline": None, "baseline_date": None},
            {"newly-added": {"baseline, baseline_date"}, "scale-2000p": {"baseline, baseline_date"}},
        ),
        (
            {"jurisdiction": "CN-420100"},
            {name: {"jurisdiction"} for name in ("park", "newly-added", "single-facility", "scale-2000p")},
        ),
        ({"lifecycle": "planned"}, {"scale-2000p": {"lifecycle"}}),
        (
            {"pools": [{"pool": "cpu", "class": "supercomputing", "nodes": "all", "devices": "all"}]},
            {"newly-added": {"pools"}, "scale-2000p": {"pools"}},
        ),
    ],
)
def test_each_gap_leaves_its_conditions_open(changes: dict[str, Any], expected: dict[str, set[str]]) -> None:
    found = fields(centre_of(**{**BASELINE, **changes}))
    assert {name: gaps for name, gaps in found.items() if gaps} == expected


def test_what_is_open_is_said_with_how_to_fill_it_in(tmp_path: Path) -> None:
    file = written(tmp_path, park=None)
    answer = petaseal("centre", "check", file)
    assert answer.status == 0  # not declared is no fault
    lines = answer.out.splitlines()
    assert "  park 产业园区内 In an industrial park: OPEN, lacks park" in lines
    assert lines[lines.index("  park: lacks the declared park [not-declared]") + 1].startswith("    write {name")
    assert lines[-1] == f"next       fill it in, then: petaseal centre check {file} --policy guangzhou-2000p"
    asked = petaseal("centre", "check", file, "--policy", POLICY)
    assert (asked.code, asked.status) == ("centre-incomplete", 1)
    assert asked.out == answer.out
    assert "guangzhou-2000p/park" in asked.err


def test_a_complete_file_says_so_and_what_comes_next(tmp_path: Path) -> None:
    file = with_baseline(tmp_path)
    answer = petaseal("centre", "check", file, "--policy", POLICY)
    assert answer.status == 0
    assert "complete   no condition lacks anything that the centre file can give" in answer.out
    assert "  baseline of 2025-12-31: nothing, as is declared: empty hall" in answer.out
    create = f"next       petaseal campaign create --centre {file} --policy guangzhou-2000p --nodes slurm --key"
    assert answer.out.splitlines()[-1].startswith(create)
    for condition, best in (
        ("park", "declared at best"),
        ("newly-added", "declared at best"),
        ("single-facility", "declared at best"),
        ("scale-2000p", "met at best (where certified, sustained and nominal agree"),
        ("guide", "insufficient_evidence: guide-not-issued at best"),
    ):
        (line,) = [line for line in answer.out.splitlines() if line.startswith(f"  {condition} ")]
        assert best in line
    found = json.loads(petaseal("centre", "check", file, "--json").out)
    assert found["centre_id"] == "gz-test"  # what it printed before
    assert [(one["condition"], one["at_best"], one["missing"]) for one in found["conditions"]][3:] == [
        ("scale-2000p", "met", []),
        ("guide", "insufficient_evidence", []),
    ]


@pytest.mark.parametrize("policy", ["guangzhou-2027", "wuhan-2025"])
def test_every_installed_policy_can_be_asked(tmp_path: Path, policy: str) -> None:
    answer = petaseal("centre", "check", written(tmp_path, jurisdiction="CN-440100"), "--policy", policy)
    assert answer.status == (0 if policy.startswith("guangzhou") else 1)
