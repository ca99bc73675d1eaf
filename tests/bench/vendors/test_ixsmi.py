"""ixsmi: CSV read by the names that were asked for, of releases that know different ones."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.devices.source import with_parts
from bench.devices.tools.ixsmi import LIST, WATCH, Ixsmi
from bench.devices.tools.tool import VendorTool
from bench.errors import InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import Canned, canned, script


class Csv(Canned):
    """A tool that answers a query from tables of values by name; some names it does not know.

    Args:
        said: what it says of a name that it does not know, with a place for it; None for a failure without a word.
    """

    rows: Sequence[Mapping[str, str]]
    strange: set[str]
    said: str | None
    before: str
    runs: int

    def run(self, *arguments: str, timeout_s: float | None = None) -> str:
        """Return the values in the order of the names."""
        self.runs += 1
        if not arguments:
            return "a table for people\n"
        names = arguments[0].removeprefix("--query-gpu=").split(",")
        strange = [name for name in names if name in self.strange]
        if strange:
            if self.said is None:
                raise InputError("device-tool-failed", "failed with exit status 2: it says nothing", where="ixsmi")
            return self.said.format(strange[0]) + "\n"
        return self.before + "".join(", ".join(row[name] for name in names) + "\n" for row in self.rows)


def ixsmi(
    rows: Sequence[Mapping[str, str]],
    unknown: set[str] | None = None,
    said: str | None = "unknown name {}",
    before: str = "",
) -> Any:
    tool = Csv(Path("/opt/vendor/ixsmi"), None)
    tool.rows, tool.strange, tool.said, tool.before, tool.runs = rows, unknown or set(), said, before, 0
    return Ixsmi(tool)


def gpu(index: int = 0, **changes: str) -> dict[str, str]:
    return {
        "index": str(index),
        "name": "Iluvatar BI-V150S",
        "uuid": f"GPU-{index:08x}-4d3e-2f51-0191-8273a4b5c6d7",
        "serial": f"2418{index:07d}",
        "pci.bus_id": f"00000000:{0x20 + index:02X}:00.0",
        "memory.total": "32768 MiB",
        "driver_version": "4.4.0",
        "temperature.gpu": "66 C",
        "utilization.gpu": "97 %",
        "gpu.power.draw": "168.00 W",
        "power.draw": "N/A",
    } | changes


@given(st.data())
def test_chips_of_one_serial_are_dies_of_one_card(data: st.DataObject) -> None:
    boards = data.draw(st.lists(st.integers(1, 10**9 - 1).map("24{:09d}".format), min_size=1, max_size=6, unique=True))
    chips = data.draw(st.permutations([board for board in boards for _ in range(2)]))
    name = data.draw(st.sampled_from(["Iluvatar BI-V150S", "Iluvatar BI-V150", "Iluvatar MR-V9"]))
    rows = with_parts(ixsmi([gpu(i, serial=board, name=name) for i, board in enumerate(chips)]).devices())
    assert [(row.count_unit, row.parent, row.serial) for row in rows] == [("die", board, None) for board in chips]
    assert [row.pci_address for row in rows] == [f"0000:{0x20 + i:02x}:00.0" for i in range(len(chips))]
    assert {row.memory_bytes for row in rows} == {32 * 2**30}


@pytest.mark.parametrize("said", ['Field "{}" is not a valid field to query.', None])
@pytest.mark.parametrize("unknown", [{"power.draw"}, {"gpu.power.draw"}, {"gpu.power.draw", "power.draw"}, set()])
def test_names_that_a_release_does_not_know(unknown: set[str], said: str | None) -> None:
    source = ixsmi([gpu(0, **{"power.draw": "170 W"}), gpu(1, **{"power.draw": "171 W"})], unknown, said)
    rows = source.devices()
    looks = source.readings(rows)
    expected = {0: 168_000, 1: 168_000} if "gpu.power.draw" not in unknown else {0: 170_000, 1: 171_000}
    assert {n: look.power_mw for n, look in looks.items()} == (
        expected if len(unknown) < 2 else dict.fromkeys(expected)
    )
    assert {look.temperature_c for look in looks.values()} == {66}
    runs = source.tool.runs
    source.readings(rows)
    assert source.tool.runs == runs + 1  # all GPUs by one run, and no name is tried twice


@pytest.mark.parametrize("unknown", [{"serial"}, {"driver_version"}, {"serial", "driver_version"}])
@pytest.mark.parametrize("said", ["unknown name {}", None])
def test_a_list_without_a_name_that_is_not_known(unknown: set[str], said: str | None) -> None:
    (row,) = ixsmi([gpu()], unknown, said).devices()
    assert (row.serial is None, row.driver is None) == ("serial" in unknown, "driver_version" in unknown)
    assert row.model == "Iluvatar BI-V150S"


@pytest.mark.parametrize("unknown", ["name", "pci.bus_id"])
def test_a_needed_name_that_is_not_known_is_refused(unknown: str) -> None:
    with pytest.raises(InputError, match="unknown form"):
        ixsmi([gpu()], {unknown}).devices()


@given(st.data())
def test_a_look_follows_the_order_of_the_names(data: st.DataObject) -> None:
    """A tool that lists GPUs in another order is read by the index in front."""
    count = data.draw(st.integers(1, 8))
    powers = data.draw(st.lists(st.integers(1, 9_999), min_size=count, max_size=count))
    blank = data.draw(st.sampled_from(["", " ", "  "]))
    rows = [gpu(i, **{"gpu.power.draw": f"{blank}{powers[i]}{blank} W"}) for i in range(count)]
    source = ixsmi(data.draw(st.permutations(rows)))
    looks = source.readings(ixsmi(rows).devices())
    assert {number: look.power_mw for number, look in looks.items()} == {i: powers[i] * 1000 for i in range(count)}


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"gpu.power.draw": "168000 mW"}, "power_mw", None),
        ({"gpu.power.draw": "168"}, "power_mw", None),
        ({"gpu.power.draw": "nan W"}, "power_mw", None),
        ({"gpu.power.draw": "-1 W"}, "power_mw", None),
        ({"gpu.power.draw": "65535 W"}, "power_mw", None),
        ({"temperature.gpu": "65535 C"}, "temperature_c", None),
        ({"utilization.gpu": "255 %"}, "utilisation_ppm", None),
        ({"gpu.power.draw": "99999999999999999 W"}, "power_mw", None),
        ({"gpu.power.draw": "65535 W", "temperature.gpu": "0 C"}, "power_mw", None),  # -1 of 16 bits
        ({"gpu.power.draw": "0 W"}, "power_mw", None),
        ({"utilization.gpu": "65535 %"}, "utilisation_ppm", None),
        ({"gpu.power.draw": "[N/A]", "power.draw": "12.5 W"}, "power_mw", 12_500),
        ({"temperature.gpu": "66"}, "temperature_c", 66),
        ({"temperature.gpu": "0 C"}, "temperature_c", 0),
        ({"temperature.gpu": "151 F"}, "temperature_c", None),
        ({"utilization.gpu": "0.97"}, "utilisation_ppm", None),
    ],
)
def test_quantities_are_taken_with_their_units(change: dict[str, str], field: str, value: int | None) -> None:
    source = ixsmi([gpu(0, **change)])
    assert getattr(source.readings(source.devices())[0], field) == value


@pytest.mark.parametrize("before", ["ixsmi 4.4.0\n", "warning: {driver}\n\n", '"a", "banner"\n'])
def test_a_banner_before_the_rows(before: str) -> None:
    source = ixsmi([gpu(0), gpu(1)], before=before)
    assert len(source.devices()) == 2
    assert set(source.readings(source.devices())) == {0, 1}


@given(st.text(max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    source = Ixsmi(canned(dict.fromkeys((query(LIST), query(WATCH)), text)))
    for look in (source.devices, lambda: source.readings([])):
        with contextlib.suppress(InputError):  # and nothing else
            look()


def query(names: tuple[str, ...]) -> str:
    return f"--query-gpu={','.join(names)} --format=csv,noheader"


@given(st.data())
def test_a_row_that_was_cut_is_refused(data: st.DataObject) -> None:
    whole = ", ".join(gpu()[name] for name in LIST)
    cut = data.draw(st.integers(1, len(whole.rpartition(",")[0])))
    source = Ixsmi(canned({query(LIST): f"{whole}\n{whole[:cut]}"}))
    with pytest.raises(InputError):
        source.devices()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("echo 'ixsmi: permission denied'; exit 1", "device-permission"),
        ("echo 'cannot load libixml.so'; exit 0", "device-tool-unknown"),
        ("exit 9", "device-tool-failed"),
    ],
)
def test_a_tool_that_gives_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, code: str) -> None:
    script(tmp_path / "ixsmi", body)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(InputError) as caught:
        Ixsmi(VendorTool.find(("ixsmi",))).devices()
    assert caught.value.code == code


def test_a_gpu_without_values_is_a_fault() -> None:
    lost = dict.fromkeys(gpu(), "[GPU is lost]") | {"index": "1"}
    rows = ixsmi([gpu(0), lost]).devices()
    assert [row.fault is None for row in rows] == [True, False]
    assert Reading() not in ixsmi([gpu(0), lost]).readings(rows).values()
