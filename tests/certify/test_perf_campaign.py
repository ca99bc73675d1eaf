"""``python -m tests.perf campaign`` at a size that measures nothing: every step runs, and the files are counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from certify.campaign.collect import collect
from tests.perf import campaign
from tests.perf.records import read_record


@pytest.mark.long
def test_the_part_runs(capsys: pytest.CaptureFixture[str]) -> None:
    campaign.measure([3], rounds=1)
    first, costs, status = capsys.readouterr().out.splitlines()
    assert first.startswith("campaign of 3 nodes of 8 devices in fp16: ")
    assert re.search(r"over it: collect [0-9.]+, certify [0-9.]+, verify [0-9.]+, all [0-9.]+ ", costs)
    listed = re.search(r" [0-9.]+ files opened for each node, ([0-9]+) folders listed", status)
    assert listed is not None
    assert 2 <= int(listed[1]) <= 4  # nodes/ and the shards of three nodes


def test_no_file_of_a_node_is_opened_twice_in_one_refresh(tmp_path: Path) -> None:
    few, more = tmp_path / "few", tmp_path / "more"
    for root in (few, more):
        root.mkdir()
    campaign.lay_out(few, 2, devices=1)
    campaign.lay_out(more, 12, devices=1)
    opened = [campaign.ask("status", root)["opened"] for root in (few, more)]
    assert opened[1] - opened[0] == 10


def test_the_campaign_is_whole_and_each_node_has_a_key_of_its_own(tmp_path: Path) -> None:
    opened = campaign.lay_out(tmp_path, 3, devices=1)
    assert collect(opened.folder).complete
    files = list((opened.folder.root / "records").rglob("*.record.dsse.json"))
    assert len({read_record(file).signer_spki for file in files}) == len(files) == 3
