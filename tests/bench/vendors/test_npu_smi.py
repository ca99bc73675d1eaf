"""Ascend through npu-smi: every form of its outputs, whatever stands in them, and how long a look takes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.devices.source import ListedDevice, with_parts
from bench.devices.tools import npu_smi
from bench.devices.tools.npu_smi import NpuSmi
from bench.devices.tools.npu_smi_forms import NpuSmiChip, mapping, overview
from bench.devices.vendor import VendorBackend
from bench.devices.vendors.ascend_chips import bin_of, name_of
from bench.errors import InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import (
    ASCEND_310P,
    ASCEND_910C,
    ASCEND_950,
    VENDORS,
    Vendor,
    canned,
    sample,
    script,
    texts,
)

ASCEND_910B = VENDORS["npu"].answers


def source_of(answers: Mapping[str, str]) -> NpuSmi:
    return NpuSmi(canned(answers))


def whole_rows(source: NpuSmi) -> list[ListedDevice]:
    return [source.complete(row) for row in source.devices()]


# Cards
def test_910b() -> None:
    source = source_of(texts(ASCEND_910B))
    first, second = whole_rows(source)
    assert source.version == "24.1.rc3"
    assert first == ListedDevice(
        number=0,
        model="Ascend910B3",
        serial="1024B7123440",
        die_id="2A51C0F4 20E110 9C8A0234 5B190A40 43820091",
        pci_address="0000:c0:00.0",
        bin="910B3",
        board_part="IT21HMDA",
        firmware="7.5.0.1.129",
        driver="24.1.rc3",
        memory_bytes=64 * 2**30,
        units=20,
        max_clock_mhz=1800,
        place=("0", "0"),
    )
    assert (second.number, second.place, second.pci_address) == (1, ("5", "0"), "0000:c5:00.0")


def test_the_dies_of_a_910c_name_their_card_and_have_its_power_once() -> None:
    source = source_of(texts(ASCEND_910C))
    first, second = whole_rows(source)
    assert {(r.model, r.bin, r.count_unit, r.parent, r.serial) for r in (first, second)} == {
        ("Ascend910_9382", "9382", "die", "1025C881200077", None)
    }
    assert first.die_id != second.die_id
    assert (first.units, first.pci_address, second.pci_address) == (24, "0000:9d:00.0", "0000:9f:00.0")
    look = source.readings([first, second])
    assert look == {
        0: Reading(power_mw=281_000, temperature_c=52, clock_mhz=1800, utilisation_ppm=880_000, processes=0),
        1: Reading(temperature_c=54, clock_mhz=1750, utilisation_ppm=910_000, ecc_uncorrected=1, processes=1),
    }
    alone = source.readings([second])[1]
    assert isinstance(alone, Reading)
    assert alone.power_mw == 281_000  # where the first is not measured


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_cards_that_report_one_serial(count: int) -> None:
    """One serial number on several "NPU ID"s is that of a board of dies, and on more than a board has of a chassis."""
    base = texts(ASCEND_910B)
    chips = [f"{card}  0  {card}  Ascend 910B3\n{card}  1  -  Mcu\n" for card in range(count)]
    answers = {"info": base["info"], "info -m": "NPU ID  Chip ID  Chip Logic ID  Chip Name\n" + "".join(chips)}
    for card in range(count):
        answers[f"info -t board -i {card}"] = base["info -t board -i 0"]
        answers[f"info -t board -i {card} -c 0"] = base["info -t board -i 0 -c 0"].replace("2A51C0F4", f"2A51C0F{card}")
    source = source_of(answers)
    rows = [source.complete(row) for row in with_parts(source.devices())]
    parts = {1: ("card", None, "1024B7123440"), 8: ("card", None, None)}.get(count, ("die", "1024B7123440", None))
    assert [(row.count_unit, row.parent, row.serial) for row in rows] == [parts] * count
    assert len({row.die_id for row in rows}) == count


def test_a_950_is_asked_without_a_chip() -> None:
    """Its table has no logic ids, its die id another name, and its PCI address may be missing."""
    source = source_of(texts(ASCEND_950))
    first, second = whole_rows(source)
    assert first == ListedDevice(
        number=0,
        model="Ascend950PR_9579",
        serial="1026D550900012",
        die_id="9E44D0A8 308208 2BC00234 6B190A40 53820090",
        pci_address="0000:61:00.0",
        bin="9579",
        board_part="A950-50-C00MX000A1",
        firmware="8.0.0.105.229",
        driver="26.0.rc1",
        memory_bytes=128 * 2**30,
        units=28,
        max_clock_mhz=1650,
        place=("0",),
    )
    assert (second.number, second.pci_address) == (1, None)
    assert source.readings([first, second]) == {
        0: Reading(195_700, 56, 1600, 420_000, ecc_uncorrected=1, processes=1),
        1: Reading(201_300, 58, 1600, 430_000, processes=0),
    }


def test_a_310p_duo_has_its_power_with_the_chip_that_manages_it() -> None:
    source = source_of(texts(ASCEND_310P))  # it does not answer for the card's own board
    first, second = whole_rows(source)
    assert (first.count_unit, first.parent, first.memory_bytes) == ("die", None, 44216 * 2**20)
    assert source.readings([first, second]) == {
        0: Reading(42_900, 45, 960, 0, processes=0),
        1: Reading(None, 47, 1080, 30_000, processes=0),
    }


MANAGEMENT = "\tChip Name : mcu\n\tTemperature(C) : 48\n\tNPU Real-time Power(W) : 45.2\n"
OWN = "\tAicore curFreq(MHZ) : 1000\n"


@pytest.mark.parametrize(
    ("common", "shown", "power_mw", "clock_mhz"),
    [
        (f"\tAicore Count : 32\n{OWN}\tNPU Real-time Power(W) : 298.6\n", "NA", 298_600, 1000),
        (f"{OWN}\tNPU Real-time Power(W) : 298.6\n", "303.4", 303_400, 1000),
        (f"\tChip ID : 0\n{OWN}{MANAGEMENT}", "NA", 45_200, 1000),
        (f"\tChip ID : 0\n\tNPU Real-time Power(W) : NA\n{MANAGEMENT}", "NA", None, None),
        (f"\tChip ID : 1\n{OWN}\tChip Name : mcu\n\tTemperature(C) : 48\n", "-", None, None),
        ("", "303.4", 303_400, None),
    ],
)
def test_what_the_fields_of_a_card_of_one_chip_say(
    common: str, shown: str, power_mw: int | None, clock_mhz: int | None
) -> None:
    answers = texts(ASCEND_910B) | {"info -t common -i 0": common}
    answers["info"] = answers["info"].replace("303.4", shown.ljust(5))
    source = source_of(answers)
    row = source.devices()[0]
    reading = source.readings([row])[0]
    assert isinstance(reading, Reading)
    assert (reading.power_mw, reading.clock_mhz) == (power_mw, clock_mhz)
    assert source.complete(row).units == (32 if "Count" in common else None)


@pytest.mark.parametrize("kind", ["common", "ecc", "board"])
@pytest.mark.parametrize("said", ["This device does not support querying it.\n", None])
def test_a_type_that_is_not_supported_costs_no_other(kind: str, said: str | None) -> None:
    answers = texts(ASCEND_910B)
    of_cards = [key for key in answers if key.startswith(f"info -t {kind}") and (kind != "board" or " -c " not in key)]
    for key in of_cards:
        del answers[key]
    if said is not None:
        answers |= dict.fromkeys(of_cards, said)
    source = source_of(answers)
    first, second = whole_rows(source)
    assert of_cards
    assert [row.model for row in (first, second)] == ["Ascend910B3"] * 2
    assert first.die_id != second.die_id
    look = source.readings([first, second])
    assert [getattr(look[number], "power_mw", None) for number in (0, 1)] == [303_400, 298_100]


def test_a_virtual_npu_names_the_chip_it_is_part_of() -> None:
    answers = texts(ASCEND_910B)
    answers["info -m"] = answers["info -m"].replace("Ascend 910B3", "Ascend910B3-vir10_3c_32g", 1)
    source = source_of(answers)
    row = source.complete(source.devices()[0])
    assert (row.count_unit, row.die_id, row.serial, row.units) == ("slice", None, None, None)
    assert row.parent == "2A51C0F4 20E110 9C8A0234 5B190A40 43820091"
    assert row.exposes == ("temperature", "processes")
    reading = source.readings([row])[0]
    assert isinstance(reading, Reading)
    assert (reading.power_mw, reading.temperature_c) == (None, 61)


@pytest.mark.parametrize(
    ("text", "number", "name", "grade"),
    [
        ("910B4-1", None, "Ascend910B4-1", "910B4-1"),
        ("Ascend 910B1", "NA", "Ascend910B1", "910B1"),
        ("Ascend 910B2C", None, "Ascend910B2C", "910B2C"),
        ("9381", None, "Ascend910_9381", "9381"),
        ("Ascend910", "9392", "Ascend910_9392", "9392"),
        ("Ascend910", "Ascend910_9362", "Ascend910_9362", "9362"),
        ("Ascend950PR", "9579", "Ascend950PR_9579", "9579"),
        ("Ascend950DT", "9589", "Ascend950DT_9589", "9589"),
        ("910A", None, "Ascend910A", None),
        ("310P3", None, "Ascend310P3", None),
        ("Ascend910", None, "Ascend910", None),
        ("910B3-vir10_3c_32g", "910B3", "Ascend910B3-vir10_3c_32g", None),
    ],
)
def test_names_and_bins(text: str, number: str | None, name: str, grade: str | None) -> None:
    assert (name_of(text, number), bin_of(name_of(text, number))) == (name, grade)


# Forms
FORMS = {
    "910B": ["NPU ID", "Chip ID", "Chip Logic ID", "Chip Name"],
    "910C": ["NPU ID", "Chip ID", "Chip Logic ID", "Chip Phy-ID", "Chip Name"],
    "950": ["NPU ID", "Slot ID", "Chip ID", "Chip Phy-ID", "Chip Name"],
}
NAMES = ["Ascend 910B3", "Ascend910", "910B2C", "Ascend950PR", "Ascend 910 Pro B", "310P3"]


@pytest.mark.parametrize("kind", FORMS)
@given(data=st.data())
def test_columns_of_the_map_stand_in_any_order(kind: str, data: st.DataObject) -> None:
    columns = data.draw(
        st.permutations([*FORMS[kind], *data.draw(st.sampled_from([[], ["Health"], ["Main Board ID"]]))])
    )
    numbers = data.draw(st.lists(st.integers(0, 9999), min_size=1, max_size=16, unique=True))
    blanks = st.integers(2, 30).map(lambda count: " " * count) | st.just("\t")
    rows, expected = [], []
    for logic, number in enumerate(numbers):
        name = data.draw(st.sampled_from(NAMES))
        values = {"NPU ID": str(number), "Chip ID": "0", "Chip Name": name, "Chip Logic ID": str(logic)}
        rows.append({**dict.fromkeys(columns, str(data.draw(st.integers(-1, 99)))), **values})
        expected.append(
            NpuSmiChip(str(number), None if kind == "950" else "0", number if kind == "950" else logic, name)
        )
        if kind != "950" and data.draw(st.booleans()):
            management = {
                "NPU ID": str(number),
                "Chip ID": "1",
                "Chip Name": data.draw(st.sampled_from(["Mcu", "MCU"])),
            }
            rows.append({**dict.fromkeys(columns, "-"), **management})
    around = data.draw(blanks)
    lines = [data.draw(blanks).join(columns), *(data.draw(blanks).join(row[c] for c in columns) for row in rows)]
    text = "\n".join(f"{around}{line}{around}" for line in lines)
    before, behind = data.draw(st.sampled_from(["", "[WARNING] a banner {of braces}\n\n"])), "\n\n[WARNING]The driver\n"
    assert mapping(before + text + data.draw(st.sampled_from(["", "\n", behind]))) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "npu-smi: error",
        "NPU ID  Chip ID  Chip Name\n0  0  Ascend910",
        "NPU ID  Slot ID  Chip ID  Chip Name\n0  1  0  Ascend910",
        "NPU ID  Chip ID  Chip Logic ID  Chip Name\n0  0  zero  Ascend910",
        "NPU ID  Chip ID  Chip Logic ID  Chip Name\n0  0  0  910B3\n1  0  0  910B3",
        "NPU ID  Chip ID  Chip Logic ID  Chip Name\n0  0  0  910B3\n1  0",
    ],
)
def test_a_map_of_another_form_is_none(text: str) -> None:
    assert mapping(text) is None


def table(cells: list[list[list[str]]], width: int) -> str:
    """Return blocks of lines of cells as a table."""
    rule = "+" + "=" * 40 + "+"
    lines = [rule]
    for block in cells:
        lines += ["|" + "|".join(f" {cell.ljust(width)} " for cell in line) + "|" for line in block] + [rule]
    return "\n".join(lines)


@given(data=st.data())
def test_cells_and_headings_of_the_overview_stand_in_any_order(data: st.DataObject) -> None:
    first = [["NPU", "Name"], ["Health"], data.draw(st.permutations(["Power(W)", "Temp(C)", "Hugepages-Usage(page)"]))]
    second = [
        data.draw(st.permutations(["Chip", "Phy-ID"])),
        ["Bus-Id"],
        data.draw(st.permutations(["AICore(%)", "Memory-Usage(MB)", "HBM-Usage(MB)"])),
    ]
    first, second = data.draw(st.permutations(first)), data.draw(st.permutations(second))
    used = st.tuples(st.integers(0, 99999), st.integers(0, 99999), st.sampled_from(["/", " / ", "/ "]))
    blocks, expected = [[[" ".join(names) for names in line] for line in (first, second)]], {}
    cards = data.draw(st.lists(st.integers(0, 9999), min_size=1, max_size=8, unique=True))
    for card in cards:
        for chip in range(2):
            shown = {
                "NPU": str(card),
                "Chip": str(chip),
                "Phy-ID": "7",
                "Name": data.draw(st.sampled_from(["910B3", "Ascend910", "Ascend 910B3"])),
                "Health": data.draw(st.sampled_from(["OK", "Warning", "UNKNOWN"])),
                "Power(W)": data.draw(
                    st.sampled_from(["-", "NA"]) | st.integers(0, 9999).map(lambda n: f"{n / 10:.1f}")
                ),
                "Temp(C)": str(data.draw(st.integers(-40, 120))),
                "Bus-Id": data.draw(st.sampled_from(["NA", "0000:C1:00.0"])),
                "AICore(%)": str(data.draw(st.integers(0, 100))),
            }
            for name in ("Hugepages-Usage(page)", "Memory-Usage(MB)", "HBM-Usage(MB)"):
                part, whole, slash = data.draw(used)
                shown[name] = f"{part}{slash}{whole}"
            gaps = st.integers(1, 12).map(lambda count: " " * count)
            blocks.append(
                [[data.draw(gaps).join(shown[n] for n in names) for names in line] for line in (first, second)]
            )
            expected[str(card), str(chip)] = {k: v.replace(" / ", "/").replace("/ ", "/") for k, v in shown.items()}
    text = table([[["npu-smi 25.2.0       Version: 25.2.0"]], *blocks], data.draw(st.integers(1, 60)))
    seen = overview("[WARNING] {braces}\n" + text)
    assert seen.chips == expected
    assert seen.version == "25.2.0"
    cut = overview(text[: data.draw(st.integers(0, len(text)))])  # what is cut shows less, and nothing else
    assert cut.chips.items() <= expected.items()


def test_processes_of_cards_that_are_not_shown_are_unknown() -> None:
    shown = overview(sample("npu-smi-info-910b.txt"))
    assert shown.processes == {("0", "0"): 2}
    assert shown.listed == {"0", "5"}
    cut = overview(sample("npu-smi-info-910b.txt").partition("| No running")[0])
    assert cut.processes == {("0", "0"): 2}
    assert cut.listed == {"0"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("61  ", "-5  ", {"temperature_c": 0}),
        ("61  ", "9999", {"temperature_c": None}),
        ("303.4", "65535", {"power_mw": None}),
        ("303.4", "nan  ", {"power_mw": None}),
        ("Power(W) ", "Power(mW)", None),
        ("| 97  ", "| 512 ", {"utilisation_ppm": None}),
        ("AICore(%)", "Vector(%)", {"utilisation_ppm": 970_000}),  # as the card's fields say
    ],
)
def test_values_at_their_limits(old: str, new: str, expected: dict[str, Any] | None) -> None:
    answers = texts(ASCEND_910B)
    source = source_of(answers)
    row = source.devices()[0]
    before = source.readings([row])[0]
    assert old in answers["info"]
    changed = source_of(answers | {"info": answers["info"].replace(old, new)})
    (row, _) = changed.devices()
    if expected is None:
        with pytest.raises(InputError, match="unknown form"):
            changed.readings([row])
        return
    assert isinstance(before, Reading)
    (after,) = changed.readings([row]).values()
    if new == "65535" or new.startswith("nan"):
        expected = {"power_mw": 303_400}  # the card's own fields have it too
    assert after == before._replace(**expected)


# Troubles
@pytest.mark.parametrize(
    ("printed", "code"),
    [
        ("dcmi module initialize failed. ret is -8005", "device-permission"),
        (
            "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\ndcmi module initialize failed. ret is -8020",
            "device-permission",
        ),
        ("Segmentation fault", "device-tool-unknown"),
        ("芯片编号  芯片", "device-tool-unknown"),
    ],
)
def test_an_error_that_is_printed_with_success(printed: str, code: str) -> None:
    with pytest.raises(InputError) as error:
        source_of({"info -m": printed}).devices()
    assert error.value.code == code


def test_a_server_without_a_card_lists_none() -> None:
    assert source_of({"info -m": "There is no NPU card on this server.\n"}).devices() == []


def test_an_overview_without_chips_costs_one_look() -> None:
    source = source_of(texts(ASCEND_910B))
    rows = source.devices()
    for printed in ("", "dcmi module initialize failed. ret is -8006", sample("npu-smi-info-910b.txt")[:400]):
        broken = source_of(texts(ASCEND_910B) | {"info": printed})
        with pytest.raises(InputError, match="no chip in its overview"):
            broken.readings(rows)


GONE = re.compile(r"\| 5 |:C5:|NPU 5")


def test_a_card_that_is_gone_has_no_reading() -> None:
    source = source_of(texts(ASCEND_910B))
    rows = source.devices()
    shown = [line for line in sample("npu-smi-info-910b.txt").splitlines() if not GONE.search(line)]
    gone = source_of({"info": "\n".join(shown)})
    assert gone.readings(rows).keys() == {0}


# Time
SLOW = """[ -e "$0.lock" ] && echo "$*" >> "$0.clash"
touch "$0.lock"; echo "$*" >> "$0.log"; sleep {seconds}
case "$*" in
"info") cat '{samples}/npu-smi-info-910b.txt' ;;
"info -m") cat '{samples}/npu-smi-m-910b.txt' ;;
*common*) cat '{samples}/npu-smi-common-910b-0.txt' ;;
*ecc*) cat '{samples}/npu-smi-ecc-910b.txt' ;;
esac
rm -f "$0.lock"
"""


@pytest.mark.parametrize(("seconds", "looks", "runs"), [("0.3", 2, 1), ("0.05", 4, 3)])
def test_a_look_takes_as_many_runs_as_its_time_allows(
    seconds: str, looks: int, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run where that takes long, as under the driver's lock; else clocks and errors in turn; never two at once."""
    monkeypatch.setattr(npu_smi, "LOOK_S", 0.4 if runs == 1 else 0.3)
    samples = Path(__file__).parent / "samples"
    tool = script(tmp_path / "npu-smi", SLOW.format(seconds=seconds, samples=samples))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    source = NpuSmi.open(tmp_path)
    rows = source.devices()
    log = Path(f"{tool}.log")
    log.unlink()
    for _ in range(looks):
        begun = time.monotonic()
        look = source.readings(rows)
        assert time.monotonic() - begun < 2  # seconds: other processes may use the machine too
        for number, power_mw in ((0, 303_400), (1, 298_100)):
            reading = look[number]
            assert isinstance(reading, Reading)
            assert (reading.power_mw, reading.temperature_c) == (power_mw, 61 - number)
            assert runs > 1 or reading.clock_mhz is None
    asked = log.read_text().split("\n")[:-1]
    assert asked.count("info") == looks
    assert (len(asked) == looks) == (runs == 1)
    if runs > 1:  # all further questions had their turn
        assert {line for line in asked if line != "info"} == {
            "info -t common -i 0",
            "info -t ecc -i 0 -c 0",
            "info -t common -i 5",
            "info -t ecc -i 5 -c 0",
        }
    assert not Path(f"{tool}.clash").exists()


def test_what_is_not_asked_in_a_look_is_not_repeated_from_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(texts(ASCEND_910B))
    rows = source.devices()
    first = source.readings(rows)[0]
    monkeypatch.setattr(npu_smi, "LOOK_S", -1.0)
    later = source.readings(rows)[0]
    assert isinstance(first, Reading)
    assert isinstance(later, Reading)
    assert (first.clock_mhz, later.clock_mhz, later.power_mw) == (1650, None, 303_400)


def test_the_back_end_records_the_tool_where_no_library_answers(node: Callable[[Vendor], VendorBackend]) -> None:
    first, _ = node(VENDORS["npu"]).find(None)
    assert (first.model.source, first.model.exposes) == ("npu-smi", ("power", "temperature", "processes"))
    assert first.skipped == ("libdcmi.so: the management library of Huawei is not on the loader's path",)
