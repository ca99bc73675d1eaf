"""What ``devices``, ``campaign create`` and ``campaign check`` say before a measurement, on scripted devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.campaign.estimate import HOST_MW
from bench.record import config_names, config_path
from bench.scenario import SCENARIO_VARIABLE
from tests.bad_input.command import Answer, petaseal
from tests.certify.measured import centre_yaml

ASCEND = {
    "plays": "huawei-ascend-910b3",
    "vendor": "Huawei",
    "model": "Ascend910B3",
    "units": 20,
    "memory_bytes": 64 * 2**30,
}
UNKNOWN = {"vendor": "Acme", "model": "Acme 1"}
AI = {"pool": "ai", "class": "intelligent", "nodes": ["a1", "a2"], "devices": "all"}
HPC = {"pool": "hpc", "class": "supercomputing", "nodes": ["h1"], "devices": "all"}
ROW = """
  - id: acme-1
    name: "Acme 1"
    vendor: "Acme"
    match: [{name: "Acme 1"}]
    kind: accelerator
    count_unit: card
    dies_per_unit: 1
    tflops: {fp16: "200"}
    confidence: medium
    sources: ["a letter of the vendor"]
    notes: "made up"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a key."""
    assert petaseal("keys", "new", "--out", tmp_path / "operator.pem", "--no-passphrase").status == 0
    return tmp_path


def plays(place: Path, monkeypatch: pytest.MonkeyPatch, **scenario: Any) -> None:
    """Let fakes be what a scenario says."""
    (place / "scenario.yaml").write_text(yaml.safe_dump(scenario))
    monkeypatch.setenv(SCENARIO_VARIABLE, str(place / "scenario.yaml"))


def own_ratings(place: Path) -> Path:
    """Return the installed table with a row for the unknown model."""
    file = place / "accelerators.yaml"
    file.write_text(config_path("accelerators.yaml").read_text().rstrip("\n") + ROW)
    return file


def created(
    place: Path, *more: object, pools: tuple[dict[str, Any], ...] = (AI,), device: str = "fake:2", **changes: Any
) -> Answer:
    """Create a campaign of two nodes of two fakes each, at the grade that the policy wants."""
    (place / "centre.yaml").write_text(yaml.safe_dump(centre_yaml(pools=list(pools), **changes), allow_unicode=True))
    devices = [text for pool in pools for text in ("--device", f"{pool['pool']}={device}")]
    return petaseal(
        *("campaign", "create", "--centre", place / "centre.yaml", "--key", place / "operator.pem"),
        *("--out", place / "c", *devices, *more),
    )


def told(*args: object) -> Any:
    answer = petaseal(*args, "--json")
    assert answer.out, answer.err
    return json.loads(answer.out)


# --- devices ---


def test_devices_say_what_bounds_a_model_and_where_it_counts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **ASCEND)
    lines = petaseal("devices", "--device", "fake:2").out.splitlines()
    block = lines[lines.index("before a measurement, Huawei Ascend910B3 (simulated): fake:0, fake:1") :]
    every = ", ".join(config_names("policies"))
    assert "  fp16: bounded by the rating: at most 328.650 TFLOPS (rating)" in block
    assert f"    can count at certification as intelligent, edge under {every}" in block
    assert f"    counts 0 (no-ceiling) as supercomputing under {every}" in block
    assert any("--ratings FILE" in line for line in block)


def test_devices_for_machines(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **ASCEND)
    (device,) = told("devices", "--device", "fake:1", "--policy", "guangzhou-2000p")["devices"]
    found = device["expected"]
    assert set(found) == {"row", "confidence", "nominal_only", "precisions", "missing"}
    assert device["nominal_mflop_s"]["fp16"] == 313_000_000
    assert {one["precision"]: one["step"] for one in found["precisions"]} == {
        "fp16": "rating",
        "fp64": "none",
        "fp32": "rating",
    }
    assert {name for one in found["precisions"] for c in one["counting"] for name in c["policies"]} == {
        "guangzhou-2000p"
    }
    assert [one["code"] for one in found["missing"]] == ["no-ceiling"]


def test_devices_that_differ_in_what_is_missing_stand_apart(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, devices={"1": {"identity": {"uuid": None, "serial": None}}})
    out = petaseal("devices", "--device", "fake:3").out
    assert "before a measurement, petaseal Fake-1 (simulated): fake:0, fake:2\n" in out
    assert "before a measurement, petaseal Fake-1 (simulated): fake:1\n" in out
    assert out.count("missing: no-identity") == 1


def test_a_model_without_a_row_is_named_as_it_was_seen(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **UNKNOWN, memory_bytes=48 * 10**9)
    out = petaseal("devices", "--device", "fake:1").out
    assert '  rating: none: no row is certainly that of the name "Acme 1" with 48 GB of the vendor "Acme"; docs/' in out
    assert "can count" not in out


def test_a_table_of_one_s_own_is_shown_as_nominal_and_bounds_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a file rates a model at: no statement will count it before petaseal's own table has the row."""
    plays(place, monkeypatch, **UNKNOWN)
    (before,) = told("devices", "--device", "fake:1")["devices"]
    own = ("devices", "--device", "fake:1", "--ratings", own_ratings(place))
    (given,) = told(*own)["devices"]
    assert (before["nominal_mflop_s"], given["nominal_mflop_s"]) == ({}, {"fp16": 200_000_000})
    assert (given["expected"]["row"], given["expected"]["nominal_only"]) == ("acme-1", True)
    assert (before["expected"]["row"], before["expected"]["nominal_only"]) == (None, False)
    for one, other in zip(given["expected"]["precisions"], before["expected"]["precisions"], strict=True):
        assert one["nominal_mflop_s"] == (200_000_000 if one["precision"] == "fp16" else None)
        assert one | {"nominal_mflop_s": None} == other
        assert (one["step"], one["limit"]) == ("none", "highest-rating")
    people = petaseal(*own).out
    assert "  rating: acme-1 (confidence medium), rates fp16; nominal alone: the file bounds nothing\n" in people
    assert "can count" not in people


def test_a_table_of_one_s_own_raises_no_limit_of_a_known_model(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **ASCEND)
    file = place / "accelerators.yaml"
    installed = config_path("accelerators.yaml").read_text()
    file.write_text(installed.replace('fp16: "313"', 'fp16: "900"'))
    assert file.read_text() != installed
    (before,) = told("devices", "--device", "fake:1")["devices"]
    (given,) = told("devices", "--device", "fake:1", "--ratings", file)["devices"]
    assert given["nominal_mflop_s"]["fp16"] == 900_000_000
    limits = [[(p["limit"], p["limit_mflop_s"]) for p in d["expected"]["precisions"]] for d in (before, given)]
    assert limits[0] == limits[1]
    file.write_text(installed)
    (copied,) = told("devices", "--device", "fake:1", "--ratings", file)["devices"]
    assert copied == before


def test_a_policy_of_one_s_own_may_accept_what_is_missing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **UNKNOWN)
    text = config_path("policies", "guangzhou-2000p.yaml").read_text()
    own = text.replace("policy: guangzhou-2000p", "policy: mine").replace("accept: []", "accept: [no-ceiling]")
    (place / "mine.yaml").write_text(own)
    out = petaseal("devices", "--device", "fake:1", "--policy", place / "mine.yaml", "--policy", "wuhan-2025").out
    assert "    can count at certification as intelligent, edge under mine\n" in out
    assert "    counts 0 (no-ceiling) as intelligent, edge under wuhan-2025\n" in out


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("--policy", "guangzhou-3000p", "unknown-name"),
        ("--policy", "nowhere.yaml", "file-missing"),
        ("--ratings", "nowhere.yaml", "file-missing"),
    ],
)
def test_what_devices_are_asked_with_and_there_is_not(option: str, value: str, code: str) -> None:
    answer = petaseal("devices", "--device", "fake:1", option, value)
    assert (answer.code, answer.status, answer.out) == (code, 2, "")


# --- create ---


def test_create_says_that_nothing_is_known_of_the_devices_and_who_will_say(place: Path) -> None:
    answer = created(place, pools=(AI, HPC))
    (line,) = [line for line in answer.out.splitlines() if line.startswith("devices ")]
    assert line.startswith("devices    nothing is known of those of ai, hpc yet: petaseal campaign check ")
    assert "grade-too-low" not in answer.out


def test_create_says_what_the_devices_of_a_file_can_count(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **ASCEND)
    (place / "npu.json").write_text(petaseal("devices", "--device", "fake:2", "--json").out)
    files = ("--devices", f"ai={place / 'npu.json'}", "--devices", f"hpc={place / 'npu.json'}")
    answer = created(place, *files, pools=(AI, HPC))
    assert answer.status == 0
    assert "pool ai: 2 x Huawei Ascend910B3 on each node\n" in answer.out
    assert "    can count at certification as intelligent under guangzhou-2000p\n" in answer.out
    assert "    counts 0 (no-ceiling) as supercomputing under guangzhou-2000p\n" in answer.out
    assert "nothing is known" not in answer.out


def test_create_for_machines(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **UNKNOWN)
    (place / "npu.json").write_text(petaseal("devices", "--device", "fake:2", "--json").out)
    more = ("--devices", f"ai={place / 'npu.json'}", "--ratings", own_ratings(place), "--json")
    made = json.loads(created(place, *more).out)
    (model,) = made["models"]
    assert (model["pool"], model["vendor"], model["model"]) == ("ai", "Acme", "Acme 1")
    assert (model["devices"], model["nodes"], model["can_count"]) == (2, 0, False)
    assert model["expected"]["row"] == "acme-1"
    (remark,) = made["remarks"]
    assert "guangzhou-2000p lacks in the centre file: baseline, baseline_date (not-declared)" in remark


def test_create_names_each_field_that_a_policy_lacks_once(place: Path) -> None:
    bare: dict[str, Any] = {"park": None, "project_id": None, "jurisdiction": None}
    said = [line for line in created(place, **bare).out.splitlines() if "(not-declared)" in line]
    assert [line.partition(" (")[0].partition(": ")[2] for line in said] == [
        "park, jurisdiction, baseline, baseline_date, project_id"
    ]


def test_create_says_what_no_device_can_mend(place: Path) -> None:
    more = ("--profile", "smoke", "--precision", "fp16", "--json")
    made = json.loads(created(place, *more, pools=(AI, HPC), lifecycle="under_construction").out)
    assert [remark.partition(")")[0].partition("(")[2] for remark in made["remarks"]] == [
        "not-in-operation",
        "untested",
        "grade-too-low",
        "not-declared",
    ]


def test_create_and_launch_tell_what_it_will_take_with_the_power_that_the_ratings_give(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plays(place, monkeypatch, **UNKNOWN)
    (place / "npu.json").write_text(petaseal("devices", "--device", "fake:4", "--json").out)
    ratings = own_ratings(place)
    ratings.write_text(f"{ratings.read_text()}    tdp_w: 500\n")
    more = ("--devices", f"ai={place / 'npu.json'}", "--ratings", ratings, "--also", "ai=fp64")
    made = json.loads(created(place, *more, "--json").out)
    assert [window["precision"] for window in made["campaign"]["windows"]] == ["fp16", "fp64"]
    assert made["estimate"]["devices"] == 4
    assert made["estimate"]["peak_power_mw"] == 2 * (HOST_MW + 2 * 500_000)
    said = told("campaign", "launch", place / "c", "--dry-run")
    assert said["estimate"] == made["estimate"]
    people = petaseal("campaign", "launch", place / "c", "--dry-run").out
    assert all(word in people for word in ("card hours", "kW at the peak", "kWh", " min of it to prepare"))


def test_devices_of_a_split_node_count_in_the_pool_that_names_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plays(place, monkeypatch)
    (place / "npu.json").write_text(petaseal("devices", "--device", "fake:4", "--json").out)
    pool = {**AI, "devices": ["fake:0", "fake:2", "fake:9"]}
    assert (
        "pool ai: 2 x petaseal Fake-1 on each node\n"
        in created(place, "--devices", f"ai={place / 'npu.json'}", pools=(pool,)).out
    )


@pytest.mark.parametrize(
    ("text", "given", "code"),
    [
        (None, "ai=npu.json", "file-missing"),
        ('{"devices": [], "problems": []}', "ai=npu.json", "no-device"),
        ('{"devices": [{"device": "fake:0"}], "problems": []}', "ai=npu.json", "devices-file-invalid"),
        ("[" * 5000, "ai=npu.json", "devices-file-invalid"),
        ("{}", "hpc=npu.json", "unknown-pool"),
        ("{}", "npu.json", "usage"),
    ],
)
def test_a_file_of_devices_that_is_none(
    place: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, given: str, code: str
) -> None:
    monkeypatch.chdir(place)
    if text is not None:
        (place / "npu.json").write_text(text)
    answer = created(place, "--devices", given)
    assert (answer.code, answer.status, answer.out) == (code, 2, "")
    assert not (place / "c").exists()


# --- check ---


def test_check_says_what_the_devices_of_all_nodes_can_count(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **ASCEND)
    assert created(place).status == 0
    answer = petaseal("campaign", "check", place / "c")
    assert answer.status == 0, answer.err
    assert "  no problem was found\nguangzhou-2000p lacks in the centre file: baseline, baseline_date" in answer.out
    assert "\npool ai: 4 x Huawei Ascend910B3 on 2 node(s)\n" in answer.out
    assert "  fp16: bounded by the rating: at most 328.650 TFLOPS (rating)\n" in answer.out
    assert "    can count at certification as intelligent under guangzhou-2000p\n" in answer.out


@pytest.mark.long
def test_a_model_that_cannot_count_is_a_problem(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **UNKNOWN)
    assert created(place).status == 0
    found = told("campaign", "check", place / "c")
    assert found["problems"] == ["pool ai: 4 x Acme 1 on a1, a2 cannot count (no-ceiling)"]
    (model,) = found["models"]
    assert (model["devices"], model["nodes"], model["can_count"]) == (4, 2, False)
    assert {fact["found"][0]["names"] == ["fake:0", "fake:1"] for fact in found["facts"].values()} == {True}
    given = petaseal("campaign", "check", place / "c", "--ratings", own_ratings(place))
    assert (given.status, given.err.endswith("[preflight-failed]\n")) == (1, True), "whatever a file says, none counts"
    assert "  pool ai: 4 x Acme 1 on a1, a2 cannot count (no-ceiling)\n" in given.out
    assert "rating: acme-1 (confidence medium), rates fp16; nominal alone" in given.out


def test_ratings_that_are_none_are_refused_before_any_node_is_looked_at(place: Path) -> None:
    assert created(place).status == 0
    answer = petaseal("campaign", "check", place / "c", "--ratings", "nowhere.yaml")
    assert (answer.code, answer.status, answer.out) == ("file-missing", 2, "")
    assert not (place / "c" / "nodes").exists()
