"""The overview of ``mx-smi`` in every released form: its columns are found by their headings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.devices.source import ListedDevice
from bench.devices.tools.mx_smi import MxSmi
from bench.errors import DeviceError, InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import Canned, canned, script

Line = Sequence[Sequence[str]]  # names of the columns of each cell


class Form(NamedTuple):
    """The headings of one release: those of both lines of a GPU, cell by cell."""

    first: Line
    second: Line


WITH_BOARD = ("Board", "Name"), ("GPU", "Persist-M"), ("Bus-id",), ("GPU-Util", "sGPU-M")
PLAIN = ("GPU", "NAME"), ("Bus-id",), ("GPU-Util",)
FORMS = {
    "2.1.6": Form(PLAIN, (("Temp", "Power"), ("Memory-Usage",), ())),
    "2.1.12": Form(PLAIN, (("Temp", "Pwr:Usage/Cap"), ("Memory-Usage",), ())),
    "2.2.4": Form(PLAIN, (("Temp", "Pwr:Usage/Cap"), ("Memory-Usage",), ("GPU-State",))),
    "2.2.8": Form(
        (("GPU", "NAME", "Persistence-M"), ("Bus-id",), ("GPU-Util", "sGPU-M")),
        (("Temp", "Pwr:Usage/Cap", "Perf"), ("Memory-Usage",), ("GPU-State",)),
    ),
    # where the state of a GPU stood under another's heading
    "2.2.9": Form(WITH_BOARD, (("Pwr:Usage/Cap",), ("Temp", "Perf"), ("Memory-Usage",), ("GPU-Util",))),
    "2.3.1": Form(WITH_BOARD, (("Pwr:Usage/Cap",), ("Temp", "Perf"), ("Memory-Usage",), ("GPU-State",))),
}
WITH_CAP = [name for name, form in FORMS.items() if "Power" not in form.second[0]]


class Gpu(NamedTuple):
    """What a table shows of one GPU."""

    number: int = 0
    name: str = "MetaX C550"
    bus: str = "0000:4a:00.0"
    power_w: int = 287
    cap: str = "450W"
    celsius: int = 58
    percent: int = 97
    mib: int = 65_536
    state: str = "Available"
    sgpu: str = "Disabled"
    board: str | None = None

    def values(self) -> dict[str, str]:
        """Return the text of each column, by its heading."""
        return {
            "GPU": str(self.number),
            "Board": str(self.number) if self.board is None else self.board,
            "NAME": self.name,
            "Name": self.name,
            "Persistence-M": "Off",
            "Persist-M": "Off",
            "Bus-id": self.bus,
            "GPU-Util": f"{self.percent}%",
            "sGPU-M": self.sgpu,
            "Temp": f"{self.celsius}C",
            "Power": f"{self.power_w}W",
            "Pwr:Usage/Cap": f"{self.power_w}W / {self.cap}",
            "Perf": "P0",
            "Memory-Usage": f"858/{self.mib} MiB",
            "GPU-State": self.state,
        }


def printed(
    release: str,
    gpus: Sequence[Gpu],
    *,
    form: Form | None = None,
    blanks: int = 8,
    banner: str = "",
    shares: Sequence[str] = (),
    running: Sequence[str] | None = (),
    attached: int | None = None,
    end: str = "\nEnd of Log\n",
) -> str:
    """Return an overview.

    Args:
        release: of the tool.
        gpus: in their order.
        form: of the table; None for the release's.
        blanks: between two values of a cell.
        banner: lines before it.
        shares: lines of the table of slices.
        running: lines of the table of processes; None for no such table.
        attached: as the log's head says; None for as many as there are.
        end: of the log.
    """
    shape = FORMS[release] if form is None else form

    def line(cells: Line, values: Mapping[str, str] | None) -> str:
        texts = ((" " * blanks).join(name if values is None else values[name] for name in cell) for cell in cells)
        return "".join(f"| {text:<34} " for text in texts) + "|"

    border = "+------------------------------------+---------------------+----------------------+"
    lines = [
        f"mx-smi  version: {release}\n",
        "=================== MetaX System Management Interface Log ===================",
        "Timestamp                                         : Thu Apr  2 09:31:14 2026\n",
        f"Attached GPUs                                     : {len(gpus) if attached is None else attached}",
        "+---------------------------------------------------------------------------------+",
        f"| MX-SMI {release:<28}Kernel Mode Driver Version: 3.6.21          |",
        "| MACA Version: 3.5.3.20              BIOS Version: 1.31.2.0                      |",
        f"|{border[1:]}",
        line(shape.first, None),
        line(shape.second, None),
        f"|{border[1:].replace('-', '=')}",
    ]
    for gpu in gpus:
        lines += [line(shape.first, gpu.values()), line(shape.second, duplicate(shape, gpu)), border]
    if shares:
        lines += ["", border, "| Sliced GPU                              |", border.replace("+", "|")]
        lines += ["| Minor    GPU    sGPU-Id    Compute | Vram Quota          | sGPU-Util            |"]
        lines += [f"|{border[1:].replace('-', '=')}", *shares, border]
    if running is not None:
        lines += ["", border, "| Process:                               |"]
        lines += ["|  GPU                    PID         Process Name                 GPU Memory     |"]
        lines += ["|                                                                  Usage(MiB)     |"]
        lines += ["|=================================================================================|"]
        lines += [*running] or ["|  no process found                                                               |"]
        lines += ["+---------------------------------------------------------------------------------+"]
    return banner + "\n".join(lines) + end


def duplicate(form: Form, gpu: Gpu) -> dict[str, str]:
    """Return the values of the second line, where the state may stand under the heading of the first line's use."""
    return gpu.values() | {"GPU-Util": gpu.state} if ("GPU-Util",) in form.second else gpu.values()


def listed(gpus: Sequence[Gpu]) -> str:
    """Return what ``mx-smi -L`` prints."""
    lines = (f"GPU#{g.number}    MXC550    {g.bus}    Available (UUID: {uuid(g)})\n" for g in gpus)
    return "mx-smi  version: 2.3.1\n\n" + "".join(lines) + "End of Log\n"


def uuid(gpu: Gpu) -> str:
    return f"GPU-5e1b7c30-9a44-4f08-b2d6-{gpu.number:012x}"


def source_of(text: str, gpus: Sequence[Gpu], root: Path = Path("/nowhere")) -> MxSmi:
    return MxSmi(canned({"": text, "-L": listed(gpus)}), root)


EIGHT = [Gpu(number=n, bus=f"0000:{0x1A + 0x11 * n:02x}:00.0", power_w=280 + n, celsius=50 + n) for n in range(8)]


@pytest.mark.parametrize("release", FORMS)
def test_every_form(release: str) -> None:
    source = source_of(printed(release, EIGHT), EIGHT)
    rows = source.devices()
    assert source.version == release
    assert rows[3] == ListedDevice(
        number=3,
        model="MetaX C550",
        keys=(uuid(EIGHT[3]),),
        uuid=uuid(EIGHT[3]),
        pci_address="0000:4d:00.0",
        firmware="1.31.2.0",
        driver="3.6.21",
        memory_bytes=64 * 2**30,
        power_limit_mw=450_000 if release in WITH_CAP else None,
        modes=rows[3].modes,
    )
    assert dict(rows[3].modes).get("persistence") == ("off" if release >= "2.2.8" else None)
    assert source.readings(rows) == {
        gpu.number: Reading(
            power_mw=gpu.power_w * 1000, temperature_c=gpu.celsius, utilisation_ppm=970_000, processes=0
        )
        for gpu in EIGHT
    }


class Counting(Canned):
    """A tool that counts its runs."""

    runs: list[str]

    def run(self, *arguments: str, timeout_s: float | None = None) -> str:
        """Return the table's answer."""
        self.runs.append(" ".join(arguments))
        return super().run(*arguments, timeout_s=timeout_s)


def test_one_run_reads_all_gpus() -> None:
    tool = Counting(Path("/opt/vendor/mx-smi"), None)
    tool.answers, tool.runs = {"": printed("2.3.1", EIGHT), "-L": listed(EIGHT)}, []
    source = MxSmi(tool)
    rows = source.devices()
    assert tool.runs == ["", "-L"]
    assert len(source.readings(rows)) == 8
    assert tool.runs == ["", "-L", ""]


def reordered(draw: st.DrawFn, line: Line) -> Line:
    """Return the cells of a line in another order, and the columns of each cell."""
    cells = draw(st.permutations(line))
    return tuple(tuple(draw(st.permutations(cell))) for cell in cells)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Gpu], str]:
    """Return GPUs, and a table of them as some release shows it, with its columns in any order and any blanks."""
    release = draw(st.sampled_from(list(FORMS)))
    count = draw(st.integers(1, 16))
    buses = draw(st.lists(st.integers(1, 255), min_size=count, max_size=count, unique=True))
    gpus = [
        Gpu(
            number=number,
            name=draw(st.sampled_from(["MetaX C500", "MXC550", "MetaX C550-PL", "MetaX N260", "MetaX C600-U"])),
            bus=f"{draw(st.integers(0, 3)):04x}:{bus:02x}:00.0",
            power_w=draw(st.integers(1, 1200)),
            cap=draw(st.sampled_from(["350W", "450W", "NA", "N/A"])),
            celsius=draw(st.integers(0, 110)),
            percent=draw(st.integers(0, 100)),
            mib=draw(st.sampled_from([65_536, 131_072, 73_728])),
            sgpu=draw(st.sampled_from(["Native", "Disabled", "Enabled"])),
        )
        for number, bus in enumerate(buses)
    ]
    form = FORMS[release]
    first, second = reordered(draw, form.first), reordered(draw, form.second)
    running = [f"|  {draw(st.integers(0, count - 1))}   {pid}   a name of words   {pid}   |" for pid in (17, 4711)]
    text = printed(
        release,
        gpus,
        form=Form(first, second),
        blanks=draw(st.integers(1, 12)),
        banner=draw(st.sampled_from(["", "WARNING: {driver} | newer than tool\n", "| GPU |\n\n+--+\n"])),
        running=running,
    )
    return gpus, text


@settings(max_examples=150, deadline=None)
@given(table=tables())
def test_columns_are_found_by_their_headings(table: tuple[list[Gpu], str]) -> None:
    gpus, text = table
    source = source_of(text, gpus)
    rows = source.devices()
    assert [(row.number, row.model, row.pci_address, row.uuid) for row in rows] == [
        (gpu.number, gpu.name, gpu.bus, uuid(gpu)) for gpu in gpus
    ]
    assert [row.memory_bytes for row in rows] == [gpu.mib * 2**20 for gpu in gpus]
    readings = source.readings(rows)
    for gpu in gpus:
        reading = readings[gpu.number]
        assert isinstance(reading, Reading)
        assert (reading.power_mw, reading.temperature_c) == (gpu.power_w * 1000, gpu.celsius)
        assert reading.utilisation_ppm == gpu.percent * 10_000
    assert sum(reading.processes or 0 for reading in readings.values() if isinstance(reading, Reading)) == 2


@pytest.mark.parametrize("heading", ["GPU", "NAME", "Bus-id", "Temp", "Pwr:Usage/Cap", "Memory-Usage"])
def test_a_heading_without_a_column_that_is_needed_is_one_sentence(heading: str) -> None:
    text = printed("2.2.4", EIGHT)
    renamed = text.replace(f" {heading} ", f" {'Other':<{len(heading)}} ", 1)
    assert renamed != text
    with pytest.raises(InputError, match=r"unknown form \(version 2\.2\.4\): no ") as error:
        source_of(renamed, EIGHT).devices()
    assert error.value.code == "device-tool-unknown"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "Failed to initialize mxsml: driver/library version mismatch\n",
        "",
        "{}",
        "显卡信息 | 温度 | 功耗\n",
    ],
)
def test_an_error_text_with_exit_status_0_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="unknown form") as error:
        source_of(text, EIGHT).devices()
    assert error.value.code == "device-tool-unknown"


def test_a_cut_output_lists_no_fewer_gpus_in_silence() -> None:
    text = printed("2.3.1", EIGHT)
    cut = text[: text.index("| 5 ")]
    with pytest.raises(InputError, match="no more than 5 of 8 GPUs"):
        source_of(cut, EIGHT).devices()
    source = source_of(text, EIGHT)
    rows = source.devices()
    source.tool = canned({"": cut})
    assert list(source.readings(rows)) == [0, 1, 2, 3, 4]  # which costs the others one reading


def test_a_log_that_ends_with_fewer_gpus_than_are_attached_is_taken() -> None:
    assert len(source_of(printed("2.3.1", EIGHT[:7], attached=8), EIGHT).devices()) == 7


def test_without_a_table_of_processes_they_are_unknown() -> None:
    source = source_of(printed("2.3.1", EIGHT, running=None), EIGHT)
    reading = source.readings(source.devices())[0]
    assert isinstance(reading, Reading)
    assert reading.processes is None


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("287W / 450W", "287000mW / 450W", "power_mw"),
        ("287W / 450W", "N/A / 450W", "power_mw"),
        ("287W / 450W", "NaN / 450W", "power_mw"),
        ("287W / 450W", "99999999999999999999W / 450W", "power_mw"),
        ("287W / 450W", "65535W / 450W", "power_mw"),
        ("58C", "65535C", "temperature_c"),
        ("97%", "255%", "utilisation_ppm"),
        ("58C", "ERR!", "temperature_c"),
        ("58C", "136F", "temperature_c"),
        ("97%", "NA", "utilisation_ppm"),
    ],
)
def test_a_value_of_another_unit_is_unknown(old: str, new: str, field: str) -> None:
    gpu = Gpu()
    text = printed("2.2.8", [gpu])
    assert old in text
    source = source_of(text.replace(old, new), [gpu])
    expected = Reading(power_mw=287_000, temperature_c=58, utilisation_ppm=970_000, processes=0)
    assert source.readings(source.devices()) == {0: expected._replace(**{field: None})}


@pytest.mark.parametrize("state", ["Unavailable", "Not Available", "UnAvailable"])
def test_a_gpu_that_is_not_available_is_faulty(state: str) -> None:
    gpus = [EIGHT[0], EIGHT[1]._replace(state=state)]
    source = source_of(printed("2.3.1", gpus), gpus)
    rows = source.devices()
    assert [row.fault is None for row in rows] == [True, False]
    error = source.readings(rows)[1]
    assert isinstance(error, DeviceError)
    assert state in error.what


def test_a_gpu_of_another_form_stands_in_its_place() -> None:
    text = printed("2.3.1", EIGHT[:2]).replace("281W / 450W", "?" * 40)
    lost = source_of(text.replace("| 51C", "| 51C | 51C"), EIGHT).devices()[1]
    assert lost.fault is not None
    assert "of GPU 1" in lost.fault.what


def test_another_gpu_at_a_number_is_not_read_for_the_one_that_was_listed() -> None:
    source = source_of(printed("2.3.1", EIGHT[:2]), EIGHT)
    rows = source.devices()
    source.tool = canned({"": printed("2.3.1", [EIGHT[2]._replace(number=0), EIGHT[1]])})
    assert list(source.readings(rows)) == [1]


# Shares
def share(number: int, gpu: int, sgpu: int = 2) -> str:
    return f"| {number:03}      {gpu}      {sgpu}          25%     | 0/16000 MiB         | 0%                   |"


def test_a_gpu_that_is_cut_into_slices_is_no_card() -> None:
    gpus = [gpu._replace(sgpu="Enabled") for gpu in EIGHT[:3]]
    text = printed("2.2.9", gpus, shares=[share(10, 0), share(11, 2), share(12, 2, 5)])
    source = source_of(text, gpus)
    one, none, two = source.devices()
    assert (one.count_unit, none.count_unit, two.count_unit) == ("slice", "card", "slice")
    assert (one.parent, one.uuid, one.memory_bytes) == (uuid(gpus[0]), None, 16_000 * 2**20)
    assert (two.parent, two.uuid, two.memory_bytes) == (uuid(gpus[2]), None, None)
    assert (one.power_limit_mw, one.exposes) == (None, ("temperature", "processes"))
    readings = source.readings([one, none, two])
    assert readings[0] == Reading(temperature_c=50, processes=0)
    assert readings[1] == Reading(power_mw=281_000, temperature_c=51, utilisation_ppm=970_000, processes=0)


def test_a_virtual_function_is_a_slice_of_its_gpu(tmp_path: Path) -> None:
    gpu = Gpu(bus="0000:4a:00.1")
    devices = tmp_path / "sys/bus/pci/devices"
    (devices / "0000:4a:00.0").mkdir(parents=True)
    (devices / gpu.bus).mkdir()
    (devices / gpu.bus / "physfn").symlink_to("../0000:4a:00.0")
    (row,) = source_of(printed("2.3.1", [gpu]), [gpu], tmp_path).devices()
    assert (row.count_unit, row.parent, row.uuid) == ("slice", "0000:4a:00.0", uuid(gpu))


def test_two_gpus_of_one_board_are_no_cards() -> None:
    gpus = [EIGHT[0]._replace(board="0"), EIGHT[1]._replace(board="0"), EIGHT[2]._replace(board="1")]
    assert [row.count_unit for row in source_of(printed("2.3.1", gpus), gpus).devices()] == ["die", "die", "card"]


# A real executable
def test_a_tool_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "overview").write_text(printed("2.3.1", EIGHT), encoding="utf-8")
    body = '[ "$LC_ALL" = C ] || exit 3\necho run >> {0}/runs\n[ -z "$1" ] && exec cat {0}/overview\nexit 2\n'
    script(tmp_path / "mx-smi", body.format(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    source = MxSmi.open(tmp_path)
    rows = source.devices()
    assert [row.uuid for row in rows] == [None] * 8  # an older tool has no list
    assert len(source.readings(rows)) == 8
    assert (tmp_path / "runs").read_text().count("run") == 3
    assert (source.name, source.path) == ("mx-smi", str(tmp_path / "mx-smi"))
