"""``xpu-smi -q`` of Kunlunxin, and the tools of nearly its name that are not it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.devices.source import ListedDevice
from bench.devices.tools.xpu_smi import XpuSmi
from bench.devices.vendors.kunlunxin import Kunlunxin
from bench.errors import InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import Canned, bus, canned, script


class Xpu(NamedTuple):
    """What ``-q`` reports of one XPU."""

    bus: str = "00000000:3B:00.0"
    model: str = "P800 OAM"
    serial: str = "02K41C0019F00B07"
    uuid: str = "GPU-90b2d5aa-3c1e-5f77-8e04-1d2c3b4a5f01"
    device_id: str = "0x36882057"
    power: str = "371.25 W"
    celsius: str = "61 C"
    clock: str = "1450 MHz"
    use: str = "96 %"
    errors: str = "3"
    pids: tuple[int, ...] = (4711,)

    def blocks(self) -> list[tuple[str, Any]]:
        """Return names with their values, or with what stands below them."""
        return [
            ("Product Name", self.model),
            ("Serial Number", self.serial),
            ("XPU UUID", self.uuid),
            ("XPU Part Number", "B00100300110388"),
            ("Firmware Version", [("PBL Version", "1.0"), ("ALL Version", "1.0.2.14.1.54")]),
            ("PCI", [("Device Id", self.device_id), ("Bus Id", self.bus)]),
            ("Memory Usage", [("Total", "98304 MiB"), ("Used", "812 MiB")]),
            ("L3 Usage", [("Total", "96 MiB")]),
            ("Utilization", [("Xpu", self.use)]),
            ("Ecc Mode", [("Current", "Enabled"), ("Pending", "Disabled")]),
            ("ECC Errors", [("Aggregate", [("DRAM Uncorrectable", "9")]), ("Volatile", [self.uncorrectable()])]),
            ("Temperature", [("XPU Current Temp", self.celsius)]),
            ("Power Readings", [("Enforced Power Limit", "400.00 W"), ("Power Draw", self.power)]),
            ("Clocks", [("CDNN", "1100 MHz"), ("Cluster", self.clock)]),
            ("Processes", [("Process ID", str(pid)) for pid in self.pids] or "None"),
        ]

    def uncorrectable(self) -> tuple[str, str]:
        return "DRAM Uncorrectable", self.errors


def block(name: str, value: Any, indent: str, width: int, step: str) -> str:
    if isinstance(value, str):
        return f"{indent}{name:<{width}} : {value}\n"
    return f"{indent}{name}\n" + "".join(block(one, below, indent + step, width, step) for one, below in value)


def printed(
    *xpus: Xpu, orders: list[list[tuple[str, Any]]] | None = None, width: int = 40, step: str = "    ", banner: str = ""
) -> str:
    """Return what ``-q`` prints of some XPUs, of each in an order of its own."""
    text = f"{banner}==============XPUSMI LOG==============\n\nDriver Version{' ' * width} : 5.0.21.31\n"
    text += f"XPU-RT Version    : 10.2\n\nAttached XPUs   : {len(xpus)}\n"
    for xpu, blocks in zip(xpus, [x.blocks() for x in xpus] if orders is None else orders, strict=True):
        text += f"XPU {xpu.bus}\n" + "".join(block(one, value, step, width, step) for one, value in blocks)
    return text


READING = Reading(
    power_mw=371_250, temperature_c=61, clock_mhz=1450, utilisation_ppm=960_000, ecc_uncorrected=3, processes=1
)
SECOND = Xpu(bus="00000000:9D:00.0", serial="02K41C0019F00B08", uuid="GPU-90b2d5aa-3c1e-5f77-8e04-1d2c3b4a5f02")


def source_of(text: str, root: Path = Path("/nowhere")) -> XpuSmi:
    return XpuSmi(canned({"-q": text}), root)


def test_an_xpu_is_listed_with_all_that_identifies_it() -> None:
    source = source_of(printed(Xpu(), SECOND))
    first, second = source.devices()
    assert first == ListedDevice(
        number=0,
        model="P800 OAM",
        uuid="GPU-90b2d5aa-3c1e-5f77-8e04-1d2c3b4a5f01",
        serial="02K41C0019F00B07",
        pci_address="0000:3b:00.0",
        board_part="B00100300110388",
        firmware="1.0.2.14.1.54",
        driver="5.0.21.31",
        memory_bytes=96 * 2**30,
        power_limit_mw=400_000,
        modes=(("ecc", "on"),),
    )
    assert (second.number, second.pci_address) == (1, "0000:9d:00.0")
    assert source.readings([first, second]) == {0: READING, 1: READING}


class Counting(Canned):
    """A tool that counts its runs."""

    runs: list[str]

    def run(self, *arguments: str, timeout_s: float | None = None) -> str:
        """Return the table's answer."""
        self.runs.append(" ".join(arguments))
        return super().run(*arguments, timeout_s=timeout_s)


def test_one_run_reads_all_xpus() -> None:
    tool = Counting(Path("/opt/vendor/xpu-smi"), None)
    tool.answers, tool.runs = {"-q": printed(Xpu(), SECOND)}, []
    source = XpuSmi(tool)
    assert len(source.readings(source.devices())) == 2
    assert tool.runs == ["-q", "-q"]


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Xpu], str]:
    """Return XPUs and what ``-q`` prints of them, each block at any place, with any blanks."""
    buses = draw(st.lists(st.integers(1, 255), min_size=1, max_size=16, unique=True))
    xpus = [
        Xpu(
            bus=f"{draw(st.integers(0, 2)):08x}:{number:02X}:00.0",
            model=draw(st.sampled_from(["P800 OAM", "P800 PCIe", "R480-X8"])),
            serial=f"02K{number:04d}C0019F",
            uuid=f"GPU-90b2d5aa-3c1e-5f77-8e04-{number:012x}",
            power=f"{draw(st.integers(1, 999))}.50 W",
            celsius=f"{draw(st.integers(0, 99))} C",
            clock=f"{draw(st.integers(1, 2999))} MHz",
            use=f"{draw(st.integers(0, 100))} %",
            errors=str(draw(st.integers(0, 9))),
            pids=tuple(range(1, draw(st.integers(1, 4)))),
        )
        for number in buses
    ]
    orders = [draw(st.permutations(xpu.blocks())) for xpu in xpus]
    step = draw(st.sampled_from(["  ", "    ", "\t"]))
    banner = draw(st.sampled_from(["", "[WARN] {xpurt} : an old runtime is there\n\n"]))
    return xpus, printed(*xpus, orders=orders, width=draw(st.integers(0, 60)), step=step, banner=banner)


@settings(max_examples=100, deadline=None)
@given(log=logs())
def test_fields_are_found_by_their_names(log: tuple[list[Xpu], str]) -> None:
    xpus, text = log
    source = source_of(text)
    rows = source.devices()
    assert [(r.model, r.serial, r.uuid) for r in rows] == [(x.model, x.serial, x.uuid) for x in xpus]
    readings = source.readings(rows)
    for number, xpu in enumerate(xpus):
        assert readings[number] == Reading(
            power_mw=int(float(xpu.power[:-2]) * 1000),
            temperature_c=int(xpu.celsius[:-2]),
            clock_mhz=int(xpu.clock[:-4]),
            utilisation_ppm=int(xpu.use[:-2]) * 10_000,
            ecc_uncorrected=int(xpu.errors),
            processes=len(xpu.pids),
        )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"power": "371250 mW"}, "power_mw"),
        ({"power": "N/A"}, "power_mw"),
        ({"power": "nan W"}, "power_mw"),
        ({"power": "65535.00 W"}, "power_mw"),
        ({"celsius": "65535 C"}, "temperature_c"),
        ({"clock": "65535 MHz"}, "clock_mhz"),
        ({"use": "255 %"}, "utilisation_ppm"),
        ({"celsius": "61 F"}, "temperature_c"),
        ({"clock": "1.45 GHz"}, "clock_mhz"),
        ({"use": "N/A"}, "utilisation_ppm"),
        ({"errors": "4294967296000000000000"}, "ecc_uncorrected"),
    ],
)
def test_a_value_of_another_unit_is_unknown(changes: dict[str, Any], field: str) -> None:
    source = source_of(printed(Xpu(**changes)))
    assert source.readings(source.devices()) == {0: READING._replace(**{field: None})}


@pytest.mark.parametrize("least", [1, 7])
def test_xpus_that_are_counted_and_not_reported_are_faulty(least: int) -> None:
    """Of eight XPUs no seven are listed in silence: the output was cut, or one is lost, which stops no other."""
    xpus = [SECOND._replace(bus=f"00000000:{0x10 + n:02X}:00.0") for n in range(8)]
    text = printed(*xpus)
    cut = text[: text.index(f"XPU {xpus[least].bus}")]
    rows = source_of(cut).devices()
    assert [row.number for row in rows] == list(range(8))
    assert [row.fault is None for row in rows] == [True] * least + [False] * (8 - least)
    assert {row.fault.what for row in rows if row.fault} == {
        f"it counts 8 XPUs as attached, and reports {least} of them"
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"power": "0.00 W"}, "power_mw"),
        ({"power": "65535.00 W"}, "power_mw"),
        ({"celsius": "65535 C"}, "temperature_c"),
        ({"clock": "0 MHz"}, "clock_mhz"),
        ({"clock": "4294967295 MHz"}, "clock_mhz"),
        ({"use": "255 %"}, "utilisation_ppm"),
        ({"errors": "4294967295"}, "ecc_uncorrected"),
    ],
)
def test_a_value_that_cannot_be_is_unknown(changes: dict[str, str], field: str) -> None:
    source = source_of(printed(Xpu(**changes)))  # type: ignore[arg-type]
    assert source.readings(source.devices()) == {0: READING._replace(**{field: None})}


def test_a_cut_output_costs_what_it_lacks() -> None:
    text = printed(Xpu(), SECOND)
    source = source_of(text)
    rows = source.devices()
    source.tool = canned({"-q": text[: text.index("XPU 00000000:9D")]})
    assert source.readings(rows) == {0: READING}


@pytest.mark.parametrize("text", ["", "Failed to initialize: no driver\n", "{}", "设备信息 : 无\n"])
def test_an_error_text_with_exit_status_0_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="unknown form") as error:
        source_of(text).devices()
    assert error.value.code == "device-tool-unknown"


# Tools of nearly its name
XRE4 = """Runtime Version: 4.31
Driver Version: 4.0
  DEVICES
-----------------------------------------------------------------------------------
| DevID |   PCI Addr   | Model |        SN        |    INODE   | State |    Memory    |
-----------------------------------------------------------------------------------
|     0 | 0000:41:00.0 | R200  | 02K00Y6300Q00071 | /dev/xpu0  |     N | 0 / 16384 MB |
-----------------------------------------------------------------------------------
"""
INTEL = """Intel XPU System Management Interface -- v1.3
Intel XPU System Management Interface provides the Intel datacenter GPU model.
"""


@pytest.mark.parametrize("failing", ["exit 1", "exit 2", None])
@pytest.mark.parametrize(
    ("name", "text", "said"),
    [("xpu_smi", XRE4, "the xpu_smi of XRE 4 or older, another tool"), ("xpu-smi", INTEL, "it is Intel's")],
)
def test_another_tool_of_nearly_its_name_is_one_sentence(
    name: str, text: str, said: str, failing: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it knows -q or not."""
    (tmp_path / "printed").write_text(text, encoding="utf-8")
    refuses = "" if failing is None else f'[ -n "$1" ] && echo "unknown option $1" >&2 && {failing}\n'
    script(tmp_path / name, f"{refuses}cat {tmp_path}/printed\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    root = bus(tmp_path, Kunlunxin, "0x120000", ("0000:41:00.0",))
    with pytest.raises(InputError, match=said) as error:
        Kunlunxin(root).find(None)
    assert (error.value.code, error.value.where) == ("device-tool-unknown", name)
    assert "petaseal reads from XRE 5 on" in str(error.value)
    assert "XRE 5 (driver 5.0 or newer)" in (error.value.fix or "")


def test_a_tool_that_fails_is_not_taken_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "xpu-smi", "echo 'no driver' >&2; exit 9")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(InputError, match="exit status 9: no driver") as error:
        XpuSmi.open(tmp_path).devices()
    assert error.value.code == "device-tool-failed"


def test_of_both_tools_the_newer_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "printed").write_text(printed(Xpu()), encoding="utf-8")
    script(tmp_path / "xpu_smi", "exit 1")
    script(tmp_path / "xpu-smi", f"cat {tmp_path}/printed")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert XpuSmi.open(tmp_path).devices()[0].model == "P800 OAM"


# Which devices are whole
@pytest.mark.parametrize(
    "changes", [{"model": "R200-VF-5G"}, {"device_id": "0x36851D22"}, {"bus": "00000000:3B:00.1"}], ids=str
)
def test_a_virtual_function_is_a_slice(changes: dict[str, str], tmp_path: Path) -> None:
    if "bus" in changes:
        folder = tmp_path / "sys/bus/pci/devices/0000:3b:00.1"
        folder.mkdir(parents=True)
        (folder.parent / "0000:3b:00.0").mkdir()
        (folder / "physfn").symlink_to("../0000:3b:00.0")
    source = source_of(printed(Xpu(**changes)), tmp_path)  # type: ignore[arg-type]
    (row,) = source.devices()
    assert (row.count_unit, row.serial, row.power_limit_mw) == ("slice", None, None)
    assert row.parent == ("0000:3b:00.0" if "bus" in changes else "02K41C0019F00B07")
    assert row.exposes == ("clock", "temperature", "ecc", "processes")
    assert source.readings([row]) == {0: READING._replace(power_mw=None)}


def test_a_physical_function_computes_nothing() -> None:
    whole, share = source_of(printed(Xpu(model="R200-PF"), SECOND._replace(model="R200-VF-5G"))).devices()
    assert share.fault is None
    assert whole.fault is not None
    assert "physical function" in whole.fault.what


def test_both_vendor_ids_of_the_bus_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The P800 has an id of Kunlunxin's own, the older chips Baidu's."""
    (tmp_path / "printed").write_text(printed(Xpu(), SECOND), encoding="utf-8")
    script(tmp_path / "xpu-smi", f"cat {tmp_path}/printed")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    root = bus(tmp_path, Kunlunxin, "0x120000", ("0000:3b:00.0", "0000:9d:00.0"))
    (root / "sys/bus/pci/devices/0000:3b:00.0/vendor").write_text("0x2057\n")
    (root / "sys/bus/pci/devices/0000:9d:00.0/vendor").write_text("0x1d22\n")
    assert [found.device.pci_address for found in Kunlunxin(root).find(None)] == ["0000:3b:00.0", "0000:9d:00.0"]
