"""``petaseal doctor`` as it is typed: on this machine, over a fake driver, over a campaign, and over what is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.record.folder import Folder
from tests.bad_input.command import petaseal
from tests.certify.commands.test_prospects import UNKNOWN, created, place, plays
from tests.fake_nvidia import environment, gpu

__all__ = ["place"]

CAPPED = {"name": "NVIDIA H200", "power_limit": 500_000, "default_limit": 700_000, "max_limit": 700_000}
BAD = gpu(0, **CAPPED, processes=2, ecc_pending=0, rows_pending=1, rows_corrected=3) + gpu(1, **CAPPED, processes=0)


def doctor(folder: Path, script: str, *words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the doctor in a process of its own, on a node with a fake NVIDIA driver."""
    env = environment(folder, script, PETASEAL_STATE=str(folder / "state"), **more)
    command = [sys.executable, "-m", "certify", "doctor", "--device", "cuda", "--folder", str(folder), *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def by_check(report: Any) -> dict[str, Any]:
    return {one["check"]: one for one in report["findings"]}


def test_a_power_cap_a_foreign_process_and_pending_changes_of_a_gpu(tmp_path: Path) -> None:
    done = doctor(tmp_path, BAD, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    checks = by_check(report)
    assert checks["power-cap"]["devices"] == ["cuda:0", "cuda:1"]
    assert checks["power-cap"]["values"] == {"limit": "500", "default": "700"}
    assert (checks["power-cap"]["moves"], checks["power-cap"]["code"]) == ("figure", None)
    assert checks["foreign-process"]["devices"] == ["cuda:0"]
    assert (checks["foreign-process"]["moves"], checks["foreign-process"]["code"]) == ("zero", "device-busy")
    assert checks["foreign-process"]["finding"]["en"] == "2 other process(es) on the device"
    assert checks["mode-pending"]["values"] == {"mode": "ecc", "now": "on", "next": "off"}
    assert checks["rows-remapped"]["values"] == {"state": "pending", "count": "3"}
    assert checks["memory-differs"]["moves"] == "zero"  # what the verifier will say of a model with too little memory
    assert {"device-fault", "stack", "clock-cap"} & checks.keys() == set()
    assert report["models"][0]["devices"] == 2
    assert report["models"][0]["driver"][0].startswith("petaseal-fake")
    assert report["counts_0"] is True


def test_a_profile_that_lets_others_on_the_device_and_a_language(tmp_path: Path) -> None:
    shown = doctor(tmp_path, BAD, "--profile", "smoke", "--lang", "zh", "--all", PYTHONUTF8="1").stdout
    assert "功耗上限 500 W，默认 700 W" in shown
    assert re.search("^偏低 +cuda:0 +设备上有 2 个其他进程$", shown, re.MULTILINE)
    # A terminal of ASCII alone gets English, and no traceback.
    plain = doctor(tmp_path, BAD, "--lang", "zh", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert plain.returncode == 1
    assert "power limit 500 W, by default 700 W" in plain.stdout


def test_a_lost_gpu_is_named_and_its_neighbour_is_looked_at(tmp_path: Path) -> None:
    checks = by_check(json.loads(doctor(tmp_path, gpu(0, lost=1) + gpu(1, **CAPPED), "--json").stdout))
    assert checks["device-fault"]["code"] == "device-failed"
    assert "device-unusable" not in checks


def test_this_machine_counts_or_says_why_not(tmp_path: Path) -> None:
    """Of a processor alone nothing speaks against counting but its clock and the load that others are."""
    done = petaseal("doctor", "--folder", tmp_path, "--json")
    report = json.loads(done.out)
    grave = {one["check"] for one in report["findings"] if one["moves"] == "zero"}
    assert grave <= {"clock-unknown", "clock-zero", "foreign-load"}
    assert (done.status, done.err) == (1 if grave else 0, "")
    assert "power-cap" in report["absent"]
    assert "counts" in report["fine"]


def test_a_wrong_folder_class_policy_and_device_are_said(tmp_path: Path) -> None:
    nowhere = petaseal("doctor", "--device", "fake:1", "--folder", tmp_path / "nowhere", "--json")
    assert nowhere.status == 1
    assert by_check(json.loads(nowhere.out))["folder"]["values"] == {"why": "No such file or directory"}
    for words, code in (
        (("--class", "no-such"), "usage"),
        (("--policy", "no-such"), "unknown-name"),
        (("--profile", "no-such"), "unknown-name"),
        (("--device", "no-such"), "unknown-device"),
        (("--lang", "fr"), "usage"),
        ((tmp_path,), "campaign-folder-invalid"),
    ):
        answer = petaseal("doctor", *words)
        assert (answer.code, answer.status, answer.out) == (code, 2, ""), words


def test_a_variable_that_run_refuses_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    answer = petaseal("doctor", "--device", "fake:1", "--folder", tmp_path, "--json")
    finding = by_check(json.loads(answer.out))["emulation-variable"]
    assert (answer.status, finding["code"]) == (1, "reduced-precision-switch")
    assert finding["do"]["en"] == "The operator unsets it before petaseal is started."


# --- a campaign ---


def test_a_campaign_is_looked_at_by_what_its_nodes_reported(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **UNKNOWN, default={"foreign_before": 1})
    assert created(place).status == 0
    root = place / "c"
    before = petaseal("doctor", root, "--json")
    (silent,) = json.loads(before.out)["findings"]
    assert (before.status, silent["check"], silent["values"]) == (0, "fleet-silent", {"count": "2", "expected": "2"})
    checked = petaseal("campaign", "check", root, "--json")
    assert (checked.status, checked.code) == (1, "preflight-failed")
    value = json.loads(checked.out)
    busy = by_check(value["doctor"])["foreign-process"]
    assert (busy["nodes"], busy["devices"], busy["code"]) == (["a1", "a2"], ["fake:0", "fake:1"], "device-busy")
    assert "a[1-2] fake:0-1: 1 other process(es) on the device (device-busy)" in value["problems"]
    after = petaseal("doctor", root)
    assert (after.status, after.err) == (1, "")
    assert "counts 0  a[1-2] fake:0-1  1 other process(es) on the device\n" in after.out
    assert "2 nodes: 4 x Acme 1\n" in after.out
    # The model that no row is of is said by its nodes, as the verifier would.
    finding = by_check(json.loads(petaseal("doctor", root, "--json").out))["no-ceiling"]
    assert (finding["nodes"], finding["moves"], finding["code"]) == (["a1", "a2"], "zero", "no-ceiling")
    made_up(Folder(root))
    answer = petaseal("doctor", root, "--all")
    assert (answer.status, "\x1b" in answer.out) == (1, False)


def made_up(folder: Folder) -> None:
    """Put into each node's status what no node of ours reports, as whoever may write there can."""
    for node in folder.roster().nodes:
        path = folder.status_file(node.node_id)
        status = json.loads(path.read_text())
        status["facts"]["examination"]["findings"] = [
            {"check": "power-cap", "values": {"limit": "\x1b[2J"}, "devices": [], "counts_0": True},
            {"check": "ecc-errors", "values": {"count": "\x1b[2J"}, "devices": ["\x1b[31m" * 99], "counts_0": True},
            {"check": "x", "values": {}, "devices": [], "counts_0": True},
        ]
        path.write_text(json.dumps(status))


def test_no_colours_where_they_are_not_wanted_and_no_traceback_where_the_pipe_is_closed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "certify", "doctor", "--device", "fake:1", "--folder", str(tmp_path), "--all"]
    env = {**os.environ, "NO_COLOR": "1"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
