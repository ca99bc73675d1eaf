"""``mthreads-gmi -q --json``: in any order, with any blanks and identities, damaged, and run once for all GPUs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bench.devices.tools.tool as tool_module
from bench.devices.source import ListedDevice
from bench.devices.tools.mthreads_gmi import MthreadsGmi, json_objects
from bench.devices.vendors.mthreads import MooreThreads
from bench.errors import InputError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading
from tests.bench.vendors.tools import bus, canned, script

Report = dict[str, Any]
BUSY = Reading(power_mw=702_310, temperature_c=66, clock_mhz=1700, utilisation_ppm=990_000)
WARNINGS = 'WARN: mtml {"level": 2} is not {of this release}\n[driver] {"GPU": "link down"}\n'


def gpu(index: int, **changes: object) -> Report:
    """Return what is reported of a GPU."""
    values = {
        "power": "702.31W",
        "temperature": "66C",
        "clock": "1700MHz",
        "use": "99%",
        "memory": "81920MiB",
    } | changes
    return {
        "Index": str(index),
        "Product Name": values.get("name", "MTT S5000"),
        "Product Brand": "MTT",
        "GPU UUID": values.get("uuid", f"e4d90b72-5c18-4a6f-93be-{index:012x}"),
        "Serial Number": values.get("serial", f"MT50K{index:06d}"),
        "MTBios Version": "4.3.41",
        "PCI": {"Bus": "0x2A", "Bus ID": f"00000000:{0x2A + index:02x}:00.0", "Vendor ID": "0x1ED5"},
        "FB Memory Usage": {"Total": values["memory"], "Used": "0MiB", "Free": "81920MiB"},
        "Utilization": {"Gpu": values["use"], "Memory": "0%"},
        "Temperature": {"GPU Current Temp": values["temperature"]},
        "Power Readings": {"Power Draw ": values["power"], "Current Power Limit": "950.00W"},
        "Clocks": {"Graphics": values["clock"], "Memory": "1750MHz"},
    }


def report(*gpus: Report) -> Report:
    return {"Timestamp": "Mon Nov 30", "Driver Version": "3.3.5", "Attached GPUs": str(len(gpus)), "GPU": list(gpus)}


def gmi(text: str, **more: str) -> MthreadsGmi:
    return MthreadsGmi(canned({"-q --json": text} | more), Path("/nowhere"))


def test_a_node_of_two_gpus() -> None:
    source = gmi(json.dumps(report(gpu(0), gpu(1, serial="N/A"))), **{"-v": "mthreads-gmi version: 1.14.0\n"})
    first, second = source.devices()
    assert first == ListedDevice(
        number=0,
        model="MTT S5000",
        uuid="e4d90b72-5c18-4a6f-93be-000000000000",
        serial="MT50K000000",
        pci_address="0000:2a:00.0",
        firmware="4.3.41",
        driver="3.3.5",
        memory_bytes=80 * 2**30,
        power_limit_mw=950_000,
    )
    assert (second.serial, second.pci_address) == (None, "0000:2b:00.0")
    assert source.readings([first, second]) == {0: BUSY, 1: BUSY}
    assert source.readings([second]) == {1: BUSY}
    assert source.version == "1.14.0"


SPELLINGS: list[Callable[[str], str]] = [str, str.upper, str.lower, " {} ".format, "{}  ".format]


def shuffled(data: st.DataObject, value: Any) -> Any:
    """Return a value with the names of its mappings in another order, case and blanks."""
    if isinstance(value, list):
        return [shuffled(data, one) for one in value]
    if not isinstance(value, dict):
        return value
    spelling: Callable[[str], str] = data.draw(st.sampled_from(SPELLINGS))
    return {spelling(name): shuffled(data, value[name]) for name in data.draw(st.permutations(list(value)))}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_order_blanks_and_identities(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    gpus, expected = [], {}
    for index in data.draw(st.permutations(range(count))):
        uuid = str(data.draw(st.uuids().filter(readable_identifier)))
        watts, degrees = data.draw(st.integers(1, 900)), data.draw(st.integers(0, 110))
        blank = data.draw(st.sampled_from(["", " "]))
        gpus.append(gpu(index, uuid=uuid, power=f"{watts}.50{blank}W", temperature=f"{degrees}{blank}C"))
        expected[index] = (uuid, watts * 1000 + 500, degrees)
    indent = data.draw(st.sampled_from([None, 0, 2, 4]))
    before, after = (data.draw(st.sampled_from(["", "\n", WARNINGS, "{", '{"GPU'])) for _ in range(2))
    source = gmi(before + json.dumps(shuffled(data, report(*gpus)), indent=indent) + after)
    rows = source.devices()
    look = source.readings(rows)
    for row in rows:
        reading: Any = look[row.number]
        assert (row.uuid, reading.power_mw, reading.temperature_c) == expected[row.number]
    assert {row.number for row in rows} == expected.keys()


@pytest.mark.parametrize("before", ["", WARNINGS, "{" * 40, '{"a": [1, 2]}\n', '{"Driver Version": "3.3.5"}\n'])
@pytest.mark.parametrize("after", ["", "\n}\n", WARNINGS])
def test_warnings_with_braces(before: str, after: str) -> None:
    source = gmi(before + json.dumps(report(gpu(0))) + after)
    assert source.readings(source.devices()) == {0: BUSY}


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, 700))
def test_a_cut_report_is_refused(cut: int) -> None:
    text = json.dumps(report(gpu(0), gpu(1)))
    with pytest.raises(InputError, match="unknown form") as error:
        gmi(text[:-cut]).devices()
    assert error.value.code == "device-tool-unknown"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Failed to initialise: the driver is not loaded\n",
        '{"GPU": []}',
        '{"GPU": "none"}',
        '{"GPU": [{"Product Name": "MTT S5000"}]}',
        '{"GPU": [{"Index": "first"}]}',
        '{"显卡": [{"索引": "0"}]}',  # another language
        '{"GPU":' * 5000,
    ],
)
def test_an_unknown_form_is_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match="unknown form") as error:
        gmi(text).devices()
    assert error.value.code == "device-tool-unknown"


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"power": "702310mW"}, "power_mw", 702_310),
        ({"power": "0.70kW"}, "power_mw", None),
        ({"power": "702.31"}, "power_mw", None),
        ({"power": "nanW"}, "power_mw", None),
        ({"power": "N/A"}, "power_mw", None),
        ({"power": "0W"}, "power_mw", None),
        ({"power": "4294967.295W"}, "power_mw", None),
        ({"power": None}, "power_mw", None),
        ({"power": ["702.31W"]}, "power_mw", None),
        ({"temperature": "151F"}, "temperature_c", None),
        ({"temperature": "-3C"}, "temperature_c", None),
        ({"temperature": "65535C"}, "temperature_c", None),
        ({"clock": "1.7GHz"}, "clock_mhz", None),
        ({"clock": "0MHz"}, "clock_mhz", None),
        ({"use": "101%"}, "utilisation_ppm", None),
        ({"use": "0%"}, "utilisation_ppm", 0),
    ],
)
def test_values_that_no_gpu_has(change: Report, field: str, expected: int | None) -> None:
    source = gmi(json.dumps(report(gpu(0, **change))))
    known: dict[str, Any] = {field: expected}
    assert source.readings(source.devices())[0] == BUSY._replace(**known)


@pytest.mark.parametrize(
    ("memory", "size"), [("80GiB", 80 * 2**30), ("81920 MiB", 80 * 2**30), ("80GB", None), ("0MiB", None), (None, None)]
)
def test_memory_in_other_units(memory: str | None, size: int | None) -> None:
    assert gmi(json.dumps(report(gpu(0, memory=memory)))).devices()[0].memory_bytes == size


def test_one_gpu_without_a_name_stops_no_other() -> None:
    rows = gmi(json.dumps(report(gpu(0, name="N/A"), gpu(1)))).devices()
    assert [row.fault is None for row in rows] == [False, True]


def test_a_text_of_braces_is_read_in_bounded_time() -> None:
    assert list(json_objects("{" * 1_000_000)) == []
    assert list(json_objects('{"a": {' * 100_000)) == []


# As a process
@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], MooreThreads]:
    """Return what sets a node of eight GPUs up, with an executable."""

    def build(body: str) -> MooreThreads:
        root = bus(tmp_path, MooreThreads, "0x030000", tuple(f"0000:{0x2A + i:02x}:00.0" for i in range(8)))
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "report.json").write_text(json.dumps(report(*(gpu(i) for i in range(8)))))
        places = {"REPORT": f"'{tmp_path}/report.json'", "LOG": f"'{tmp_path}/log'"}
        for name, place in places.items():
            body = body.replace(name, place)
        script(tmp_path / "bin/mthreads-gmi", body)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        return MooreThreads(root)

    return build


def test_one_run_reads_all_gpus(node: Callable[[str], MooreThreads], tmp_path: Path) -> None:
    backend = node('echo "$*" >> LOG\ncat REPORT\n')
    watch = backend.watch(backend.look(None))
    (tmp_path / "log").unlink()
    assert watch.read() == {f"musa:{i}": BUSY for i in range(8)}
    assert (tmp_path / "log").read_text() == "-q --json\n"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("echo 'mthreads-gmi: no device'; exit 0\n", "device-tool-unknown"),
        ("echo 'permission denied' >&2; exit 1\n", "device-permission"),
        ("exit 3\n", "device-tool-failed"),
        ("exec sleep 30\n", "device-tool-failed"),
    ],
)
def test_a_tool_that_gives_no_answer(
    node: Callable[[str], MooreThreads], body: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_module, "TIMEOUT_S", 0.5 if "sleep" in body else 20.0)
    with pytest.raises(InputError) as error:
        node(body).look(None)
    assert error.value.code == code
