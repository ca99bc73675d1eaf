"""What ``create``, ``check`` and ``launch --dry-run`` print to be copied works as it is, in folders with blanks too."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from bench.campaign.launch.preflight import PreflightResult
from bench.campaign.show import unchecked_lines
from bench.record.status import Status
from tests.bad_input.command import petaseal
from tests.bench.campaigns import campaign_of, node_id, roster_of
from tests.certify.commands.test_prospects import AI, HPC, created, place

__all__ = ["place"]
AT = "2026-11-01T00:00:00.000000Z"
QUICK = ("--profile", "smoke", "--precision", "fp16")


def blank(place: Path) -> Path:
    """Return a folder with blanks in its name, and the key in it."""
    folder = place / "a centre of ours"
    folder.mkdir()
    for name in ("operator.pem", "operator.pem.pub"):
        (place / name).rename(folder / name)
    return folder


def words_after(out: str, start: str) -> list[list[str]]:
    """Return the commands behind some words, as a shell would read them."""
    return [shlex.split(line.partition(start)[2]) for line in out.splitlines() if start in line]


def test_the_manifests_of_a_dry_run_are_a_file_and_its_next_line_keeps_the_engine(place: Path) -> None:
    folder = blank(place)
    created(folder, *QUICK, "--gres", "ai=huawei.com/npu:8", pools=({**AI, "partition": "pool=a"},))
    options = ("--on", "kubernetes", "--engine-option", "image=i", "--engine-option", "claim=c")
    more = (*options, "--engine-option", f"mount={folder}", "--require-all")
    for detach in ((), ("--detach",)):
        out = petaseal("campaign", "launch", folder / "c", *more, *detach, "--dry-run").out
        kinds = [manifest["kind"] for manifest in yaml.safe_load_all(out) if manifest is not None]
        assert kinds == ["Job"] * (1 + len(detach))
        (following,) = words_after(out, "# next       petaseal ")
        assert following[:3] == ["campaign", "launch", str(folder / "c")]
        assert sorted(following[3:]) == sorted([*more, *detach])


def test_the_commands_of_a_dry_run_can_be_copied(place: Path) -> None:
    folder = blank(place)
    created(folder, *QUICK)
    out = petaseal("campaign", "launch", folder / "c", "--dry-run").out
    commands = [shlex.split(line) for line in out.splitlines() if line and not line.startswith("#")]
    assert [words[-4:] for words in commands] == [["join", str(folder / "c"), "--node", name] for name in ("a1", "a2")]


def test_create_quotes_its_folder_and_asks_for_the_engine_of_listed_nodes(place: Path) -> None:
    folder = blank(place)
    out = created(folder, *QUICK).out
    assert [words[:3] for words in words_after(out, "petaseal campaign check ")] == [
        [str(folder / "c"), "will", "say"],
        [str(folder / "c")],
    ]
    assert "give check and launch --on slurm or --on kubernetes" in out
    assert max(len(line) for line in out.replace(str(folder), "").splitlines()) <= 180


def test_create_names_the_pools_whose_power_is_not_known(place: Path) -> None:
    out = created(place, *QUICK, "--device-watts", "ai=700", pools=(AI, HPC)).out
    assert "power      not known, nor the energy: give the devices' power with --device-watts hpc=WATTS\n" in out


def test_check_hands_its_engine_to_the_launch(place: Path) -> None:
    created(place, *QUICK)
    out = petaseal("campaign", "check", place / "c", "--on", "local", "--timeout", "60").out
    assert out.splitlines()[-1] == f"next       petaseal campaign launch {shlex.quote(str(place / 'c'))} --on local"


def test_a_node_that_had_not_ended_its_look_is_said_with_what_to_do() -> None:
    reported = {
        node_id(0): Status(node_id(0), "prepared", AT, AT),
        node_id(1): Status(node_id(1), "failed", AT, AT, message="no torch"),
    }
    late, failed = unchecked_lines(PreflightResult(reported, {}, (), []), roster_of(campaign_of(2)), 2.0)
    assert late == "n0 had not ended its look after 2 s; give a longer --timeout"
    assert failed == "n1 failed: no torch"
