"""hy-smi: what every release and BW write, with identities, order and blanks changed at random."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.devices.source import with_parts
from bench.devices.tools.tool import VendorTool
from bench.devices.vendor import VendorBackend
from bench.errors import InputError
from bench.record.identities import identifier
from bench.telemetry import Reading
from tests.bench.vendors.tools import HY_WATCH, ROCM_LIST, VENDORS, Vendor, script, source_of

LIST = f"{ROCM_LIST} --json"
PROGRAM = """
echo "$*" >> "$0.runs"
case "$*" in
*--showproductname*)
  echo '{"card0": {"Card Series": "FAKE_AI", "PCI Bus": "0000:9f:00.0"},'
  echo ' "card1": {"Card Series": "FAKE_AI", "PCI Bus": "0000:a3:00.0"}}' ;;
*)
  echo '{"card0": {"Average Graphics Package Power (W)": "91.5"},'
  echo ' "card1": {"Average Graphics Package Power (W)": "92.0"}}' ;;
esac
"""


def hy_smi(listing: str, watch: str = "{}") -> Any:
    return source_of("dcu", {LIST: listing, HY_WATCH: watch})


serials = st.from_regex(r"[0-9]{2}-[0-9]{6}-[0-9]{2}[A-Z]{3}[0-9]", fullmatch=True)
buses = st.integers(1, 0xFF)
identities = st.from_regex(r"T[A-Z]{2}[0-9]{11}", fullmatch=True)  # not hex
hexes = st.integers(1, 2**48).map("0x3a5{:x}".format)
blanks = st.sampled_from(["", " ", "\n", "\n    "])


@st.composite
def without_commas(draw: st.DrawFn, values: dict[str, str]) -> str:
    """Return members of an object in any order, some of whose commas are missing, with blanks at random."""
    members = [f'"{name}":{draw(blanks)}"{value}"' for name, value in draw(st.permutations(list(values.items())))]
    text = members[0]
    for member in members[1:]:
        text += draw(st.sampled_from([",", ""])) + draw(blanks) + member
    return "{" + text + "}"


@given(st.data())
def test_the_list_of_bw(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    places = data.draw(st.lists(buses, min_size=count, max_size=count, unique=True))
    board = data.draw(serials.filter(identifier))  # the base board's: all cards on it name it
    own = data.draw(st.sampled_from([{}, {"Serial Number": board}, {"Serial Number": "N/A"}]))
    unique = data.draw(st.lists(identities | hexes, min_size=count, max_size=count, unique=True))
    cards = {
        f"card{i}": {
            "Unique ID": unique[i],
            "Card Series": "BW",
            "PCI Bus": f"0000:{places[i]:02x}:00.0 --> SN: {board} --> OAM ID: {i}",
            "vram Total Memory (MiB)": "65520",
            **own,
        }
        for i in range(count)
    }
    shuffled = {name: dict(data.draw(st.permutations(list(card.items())))) for name, card in cards.items()}
    rows = with_parts(hy_smi(json.dumps(shuffled)).devices())
    assert [row.pci_address for row in rows] == [f"0000:{place:02x}:00.0" for place in places]
    assert {(row.count_unit, row.parent, row.serial) for row in rows} == {("card", None, None)}  # and no dies of it
    for row, one in zip(rows, unique, strict=True):
        expected = () if one.startswith("T") else (f"GPU-{one[2:]:0>16}",)
        assert (row.uuid, row.keys, row.memory_bytes) == (one, expected, 65520 * 2**20)


@given(st.data())
def test_a_look_without_commas(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    highest = {"power": 3000, "hot": 200, "use": 100, "clock": 5000}
    looks, cards = {}, []
    for i in range(count):
        power, hot, use, clock = (data.draw(st.integers(1, most)) for most in highest.values())
        values = {
            "Average Graphics Package Power (W)": f"{power}.0",
            "Average GFX Core Power (W)": "20.0",
            "Temperature (Sensor edge) (C)": "1.0",
            "Temperature (Sensor junction) (C)": f"{hot}.0",
            f"{data.draw(st.sampled_from(['HCU', 'DCU', 'GPU']))} use (%)": f"{use % 101}.0",
            "sclk clock level": "7",
            "sclk clock speed": f"{clock}Mhz",
        }
        cards.append(f'"card{i}":{data.draw(blanks)}{data.draw(without_commas(values))}')
        looks[i] = Reading(
            power_mw=power * 1000, temperature_c=hot, clock_mhz=clock, utilisation_ppm=use % 101 * 10_000
        )
    listing = {f"card{i}": {"Card Series": "BW", "PCI Bus": f"0000:{i + 1:02x}:00.0"} for i in range(count)}
    text = "{" + ", ".join(cards) + "}"
    source = hy_smi(json.dumps(listing), text)
    assert source.readings(source.devices()) == looks


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for answers in ((text, text), ('{"card0": {"Card Series": "BW"}}', text)):
        source = hy_smi(*answers)
        with contextlib.suppress(InputError):  # and nothing else
            source.readings(source.devices())


BANNER = "WARNING: {driver} is older than {tool}\n"


@pytest.mark.parametrize(
    ("before", "after", "read"),
    [
        ("===== HY-SMI =====\n\n", "\n===== END =====\n", True),
        (BANNER, "", True),
        ("ERROR: {\n", "", True),
        ("", "{}", True),
        ("", None, False),  # cut in its middle
    ],
)
def test_what_stands_before_and_after(before: str, after: str | None, read: bool) -> None:
    text = json.dumps({"card0": {"Card Series": "BW", "PCI Bus": "0000:09:00.0"}})
    printed = f"{before}{text}{after}" if after is not None else text[: len(text) // 2]
    source = hy_smi(printed)
    if read:
        assert [row.pci_address for row in source.devices()] == ["0000:09:00.0"]
    else:
        with pytest.raises(InputError):
            source.devices()


@pytest.mark.parametrize("value", ["91.0 kW", "N/A", "91,0", "nan", "-5.0", "inf", "91.0 W"])
def test_a_power_in_another_unit_is_unknown(value: str) -> None:
    look = {"card0": {"Average Graphics Package Power (W)": value, "HCU use (%)": "1"}}
    source = hy_smi('{"card0": {"Card Series": "BW"}}', json.dumps(look))
    assert source.readings(source.devices())[0].power_mw is None


def test_one_run_of_the_real_tool_reads_all_cards(
    node: Callable[[Vendor], VendorBackend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = node(VENDORS["dcu"])
    path = script(tmp_path / "bin" / "hy-smi", PROGRAM)
    source = type(backend).sources[-1].open(tmp_path)
    rows = source.devices()
    assert {n: look.power_mw for n, look in source.readings(rows).items() if isinstance(look, Reading)} == {
        0: 91_500,
        1: 92_000,
    }
    runs = path.with_name("hy-smi.runs").read_text().splitlines()
    assert len(runs) == 3  # one to list, one for its version, one to look


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("echo 'Error: no permission to open /dev/kfd'; exit 1", "device-permission"),
        ("echo 'Error: cannot find the driver'; exit 0", "device-tool-unknown"),
        ("exit 3", "device-tool-failed"),
        (":", "device-tool-unknown"),
    ],
)
def test_a_tool_that_gives_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, code: str) -> None:
    script(tmp_path / "hy-smi", body)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    source = type(source_of("dcu", {}))(VendorTool.find(("hy-smi",)), tmp_path)
    with pytest.raises(InputError) as caught:
        source.devices()
    assert caught.value.code == code
