"""``cnmon info``: its text in any order, with any blanks and identities, damaged, and run once for all cards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bench.devices.tools.tool as tool_module
from bench.devices.source import ListedDevice
from bench.devices.tools.cnmon import Cnmon
from bench.devices.vendors.cambricon import Cambricon
from bench.errors import InputError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading
from tests.bench.vendors.tools import bus, canned, script

Section = dict[str, str]
Text = str


def card_sections(index: int, **changes: str) -> dict[str, Section]:
    """Return what is printed of a card: fields by section; "" holds those of the card itself."""
    return {
        "": {
            "Product Name": changes.get("name", "MLU590-M9"),
            "UUID": changes.get("uuid", f"b7a04c51-2e6d-4f38-9c1a-{index:012x}"),
            "SN": changes.get("sn", f"512312080{index:03d}"),
            "Driver": changes.get("driver", "v6.2.11"),
            "Firmware": "v1.1.9",
            "Heartbeat": "77",
        },
        "PCI": {"Domain ID": "0000", "Bus num": f"{0x21 + index:02x}", "Device": "00", "Function": "0"},
        "Physical Memory Usage": {"Total": changes.get("memory", "81920 MiB"), "Used": "10 MiB", "Free": "81910 MiB"},
        "Temperature": {"Board": "41 C", "Chip": changes.get("chip", "64 C")},
        "Power": {"Usage": changes.get("power", "331 W"), "Cap": "550 W"},
        "Utilization": {"MLU Average": changes.get("use", "97 %"), "MLU 0": "12 %"},
        "Process": {"PID": changes.get("pid", "4711")},
    }


def printed(sections: dict[str, Section], index: int, indent: int = 4, width: int = 30) -> Text:
    """Return the text of a card."""
    text = f"Card {index}\n"
    for heading, fields in sections.items():
        depth = indent if not heading else 2 * indent
        text += f"{' ' * indent}{heading}\n" if heading else ""
        text += "".join(f"{' ' * depth}{name.ljust(width)} : {value}\n" for name, value in fields.items())
    return text


def cnmon(text: Text) -> Cnmon:
    return Cnmon(canned({"info": text}), Path("/nowhere"))


BUSY = Reading(power_mw=331_000, temperature_c=64, utilisation_ppm=970_000, processes=1)


def test_a_node_of_two_cards() -> None:
    text = "Mon Nov 30 09:01:02 2026\n" + "".join(printed(card_sections(i), i) for i in range(2))
    source = cnmon(text)
    first, second = source.devices()
    assert first == ListedDevice(
        number=0,
        model="MLU590-M9",
        uuid="b7a04c51-2e6d-4f38-9c1a-000000000000",
        serial="512312080000",
        firmware="v1.1.9",
        driver="v6.2.11",
        memory_bytes=81_920 * 2**20,
        power_limit_mw=550_000,
    )
    assert source.readings([first, second]) == {0: BUSY, 1: BUSY}
    assert source.readings([second]) == {1: BUSY}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_order_blanks_and_identities(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    text, expected = data.draw(st.sampled_from(["", "\n", "CNMON banner : v6\n\n", "Mon Nov 30 09:01:02 2026\n"])), {}
    for index in data.draw(st.permutations(range(count))):
        uuid = str(data.draw(st.uuids().filter(readable_identifier)))
        serial = data.draw(st.integers(10**6, 10**15).map(str).filter(readable_identifier))
        watts, degrees, percent = (
            data.draw(st.integers(1, 900)),
            data.draw(st.integers(0, 110)),
            data.draw(st.integers(0, 100)),
        )
        sections = card_sections(
            index, uuid=uuid, sn=serial, power=f"{watts} W", chip=f"{degrees} C", use=f"{percent} %"
        )
        order = ["", *data.draw(st.permutations([name for name in sections if name]))]
        shuffled = {name: dict(data.draw(st.permutations(list(sections[name].items())))) for name in order}
        text += printed(shuffled, index, data.draw(st.integers(1, 8)), data.draw(st.integers(0, 40)))
        text += data.draw(st.sampled_from(["", "\n", "   \n\n"]))
        expected[index] = (uuid, serial, watts * 1000, degrees, percent * 10_000)
    source = cnmon(text)
    rows = source.devices()
    look = source.readings(rows)
    for row in rows:
        reading: Any = look[row.number]
        known = (row.uuid, row.serial, reading.power_mw, reading.temperature_c, reading.utilisation_ppm)
        assert known == expected[row.number]
        assert reading.processes == 1
    assert {row.number for row in rows} == expected.keys()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_cut_text_invents_nothing(data: st.DataObject) -> None:
    """Whatever is read of a text that ends too early is what the whole one says."""
    text = "".join(printed(card_sections(i), i) for i in range(2))
    whole = cnmon(text)
    rows, look = {row.number: row for row in whole.devices()}, whole.readings(whole.devices())
    source = cnmon(text[: data.draw(st.integers(0, len(text)))])
    try:
        cut = source.devices()
    except InputError:
        return
    for row in cut:
        for field, value in row._asdict().items():
            assert value in (None, rows[row.number]._asdict()[field]) or row.fault is not None, field
    for number, reading in source.readings(cut).items():
        assert isinstance(reading, Reading)
        for field, value in reading._asdict().items():
            assert value in (None, getattr(look[number], field)), field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"power": "N/A"}, "power_mw"),
        ({"power": "331000 mW"}, "power_mw"),
        ({"power": "331"}, "power_mw"),
        ({"power": "nan W"}, "power_mw"),
        ({"power": "0 W"}, "power_mw"),
        ({"power": "4294967295 W"}, "power_mw"),
        ({"chip": "147 F"}, "temperature_c"),
        ({"chip": "65535 C"}, "temperature_c"),
        ({"chip": "NaN"}, "temperature_c"),
        ({"use": "101 %"}, "utilisation_ppm"),
        ({"use": "-1 %"}, "utilisation_ppm"),
        ({"pid": "N/A"}, "processes"),
    ],
)
def test_values_that_no_card_has(change: dict[str, str], field: str) -> None:
    source = cnmon(printed(card_sections(0, **change), 0))
    assert source.readings(source.devices())[0] == BUSY._replace(**{field: None})


def test_processes_are_counted_card_by_card() -> None:
    one, two = printed(card_sections(0), 0), printed(card_sections(1, pid="N/A"), 1)
    source = cnmon(one + "        PID : 4712\n        PID : 4713\n" + two)
    rows = source.devices()
    looks: dict[int, Any] = dict(source.readings(rows))
    assert [looks[row.number].processes for row in rows] == [3, None]


def test_one_card_without_a_name_stops_no_other() -> None:
    nameless = printed(card_sections(0), 0).replace("Product Name", "Error")
    rows = cnmon(nameless + printed(card_sections(1), 1)).devices()
    assert [row.fault is None for row in rows] == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Failed to initialise: the driver is not loaded\n",
        "卡 0\n    产品名称 : MLU590-M9\n",  # another language
        "Card\n    Product Name : MLU590-M9\n",
    ],
)
def test_an_unknown_form_is_one_sentence(text: Text) -> None:
    with pytest.raises(InputError, match="unknown form") as error:
        cnmon(text).devices()
    assert error.value.code == "device-tool-unknown"


# As a process
@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Cambricon]:
    """Return what sets a node of eight cards up, with an executable."""

    def build(body: str) -> Cambricon:
        root = bus(tmp_path, Cambricon, "0x120000", tuple(f"0000:{0x21 + i:02x}:00.0" for i in range(8)))
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "cards.txt").write_text("".join(printed(card_sections(i), i) for i in range(8)))
        script(
            tmp_path / "bin/cnmon", body.replace("CARDS", f"'{tmp_path}/cards.txt'").replace("LOG", f"'{tmp_path}/log'")
        )
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        return Cambricon(root)

    return build


def test_one_run_reads_all_cards(node: Callable[[str], Cambricon], tmp_path: Path) -> None:
    backend = node('echo "$*" >> LOG\n[ "$*" = info ] && cat CARDS\n')
    watch = backend.watch(backend.look(None))
    (tmp_path / "log").unlink()
    assert watch.read() == {f"mlu:{i}": BUSY for i in range(8)}
    assert (tmp_path / "log").read_text() == "info\n"


def test_its_json_is_not_asked_for(node: Callable[[str], Cambricon], tmp_path: Path) -> None:
    """Its option writes a file into whatever folder the harness was started in."""
    backend = node('echo "$*" >> LOG\ncat CARDS\n')
    backend.watch(backend.look(None)).read()
    assert "-j" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("echo 'cnmon: error while initialising'; exit 0\n", "device-tool-unknown"),
        ("echo 'permission denied' >&2; exit 1\n", "device-permission"),
        ("exit 3\n", "device-tool-failed"),
        ("exec sleep 30\n", "device-tool-failed"),
    ],
)
def test_a_tool_that_gives_no_answer(
    node: Callable[[str], Cambricon], body: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_module, "TIMEOUT_S", 0.5 if "sleep" in body else 20.0)
    with pytest.raises(InputError) as error:
        node(body).look(None)
    assert error.value.code == code
