"""AMD from files of the kernel: the real source, and the whole back end, on fake trees of sysfs and KFD."""

from __future__ import annotations

import ctypes
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.devices.libraries.amd import kfd
from bench.devices.libraries.amd.gpu_metrics import LAYOUTS, RESIDENCIES, GpuMetrics, gpu_metrics, reasons_of
from bench.devices.libraries.amdgpu import MODELS, AmdgpuSource, count_unit
from bench.devices.reader import find_apart
from bench.devices.source import ListedDevice
from bench.devices.vendors.amd import Amd
from bench.engine import readings
from bench.errors import DeviceError, InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import script
from tests.fake_amdgpu import UNIQUE_ID, VRAM_BYTES, FakeGpu, build, mi250x, mi300x, set_processes
from tests.fake_amdgpu.metrics import STRUCTURES, cycles, table

FUNCTIONS = "sys/bus/pci/devices"
FULL = Reading(
    power_mw=712_000,
    temperature_c=71,
    clock_mhz=1673,
    utilisation_ppm=10**6,
    ecc_uncorrected=0,
    processes=0,
)


def source_at(root: Path) -> AmdgpuSource:
    return AmdgpuSource.open(root)


def look(source: AmdgpuSource, rows: list[ListedDevice]) -> list[Reading]:
    """Return the readings of all devices of a look in which none is lost."""
    found = source.readings(rows)
    readings = [found[row.number] for row in rows]
    assert not [one for one in readings if isinstance(one, DeviceError)]
    return [one for one in readings if isinstance(one, Reading)]


def first(root: Path) -> Reading:
    source = source_at(root)
    return look(source, source.devices())[0]


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave no visibility variable set and no tool on PATH."""
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


# What is listed
def test_a_node_of_mi300x(tmp_path: Path) -> None:
    rows = source_at(build(tmp_path, mi300x())).devices()
    assert [row.number for row in rows] == list(range(8))
    assert rows[0] == ListedDevice(
        number=0,
        model="AMD Instinct MI300X",
        keys=(f"GPU-{UNIQUE_ID:016x}",),
        uuid=f"0x{UNIQUE_ID:x}",
        serial="692441000000",
        pci_address="0000:0c:00.0",
        board_part="102-G30211-0C",
        count_unit="package",
        firmware="113-M3000100-102",
        driver="petaseal-fake-6.12.12",
        memory_bytes=VRAM_BYTES,
        units=304,
        max_clock_mhz=2100,
        power_limit_mw=750_000,
        power_limit_default_mw=750_000,
        power_limit_max_mw=750_000,
        modes=(("compute-partition", "SPX"), ("memory-partition", "NPS1")),
        exposes=("power", "clock", "temperature", "ecc", "processes"),
        place=("0000:0c:00.0", "12000"),
    )
    assert len({row.uuid for row in rows}) == len({row.serial for row in rows}) == 8


def test_the_order_is_that_of_the_nodes_numbers(tmp_path: Path) -> None:
    """The runtime counts node 10 behind node 9, and not by PCI address."""
    gpus = mi300x(10)[::-1]
    rows = source_at(build(tmp_path, gpus)).devices()
    assert [row.pci_address for row in rows] == [gpu.pci_address for gpu in gpus]


@pytest.mark.parametrize("own_ids", [True, False])
@pytest.mark.parametrize(("mode", "count"), [("DPX", 2), ("CPX", 8)])
def test_partitions_are_slices_of_one_gpu(tmp_path: Path, own_ids: bool, mode: str, count: int) -> None:
    gpus = mi300x(2, compute=mode, partitions=count, own_ids=own_ids)
    source = source_at(build(tmp_path, gpus))
    rows = source.devices()
    assert len(rows) == 2 * count
    assert {row.count_unit for row in rows} == {"slice"}
    assert [row.parent for row in rows] == [f"0x{UNIQUE_ID:x}"] * count + [f"0x{UNIQUE_ID + 1:x}"] * count
    assert {row.serial for row in rows} == {None}
    assert len({row.uuid for row in rows}) == 2 * count
    assert not {row.uuid for row in rows} & {row.parent for row in rows}
    # a name that several devices bear chooses none of them
    assert {len(row.keys) for row in rows} == ({1} if own_ids else {0})
    assert rows[0].units == 304 // count
    assert rows[0].memory_bytes == VRAM_BYTES // count
    assert {row.exposes for row in rows} == {("clock", "temperature", "ecc", "processes")}
    assert {(one.power_mw, one.energy_mj, one.utilisation_ppm) for one in look(source, rows)} == {(None, None, None)}


def test_one_partition_alone_is_no_whole_gpu(tmp_path: Path) -> None:
    (row,) = source_at(build(tmp_path, mi300x(1, compute="CPX", units=38))).devices()
    assert (row.count_unit, row.units, row.parent) == ("slice", 38, f"0x{UNIQUE_ID:x}")


@pytest.mark.parametrize(("name", "device_id"), [("Aqua Vanjaram [Instinct MI300X VF]", 0x74A1), (None, 0x74B5)])
def test_a_virtual_function_is_a_slice(tmp_path: Path, name: str | None, device_id: int) -> None:
    """Also where the hypervisor gives one guest the whole GPU: who else may compute on it is not to be seen there."""
    (row,) = source_at(build(tmp_path, mi300x(1, name=name, device_id=device_id))).devices()
    assert (row.count_unit, row.units, row.serial) == ("slice", 304, None)
    assert row.parent == f"0x{UNIQUE_ID:x}"
    assert row.uuid not in (None, row.parent)


@pytest.mark.parametrize(
    ("name", "device_id", "expected"),
    [
        ("AMD Instinct MI250X", 0x7408, "die"),
        ("AMD INSTINCT MI200 (MCM) OAM LC MBA HPE C2", 0, "die"),
        ("AMD Instinct MI250", 0, "die"),
        ("Instinct board of a maker", 0x740C, "die"),
        ("Instinct board of a maker", 0x0B0C, "die"),
        ("AMD Instinct MI210", 0x740F, "card"),
        ("AMD Instinct MI300X OAM", 0x74A1, "package"),
        ("AMD Instinct MI308X", 0x74A2, "package"),
        ("AMD Instinct MI325X", 0x74A5, "package"),
        ("AMD Instinct MI350X", 0x75A0, "package"),
        ("AMD Instinct MI355X", 0x75A3, "package"),
        ("AMD Radeon Pro W7900", 0x7448, "card"),
    ],
)
def test_how_a_device_counts(name: str, device_id: int, expected: str) -> None:
    assert count_unit(name, device_id) == expected


def test_a_board_without_a_name_is_named_by_its_pci_id(tmp_path: Path) -> None:
    ids = [*MODELS, 0x7FFF]
    gpus = [FakeGpu(0x10 + place, (None, "N/A", " ")[place % 3], device_id=one) for place, one in enumerate(ids)]
    rows = source_at(build(tmp_path, gpus)).devices()
    assert [row.model for row in rows] == [*MODELS.values(), "AMD GPU 0x7fff"]


def test_what_the_driver_could_not_start_is_listed_with_its_fault(tmp_path: Path) -> None:
    gpus = mi300x(3)
    gpus[0].started = False
    rows = source_at(build(tmp_path, gpus)).devices()
    assert [(row.number, row.pci_address, row.fault is None) for row in rows] == [
        (0, gpus[1].pci_address, True),
        (1, gpus[2].pci_address, True),
        (2, gpus[0].pci_address, False),
    ]
    # graphics and devices of another driver are nobody's loss
    folder = tmp_path / FUNCTIONS / gpus[0].pci_address
    (folder / "class").write_text("0x030000\n")
    assert len(source_at(tmp_path).devices()) == 2
    (folder / "class").write_text("0x120000\n")
    (folder / "driver").unlink()
    (folder / "driver").symlink_to("../../drivers/vfio-pci")
    assert len(source_at(tmp_path).devices()) == 2


def test_hidden_gpus_are_passed_over_as_the_runtime_does(tmp_path: Path) -> None:
    gpus = mi300x(4)
    gpus[0].hidden = gpus[2].hidden = True
    rows = source_at(build(tmp_path, gpus)).devices()
    assert [(row.number, row.pci_address, row.fault) for row in rows] == [
        (0, gpus[1].pci_address, None),
        (1, gpus[3].pci_address, None),
    ]


def test_a_container_that_was_given_none_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 AMD GPUs") as raised:
        source_at(build(tmp_path, mi300x(2, hidden=True))).devices()
    assert raised.value.code == "device-permission"


def test_no_driver_no_gpu_and_no_device_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        source_at(tmp_path)
    assert raised.value.code == "device-library-missing"
    build(tmp_path, [])
    with pytest.raises(InputError, match="lists no GPU"):
        source_at(tmp_path).devices()
    (tmp_path / "dev/kfd").unlink()
    with pytest.raises(InputError, match="there is no /dev/kfd") as raised:
        source_at(tmp_path)
    assert raised.value.code == "device-permission"


@contextmanager
def without_rights() -> Iterator[None]:
    """Let the modes of files bind this thread, root's too: take away the capabilities that pass over them."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, held = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # version 3; two triples of sets
    assert libc.capget(header, held) == 0
    fewer = (ctypes.c_uint32 * 6)(*held)
    fewer[0] &= ~0b110  # effective: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(header, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0


def test_files_that_refuse(tmp_path: Path) -> None:
    gpu = mi300x(1)[0]
    build(tmp_path, [gpu], driver=None)
    for name in ("ras/umc_err_count", "hwmon/hwmon3/power1_input", "serial_number"):
        file_of(name)(tmp_path).chmod(0)
    with without_rights():
        source = source_at(tmp_path)
        (row,) = source.devices()
        (reading,) = look(source, [row])
    assert (row.serial, row.driver) == (None, "6.8.0-fake")
    assert reading == FULL._replace(power_mw=None, ecc_uncorrected=None)


def test_a_node_of_kfd_that_refuses_is_hidden(tmp_path: Path) -> None:
    gpus = mi300x(3)
    build(tmp_path, gpus)
    (tmp_path / kfd.TOPOLOGY / "2/properties").chmod(0)
    with without_rights():
        assert [row.pci_address for row in source_at(tmp_path).devices()] == [gpu.pci_address for gpu in gpus[1:]]


def test_a_device_file_that_refuses_is_said_with_its_owner(
    tmp_path: Path, visible: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that lists the GPUs nonetheless does not make them usable."""
    build(tmp_path, mi300x(1))
    listed = {"card0": {"Card Series": "AMD Instinct MI300X", "PCI Bus": "0000:0C:00.0"}}
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin/rocm-smi", f"echo '{json.dumps(listed)}'\n")
    (tmp_path / "dev/kfd").chmod(0)
    with without_rights(), pytest.raises(InputError, match="/dev/kfd cannot be opened") as raised:
        Amd(tmp_path).look(None)
    assert raised.value.code == "device-permission"
    shutil.rmtree(tmp_path / "sys/class/kfd")
    assert [one.model.source for one in Amd(tmp_path).look(None)] == ["rocm-smi"]


# What is read
def test_a_look_at_eight(tmp_path: Path) -> None:
    source = source_at(build(tmp_path, mi300x()))
    assert look(source, source.devices()) == [FULL] * 8


def test_the_power_of_two_dies_is_the_first_ones(tmp_path: Path) -> None:
    source = source_at(build(tmp_path, mi250x(metrics=table("1.3", hotspot=57, power=0, status=0))))
    primary, secondary = look(source, source.devices())
    assert (primary.power_mw, secondary.power_mw) == (418_000, None)
    assert (primary.temperature_c, secondary.temperature_c) == (58, 58)
    assert (primary.throttled, secondary.energy_mj) == ((), None)


def file_of(name: str) -> Callable[[Path], Path]:
    return lambda root: next((root / FUNCTIONS).iterdir()) / name


@pytest.mark.parametrize(
    ("name", "content", "quantity", "expected"),
    [
        ("hwmon/hwmon3/temp1_input", "-12000", "temperature_c", 0),
        ("hwmon/hwmon3/temp1_input", "nan", "temperature_c", None),
        ("hwmon/hwmon3/temp1_input", "2147483647", "temperature_c", None),
        ("hwmon/hwmon3/temp1_input", "65535000", "temperature_c", None),
        ("hwmon/hwmon3/power1_input", "0", "power_mw", None),
        ("hwmon/hwmon3/power1_input", "4294967295000000", "power_mw", None),
        ("hwmon/hwmon3/power1_input", "712.5 W", "power_mw", None),
        ("hwmon/hwmon3/power1_input", "", "power_mw", None),
        ("hwmon/hwmon3/freq1_input", "18446744073709551615", "clock_mhz", None),
        ("hwmon/hwmon3/freq1_input", "0", "clock_mhz", None),
        ("gpu_busy_percent", "65535", "utilisation_ppm", None),
        ("gpu_busy_percent", "N/A", "utilisation_ppm", None),
        ("ras/gfx_err_count", "Query currently inaccessible", "ecc_uncorrected", None),
        ("ras/gfx_err_count", "ue: 3\nce: 9\nde: 1\n", "ecc_uncorrected", 3),
        ("ras/gfx_err_count", "ce: 9\nue: 2\n", "ecc_uncorrected", 2),
        ("ras/gfx_err_count", "ue: \xff\n", "ecc_uncorrected", None),
    ],
)
def test_values_that_are_none(tmp_path: Path, name: str, content: str, quantity: str, expected: int | None) -> None:
    build(tmp_path, mi300x(1))
    file_of(name)(tmp_path).write_text(content)
    assert first(tmp_path)._asdict() == FULL._asdict() | {quantity: expected}


@pytest.mark.parametrize("name", ["product_name", "serial_number", "vbios_version"])
def test_texts_with_blanks_and_nul_bytes(tmp_path: Path, name: str) -> None:
    build(tmp_path, mi300x(1))
    file_of(name)(tmp_path).write_bytes(b"  AMD  Instinct MI300X\0\0  \n")
    (row,) = source_at(tmp_path).devices()
    assert "AMD Instinct MI300X" in (row.model, row.serial, row.firmware)


def test_what_has_no_file_is_asked_of_the_table(tmp_path: Path) -> None:
    metrics = table("1.7", hotspot=66, power=690, gfx_activity=97, gfxclk=(1400, 1500, 1450), energy=2**16 * 5)
    (gpu,) = mi300x(1, power={}, temperatures={}, clock_hz=None, busy=None, errors=None, metrics=metrics)
    build(tmp_path, [gpu])
    shutil.rmtree(tmp_path / "sys/class/kfd/kfd/proc")
    assert first(tmp_path) == Reading(690_000, 66, 1500, 970_000, None, None, None, 5_000)
    (row,) = source_at(tmp_path).devices()
    assert row.exposes == ("power", "clock", "temperature")
    file_of("gpu_metrics")(tmp_path).unlink()
    assert first(tmp_path) == Reading()


def test_processes_hold_memory_or_queues(tmp_path: Path) -> None:
    gpus = mi300x(3)
    source = source_at(build(tmp_path, gpus))
    rows = source.devices()
    (one,), (two,), (three,) = (gpu.gpu_ids() for gpu in gpus)
    # whoever opens the driver has entries of all GPUs
    set_processes(tmp_path, {77: {one: 4096, two: 0, three: 0}, 78: {one: 2**30, two: 0}}, queues=[(78, two)])
    assert [reading.processes for reading in look(source, rows)] == [2, 1, 0]
    shutil.rmtree(tmp_path / "sys/class/kfd/kfd/proc/78")
    assert [reading.processes for reading in look(source, rows)] == [1, 0, 0]
    (tmp_path / "sys/class/kfd/kfd/proc/77" / f"vram_{one}").chmod(0)
    with without_rights():
        assert [reading.processes for reading in look(source, rows)] == [None, None, None]


def test_a_device_that_leaves_the_bus_is_lost_and_the_others_are_read(tmp_path: Path) -> None:
    gpus = mi300x(3)
    source = source_at(build(tmp_path, gpus))
    rows = source.devices()
    shutil.rmtree(tmp_path / FUNCTIONS / gpus[0].pci_address)
    gone = tmp_path / FUNCTIONS / gpus[1].pci_address
    for name in ("hwmon", "ras"):
        shutil.rmtree(gone / name)
    (gone / "gpu_busy_percent").unlink()
    found = source.readings(rows)
    assert found[1] == Reading(processes=0)  # it tells nothing, and is there
    (gone / "config").write_bytes(b"\xff" * 64)
    found = source.readings(rows)
    assert [getattr(found[number], "code", None) for number in range(3)] == ["device-lost", "device-lost", None]
    assert found[2] == FULL


# gpu_metrics
@pytest.mark.parametrize("version", STRUCTURES)
def test_every_form_of_the_table(version: str) -> None:
    """The offsets of the reader against the structures' fields, laid out as C does."""
    values = {"hotspot": 71, "power": 712, "gfx_activity": 99, "energy": 123_456, "gfxclk": 1673}
    content = table(version, **values)
    _, revision = map(int, version.split()[0].split("."))
    assert (revision, len(content)) in LAYOUTS
    energy = 123_456 if revision > 3 else None  # in what unit earlier ones count depends on the chip
    assert gpu_metrics(content) == GpuMetrics(71, 712, 99, 1673, energy)
    assert gpu_metrics(table(version)) == GpuMetrics()  # nothing is set
    if revision > 5:
        seen = gpu_metrics(table(version, **cycles(1000, ppt=7, hbm=9)))
        assert seen == GpuMetrics(counter=1000, residencies=(0, 7, 0, 0, 9))


def test_all_layouts_are_of_a_structure() -> None:
    sizes = {(int(version.split()[0].split(".")[1]), len(table(version))) for version in STRUCTURES}
    assert set(LAYOUTS) == sizes


def test_the_table_that_describes_itself() -> None:
    values: dict[str, int | tuple[int, ...]] = {
        "power": 705,
        "hotspot": 68,
        "mem": 60,
        "gfx_activity": 100,
        "gfxclk": (1262, 1317, 65535),
        "energy": 9,
    }
    content = table("1.9", **values, **cycles(5008, ppt=4342))
    assert gpu_metrics(content) == GpuMetrics(68, 705, 100, 1317, 9, None, 5008, (0, 4342, 0, 0, 0))
    assert gpu_metrics(table("1.9")) == GpuMetrics()
    watts_in_another_unit = content.replace(b"\x01\x0c\x20\x03", b"\x01\x0c\x20\x09")
    assert watts_in_another_unit != content
    assert gpu_metrics(watts_in_another_unit) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x78\x00",
        table("1.3")[:-1],
        table("1.3") + b"\0",
        table("1.8")[:4],
        b"\x78\x00\x01\x0a" + table("1.3")[4:],
        b"\x78\x00\x02\x03" + table("1.3")[4:],
        b"\x78\x00\x04\x00" + table("1.3")[4:],
        b"\x08\x00\x01\x09\xff\xff\xff\x7f",
        b"not a table at all",
        bytes(3000),
    ],
)
def test_an_unknown_form_is_not_exposed(tmp_path: Path, content: bytes) -> None:
    assert gpu_metrics(content) is None
    source = source_at(build(tmp_path, mi300x(1, metrics=content)))
    (row,) = source.devices()
    assert "throttle" not in (row.exposes or ())
    assert look(source, [row]) == [FULL]


@given(st.binary(max_size=400), st.sampled_from([*LAYOUTS, (9, 0)]))
def test_garbage_is_read_or_refused(body: bytes, form: tuple[int, int]) -> None:
    size = form[1] or 8 + len(body)
    content = (size.to_bytes(2, "little") + bytes((1, form[0])) + body).ljust(size, b"\xa5")[:size]
    seen = gpu_metrics(content)
    assert seen is None or all(value is None or value for value in seen if value != 0)


def test_reasons_by_the_bits_of_a_status(tmp_path: Path) -> None:
    status = 1 << 0 | 1 << 34 | 1 << 47 | 1 << 60
    gpus = mi250x(metrics=table("1.3", status=status))
    source = source_at(build(tmp_path, gpus))
    rows = source.devices()
    assert "throttle" in (rows[0].exposes or ())
    assert look(source, rows)[0].throttled == ("ppt0", "prochot_gfx", "reason_0x1000000000000000", "temp_mem")
    assert reasons_of(0) == ()


@pytest.mark.parametrize("version", ["1.6", "1.7", "1.8", "1.9"])
def test_reasons_by_the_cycles_between_two_looks(tmp_path: Path, version: str) -> None:
    source = source_at(build(tmp_path, mi300x(1, metrics=table(version, **cycles(1000, ppt=400)))))
    rows = source.devices()
    file = file_of("gpu_metrics")(tmp_path)
    seen = [look(source, rows)[0].throttled]
    for counter, residencies in [
        (2000, {"ppt": 400}),  # nothing since
        (3000, {"ppt": 700, "socket": 1}),
        (3000, {"ppt": 700, "socket": 1}),  # the firmware has no newer figures
        (4000, {"ppt": 700, "socket": 1}),
        (10, {"ppt": 5}),  # it began anew
        (20, {"ppt": 20}),  # it copies the counter
    ]:
        file.write_bytes(table(version, **cycles(counter, **residencies)))
        seen.append(look(source, rows)[0].throttled)
    assert seen == [None, (), ("ppt", "socket_thermal"), ("ppt", "socket_thermal"), (), None, None]
    assert len(RESIDENCIES) == 5


@pytest.mark.parametrize("version", ["1.4", "1.5"])
def test_a_status_that_the_driver_never_sets_is_not_told(tmp_path: Path, version: str) -> None:
    source = source_at(build(tmp_path, mi300x(1, metrics=table(version, throttle_status=0))))
    rows = source.devices()
    assert look(source, rows)[0].throttled is None
    assert "throttle" not in (rows[0].exposes or ())


# Damaged trees
def test_a_damaged_topology(tmp_path: Path) -> None:
    folder = tmp_path / kfd.TOPOLOGY
    for number, text in enumerate(["", "simd_count x\n", "simd_count 8\n", "\x00", "a b c\n", "simd_per_cu 0\n"]):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "properties").write_text(text)
    (folder / "more").mkdir()
    (node,) = kfd.topology(tmp_path).nodes
    assert (node.units, node.max_clock_mhz, node.memory_bytes, node.unique_id) == (None, None, None, None)


@pytest.mark.parametrize(("location", "partition"), [(0x0C00, None), (0x0C03, 3), (0x30000C00, 3)])
def test_where_a_partition_says_its_place(tmp_path: Path, location: int, partition: int | None) -> None:
    """In the lowest bits or, in later kernels, the highest; the address is that of the function."""
    folder = tmp_path / kfd.TOPOLOGY / "2"
    folder.mkdir(parents=True)
    (folder / "properties").write_text(f"simd_count 8\nlocation_id {location}\ndomain 1\n")
    (node,) = kfd.topology(tmp_path).nodes
    assert (node.pci_address, node.partition) == ("0001:0c:00.0", partition)
    (tmp_path / FUNCTIONS / "0001:0c:00.3").mkdir(parents=True)  # a real function
    (node,) = kfd.topology(tmp_path).nodes
    assert node.pci_address == ("0001:0c:00.3" if location == 0x0C03 else "0001:0c:00.0")


# Whole back end
def test_the_back_end_reads_files_before_tools(tmp_path: Path, visible: None) -> None:
    found = Amd(build(tmp_path, mi300x(2))).find(None)
    assert [one.device.device for one in found] == ["rocm:0", "rocm:1"]
    model = found[0].model
    assert (model.source, model.library, model.simulated) == ("amdgpu", None, True)
    watch = Amd(tmp_path).watch(found)
    assert watch.read() == {"rocm:0": FULL, "rocm:1": FULL}
    watch.close()


def test_dies_of_one_board_have_it_as_parent(tmp_path: Path, visible: None) -> None:
    found = Amd(build(tmp_path, mi250x(2, name="An MI250X by another name", device_id=0, subsystem=0))).find(None)
    assert [one.device.parent for one in found] == ["PCB048230000"] * 2 + ["PCB048230001"] * 2
    assert {one.model.count_unit for one in found} == {"die"}
    assert {one.device.serial for one in found} == {None}


def test_one_die_alone_is_no_card(tmp_path: Path, visible: None) -> None:
    gpus = mi250x(name="A board by its maker's name")
    gpus[1].hidden = True
    (one,) = Amd(build(tmp_path, gpus)).find(None)
    assert (one.model.count_unit, one.device.parent) == ("die", "PCB048230000")


def test_a_desktops_graphics_are_measured_where_somebody_means_it(tmp_path: Path, visible: None) -> None:
    """The kernel offers every graphics of AMD to compute on."""
    graphics = FakeGpu(bus=3, name=None, unique_id=None, device_id=0x15BF, pci_class=0x030000, units=12, compute=None)
    backend = Amd(build(tmp_path, [graphics]))
    assert backend.look(None) == []
    (meant,) = backend.look("0")
    assert meant.model.model == "AMD GPU 0x15bf"
    (tmp_path / "opt/rocm").mkdir(parents=True)
    assert backend.look(None) == [meant]


def test_the_runtimes_name_chooses_a_device(tmp_path: Path, visible: None, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Amd(build(tmp_path, mi300x(4)))
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", f"GPU-{UNIQUE_ID + 2:016x},0")
    found = backend.find(None)
    assert [one.device.pci_address for one in found] == ["0000:2c:00.0", "0000:0c:00.0"]
    assert found[0].visibility == (("ROCR_VISIBLE_DEVICES", f"GPU-{UNIQUE_ID + 2:016x}"),)


def test_the_nodes_reader_reads_the_tree(tmp_path: Path, visible: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own process, as in a run: listed, read, and one device lost on the way."""
    gpus = mi300x(2, metrics=table("1.8", **cycles(1000)))
    backend = Amd(build(tmp_path, gpus))
    found = find_apart(backend, None)
    assert [one.device.pci_address for one in found] == [gpu.pci_address for gpu in gpus]
    monkeypatch.setattr(readings, "load_backend", lambda kind: backend)
    node = readings.NodeReadings(found, 20_000_000)
    node.start()
    try:
        ends = [node.worker_end(one.device.device) for one in found]
        first, second = (readings.ReceivedReadings(end) for end in ends if end is not None)
        (tmp_path / FUNCTIONS / gpus[0].pci_address / "gpu_metrics").write_bytes(table("1.8", **cycles(2000, ppt=9)))
        seen = wait_for(lambda: [one.reading for one in first.after(0) if one.reading.throttled])
        assert seen[0] == FULL._replace(throttled=("ppt",))
        shutil.rmtree(tmp_path / FUNCTIONS / gpus[1].pci_address)
        with pytest.raises(DeviceError) as raised:
            wait_for(lambda: [one.reading for one in second.after(0) if one.reading == Reading()])
        assert raised.value.code == "device-lost"
        assert first.after(0)[-1].reading.power_mw == FULL.power_mw
    finally:
        node.stop()


def wait_for(take: Callable[[], list[Reading]]) -> list[Reading]:
    """Return what comes within some seconds."""
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        if taken := take():
            return taken
        time.sleep(0.02)
    pytest.fail("nothing was read")
