"""What no statement can hold together is said of a node's devices before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import RefusedError
from bench.record import Device
from bench.record.identities import Uniqueness, collisions, device_keys


def device(index: int, **told: str | None) -> Device:
    nothing = dict.fromkeys(("uuid", "serial", "die_id", "pci_address", "parent"))
    return Device(device=f"cuda:{index}", model=0, numa_node=None, **{**nothing, **told})


def said(*devices: Device) -> list[str]:
    return [str(error) for error in collisions(devices)]


def test_devices_that_differ_are_no_collision() -> None:
    assert said() == []
    assert said(device(0, uuid="GPU-a1"), device(1, uuid="GPU-a2", serial="1650"), device(2)) == []


def test_a_serial_number_on_two_devices_may_be_a_board_s() -> None:
    (text,) = said(device(0, uuid="GPU-a1", serial="165012"), device(1, uuid="GPU-a2", serial="165012"))
    assert text == (
        "cuda:0, cuda:1: report one serial 165012, as dies of one board do: no statement can hold a record of both; "
        "name the devices to measure with --device, without one of these [duplicate-device]"
    )


def test_each_pair_is_said_once_whatever_it_shares() -> None:
    pairs = [device(i, uuid=f"GPU-a{i // 2}", serial=f"16501{i // 2}") for i in range(4)]
    first, second = said(*pairs)
    assert first.startswith("cuda:0, cuda:1: report one uuid GPU-a0, one serial 165010: no statement")
    assert second.startswith("cuda:2, cuda:3: report one uuid GPU-a1, one serial 165011: no statement")


def test_one_identity_in_two_fields_and_spellings() -> None:
    (text,) = said(device(0, uuid="GPU-0A1B"), device(1, serial="0xa1b"))
    assert text.startswith("cuda:0, cuda:1: report one uuid GPU-0A1B: no")


def test_dies_that_name_their_parent_share_its_serial_number() -> None:
    dies = [device(i, die_id=f"d{i}1", serial="165012", parent="165012") for i in range(2)]
    assert said(*dies) == []
    (text,) = said(*dies, device(2, uuid="165012"))
    assert text.startswith("this node/cuda:0: is a part of this node/cuda:2; name the devices")
    assert text.endswith("[parent-and-slice]")


def test_one_place_for_two_devices() -> None:
    (text,) = said(device(0, uuid="GPU-a1", pci_address="0000:3b:00.0"), device(1, uuid="a2", pci_address="3b:00.0"))
    assert "has the PCI address of this node/cuda:0" in text


NAMES = st.sampled_from([None, "N/A", "GPU-a1", "0xA1", "b2", "c3"])
DEVICES: st.SearchStrategy[dict[str, str | None]] = st.builds(
    dict, uuid=NAMES, serial=NAMES, die_id=NAMES, pci_address=NAMES, parent=NAMES
)


@given(st.lists(DEVICES, max_size=4))
def test_what_is_refused_beforehand_is_what_a_record_is_refused_for(told: Sequence[dict[str, str | None]]) -> None:
    devices = [device(i, **fields) for i, fields in enumerate(told)]
    record = Uniqueness()
    try:
        record.see("node-1", map(device_keys, devices))
        record.check_parents()
        refused = False
    except RefusedError:
        refused = True
    assert bool(collisions(devices)) == refused


@pytest.mark.parametrize("count", [2, 8])
def test_many_that_are_one(count: int) -> None:
    (text,) = said(*(device(i, uuid="GPU-a1") for i in range(count)))
    assert text.startswith("cuda:0, cuda:1" + (", cuda:2 and 5 more" if count == 8 else "") + ": report one uuid")
