"""Which devices of a node are parts of one board."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.devices.source import Fault, ListedDevice, with_parts
from bench.record.identities import identifier
from bench.record.node import CountUnit


def row(number: int, serial: str | None, unit: CountUnit = "card", model: str = "any name") -> ListedDevice:
    return ListedDevice(
        number, model, serial=serial, uuid=f"GPU-{number:08d}-1111-2222-3333-444455556666", count_unit=unit
    )


@pytest.mark.parametrize(
    "model",
    [
        "AMD INSTINCT MI200 (MCM) OAM LC MBA HPE C2",
        "Iluvatar BI-V150S",
        "MLU370-X8",
        "Ascend910_9392",
        "Ascend310P3",
        "?",
    ],
)
def test_a_shared_serial_makes_dies_whatever_the_name(model: str) -> None:
    rows = [row(0, "24120020000001", model=model), row(1, "24120020000001", model=model), row(2, "24120020000002")]
    dies = with_parts(rows)
    assert [(one.count_unit, one.parent, one.serial) for one in dies] == [
        ("die", "24120020000001", None),
        ("die", "24120020000001", None),
        ("card", None, "24120020000002"),
    ]
    assert with_parts(dies) == dies


def test_a_known_die_stays_one_alone_and_without_a_serial() -> None:
    """Its sibling may be hidden; without a parent it does not count, which is better than twice."""
    (alone, unnamed) = with_parts([row(0, "PCB0482311", "die"), row(1, None, "die")])
    assert (alone.count_unit, alone.parent, alone.serial) == ("die", "PCB0482311", None)
    assert (unnamed.count_unit, unnamed.parent) == ("die", None)


def test_a_package_of_several_dies_that_shares_its_serial_is_dies() -> None:
    assert {one.count_unit for one in with_parts([row(0, "60000001", "package"), row(1, "60000001", "package")])} == {
        "die"
    }


def test_a_slice_names_its_whole_itself() -> None:
    slices = [row(n, "60000001", "slice")._replace(parent="GPU-0000000a") for n in range(4)]
    assert with_parts(slices) == slices
    whole = row(4, "60000001")
    assert with_parts([*slices, whole]) == [*slices, whole]


def test_a_die_keeps_the_parent_that_its_source_reports() -> None:
    rows = [row(n, "60000001", "die")._replace(parent="die id of the card") for n in range(2)]
    assert {one.parent for one in with_parts(rows)} == {"die id of the card"}


@pytest.mark.parametrize("unit", ["card", "package"])
def test_the_base_board_of_a_chassis_is_no_board_of_dies(unit: CountUnit) -> None:
    """Eight modules of one chassis that all report its serial number are eight devices, each known by its uuid."""
    rows = [row(n, "BASE0042", unit) for n in range(8)]
    assert with_parts(rows) == [one._replace(serial=None) for one in rows]
    four = [row(n, "QUAD0042") for n in range(4)]
    assert {one.count_unit for one in with_parts(four)} == {"die"}


@pytest.mark.parametrize(
    "placeholder",
    [
        *(None, "", "N/A", "0", "0000000000", "Unknown", " - ", "ffffffffffffffff", "To be filled by O.E.M."),
        *("[Not Supported]", "Not Supported", "Not Support", "[Unknown Error]", "ERR!", "Not Found", "[GPU is lost]"),
        *("[Insufficient Permissions]", "4294967295", "18446744073709551615", "undefined", "Base Board Serial Number"),
    ],
)
def test_placeholders_are_no_board(placeholder: str | None) -> None:
    rows = [row(n, placeholder) for n in range(8)]
    assert with_parts(rows) == rows


def test_a_lost_die_leaves_its_sibling_as_it_is() -> None:
    lost = row(0, "60000001")._replace(fault=Fault("device-failed", "it is lost"))
    first, second = with_parts([lost, row(1, "60000001")])
    assert first.fault == lost.fault
    assert first.parent == second.parent == "60000001"


SERIALS = st.text(st.sampled_from("ABCDEF0123456789"), min_size=10, max_size=16).filter(identifier)


@given(st.lists(SERIALS, min_size=1, max_size=6, unique_by=identifier), st.data())
def test_boards_are_told_apart_by_identity_and_not_by_spelling(serials: list[str], data: st.DataObject) -> None:
    spelt = st.sampled_from(["{}", " {} ", "0x{}"])
    rows = [row(2 * n + die, data.draw(spelt).format(serial)) for n, serial in enumerate(serials) for die in range(2)]
    found = with_parts(data.draw(st.permutations(rows)))
    assert {one.count_unit for one in found} == {"die"}
    families = {identifier(one.parent) for one in found}
    assert len(families) == len(serials)
