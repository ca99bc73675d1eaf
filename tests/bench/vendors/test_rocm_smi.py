"""``rocm-smi``: one run for all cards, and its JSON in the forms that releases give it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.devices.tools.rocm_smi import LIST, WATCH, RocmSmi
from bench.devices.vendors.amd import Amd
from bench.errors import InputError
from bench.record.identities import identifier
from bench.telemetry import Reading
from tests.bench.vendors.tools import bus, canned, script
from tests.fake_amdgpu import build, mi250x, mi300x

FUNCTIONS = ("0000:c1:00.0", "0000:c6:00.0", "0000:c9:00.0", "0000:ce:00.0")
LIST_ARGUMENTS, WATCH_ARGUMENTS = " ".join([*LIST, "--json"]), " ".join([*WATCH, "--json"])
HPE = "AMD INSTINCT MI200 (MCM) OAM LC MBA HPE C2"


def listed(index: int, **changes: str) -> dict[str, str]:
    """Return a card of the list: two boards of two dies, by the name that HPE gives them."""
    card = {
        "Unique ID": f"0x7a6b5c4d3e2f10{index:02x}",
        "VBIOS version": "113-D65209-073",
        "Serial Number": f"71000000{index // 2:04d}",
        "PCI Bus": FUNCTIONS[index].upper(),
        "VRAM Total Memory (B)": "68702699520",
        "Card series": HPE,
        "Card model": "0x0b0c",
        "Card SKU": "D65209",
    }
    return card | changes


def watched(power: str | None = "88.0") -> dict[str, str]:
    """Return a card of the watch, as ROCm 6 prints an MI250."""
    power_of = {} if power is None else {"Average Graphics Package Power (W)": power}
    return {
        "Temperature (Sensor edge) (C)": "31.0",
        "Temperature (Sensor junction) (C)": "36.0",
        "sclk clock speed:": "(1650Mhz)",
        "sclk clock level:": "1",
        **power_of,
        "GPU use (%)": "97",
        "Energy counter": "61929744071539",
        "Accumulated Energy (uJ)": "952825096297442.9",
    }


EXPECTED = Reading(88_000, 36, 1650, 970_000, energy_mj=952_825_096_297)


def answers(list_of: dict[str, Any], watch_of: dict[str, Any]) -> dict[str, str]:
    return {LIST_ARGUMENTS: json.dumps(list_of), WATCH_ARGUMENTS: json.dumps(watch_of)}


def node(count: int = 4) -> dict[str, str]:
    """Return what the tool answers on a node."""
    return answers(
        {f"card{n}": listed(n) for n in range(count)} | {"system": {"Driver version": "6.3.6"}},
        {f"card{n}": watched(None if n % 2 else "88.0") for n in range(count)},
    )


def source(texts: dict[str, str]) -> RocmSmi:
    return RocmSmi(canned(texts), Path("/nowhere"))


def test_all_cards_by_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes the locks of all cards; as many runs as cards hold them as many times."""
    texts = node()
    body = "".join(f"'{arguments}') echo '{text}' ;;\n" for arguments, text in texts.items())
    path = tmp_path / "bin/rocm-smi"
    path.parent.mkdir()
    script(path, f'echo "$*" >> {tmp_path}/runs\ncase "$*" in\n{body}*) exit 2 ;;\nesac\n')
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    backend = Amd(bus(tmp_path / "root", Amd, "0x038000", FUNCTIONS))
    found = backend.find(None)
    assert [one.device.parent for one in found] == ["710000000000"] * 2 + ["710000000001"] * 2
    assert {(one.model.count_unit, one.device.serial) for one in found} == {("die", None)}
    assert {one.model.source for one in found} == {"rocm-smi"}
    watch = backend.watch(found)
    (tmp_path / "runs").unlink()
    looked = watch.read()
    assert (tmp_path / "runs").read_text().splitlines() == [WATCH_ARGUMENTS]
    assert [looked[f"rocm:{n}"] for n in range(4)] == [EXPECTED, EXPECTED._replace(power_mw=None)] * 2


def test_units_and_clocks_are_the_kernels(tmp_path: Path) -> None:
    gpus = mi250x()
    build(tmp_path, gpus)
    cards = {f"card{n}": listed(n, **{"PCI Bus": gpu.pci_address}) for n, gpu in enumerate(gpus)}
    rows = RocmSmi(canned(answers(cards, {})), tmp_path).devices()
    assert [(row.units, row.max_clock_mhz) for row in rows] == [(110, 1700)] * 2


def partitions(at: int, count: int) -> dict[str, dict[str, str]]:
    """Return the partitions of one MI300X as ROCm 6 lists them: in places that are not there, each with all memory."""
    known = {"Unique ID": f"0x7a6b5c4d3e2f10{at:02x}", "Card Series": "AMD Instinct MI300X", "Card Model": "0x74a1"}
    hidden = {"Unique ID": "N/A", "Card Series": "AMD Instinct MI300X", "Card Model": "N/A"}
    memory = {"Serial Number": f"69244100{at:04d}", "VRAM Total Memory (B)": "206141652992"}
    return {
        f"card{at * count + part}": (hidden if part else known)
        | memory
        | {"PCI Bus": f"0000:{0xC1 + at:02X}:00.{part}"}
        for part in range(count)
    }


@pytest.mark.parametrize("count", [2, 8])
def test_partitions_are_slices_of_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    cards = partitions(0, count) | partitions(1, count)
    texts = answers(cards, dict.fromkeys(cards, watched()))
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    functions = ("0000:c1:00.0", "0000:c2:00.0")
    root = bus(tmp_path / "root", Amd, "0x120000", functions)
    monkeypatch.setattr(RocmSmi, "open", classmethod(lambda cls, root: cls(canned(texts), root)))
    backend = Amd(root)
    source, rows, _ = backend.listing(functions)
    assert [row.number for row in rows] == list(range(2 * count))
    assert {(row.count_unit, row.serial, row.memory_bytes, row.keys) for row in rows} == {("slice", None, None, ())}
    assert [(row.parent, row.pci_address) for row in rows] == [
        (f"0x7a6b5c4d3e2f10{at:02x}", functions[at]) for at in range(2) for _ in range(count)
    ]
    assert len({row.uuid for row in rows}) == 2 * count
    assert [backend.choice(row) for row in rows] == [str(number) for number in range(2 * count)]
    own = EXPECTED._replace(power_mw=None, utilisation_ppm=None, energy_mj=None)
    assert source.readings(rows) == dict.fromkeys(range(2 * count), own)


def test_one_partition_alone_is_no_whole_gpu(tmp_path: Path) -> None:
    gpus = mi300x(1, compute="CPX", units=38)
    build(tmp_path, gpus)
    one = {"card0": listed(0, **{"Card series": "AMD Instinct MI300X", "PCI Bus": gpus[0].pci_address})}
    (row,) = RocmSmi(canned(answers(one, {})), tmp_path).devices()
    assert (row.count_unit, row.units, row.serial) == ("slice", 38, None)


def test_a_virtual_function_is_a_slice() -> None:
    one = {"card0": listed(0, **{"Card series": "Aqua Vanjaram [Instinct MI300X VF]", "Card model": "0x74b5"})}
    (row,) = source(answers(one, {})).devices()
    assert (row.count_unit, row.parent, row.serial) == ("slice", "0x7a6b5c4d3e2f1000", None)


def test_a_whole_gpu_is_no_partition(tmp_path: Path) -> None:
    gpus = mi300x(2)
    build(tmp_path, gpus)
    cards = {
        f"card{n}": listed(
            2 * n, **{"Card series": "AMD Instinct MI300X", "Card model": "", "PCI Bus": gpu.pci_address}
        )
        for n, gpu in enumerate(gpus)
    }
    rows = RocmSmi(canned(answers(cards, {})), tmp_path).devices()
    assert [(row.count_unit, row.units, row.parent) for row in rows] == [("package", 304, None)] * 2


def test_a_die_by_its_device_id_alone() -> None:
    cards = {"card0": listed(0, **{"Card series": "A maker's board"})}
    (row,) = source(answers(cards, {})).devices()
    assert row.count_unit == "die"
    cards = {"card0": listed(0, **{"Card series": "A maker's board", "Card model": "0x0c34"})}
    (row,) = source(answers(cards, {})).devices()
    assert row.count_unit == "card"


@pytest.mark.parametrize("name", ["MI300X", "MI308X", "MI325X", "MI350X", "MI355X"])
def test_packages(name: str) -> None:
    cards = {"card0": listed(0, **{"Card series": f"AMD Instinct {name} OAM", "Card model": "0x74a1"})}
    (row,) = source(answers(cards, {})).devices()
    assert row.count_unit == "package"


@pytest.mark.parametrize(
    "around",
    [
        "WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status\n\n%s",
        "WARNING: {'rsmi': 'RSMI_STATUS_BUSY'} on card {0}\n%s\n",
        '{"warning": "low power"}\n%s',
        "{}\n%s\n{0} cards read\n",
        "\n\n======= ROCm System Management Interface ======= {v2}\n%s\n===== End of ROCm SMI Log =====\n",
        "\r\n%s\r\n",
    ],
)
def test_warnings_with_braces(around: str) -> None:
    texts = {arguments: around % text for arguments, text in node().items()}
    rows = source(texts).devices()
    assert len(rows) == 4
    assert source(texts).readings(rows)[0] == EXPECTED


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_an_output_that_was_cut_is_refused(indent: int | None, part: float) -> None:
    texts = {arguments: json.dumps(json.loads(text), indent=indent) for arguments, text in node().items()}
    rows = source(texts).devices()
    cut = {arguments: text[: int(len(text) * part)] for arguments, text in texts.items()}
    with pytest.raises(InputError) as raised:
        source(cut).devices()
    assert raised.value.code == "device-tool-unknown"
    with pytest.raises(InputError):
        source(cut).readings(rows)


@pytest.mark.parametrize("text", ["", "ERROR: no amdgpu driver", "[]", "null", "{}", '{"system": {}}', "[" * 10**5])
def test_exit_status_0_with_another_text(text: str) -> None:
    texts = dict.fromkeys(node(), text)
    with pytest.raises(InputError) as raised:
        source(texts).devices()
    assert raised.value.code == "device-tool-unknown"


@pytest.mark.parametrize(
    ("name", "value", "quantity"),
    [
        ("Average Graphics Package Power (W)", "N/A (Secondary die)", "power_mw"),
        ("Average Graphics Package Power (W)", "nan", "power_mw"),
        ("Average Graphics Package Power (W)", "88000 mW", "power_mw"),
        ("Average Graphics Package Power (W)", "0.0", "power_mw"),
        ("Average Graphics Package Power (W)", "65535.0", "power_mw"),
        ("Temperature (Sensor junction) (C)", "65535.0", "temperature_c"),
        ("sclk clock speed:", "(65535Mhz)", "clock_mhz"),
        ("sclk clock speed:", "(0Mhz)", "clock_mhz"),
        ("Temperature (Sensor junction) (C)", "N/A", None),
        ("sclk clock speed:", "(unknown)", "clock_mhz"),
        ("sclk clock speed:", "1.65Ghz", "clock_mhz"),
        ("GPU use (%)", "65535", "utilisation_ppm"),
        ("Accumulated Energy (uJ)", "0", "energy_mj"),
        ("Accumulated Energy (uJ)", "9" * 40, "energy_mj"),
    ],
)
def test_values_that_are_none(name: str, value: str, quantity: str | None) -> None:
    """The junction has no place of its own: the edge is cooler, and what there is."""
    seen = source(answers({"card0": listed(0)}, {"card0": watched() | {name: value}}))
    expected = EXPECTED._asdict() | ({"temperature_c": 31} if quantity is None else {quantity: None})
    found = seen.readings(seen.devices())[0]
    assert isinstance(found, Reading)
    assert found._asdict() == expected


def test_a_card_that_comes_or_goes_between_two_looks() -> None:
    texts = node()
    rows = source(texts).devices()
    fewer = texts | {WATCH_ARGUMENTS: json.dumps({"card1": watched(), "card9": watched(), "card2": {}})}
    assert source(fewer).readings(rows) == {1: EXPECTED}


# The form, whatever the identities, the order, the blanks and the case
HEX = st.text(st.sampled_from("0123456789abcdef"), min_size=14, max_size=16).filter(
    lambda text: identifier(f"0x{text}")
)
CASES: st.SearchStrategy[Callable[[str], str]] = st.sampled_from([str, str.lower, str.upper, str.title])


def shuffled(data: st.DataObject, card: dict[str, str], case: Callable[[str], str]) -> dict[str, str]:
    blanks = st.sampled_from(["", " ", "  ", "\t"])
    items = data.draw(st.permutations(list(card.items())))
    return {case(key): data.draw(blanks) + value + data.draw(blanks) for key, value in items}


@given(st.data())
def test_any_order_case_blanks_and_identities(data: st.DataObject) -> None:
    case = data.draw(CASES)
    count = data.draw(st.integers(1, 2))
    uniques = data.draw(st.lists(HEX, min_size=2 * count, max_size=2 * count, unique_by=identifier))
    boards = data.draw(st.lists(HEX, min_size=count, max_size=count, unique_by=identifier))
    cards = {
        f"card{n}": shuffled(
            data, listed(n, **{"Unique ID": f"0x{uniques[n]}", "Serial Number": boards[n // 2].upper()}), case
        )
        for n in range(2 * count)
    }
    looks = {f"card{n}": shuffled(data, watched(), case) for n in range(2 * count)}
    order = data.draw(st.permutations(list(cards)))
    system = {"system": {case("Driver version"): "6.3.6"}}
    indent = data.draw(st.sampled_from([None, 4]))
    texts = {
        LIST_ARGUMENTS: json.dumps({key: cards[key] for key in order} | system, indent=indent),
        WATCH_ARGUMENTS: json.dumps({key: looks[key] for key in order[::-1]}, indent=indent),
    }
    rows = sorted(source(texts).devices(), key=lambda row: row.number)
    assert [(row.uuid, row.serial) for row in rows] == [
        (f"0x{unique}", boards[n // 2].upper()) for n, unique in enumerate(uniques)
    ]
    assert {(row.model, row.count_unit, row.driver) for row in rows} == {(HPE, "die", "6.3.6")}
    assert [row.pci_address for row in rows] == list(FUNCTIONS[: 2 * count])
    assert set(source(texts).readings(rows).values()) == {EXPECTED}
