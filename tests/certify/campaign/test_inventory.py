"""An inventory made of what lists devices already: each device once, under everything that it is known by."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.errors import InputError, RefusedError
from bench.record import Device, NodeRecord, read_yaml
from bench.units import utc_text
from certify.campaign.inventory import Sighting, inventory_text, list_devices, unique
from certify.documents.kinds import Baseline
from certify.statement.baseline import listed_baseline
from tests.bad_input.command import petaseal
from tests.certify.judged import centre_of
from tests.certify.measured import Measured, measured

AT = "2099-01-01T00:00:00.000000Z"
DAY = "2025-12-31"


def device(name: str = "cuda:0", **identity: str | None) -> Device:
    fields = {"uuid": None, "serial": None, "die_id": None, "pci_address": None, "parent": None, **identity}
    return Device(device=name, model=0, numa_node=None, **fields)


def seen(*devices: Device) -> list[Sighting]:
    return [Sighting(one, f"n{i}/{one.device}") for i, one in enumerate(devices)]


def listing(path: Path, devices: str = "fake:2") -> Path:
    """Write what ``petaseal devices --json`` prints of fakes."""
    path.write_text(petaseal("devices", "--device", devices, "--json").out)
    return path


def with_records(folder: Path, **changes: Any) -> Measured:
    folder.mkdir(exist_ok=True)
    return measured(folder, profile="smoke", precisions=("fp16",), **changes)


# Which devices: pure
def test_a_device_that_is_listed_twice_is_one() -> None:
    found = unique(seen(device(uuid="GPU-1111-2222"), device(uuid="gpu-11112222", serial="1650001")))
    assert [(one.uuid, one.serial) for one in found.devices] == [("GPU-1111-2222", "1650001")]
    assert found.repeated == ("n1/cuda:0",)
    assert found.lines() == ["listed more than once, and taken over once: n1/cuda:0"]


def test_no_identity_is_lost_where_two_lists_contradict_each_other() -> None:
    found = unique(seen(device(uuid="GPU-1111-2222", serial="1650001"), device(uuid="GPU-3333-4444", serial="1650001")))
    assert [one.uuid for one in found.devices] == ["GPU-1111-2222", "GPU-3333-4444"]


def test_a_device_without_a_stable_identity_is_named_and_left_out() -> None:
    found = unique(seen(device(uuid="N/A", pci_address="0000:01:00.0"), device(uuid="GPU-1111-2222")))
    assert [one.uuid for one in found.devices] == ["GPU-1111-2222"]
    assert found.unknowable == ("n0/cuda:0",)
    (line,) = found.lines()
    assert line.startswith("left out: n0/cuda:0: no stable identity is reported")


def test_a_placeholder_beside_an_identity_is_null() -> None:
    (one,) = unique(seen(device(uuid="GPU-1111-2222", serial="N/A"))).devices
    assert one.serial is None


def test_of_slices_the_whole_is_listed_too() -> None:
    slices = [
        device(f"cuda:{i}", uuid=f"MIG-aaaa-{i}{i}{i}{i}", serial="1650001", parent="GPU-1111-2222") for i in range(2)
    ]
    found = unique(seen(*slices))
    assert [one.uuid for one in found.devices] == ["MIG-aaaa-0000", "MIG-aaaa-1111", "GPU-1111-2222"]
    assert (found.wholes, found.repeated) == (1, ())
    whole = device("cuda:9", uuid="GPU-1111-2222", serial="1650001")
    assert unique(seen(*slices, whole)).wholes == 0  # listed itself


# From files and folders
def test_from_lists_records_and_folders(tmp_path: Path) -> None:
    one = with_records(tmp_path / "measured")
    (tmp_path / "lists").mkdir()
    listing(tmp_path / "lists" / "n1.json")
    made = one.certify()
    record = one.record(0)
    for sources, devices in (
        ([tmp_path / "lists"], 2),
        ([tmp_path / "lists" / "n1.json"], 2),
        ([one.records], 4),
        ([record], 2),
        ([made.out / "records.jsonl"], 4),
        ([made.out], 4),
        ([record, one.records, tmp_path / "lists"], 6),
    ):
        found = list_devices(sources, AT)
        assert len(found.devices) == len(found.names) == devices
    assert len(found.repeated) == 2


def test_what_was_measured_then_is_not_new_now(tmp_path: Path) -> None:
    """The real way: records of the first measurement become the baseline of the second."""
    one = with_records(tmp_path, baseline="baseline.dsse.json", baseline_date=DAY)
    arguments = ("centre", "baseline", "--from", one.record(0), "--centre", one.centre)
    told = json.loads(petaseal(*arguments, "--key", one.key, "--out", tmp_path / "baseline.dsse.json", "--json").out)
    assert (told["devices"], told["date"], told["signed"]) == (2, DAY, True)
    growth = next(v for v in one.certify().statement.verdicts if v.condition == "newly-added").growth
    assert growth is not None
    assert (growth.baseline_devices, growth.still_present_devices, growth.new_devices) == (2, 2, 2)
    assert growth.net_mflop_s is None  # what stood there then was never measured


def test_the_inventory_is_written_for_reading_and_signed_as_it_is(tmp_path: Path) -> None:
    one = with_records(tmp_path)
    out = tmp_path / "inventory.yaml"
    arguments = ("centre", "baseline", "--from", one.records, "--centre", one.centre, "--date", DAY, "--out", out)
    told = petaseal(*arguments)
    assert f"{out}: 4 device(s) on {DAY}, not signed" in told.out
    assert f"petaseal centre baseline {out} --key operator.pem" in told.out
    read = read_yaml(out, Baseline)
    assert (read.centre_id, read.taken_at[:10], len(read.devices)) == ("gz-test", DAY, 4)
    assert "# gpu-00001/fake:1" in out.read_text()
    signed = petaseal("centre", "baseline", out, "--key", one.key, "--out", tmp_path / "b.json", "--json")
    assert json.loads(signed.out) == {"baseline": str(tmp_path / "b.json"), "devices": 4, "date": DAY}
    assert petaseal(*arguments).code == "output-exists"


@pytest.mark.parametrize("name", ["a\nb", "\u202e", "'\"{}: #"])
def test_whatever_a_file_is_called_the_inventory_reads_back(tmp_path: Path, name: str) -> None:
    found = unique([Sighting(device(uuid='GPU-"1111\\-2222 #: x'), name)])
    text = inventory_text(listed_baseline(centre_of(), DAY, found.devices), found.names)
    (tmp_path / "i.yaml").write_text(text)
    assert read_yaml(tmp_path / "i.yaml", Baseline).devices == found.devices


def test_published_records_are_refused(tmp_path: Path) -> None:
    def published(index: int, record: NodeRecord) -> NodeRecord:
        return replace(record, identities_replaced=True)

    one = with_records(tmp_path, change=published)
    with pytest.raises(RefusedError, match="made up") as refused:
        list_devices([one.records], AT)
    assert refused.value.code == "published-record"


@pytest.mark.parametrize("what", ["empty folder", "no identity", "not a list", "gone"])
def test_what_lists_no_device(tmp_path: Path, what: str) -> None:
    place = tmp_path / "x.json"
    if what == "empty folder":
        place.mkdir()
    elif what == "no identity":
        shown = json.loads(listing(place, "fake:1").read_text())
        shown["devices"][0] |= {"uuid": None, "serial": None}
        place.write_text(json.dumps(shown))
    elif what == "not a list":
        place.write_text("{}")
    with pytest.raises(InputError) as refused:
        list_devices([place], AT)
    expected = {"not a list": "devices-file-invalid", "gone": "file-missing"}
    assert refused.value.code == expected.get(what, "no-device")


@pytest.mark.parametrize(
    "given",
    [
        ("--from", "x"),
        ("--from", "x", "--centre", "demo", "--evidence", "none"),
        ("--from", "x", "--empty", "--centre", "demo"),
        ("i.yaml", "--from", "x", "--centre", "demo"),
        ("i.yaml",),
        ("--empty", "--centre", "demo", "--evidence", "none"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, given: tuple[str, ...]) -> None:
    assert petaseal("centre", "baseline", *given, "--out", tmp_path / "b").code == "usage"


@pytest.mark.parametrize("how", ["fifo", "link"])
def test_what_somebody_put_into_a_folder_of_lists_is_neither_waited_for_nor_followed(tmp_path: Path, how: str) -> None:
    listing(tmp_path / "n1.json")
    other = tmp_path / "n2.json"
    os.mkfifo(other) if how == "fifo" else other.symlink_to("/dev/zero")
    with pytest.raises(InputError) as caught:
        list_devices([tmp_path], utc_text(time.time_ns()))
    assert (caught.value.code, caught.value.where) == ("not-regular-file", str(other))
