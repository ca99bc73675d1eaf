"""Copies of one image and devices of one serial number are said by every command before anything is measured."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bench.environment import machine_id
from bench.record.folder import Folder
from bench.record.status import Published
from bench.units import utc_text
from tests.bad_input.command import petaseal, process
from tests.certify.commands.test_prospects import AI, created, place, plays, told

__all__ = ["place"]
THREE = {**AI, "nodes": ["a1", "a2", "a3"]}
ONE_SERIAL = {"default": {"identity": {"serial": "1650123456789"}}}
FIRST_OF_EACH = {"devices": {"0": {"identity": {"serial": "1650123456789"}}}}
SMOKE = ("--profile", "smoke", "--precision", "fp16")


def test_devices_say_what_run_refuses(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **ONE_SERIAL)
    answer = petaseal("devices", "--device", "fake:2")
    assert answer.status == 1
    assert answer.err.startswith(
        "cannot be used: fake:0, fake:1: report one serial 1650123456789, as dies of one board"
    )
    (problem,) = told("devices", "--device", "fake:2")["problems"]
    assert (problem["code"], problem["devices"]) == ("duplicate-device", [])
    assert petaseal("devices", "--device", "fake:1").status == 0


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_run_measures_nothing_that_no_statement_can_hold(
    place: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    plays(place, monkeypatch, **ONE_SERIAL)
    answer = petaseal("run", "--device", "fake:2", *SMOKE, "--out", place / "out", *more)
    assert (answer.code, answer.status, answer.out) == ("duplicate-device", 1, "")
    assert not (place / "out").exists()


def three_nodes(place: Path, device: str = "fake:2") -> Folder:
    answer = created(place, *SMOKE, pools=(THREE,), device=device)
    assert answer.status == 0, answer.err
    return Folder(place / "c")


@pytest.mark.long
def test_a_check_and_a_launch_say_that_three_nodes_have_one_serial(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plays(place, monkeypatch, **FIRST_OF_EACH)
    folder = three_nodes(place)
    answer = petaseal("campaign", "check", folder.root, "--json")
    (problem,) = [text for text in json.loads(answer.out)["problems"] if "duplicate-device" in text]
    same = "serial of fake:0 on a1, serial of fake:0 on a2, serial of fake:0 on a3 are the same (one identity)"
    assert problem.startswith(f"{same}: none of these records could be collected")
    assert "1650123456789" not in json.dumps([status_of(folder, node) for node in node_ids(folder)][1]["device_ids"])
    launched = process("campaign", "launch", folder.root, "--lead", "1")
    assert launched.status == 1
    assert f"before the start: {same}" in launched.err
    assert "0 of 3 nodes are ready" in launched.err.splitlines()[-1]
    assert folder.started() is None
    assert not list((folder.root / "records").rglob("*.dsse.json"))


def node_ids(folder: Folder) -> list[str]:
    return [node.node_id for node in folder.roster().nodes]


def status_of(folder: Folder, node_id: str) -> Any:
    return json.loads(folder.status_file(node_id).read_text())["facts"]


def test_nodes_that_are_one_machine_are_said(place: Path) -> None:
    folder = three_nodes(place, "cpu")
    problems = json.loads(petaseal("campaign", "check", folder.root, "--json").out)["problems"]
    assert any("a1, a2, a3 have one machine id: they are one machine, or copies of one image" in p for p in problems)
    assert any(p.startswith("uuid of cpu:0 on a1, uuid of cpu:0 on a2, uuid of cpu:0 on a3 are") for p in problems)
    told_of = json.dumps(status_of(folder, node_ids(folder)[0])["machine_ids"])
    assert machine_id() not in told_of


def test_a_node_that_the_start_refuses_measures_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays(place, monkeypatch, **FIRST_OF_EACH)
    folder = three_nodes(place)
    node_id = node_ids(folder)[1]
    now = time.time_ns()
    folder.publish(
        Published(
            utc_text(now + 60 * 10**9), utc_text(now), 1, {node_id: "the serial is that of a1 [duplicate-device]"}
        )
    )
    answer = process("campaign", "join", folder.root, "--node", "a2")
    assert (answer.code, answer.status) == ("duplicate-device", 1)
    assert "a2: the serial is that of a1" in answer.err
    status = folder.status(node_id)
    assert status is not None
    assert status.state == "failed"
    assert not list((folder.root / "records").rglob("*.dsse.json"))
