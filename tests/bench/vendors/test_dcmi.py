"""Ascend through libdcmi: the real source over a fake library, and its calls beside the published binding's."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from bench.devices import reader
from bench.devices.libraries import dcmi_calls
from bench.devices.libraries.dcmi import DcmiSource
from bench.devices.libraries.loading import Library
from bench.devices.source import ListedDevice
from bench.devices.vendors.ascend import Ascend
from bench.errors import DeviceError, InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import VENDORS, bus
from tests.bench.vendors.tools import install as install_tool
from tests.bindings import DETECTOR, published
from tests.fake_libraries import compile_library, install, lines, of_another_machine, write_script

FOLDER = "usr/local/Ascend/driver/lib64/driver"
DIE = "2a51c0f4 20e110 9c8a0234 5b190a40 43820091"
MANAGEMENT = lines("part", {"type": 1, "power": 452, "temperature": 41})


def card(number: int, *parts: str, more: Iterable[str] = (), **values: object) -> str:
    """Return the lines of a card with its units."""
    words: dict[str, object] = {"card": number, "serial": f"1024B712344{number}", "product": "IT21HMDA"} | values
    return lines("device", words, more) + "".join(parts)


def npu(logic: int, *more: str, **values: object) -> str:
    """Return the lines of a unit that computes, as of a 910B3 that works; a value of None leaves its line out."""
    words: dict[str, object] = {
        "logic": logic,
        "chip": "910B3",
        "cores": 20,
        "die": f"2a51c0f4 20e11{logic} 9c8a0234 5b190a40 43820091",
        "pci": f"0:c{logic}:0.0",
        "hbm": 65536,
        "power": 3034,
        "temperature": 61,
        "clock": 1650,
        "rated": 1800,
        "use": 97,
        "hbm_errors": 1,
        "ddr_errors": 0,
        "processes": 2,
    }
    return lines("part", words | values, more)


READING = Reading(
    power_mw=303_400, temperature_c=61, clock_mhz=1650, utilisation_ppm=970_000, ecc_uncorrected=1, processes=2
)
PAIR = card(0, npu(0), MANAGEMENT) + card(5, npu(1), MANAGEMENT)
C910 = {"chip": "Ascend910", "npu": "9392", "cores": 24}


def duo(first: str | None, second: str | None, management: str = MANAGEMENT) -> str:
    """Return the script of a 910C's card, whose dies report powers or refuse."""
    return card(0, npu(0, power=first, **C910), npu(1, power=second, **C910), management)


Opening = Callable[..., DcmiSource]


@pytest.fixture
def opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opening:
    """Return what opens the source over the fake library with a script."""

    roots = (tmp_path / f"root{number}" for number in range(10))  # a file that is mapped is never written over

    def open_(script: str, root: Path | None = None, **compiled: Any) -> DcmiSource:
        root = next(roots) if root is None else root
        install(compile_library("dcmi.c", "libdcmi.so", **compiled), root, FOLDER)
        monkeypatch.setenv("FAKE_DCMI", str(write_script(root, script)))
        return DcmiSource.open(root)

    return open_


def test_a_node_of_two_cards(opening: Opening) -> None:
    source = opening(PAIR)
    assert (source.name, source.version) == ("dcmi", "24.1.0")
    assert source.path is not None
    assert source.path.endswith("/libdcmi.so")
    assert len(source.sha256 or "") == 64
    first, second = source.devices()
    assert first == ListedDevice(
        number=0,
        model="Ascend910B3",
        serial="1024B7123440",
        die_id="2A51C0F4 20E110 9C8A0234 5B190A40 43820091",
        pci_address="0000:c0:00.0",
        bin="910B3",
        board_part="IT21HMDA",
        driver="petaseal-fake-1.0",
        memory_bytes=64 * 2**30,
        units=20,
        max_clock_mhz=1800,
        place=("0", "0"),
    )
    assert (second.number, second.place, second.serial) == (1, ("5", "0"), "1024B7123445")
    assert source.readings([first, second]) == {0: READING, 1: READING}


def test_the_back_end_prefers_the_library(opening: Opening, tmp_path: Path) -> None:
    source = opening(PAIR, tmp_path)
    backend = Ascend(bus(tmp_path, Ascend, "0x120000", ("0000:c0:00.0", "0000:c1:00.0")))
    found = backend.look(None)
    assert [one.device.device for one in found] == ["npu:0", "npu:1"]
    assert {(one.model.source, one.model.library, one.model.simulated) for one in found} == {
        ("dcmi", str(source.path), True)
    }
    assert found[0].model.exposes == ("power", "clock", "temperature", "ecc", "processes")
    watch = backend.watch(found)
    assert watch.read() == {"npu:0": READING, "npu:1": READING}


def test_logic_ids_order_the_devices(opening: Opening) -> None:
    source = opening(card(0, npu(1)) + card(3, npu(0)))
    assert [(row.number, row.place) for row in source.devices()] == [(0, ("3", "0")), (1, ("0", "0"))]


# Parts and shares
def test_the_dies_of_a_910c_name_their_card(opening: Opening) -> None:
    source = opening(duo("2810", None))
    first, second = source.devices()
    assert {(r.model, r.bin, r.count_unit, r.parent, r.serial) for r in (first, second)} == {
        ("Ascend910_9392", "9392", "die", "1024B7123440", None)
    }
    assert first.die_id != second.die_id


@pytest.mark.parametrize(
    "script",
    [
        duo("2810", None),
        duo("2810", "2810"),  # the library itself repeats it: npu-smi leaves the second out
        duo(None, "2810"),
        duo("0", "2810"),
        duo(None, None, lines("part", {"type": 1, "power": 2810})),
        duo("65535", "2810"),
    ],
)
def test_the_power_of_a_card_is_given_once(script: str, opening: Opening) -> None:
    source = opening(script)
    first, second = source.devices()
    look = source.readings([first, second])
    assert look == {0: READING._replace(power_mw=281_000), 1: READING._replace(power_mw=None)}
    assert source.readings([second]) == {1: READING._replace(power_mw=281_000)}  # where the first is not measured


def test_a_chip_that_has_a_power_never_takes_the_managing_chips(opening: Opening) -> None:
    broken = ["answer dcmi_get_device_power_info -8010"]
    source = opening(card(0, npu(0, *broken), MANAGEMENT) + card(1, npu(1, power=None, chip="310P3"), MANAGEMENT))
    rows = source.devices()
    look = source.readings(rows)
    assert look == {0: READING._replace(power_mw=None), 1: READING._replace(power_mw=45_200)}


@pytest.mark.parametrize("name", ["910B3-vir10_3c_32g", "Ascend910-8c", "310P-4c.3cpu", "310P3vir04"])
def test_a_virtual_npu_is_a_slice(name: str, opening: Opening) -> None:
    source = opening(card(0, npu(0, chip=name)))
    (row,) = source.devices()
    assert (row.count_unit, row.parent, row.units, row.die_id, row.serial) == (
        "slice",
        "2A51C0F4 20E110 9C8A0234 5B190A40 43820091",
        None,
        None,
        None,
    )
    assert row.exposes == ("clock", "temperature", "ecc", "processes")
    assert source.readings([row]) == {0: READING._replace(power_mw=None)}


def test_a_chip_that_is_split_is_not_measured_as_a_whole(opening: Opening) -> None:
    source = opening(card(0, npu(0, split=3)) + card(1, npu(1, split=0)))
    split, whole = source.devices()
    assert split.fault is not None
    assert "split into 3 virtual NPU" in split.fault.what
    assert whole.fault is None


# Names
@pytest.mark.parametrize(
    ("chip", "number", "model", "bin_"),
    [
        ("910B2C", "", "Ascend910B2C", "910B2C"),
        ("Ascend 910B4-1", None, "Ascend910B4-1", "910B4-1"),
        ("Ascend910", "9382", "Ascend910_9382", "9382"),
        ("Ascend910", "NA", "Ascend910", None),
        ("Ascend950PR", "9579", "Ascend950PR_9579", "9579"),
        ("Ascend950PR", "957b", "Ascend950PR_957b", "957b"),
        ("Ascend950DT", "95A1", "Ascend950DT_95A1", "95A1"),
        ("950PR_957c", "957c", "Ascend950PR_957c", "957c"),
        ("Ascend950PR", None, "Ascend950PR", None),
        ("Ascend910", "910B3", "Ascend910B3", "910B3"),
        ("910B3   ", None, "Ascend910B3", "910B3"),
        (r"910B3\x00rest", None, "Ascend910B3", "910B3"),
        ("310P3", None, "Ascend310P3", None),
    ],
)
def test_names_of_chips(chip: str, number: str | None, model: str, bin_: str | None, opening: Opening) -> None:
    source = opening(card(0, npu(0, chip="x", npu=number)).replace("chip x", f"chip {chip}"))
    (row,) = source.devices()
    assert (row.model, row.bin) == (model, bin_)


# Releases
OLD = (
    "dcmi_get_device_chip_info_v2",
    "dcmi_get_device_pcie_info_v2",
    "dcmi_get_device_die_v2",
    "dcmi_get_card_elabel_v2",
    "dcmi_get_device_hbm_info",
    "dcmi_get_device_memory_info_v3",
    "dcmi_get_device_logic_id",
    "dcmi_get_dcmi_version",
    "dcmi_get_device_info",
)


def test_an_older_driver_has_older_functions(opening: Opening) -> None:
    source = opening(card(0, npu(7, ddr=32768)) + card(2, npu(4, ddr=32768)), without=OLD)
    first, second = source.devices()
    assert source.version is None
    assert (first.number, second.number) == (0, 1)  # in the order of the cards, since it tells no logic ids
    assert (first.pci_address, first.serial, first.memory_bytes) == ("0000:c7:00.0", "1024B7123440", 32 * 2**30)
    assert first.die_id == "2A51C0F4 20E117 9C8A0234 5B190A40 43820091"
    assert source.readings([first, second]) == {0: READING, 1: READING}


def test_a_950_is_read_through_the_second_generation(opening: Opening) -> None:
    chip = {"chip": "Ascend950PR", "npu": "9579", "die": "0 0 0 0 0", "ddie": DIE}
    source = opening(card(0, npu(0, **chip)) + card(1, npu(1, **chip, power=2033)), options=("-DV2",))
    first, second = source.devices()
    assert (first.model, first.place, second.place) == ("Ascend950PR_9579", ("0",), ("1",))
    assert (first.die_id, first.serial, first.count_unit) == (DIE.upper(), "1024B7123440", "card")
    assert source.readings([first, second]) == {0: READING, 1: READING._replace(power_mw=203_300)}


def test_each_quantity_may_be_missing_alone(opening: Opening) -> None:
    functions = {
        "dcmi_get_device_power_info": "power_mw",
        "dcmi_get_device_temperature": "temperature_c",
        "dcmi_get_device_frequency": "clock_mhz",
        "dcmi_get_device_utilization_rate": "utilisation_ppm",
        "dcmi_get_device_ecc_info": "ecc_uncorrected",
        "dcmi_get_device_resource_info": "processes",
    }
    answers = [f"answer {function} -8255" for function in functions]
    script = "".join(card(place, npu(place, answer)) for place, answer in enumerate(answers))
    source = opening(script)
    look = source.readings(source.devices())
    assert look == {place: READING._replace(**{name: None}) for place, name in enumerate(functions.values())}


@pytest.mark.parametrize("function", ["dcmi_get_device_type", "dcmi_get_driver_version", "dcmi_get_device_board_info"])
def test_what_only_describes_may_be_missing(function: str, opening: Opening) -> None:
    source = opening(PAIR, without=(function,))
    expected = [("Ascend910B3", "card")] * 2
    rows = [row for row in source.devices() if row.fault is None]
    assert [(row.model, row.count_unit) for row in rows][:2] == expected


# Values at their limits
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"temperature": -5}, {"temperature_c": 0}),
        ({"temperature": 0x7FFD}, {"temperature_c": None}),
        ({"temperature": 2**31 - 1}, {"temperature_c": None}),
        ({"power": -1}, {"power_mw": None}),
        ({"power": 2**31 - 1}, {"power_mw": None}),
        ({"power": 0xFFFF}, {"power_mw": None}),
        ({"clock": 0}, {"clock_mhz": None}),
        ({"clock": 0xFFFFFFFF}, {"clock_mhz": None}),
        ({"use": 512}, {"utilisation_ppm": None}),
        ({"hbm_errors": 0xFFFFFFFF}, {"ecc_uncorrected": 0}),
        ({"hbm_errors": 0xFFFFFFFF, "ddr_errors": None}, {"ecc_uncorrected": None}),
        ({"ecc_off": 1}, {"ecc_uncorrected": None}),
        ({"processes": -1}, {"processes": None}),
        ({"processes": 2**31 - 1}, {"processes": None}),
        ({"processes": 0}, {"processes": 0}),
    ],
)
def test_values_at_their_limits(changes: dict[str, object], expected: dict[str, Any], opening: Opening) -> None:
    source = opening(card(0, npu(0, **changes)))
    assert source.readings(source.devices()) == {0: READING._replace(**expected)}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"die": "0 0 0 0 0"}, "die_id"),
        ({"die": " ".join(["ffffffff"] * 5)}, "die_id"),
        ({"pci": "0:0:0.0"}, "pci_address"),
        ({"pci": "ffffffff:ffff:ff.f"}, "pci_address"),
        ({"hbm": 2**63}, "memory_bytes"),
        ({"cores": 0xFFFFFFFF}, "units"),
        ({"rated": 0}, "max_clock_mhz"),
    ],
)
def test_a_fact_that_is_none_is_left_out(changes: dict[str, object], name: str, opening: Opening) -> None:
    (row,) = opening(card(0, npu(0, **changes))).devices()
    assert getattr(row, name) is None
    assert row.fault is None


@pytest.mark.parametrize("serial", ["NA", "N/A", "0", "   "])
def test_a_serial_number_that_is_none_is_none(serial: str, opening: Opening) -> None:
    (row,) = opening(card(0, npu(0), serial=serial)).devices()
    assert row.serial is None


# Troubles
@pytest.mark.parametrize("code", [-8005, -8020, -8002])
def test_a_container_without_permission_is_told_what_it_lacks(code: int, opening: Opening) -> None:
    with pytest.raises(InputError, match=f"{code}") as error:
        opening(f"answer dcmi_init {code}\n{PAIR}")
    assert error.value.code == "device-permission"
    assert "belongs to another container, or this process is not in the group" in error.value.what


def test_a_driver_that_is_not_loaded(opening: Opening) -> None:
    with pytest.raises(InputError, match="nothing was received from the device") as error:
        opening(f"answer dcmi_init -8011\n{PAIR}")
    assert error.value.code == "device-library-unusable"
    source = opening(f"answer dcmi_get_card_list -8002\n{PAIR}")
    with pytest.raises(InputError, match="lists no device") as error:
        source.devices()
    assert error.value.code == "device-permission"


@pytest.mark.parametrize("function", ["dcmi_get_device_num_in_card", "*", "dcmi_get_device_logic_id"])
def test_one_card_that_refuses_costs_no_other(function: str, opening: Opening) -> None:
    lost = card(0, npu(0), more=[f"answer {function} -8008"])
    if function == "dcmi_get_device_num_in_card":
        lost = lost.replace("chip 910B3\n", "")
    source = opening(lost + card(1, npu(1)))
    first, second = source.devices()
    assert (first.number, second.number) == (0, 1)
    assert first.fault is not None
    assert second.fault is None
    assert source.readings([first, second]) == {1: READING}


def test_two_devices_of_one_logic_id_are_refused(opening: Opening) -> None:
    with pytest.raises(InputError, match="two devices one logic id"):
        opening(card(0, npu(0)) + card(1, npu(0))).devices()


def test_a_device_that_goes_is_lost_and_another_failure_costs_a_reading(opening: Opening) -> None:
    gone = [f"answer {function} 0 @1 {code}" for function, code in (("*", -8008),)]
    source = opening(card(0, npu(0, *gone)) + card(1, npu(1, "answer * 0 @1 -8006")) + card(2, npu(2)))
    rows = source.devices()
    assert source.readings(rows)[2] == READING
    look = source.readings(rows)
    lost = look.pop(0)
    assert isinstance(lost, DeviceError)
    assert lost.code == "device-lost"
    assert look == {2: READING}


def test_the_count_of_devices_may_change_between_two_calls(opening: Opening) -> None:
    source = opening(f"count 1 @1 3\n{PAIR}")
    assert len(source.devices()) == 1
    rows = source.devices()  # one that is not there any more refuses
    assert [row.fault is None for row in rows].count(True) == 2
    assert source.readings(rows) == {0: READING, 1: READING}


def test_a_library_of_another_machine_or_too_old_says_so(tmp_path: Path, opening: Opening) -> None:
    with pytest.raises(InputError, match=r"libdcmi\.so: the management library of Huawei is not") as error:
        DcmiSource.open(tmp_path)
    assert error.value.code == "device-library-missing"
    built = compile_library("dcmi.c", "libdcmi.so")
    of_another_machine(built, tmp_path / FOLDER)
    with pytest.raises(InputError) as error:
        DcmiSource.open(tmp_path)
    assert error.value.code == "device-library-unusable"
    with pytest.raises(InputError, match="has no dcmi_get_card_list") as error:
        opening(PAIR, without=("dcmi_get_card_list",))
    assert error.value.code == "device-library-unusable"


def test_of_two_versions_the_usable_one_is_taken(tmp_path: Path, opening: Opening) -> None:
    install(compile_library("dcmi.c", "libdcmi.so"), tmp_path, "usr/local/dcmi")
    source = opening(PAIR, tmp_path, without=("dcmi_get_card_list",))
    assert source.path is not None
    assert source.path.endswith("usr/local/dcmi/libdcmi.so")


@pytest.mark.parametrize("line", ["", "hang dcmi_get_card_list 20", "crash dcmi_init 1"])
def test_the_process_that_reads_lists_and_goes_on_to_the_tool(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that hangs, or that ends the process: npu-smi answers then, and the library is not tried again."""
    skipped: dict[str, str] = {}
    monkeypatch.setattr(reader, "skipped", skipped)
    install(compile_library("dcmi.c", "libdcmi.so"), tmp_path, FOLDER)
    monkeypatch.setenv("FAKE_DCMI", str(write_script(tmp_path, f"{line}\n{PAIR}")))
    vendor = VENDORS["npu"]
    install_tool(tmp_path / "bin", vendor.tool, vendor.answers)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    found = reader.find_apart(Ascend(bus(tmp_path, Ascend, "0x120000", ("0000:c0:00.0", "0000:c1:00.0"))), "0", 3.0)
    expected = "npu-smi" if line else "dcmi"
    assert [one.model.source for one in found] == [expected]
    assert (len(skipped) == 1) == (expected == "npu-smi")


def test_nothing_is_set(tmp_path: Path, opening: Opening) -> None:
    log = tmp_path / "log"
    source = opening(f"log {log}\n{PAIR}")
    source.readings(source.devices())
    asked = {line.split()[1] for line in log.read_text().splitlines()}
    assert asked
    assert all(name == "dcmi_init" or name.startswith("dcmi_get_") for name in asked)


# The published binding
class Recorder:
    """A library whose functions are called through, and that keeps the forms of their arguments."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.forms: dict[str, set[tuple[object, ...]]] = {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.library, name)

        def call(*arguments: Any) -> Any:
            self.forms.setdefault(name, set()).add(tuple(map(form, arguments)))
            return function(*arguments)

        return call


def form(argument: Any) -> object:
    """Return what an argument is: a number, or how large what it points to is."""
    pointed = getattr(argument, "_obj", argument)
    if isinstance(argument, (int, ctypes.c_uint, ctypes.c_int)):
        return "number"
    if isinstance(pointed, ctypes.Array) and issubclass(pointed._type_, ctypes.Structure):
        return ctypes.sizeof(pointed._type_)
    return "text or list" if isinstance(pointed, ctypes.Array) else ctypes.sizeof(pointed)


ARGUMENTS: dict[str, tuple[Any, ...]] = {  # of the binding's functions, behind the device
    "dcmi_get_device_die_v2": (1,),
    "dcmi_get_device_frequency": (7,),
    "dcmi_get_device_utilization_rate": (2,),
    "dcmi_get_device_ecc_info": (2,),
    "dcmi_get_device_resource_info": (ctypes.c_int(),),
    "dcmiv2_get_device_die_id": (1,),
    "dcmiv2_get_device_utilization_rate": (2,),
    "dcmiv2_get_device_ecc_info": (2,),
}
OF_CARD = ("dcmi_get_device_num_in_card", "dcmi_get_device_id_in_card")
OF_NONE = ("_init", "_get_card_list", "_get_driver_version", "_get_dcmi_version", "_get_device_list")
UNPUBLISHED = {  # in the vendor's header, and in no binding
    "dcmi_get_card_elabel_v2",
    "dcmi_get_device_elabel_info",
    "dcmiv2_get_device_elabel_info",
    "dcmiv2_get_device_frequency",
    "dcmiv2_get_device_proc_mem_info",
    "dcmiv2_get_driver_version",
    "dcmiv2_get_device_info",
}


@pytest.fixture
def binding(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the published binding, of the package gpustack-runtime, as nobody has used it."""
    return published(monkeypatch, f"{DETECTOR}/pydcmi/__init__.py")


@pytest.mark.parametrize("generation", ["dcmi_", "dcmiv2_"])
def test_functions_are_called_as_the_published_binding_calls_them(
    generation: str, opening: Opening, binding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = npu(0, ddr=1024, ddie=DIE, split=0, processes=1)  # the binding has room for no more
    options = ("-DV2",) if generation == "dcmiv2_" else ()
    source = opening(card(0, chip), options=options)
    real = source._dcmi.library.handle
    ours, theirs = Recorder(real), Recorder(real)
    for question, calls in dcmi_calls.QUESTIONS.items():  # each of a question's functions, as if it had no other
        which = {"die": (1,), "clock": (7,), "use": (2,), "ecc": (2,)}.get(question, ())
        device = ((0,) if generation == "dcmiv2_" else (0, 0))[: 1 if question == "label of card" else 2]
        for call in calls:
            if call.name.startswith(generation):
                answer = call.answer()
                getattr(ours, call.name)(*device, *which, ctypes.byref(answer))
    monkeypatch.setattr(Library, "function", lambda library, name: getattr(ours, name, None))
    source.readings(source.devices())
    source._dcmi.management_chip(0) if generation == "dcmi_" else None
    source._dcmi.version("get_dcmi_version", 32)
    binding.dcmiLib = theirs
    for name in set(ours.forms) - UNPUBLISHED:
        if name.endswith(OF_NONE):
            device = ()
        else:
            device = (0,) if name in OF_CARD or generation == "dcmiv2_" else (0, 0)
        if name == "dcmi_get_device_info":
            binding.dcmi_get_device_info(*device, 52, 1, binding.c_dcmi_soc_total_resource())
            continue
        getattr(binding, name)(*device, *ARGUMENTS.get(name, ()))
    assert {name: forms for name, forms in ours.forms.items() if name not in UNPUBLISHED} == theirs.forms


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (dcmi_calls.DcmiChip, "c_dcmi_chip_info"),
        (dcmi_calls.DcmiChipV2, "c_dcmi_chip_info_v2"),
        (dcmi_calls.DcmiPcie, "c_dcmi_pcie_info"),
        (dcmi_calls.DcmiPcieAll, "c_dcmi_pcie_info_all"),
        (dcmi_calls.DcmiDie, "c_dcmi_die_id"),
        (dcmi_calls.DcmiEcc, "c_dcmi_ecc_info"),
        (dcmi_calls.DcmiHbm, "c_dcmi_hbm_info"),
        (dcmi_calls.DcmiMemory, "c_dcmi_memory_info"),
        (dcmi_calls.DcmiMemoryV3, "c_dcmi_get_memory_info_stru"),
        (dcmi_calls.DcmiProcess, "c_dcmi_proc_mem_info"),
        (dcmi_calls.DcmiTotals, "c_dcmi_soc_total_resource"),
    ],
)
def test_structures_are_those_of_the_published_binding(ours: type[ctypes.Structure], theirs: str, binding: Any) -> None:
    other = getattr(binding, theirs)
    assert ctypes.sizeof(ours) == ctypes.sizeof(other)
    names = {name for name, *_ in other._fields_}
    for name, *_ in ours._fields_:
        if name in names:
            declared, published = getattr(ours, name), getattr(other, name)
            assert (declared.offset, declared.size) == (published.offset, published.size), name
    assert len(names & {name for name, *_ in ours._fields_}) >= len(ours._fields_) - 1


def test_constants_are_those_of_the_published_binding(binding: Any) -> None:
    assert dcmi_calls.CLOCK_NOW == binding.DCMI_FREQ_TYPE_AICORE_CURRENT_
    assert dcmi_calls.CLOCK_RATED == binding.DCMI_FREQ_TYPE_AICORE_MAX
    assert (dcmi_calls.DDR, dcmi_calls.HBM) == (binding.DCMI_DEVICE_TYPE_DDR, binding.DCMI_DEVICE_TYPE_HBM)
    assert (dcmi_calls.VDIE, dcmi_calls.DDIE) == (binding.DCMI_DIE_TYPE_VDIE, binding.DCMI_DIE_TYPE_DDIE)
    assert dcmi_calls.AI_CORE == binding.DCMI_INPUT_TYPE_AICORE
    assert dcmi_calls.NPU == binding.DCMI_UNIT_TYPE_NPU
    assert dcmi_calls.VIRTUAL_DEVICES == binding.DCMI_MAIN_CMD_VDEV_MNG
    assert dcmi_calls.TOTALS == binding.DCMI_VMNG_SUB_CMD_GET_TOTAL_RESOURCE
    published = {value for name, value in vars(binding).items() if name.startswith("DCMI_ERROR_")}
    assert set(dcmi_calls.MEANINGS) <= published
