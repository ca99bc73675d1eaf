"""Every vendor's parser against samples of its tool's output, field by field."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.devices.source import ListedDevice, with_parts
from bench.devices.tools.texts import address, fields, quantity, reported_text
from bench.devices.vendors.cambricon import Cambricon
from bench.errors import InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import (
    HY_WATCH,
    READINGS,
    ROCM_LIST,
    VENDORS,
    bus,
    sample,
    source_of,
    texts,
)


def rows_of(kind: str, answers: dict[str, str] | None = None, root: Path = Path("/nowhere")) -> list[ListedDevice]:
    source = source_of(kind, texts(VENDORS[kind].answers if answers is None else answers), root)
    return [source.complete(row) for row in source.devices()]


# Numbers and fields
@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("87.5 W", "W", "87.5"),
        ("401.55W", "W", "401.55"),
        ("300Mhz", "MHz", "300"),
        (42, "", "42"),
        ("0", "", "0"),
        ("87.5 mW", "W", None),
        ("87.5", "W", None),
        ("55 F", "C", None),
        ("N/A", "W", None),
        ("N/A (Secondary die)", "", None),
        ("-", "C", None),
        ("NA", "", None),
        ("-5 C", "C", None),
        ("1e9", "", None),
        ("٣", "", None),
        ("9" * 30, "", None),
        (None, "", None),
        (["1"], "", None),
        (float("nan"), "", None),
    ],
)
def test_a_number_counts_with_its_unit_only(text: object, unit: str, expected: str | None) -> None:
    value = quantity(text, unit)
    assert (None if value is None else str(value)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00000000:8A:00.0", "0000:8a:00.0"),
        ("0000:C1:00.0", "0000:c1:00.0"),
        ("c1:00.0", "0000:c1:00.0"),
        ("10000:c1:00.0", None),
        ("N/A", None),
        ("0000:c1:00.9", None),
        ("0000:00:00.0", None),
        ("0000:00:00.1", "0000:00:00.1"),
        ("0001:00:00.0", "0001:00:00.0"),
        (None, None),
    ],
)
def test_pci_addresses_have_one_form(text: str | None, expected: str | None) -> None:
    assert address(text) == expected


def test_indentation_tells_what_stands_under_what() -> None:
    text = "A : 1\nXPU 00000000:01:00.0\n\tB\n\t\tC   : 2\n\tD : \n    E : x : y\n"
    assert dict(fields(text)) == {
        ("A",): "1",
        ("XPU 00000000:01:00.0",): "",
        ("XPU 00000000:01:00.0", "B"): "",
        ("XPU 00000000:01:00.0", "B", "C"): "2",
        ("XPU 00000000:01:00.0", "D"): "",
        ("XPU 00000000:01:00.0", "E"): "x : y",
    }


@pytest.mark.parametrize("text", ["N/A", " - ", "", None, "[Not Supported]", "Unknown"])
def test_placeholders_are_no_text(text: str | None) -> None:
    assert reported_text(text) is None


# Parsers against their samples
def test_amd_mi300x(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/kfd/kfd/topology/nodes/2"
    folder.mkdir(parents=True)
    (folder / "properties").write_text(sample("kfd-mi300x.txt"))
    first, second = rows_of("rocm", root=tmp_path)
    assert first == ListedDevice(
        number=0,
        model="AMD Instinct MI300X",
        keys=("GPU-5f0e1d2c3b4a5968",),
        uuid="0x5f0e1d2c3b4a5968",
        serial="692441000101",
        pci_address="0000:0c:00.0",
        board_part="M3000100",
        count_unit="package",
        firmware="113-M3000100-102",
        driver="6.8.5",
        memory_bytes=206_141_652_992,
        units=304,
        max_clock_mhz=2100,
    )
    assert (second.keys, second.units) == (("GPU-00a1b2c3d4e5f607",), None)  # the runtime pads to 16 digits


def test_amd_dies_name_their_package() -> None:
    first, second = with_parts(rows_of("rocm", {f"{ROCM_LIST} --json": "rocm-smi-list-mi250x.json"}))
    assert (first.count_unit, first.model) == ("die", "AMD INSTINCT MI250X")
    assert first.parent == second.parent == "PCB0482311-0007"
    assert first.serial is None  # it is the board's: both dies would be one device
    assert first.uuid != second.uuid


def test_hygon() -> None:
    first, second = rows_of("dcu")
    assert first == ListedDevice(
        number=0,
        model="K100_AI",
        keys=("GPU-3a5a1c0f2e4d6b8a",),
        uuid="0x3a5a1c0f2e4d6b8a",
        serial="T6K8240310123",
        pci_address="0000:9f:00.0",
        firmware="113-K100AI-017",
        driver="6.2.18-V1.5.2",
        memory_bytes=65_520 * 2**20,
    )
    assert (second.uuid, second.keys, second.serial) == (None, (), "T6K8240310124")


def test_cambricon(tmp_path: Path) -> None:
    bus(tmp_path, Cambricon, "0x120000", ("0000:4f:00.0",))
    first, second = rows_of("mlu", root=tmp_path)
    assert first == ListedDevice(
        number=0,
        model="MLU370-X8",
        uuid="8d4f0b1e-6a2c-4d7e-9f31-0c5b7a9e1d20",
        pci_address="0000:4f:00.0",
        parent="372311081234",
        count_unit="die",
        firmware="v1.1.6",
        driver="v5.10.22",
        memory_bytes=23_308 * 2**20,
        power_limit_mw=150_000,
    )
    assert second.pci_address is None  # no such function on the bus: the number was not what it seemed


def test_mthreads() -> None:
    first, second = rows_of("musa")
    assert first == ListedDevice(
        number=0,
        model="MTT S4000",
        uuid="6f1a2b3c-4d5e-6f70-8192-a3b4c5d6e7f8",
        serial="MY1VE2400012",
        pci_address="0000:12:00.0",
        firmware="3.4.8",
        driver="1.3.0",
        memory_bytes=48 * 2**30,
    )
    assert (second.serial, second.pci_address) == (None, "0000:36:00.0")


def test_metax() -> None:
    first, second = rows_of("maca")
    assert first == ListedDevice(
        number=0,
        model="MetaX C500",
        keys=("GPU-3d1f9a10-5c77-4b2e-a7d4-00c500000001",),
        uuid="GPU-3d1f9a10-5c77-4b2e-a7d4-00c500000001",
        pci_address="0000:0e:00.0",
        firmware="1.26.1.0",
        driver="3.0.11",
        memory_bytes=64 * 2**30,
        power_limit_mw=350_000,
        modes=(("persistence", "off"),),
    )
    assert (second.number, second.pci_address) == (1, "0000:21:00.0")
    (older, _) = rows_of("maca", {"": "mx-smi.txt"})
    assert older.uuid is None


def test_iluvatar_chips_name_their_card() -> None:
    first, second = with_parts(rows_of("corex"))
    assert first == ListedDevice(
        number=0,
        model="Iluvatar BI-V150",
        keys=("GPU-7a6b5c4d-3e2f-5101-9182-73a4b5c6d7e8",),
        uuid="GPU-7a6b5c4d-3e2f-5101-9182-73a4b5c6d7e8",
        pci_address="0000:8a:00.0",
        parent="24180000441",
        count_unit="die",
        driver="4.3.0",
        memory_bytes=32 * 2**30,
    )
    assert second.parent == first.parent


def test_kunlunxin() -> None:
    first, second = rows_of("kunlun")
    assert first == ListedDevice(
        number=0,
        model="P800 OAM",
        uuid="GPU-1c9b3e44-0bc6-5744-bd7c-a0b87dadaa01",
        serial="02K15K0263D00A01",
        pci_address="0000:16:00.0",
        board_part="B00100300110299",
        firmware="1.0.2.14.1.54",
        driver="5.0.21.26",
        memory_bytes=96 * 2**30,
        power_limit_mw=400_000,
        modes=(("ecc", "on"),),
    )
    assert (second.serial, second.firmware) == (None, None)


@pytest.mark.parametrize("kind", VENDORS)
def test_readings(kind: str) -> None:
    number, expected = READINGS[kind]
    backend = source_of(kind, texts(VENDORS[kind].answers))
    row = backend.devices()[number]
    assert backend.readings([row]) == {row.number: expected} == backend.readings([row])


def test_what_a_reading_lacks_is_none_and_never_zero() -> None:
    second = {
        f"{ROCM_LIST} --json": "rocm-smi-list-mi250x.json",
        "--showpower --showtemp --showuse --showclocks --showenergycounter --json": (
            "rocm-smi-watch-mi250x-second.json"
        ),
    }
    backend = source_of("rocm", texts(second))
    reading = backend.reading(backend.devices()[1])
    assert reading == Reading(temperature_c=58, clock_mhz=1700, utilisation_ppm=990_000)

    corex = source_of("corex", texts(VENDORS["corex"].answers))
    chip = corex.reading(corex.devices()[1])
    assert chip == Reading(temperature_c=64, utilisation_ppm=10**6)

    metax = source_of("maca", texts(VENDORS["maca"].answers))
    idle = metax.readings(metax.devices())[1]
    assert isinstance(idle, Reading)
    assert idle.processes == 0


def test_the_json_of_a_newer_hygon_lacks_commas() -> None:
    told = '{"card1": {"Average Graphics Package Power (W)": "91.0""Average GFX Core Power (W)": "20.0", "x": ""}}'
    answers = texts(VENDORS["dcu"].answers) | {HY_WATCH: told}
    backend = source_of("dcu", answers)
    row = backend.devices()[1]
    assert backend.reading(row) == Reading(power_mw=91_000)
    backend = source_of("dcu", answers | {HY_WATCH: told.replace("}}", "}")})
    with pytest.raises(InputError):
        backend.reading(row)


def test_the_clock_of_a_newer_hygon_stands_without_a_colon() -> None:
    answers = {
        arguments: text.replace("clock speed:", "clock speed")
        for arguments, text in texts(VENDORS["dcu"].answers).items()
    }
    backend = source_of("dcu", answers)
    assert backend.reading(backend.devices()[1]) == READINGS["dcu"][1]


def test_the_power_of_an_older_corex_has_another_name() -> None:
    answers = texts(VENDORS["corex"].answers)
    (watch,) = (key for key in answers if "power" in key)
    answers[watch.replace("gpu.power.draw", "power.draw")] = answers[watch]
    answers[watch] = "Field gpu.power.draw is not a valid field to query.\n"
    backend = source_of("corex", answers)
    reading = backend.reading(backend.devices()[0])
    assert reading is not None
    assert reading.power_mw == 168_000
