"""The signed baseline inventory: what stands in it is not newly added, and a statement binds exactly one."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.errors import InputError, PetasealError, RefusedError
from bench.profile import load_profile
from bench.record import config_path
from certify.keys.files import new_key
from certify.policy.centre import load_centre
from certify.statement.baseline import empty_baseline, sign_baseline
from certify.statement.campaign import check_campaign
from tests.bad_input.command import petaseal
from tests.certify.judged import basis_of, centre_of
from tests.certify.measured import CENTRE_ID, Measured, measured, of_node, simulated
from tests.certify.measured import test_campaign as campaign_of
from tests.certify.signed import new_key as in_memory_key


def inventory(folder: Path, devices: list[dict[str, Any]], **changes: Any) -> Path:
    """Write an inventory as an operator would."""
    full = [{"uuid": None, "serial": None, "die_id": None, **device} for device in devices]
    content = {"centre_id": CENTRE_ID, "taken_at": "2026-01-01T00:00:00.000000Z", "devices": full, **changes}
    path = folder / "inventory.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def devices_of(node: int) -> list[dict[str, Any]]:
    """Return the uuids of a node of `measured`, as its driver tells them."""
    campaign = campaign_of(load_profile("smoke"), ("fp16",), 2)
    record = of_node(simulated(2, "smoke", ("fp16",)).record, node, campaign, in_memory_key())
    return [{"uuid": device.uuid} for device in record.devices]


def centre(folder: Path) -> Measured:
    return measured(
        folder,
        profile="smoke",
        precisions=("fp16",),
        baseline="baseline.dsse.json",
        baseline_date="2026-01-01",
    )


def code(run: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(PetasealError) as refused:
        run(*args, **kwargs)
    return refused.value.code


def test_from_the_inventory_to_the_statement(tmp_path: Path) -> None:
    one = centre(tmp_path)
    signed = tmp_path / "baseline.dsse.json"
    written = inventory(tmp_path, [*devices_of(0), {"serial": "gone"}])
    assert len(sign_baseline(written, one.key, None, signed).devices) == 3
    made = one.certify()
    (line,) = made.statement.classes
    assert (line.counted.devices, line.in_baseline.devices) == (4, 2)
    growth = next(v for v in made.statement.verdicts if v.condition == "newly-added").growth
    assert growth is not None
    assert (growth.baseline_devices, growth.still_present_devices, growth.new_devices) == (3, 2, 2)
    assert growth.newly_added_mflop_s == line.counted.certified_mflop_s - line.in_baseline.certified_mflop_s
    assert (made.out / "baseline.dsse.json").read_bytes() == signed.read_bytes()  # goes with the statement
    assert one.verify(baseline=signed).refusal is None
    refusal = one.verify().refusal
    assert refusal is not None
    assert refusal.code == "baseline-differs"
    assert "no baseline was given" in str(refusal)
    assert "--baseline" in str(refusal)


def test_another_baseline_is_refused(tmp_path: Path) -> None:
    one = centre(tmp_path)
    sign_baseline(inventory(tmp_path, devices_of(0)), one.key, None, tmp_path / "baseline.dsse.json")
    one.certify()
    sign_baseline(inventory(tmp_path, [{"serial": "gone"}]), one.key, None, tmp_path / "other.json")
    refusal = one.verify(baseline=tmp_path / "other.json").refusal
    assert refusal is not None
    assert "the one given is another" in str(refusal)
    assert refusal.code == "baseline-differs"


def test_a_statement_without_a_baseline_takes_none(tmp_path: Path) -> None:
    one = measured(tmp_path, profile="smoke", precisions=("fp16",))
    sign_baseline(inventory(tmp_path, devices_of(0)), one.key, None, tmp_path / "baseline.dsse.json")
    one.certify()
    refusal = one.verify(baseline=tmp_path / "baseline.dsse.json").refusal
    assert refusal is not None
    assert refusal.code == "baseline-differs"


def test_a_baseline_that_somebody_else_signed(tmp_path: Path) -> None:
    one = centre(tmp_path)
    new_key(tmp_path / "thief.pem", None)
    sign_baseline(inventory(tmp_path, devices_of(0)), tmp_path / "thief.pem", None, tmp_path / "baseline.dsse.json")
    assert code(one.certify) == "key-not-trusted"


def test_a_baseline_of_another_centre(tmp_path: Path) -> None:
    one = centre(tmp_path)
    other = inventory(tmp_path, [{"serial": "gone"}], centre_id="other-centre")
    sign_baseline(other, one.key, None, tmp_path / "baseline.dsse.json")
    assert code(one.certify) == "centre-differs"


def test_a_baseline_that_is_missing(tmp_path: Path) -> None:
    assert code(centre(tmp_path).certify) == "file-missing"


# A centre that had nothing before says so, with a date and its evidence
@pytest.mark.parametrize("with_paper", [False, True])
def test_an_empty_baseline(tmp_path: Path, with_paper: bool) -> None:
    one = centre(tmp_path)
    paper = tmp_path / "handover.pdf"
    paper.write_bytes(b"%PDF the hall was empty")
    told = load_centre(str(one.centre))
    empty = empty_baseline(told, None, "交接记录：机房为空", paper if with_paper else None)
    assert empty.taken_at[:10] == told.baseline_date
    assert empty.nothing_before is not None
    expected = hashlib.sha256(paper.read_bytes()).hexdigest() if with_paper else None
    assert empty.nothing_before.evidence_sha256 == expected
    signed = tmp_path / "baseline.dsse.json"
    sign_baseline(empty, one.key, None, signed)
    made = one.certify()
    (line,) = made.statement.classes
    assert (line.counted.devices, line.in_baseline.devices) == (4, 0)
    verdict = next(v for v in made.statement.verdicts if v.condition == "newly-added")
    assert verdict.growth is not None
    assert (verdict.growth.baseline_devices, verdict.growth.new_devices) == (0, 4)
    assert verdict.growth.newly_added_mflop_s == line.counted.certified_mflop_s
    assert verdict.reason == "simulated"  # else it were `declared` (tests/certify/policy/test_2000p.py)
    assert one.verify(baseline=signed).refusal is None
    signed.unlink()  # lost is not empty
    assert code(one.certify, tmp_path / "again") == "file-missing"


def test_the_command_signs_an_empty_baseline_and_certify_says_what_is_missing(tmp_path: Path) -> None:
    one = centre(tmp_path)
    out = tmp_path / "baseline.dsse.json"
    common = ("centre", "baseline", "--key", one.key, "--out", out)
    told = ("--empty", "--centre", one.centre, "--date", "2026-01-01", "--evidence", "empty hall")
    written = inventory(tmp_path, devices_of(0))
    for wrong in ((), told[:1], (written, *told), (written, *told[1:3]), told[:-2]):
        assert petaseal(*common, *wrong).code == "usage"
        assert not out.exists()
    made = json.loads(petaseal(*common, *told, "--json").out)
    assert made == {"baseline": str(out), "devices": 0, "date": "2026-01-01"}
    given = ("certify", one.records, "--centre", one.centre, "--campaign", one.campaign, "--key", one.key, "--out")
    said = json.loads(petaseal(*given, tmp_path / "json", "--json").out)["missing"]
    assert {"policy", "condition", "code", "field", "what"} == set(said[0])
    assert [(line["condition"], line["code"]) for line in said if line["field"]] == []
    assert ("guide", "guide-not-issued") in [(line["condition"], line["code"]) for line in said]
    assert "MISSING: guangzhou-2000p/guide lacks" in petaseal(*given, tmp_path / "text", "--all").out


def test_the_next_command_verifies_with_the_baseline_and_a_policy_of_one_s_own(tmp_path: Path) -> None:
    one = centre(tmp_path)
    sign_baseline(inventory(tmp_path, devices_of(0)), one.key, None, tmp_path / "baseline.dsse.json")
    policy = tmp_path / "my policy.yaml"
    text = config_path("policies", "guangzhou-2000p.yaml").read_text()
    policy.write_text(text.replace("policy: guangzhou-2000p", "policy: mine"))
    given = ("--centre", one.centre, "--campaign", one.campaign, "--key", one.key, "--policy", policy)
    said = petaseal("certify", one.records, *given, "--out", tmp_path / "my out").out
    program, *words = shlex.split(said.splitlines()[-1].removeprefix("next"))
    assert program == "petaseal"
    answer = petaseal(*words, "--require", "recomputed")
    assert answer.status == 0, answer.out


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"date": "2026-02-30"}, "date-invalid"),
        ({"date": "yesterday"}, "date-invalid"),
        ({"evidence": ""}, "usage"),
        ({"evidence_file": Path("/nowhere/paper.pdf")}, "file-missing"),
    ],
)
def test_an_empty_baseline_has_a_date_and_evidence(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    told = load_centre(str(centre(tmp_path).centre))
    given: dict[str, Any] = {"date": "2026-01-01", "evidence": "empty hall", **changes}
    assert code(empty_baseline, told, **given) == expected


def test_the_day_of_an_empty_baseline_is_said(tmp_path: Path) -> None:
    one = measured(tmp_path, profile="smoke", precisions=("fp16",))
    assert code(empty_baseline, load_centre(str(one.centre)), None, "empty hall") == "usage"


def test_an_empty_baseline_of_another_day(tmp_path: Path) -> None:
    one = centre(tmp_path)
    empty = empty_baseline(load_centre(str(one.centre)), "2025-12-31", "empty hall")
    sign_baseline(empty, one.key, None, tmp_path / "baseline.dsse.json")
    assert code(one.certify) == "baseline-differs"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no device": ({"devices": []}, "baseline-empty"),
    "devices, and nothing": ({"nothing_before": {"evidence": "empty hall"}}, "config-invalid"),
    "nothing, and no evidence": ({"devices": [], "nothing_before": {"evidence": ""}}, "config-invalid"),
    "nothing, and evidence that nobody may read": (
        {"devices": [], "nothing_before": {"evidence": "a\u202eb"}},
        "text-forbidden-character",
    ),
    "a device without identity": ({"devices": [{}]}, "baseline-device-without-identity"),
    "a placeholder": ({"devices": [{"uuid": "N/A"}]}, "config-invalid"),
    "upper case": ({"devices": [{"uuid": "GPU-1"}]}, "config-invalid"),
    "a time of another form": ({"taken_at": "2026-01-01"}, ""),
    "a month 13": ({"taken_at": "2026-13-01T00:00:00.000000Z"}, ""),
    "an unknown field": ({"note": "x"}, "config-invalid"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_inventory_is_not_signed(tmp_path: Path, how: str) -> None:
    changes, expected = BAD[how]
    others = {name: value for name, value in changes.items() if name != "devices"}
    new_key(tmp_path / "key.pem", None)
    path = inventory(tmp_path, changes.get("devices", [{"serial": "s"}]), **others)
    with pytest.raises((InputError, RefusedError)) as refused:
        sign_baseline(path, tmp_path / "key.pem", None, tmp_path / "out.json")
    assert expected in ("", refused.value.code)
    assert not (tmp_path / "out.json").exists()


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", None)
    (tmp_path / "out.json").write_text("mine")
    path = inventory(tmp_path, [{"serial": "s"}])
    assert code(sign_baseline, path, tmp_path / "key.pem", None, tmp_path / "out.json") == "output-exists"
    assert (tmp_path / "out.json").read_text() == "mine"


def test_the_document_is_what_was_written_down(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", None)
    sign_baseline(inventory(tmp_path, [{"serial": "s-1"}]), tmp_path / "key.pem", None, tmp_path / "out.json")
    import base64

    payload = json.loads(base64.b64decode(json.loads((tmp_path / "out.json").read_text())["payload"]))
    assert payload["predicate"]["devices"] == [{"uuid": None, "serial": "s-1", "die_id": None}]
    assert payload["subject"][0]["name"] == f"{CENTRE_ID}.baseline.json"


def test_what_was_there_before_is_not_of_a_day_after_the_measurement(tmp_path: Path) -> None:
    """A day after it nothing was there, its devices among it: everything were new for ever."""
    scope = basis_of(campaign_of(load_profile("smoke"), ("fp16",), 1), "smoke", centre_of()).scope
    for day, expected in (("2026-03-01", None), (scope.starts_at[:10], None), ("2099-01-01", "baseline-differs")):
        told = centre_of(baseline="baseline.dsse.json", baseline_date=day)
        given = (scope.campaign, told, scope.starts_at, "2099-01-01T00:00:00.000000Z")
        if expected is None:
            check_campaign(*given)
        else:
            assert code(check_campaign, *given) == expected
