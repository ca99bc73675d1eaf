from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

import bench.devices
from bench.clock import SimulatedClock
from bench.devices import DEVICES, check_recordable, load_backend, select_devices
from bench.devices.cpu import Cpu, max_clock_mhz, name_of
from bench.devices.fake import Fake
from bench.environment import derived_id
from bench.errors import InputError
from bench.record import config_path
from bench.scenario import Scenario
from bench.sensors import CpuSource, energy_between


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PETASEAL_SCENARIO", "")


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_table_and_the_files_agree() -> None:
    folder = Path(bench.devices.__file__).parent
    files = {f"bench.devices.vendors.{path.stem}" for path in (folder / "vendors").glob("*.py")}
    shared = {f"bench.devices.vendors.{name}" for name in ("__init__", "ascend_chips", "cuda_visible", "libcuda")}
    kinds = {entry.partition(":")[0] for entry in DEVICES.values()}
    assert files - shared == {name for name in kinds if name.startswith("bench.devices.vendors.")}


@pytest.mark.parametrize("kind", ["cpu", "fake"])  # accelerators have tests of their own, with fake drivers
def test_every_kind_offers_all_that_the_measurement_needs(kind: str) -> None:
    backend = load_backend(kind)
    found = backend.find(None)
    assert found
    for index, one in enumerate(found):
        assert one.device.device == f"{kind}:{index}"
        opened = backend.open(one, SimulatedClock())
        assert opened.target
        assert opened.kernel().supports("fp64", opened.target) is None
        memory = opened.memory_bytes()
        assert memory is None or memory > 0
        opened.source().read()
        opened.begin("fp64", 0)
        opened.timer()
        assert opened.unsupported("fp64") is None


def test_all_is_the_cpu_where_there_is_no_accelerator_and_never_a_fake() -> None:
    assert [f.device.device for f in select_devices("all")] == ["cpu:0"]


def test_devices_come_in_the_order_of_the_command_line() -> None:
    assert [f.device.device for f in select_devices("fake:2,cpu")] == ["fake:0", "fake:1", "cpu:0"]


@pytest.mark.parametrize("wanted", ["", "cpu:x", "cpu:-1", "cpu:٣", "fake:0x1", "gpu", ",", "cpu;fake"])
def test_what_is_no_device_is_refused(wanted: str) -> None:
    with pytest.raises(InputError):
        select_devices(wanted)


X86 = {
    "proc/cpuinfo": "processor : 0\nvendor_id : HygonGenuine\nmodel name : Hygon C86 7285\nmicrocode : 0x80901047\n\n"
    "processor : 1\nmodel name : other\n",
    "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 600 kB\n",
}


def cores(count: int, threads: int = 1, l3_kib: int = 16_384, share: int = 4) -> dict[str, str]:
    files: dict[str, str] = {}
    for cpu in range(count * threads):
        base, core = f"sys/devices/system/cpu/cpu{cpu}", cpu % count
        group = ",".join(str(c) for c in range(count * threads) if c % count // share == core // share)
        files |= {
            f"{base}/topology/thread_siblings_list": ",".join(str(core + t * count) for t in range(threads)),
            f"{base}/cache/index0/level": "1",
            f"{base}/cache/index0/size": "32K",
            f"{base}/cache/index0/shared_cpu_list": str(core),
            f"{base}/cache/index3/level": "3",
            f"{base}/cache/index3/size": f"{l3_kib}K",
            f"{base}/cache/index3/shared_cpu_list": group,
            f"{base}/cpufreq/cpuinfo_max_freq": str(2_500_000 + 100_000 * core),
            f"{base}/cpufreq/scaling_cur_freq": str(2_000_000 + 100_000 * core),
        }
    return files


def test_an_x86_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr("bench.devices.cpu.machine_id", lambda: "ab" * 16)
    ((model, device, *_),) = Cpu(tree(tmp_path, X86 | cores(8, threads=2))).find(None)
    assert (model.vendor, model.model, model.firmware) == ("Hygon", "Hygon C86 7285", "0x80901047")
    assert model.units == 8  # siblings are one core
    assert model.cache_bytes == 2 * 16 * 2**20  # two last-level caches, each of four cores
    assert model.max_clock_mhz == 3_200
    assert model.memory_bytes == 1_024_000
    assert (model.kind, model.count_unit, model.obtained["uuid"]) == ("cpu", "package", "asserted")
    assert device.uuid == derived_id("cpu", "ab" * 16)
    assert "ab" * 16 not in str(device)
    opened = Cpu(tmp_path).open(Cpu(tmp_path).find(None)[0], SimulatedClock())
    assert opened.memory_bytes() == 307_200


@pytest.mark.parametrize(
    ("name", "text"), [("product_uuid", "4c4c4544-0042-3110-8052-b4c04f4e3533"), ("product_serial", "CN77")]
)
def test_a_processor_keeps_its_identity_under_another_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    root = tree(tmp_path, X86 | cores(8) | {f"sys/class/dmi/id/{name}": f"{text}\n"})
    found = []
    for machine in ("ab" * 16, "cd" * 16):
        monkeypatch.setattr("bench.devices.cpu.machine_id", lambda own=machine: own)
        found += Cpu(root).find(None)
    assert found[0] == found[1]
    assert found[0].model.obtained["uuid"] == "host_attested"
    assert text not in str(found[0])


def test_a_placeholder_of_the_firmware_is_no_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.devices.cpu.machine_id", lambda: "ab" * 16)
    told = {"product_uuid": "03000200-0400-0500-0006-000700080009", "product_serial": "Default string"}
    ((_, device, *_),) = Cpu(tree(tmp_path, X86 | {f"sys/class/dmi/id/{n}": t for n, t in told.items()})).find(None)
    assert device.uuid == derived_id("cpu", "ab" * 16)


IN_A_JOB = {
    "proc/self/cgroup": "0::/job/step",
    "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
}


@pytest.mark.parametrize(("quota", "units"), [("max", 8), ("250000", 3), ("200000", 2), ("50000", 1)])
def test_a_quota_of_the_job_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, units: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    job = IN_A_JOB | {"sys/fs/cgroup/job/cpu.max": f"{quota} 100000", "sys/fs/cgroup/job/step/cpu.max": "max 100000"}
    ((model, _, *_),) = Cpu(tree(tmp_path, X86 | cores(8) | job)).find(None)
    assert model.units == units


def test_a_memory_limit_of_the_job_limits_the_operands(tmp_path: Path) -> None:
    job = IN_A_JOB | {"sys/fs/cgroup/job/memory.max": "400000", "sys/fs/cgroup/job/memory.current": "100000"}
    cpu = Cpu(tree(tmp_path, X86 | cores(8) | job))
    assert cpu.open(cpu.find(None)[0], SimulatedClock()).memory_bytes() == 150_000


def test_affinity_limits_cores_and_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    ((model, _, *_),) = Cpu(tree(tmp_path, X86 | cores(8))).find(None)
    assert (model.units, model.cache_bytes, model.max_clock_mhz) == (2, 16 * 2**20, 2_600)


def test_a_driver_that_leaves_boost_out_bounds_no_clock(tmp_path: Path) -> None:
    files = {f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_driver": "amd-pstate-epp" for cpu in range(2)}
    assert max_clock_mhz([0, 1], tree(tmp_path, cores(2) | files)) == 2_600
    files["sys/devices/system/cpu/cpu1/cpufreq/scaling_driver"] = "acpi-cpufreq"
    assert max_clock_mhz([0, 1], tree(tmp_path, files)) is None


SVE = "proc/sys/abi/sve_default_vector_length"


@pytest.mark.parametrize(
    ("info", "files", "told"),
    [
        ("flags\t\t: fpu sse sse2 avx fma avx2 avx512f avx512_fp16 amx_bf16 amx_tile\n", {}, "amx"),
        ("flags\t\t: fpu sse sse2 avx fma avx2 avx512f avx512dq\n", {}, "avx512"),
        ("flags\t\t: fpu sse sse2 avx fma avx2\n", {}, "avx2"),
        ("flags\t\t: fpu sse sse2 avx\n", {}, "avx"),
        ("flags\t\t: fpu sse sse2 avx10unknown\n", {}, "sse2"),
        ("flags\t\t: fpu\n", {}, None),
        ("Features\t: fp asimd evtstrm aes crc32 atomics\n", {}, "neon"),
        ("Features\t: half thumb fastmult vfp neon vfpv4\n", {}, "neon"),
        ("Features\t: fp asimd sve\n", {SVE: "64\n"}, "sve512"),
        ("Features\t: fp asimd sve sve2\n", {SVE: "16\n"}, "sve128"),
        ("Features\t: fp asimd sve\n", {}, None),
        ("Features\t: fp asimd sve\n", {SVE: "-1\n"}, None),
        ("Features\t: fp asimd sve sme\n", {SVE: "16\n"}, "sme"),
        ("Features\t\t: cpucfg lam ual fpu lsx lasx crypto\n", {}, "lasx"),
        ("isa\t\t: rv64imafdcv\n", {}, None),
        ("", {}, None),
    ],
)
def test_the_widest_instruction_set(tmp_path: Path, info: str, files: dict[str, str], told: str | None) -> None:
    ((model, _, *_),) = Cpu(tree(tmp_path, {"proc/cpuinfo": "processor\t: 0\n" + info} | files)).find(None)
    assert model.instruction_set == told


def test_a_fake_is_what_its_scenario_says() -> None:
    ((model, _, *_),) = Fake(Scenario()).find("1")
    assert (model.vendor, model.model, model.count_unit, model.plays) == ("petaseal", "Fake-1", "card", None)
    dies: dict[str, dict[str, Any]] = {str(index): {"identity": {"parent": "package-1234"}} for index in range(2)}
    scripted = Scenario(vendor="AMD", model="MI250X", count_unit="die", plays="amd-mi250x", devices=dies)
    found = Fake(scripted).find("2")
    assert [model.simulated for model, *_ in found] == [True, True]
    assert {(m.vendor, m.model, m.count_unit, m.plays) for m, *_ in found} == {("AMD", "MI250X", "die", "amd-mi250x")}
    assert [device.parent for _, device, *_ in found] == ["package-1234"] * 2


def test_the_scenario_of_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs/devices.md").read_text()
    example = page[page.index("    plays: ") :].partition("\n\n")[0]
    scripted = msgspec.convert(yaml.safe_load(example), Scenario)
    assert scripted.plays in {
        row["id"] for row in yaml.safe_load(config_path("accelerators.yaml").read_text())["accelerators"]
    }
    assert scripted.script(0).clock_mhz == 1_755


@pytest.mark.parametrize("wrong", ["plays: Not a name", "plays: 1", "count_unit: rack", "vendor: ''"])
def test_a_scenario_is_strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    (tmp_path / "scenario.yaml").write_text(wrong)
    monkeypatch.setenv("PETASEAL_SCENARIO", str(tmp_path / "scenario.yaml"))
    with pytest.raises(InputError, match=wrong.partition(":")[0]):
        select_devices("fake")


def test_a_machine_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    ((model, device, *_),) = Cpu(tmp_path).find(None)
    assert (model.cache_bytes, model.max_clock_mhz, model.memory_bytes, model.firmware) == (None,) * 4
    assert (model.vendor, model.units, model.instruction_set) == ("unknown", 2, None)
    assert device.uuid


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cpu implementer": "0x48", "cpu part": "0xd01"}, ("HiSilicon", "Kunpeng-920 (TaiShan v110)")),
        ({"cpu implementer": "0x70", "cpu part": "0x6ff"}, ("Phytium", "implementer 0x70 part 0x6ff")),
        ({"cpu implementer": "0x99", "cpu part": "0x001"}, ("unknown", "implementer 0x99 part 0x001")),
        ({"cpu implementer": "0x41", "cpu part": "0xd0c", "model name": "Altra"}, ("Arm", "Altra")),
        ({"vendor_id": "GenuineIntel", "model name": "Xeon  Gold"}, ("Intel", "Xeon Gold")),
        ({"model name": "Loongson-3C5000"}, ("unknown", "Loongson-3C5000")),
    ],
)
def test_names_of_processors(fields: dict[str, str], named: tuple[str, str]) -> None:
    assert name_of(fields) == named


def sensors(root: Path) -> tuple[CpuSource, SimulatedClock]:
    clock = SimulatedClock()
    return CpuSource(list(range(8)), clock, root), clock


def test_sensors_of_a_machine_that_has_all(tmp_path: Path) -> None:
    rapl = "sys/class/powercap/intel-rapl"
    throttle = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    tree(
        tmp_path,
        cores(8)
        | {
            "sys/class/hwmon/hwmon0/name": "nvme",
            "sys/class/hwmon/hwmon0/temp1_input": "99000",
            "sys/class/hwmon/hwmon1/name": "coretemp",
            "sys/class/hwmon/hwmon1/temp1_input": "61000",
            "sys/class/hwmon/hwmon1/temp2_input": "64999",
            f"{rapl}:0/name": "package-0",
            f"{rapl}:0/energy_uj": "900000",
            f"{rapl}:0/max_energy_range_uj": "1000000",
            f"{rapl}:1/name": "package-1",
            f"{rapl}:1/energy_uj": "500",
            f"{rapl}:1/max_energy_range_uj": "1000000",
            f"{rapl}:0:0/name": "core",
            f"{rapl}:0:0/energy_uj": "77",
            throttle: "5",
        },
    )
    source, clock = sensors(tmp_path)
    first = source.read()
    assert (first.temperature_c, first.clock_mhz, first.power_mw, first.throttled) == (64, 2_350, None, ())
    clock.sleep_ns(500_000_000)
    # package 0 wrapped: 900,000 -> 100,000 uJ is 200,000; package 1 adds 50,000: 0.25 J in 0.5 s
    tree(tmp_path, {f"{rapl}:0/energy_uj": "100000", f"{rapl}:1/energy_uj": "50500", throttle: "6"})
    second = source.read()
    assert (second.power_mw, second.throttled) == (500, ("thermal",))
    assert source.read().throttled == ()


def test_thermal_zones_stand_in_for_hwmon_and_unconnected_sensors_do_not_count(tmp_path: Path) -> None:
    zones = "sys/class/thermal/thermal_zone"
    tree(
        tmp_path,
        {
            f"{zones}0/type": "acpitz",
            f"{zones}0/temp": "90000",
            f"{zones}1/type": "cpu-thermal",
            f"{zones}1/temp": "55000",
            f"{zones}2/type": "x86_pkg_temp",
            f"{zones}2/temp": "-273000",
        },
    )
    assert sensors(tmp_path)[0].read().temperature_c == 55


def test_the_clock_comes_from_cpuinfo_where_there_is_no_cpufreq(tmp_path: Path) -> None:
    tree(tmp_path, {"proc/cpuinfo": "cpu MHz\t\t: 2400.000\n\ncpu MHz\t\t: 2600.5\n"})
    assert sensors(tmp_path)[0].read().clock_mhz == 2_500


def test_sensors_of_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert set(sensors(tmp_path)[0].read()) == {None}


@pytest.mark.parametrize(
    ("first", "last", "range_uj", "used"),
    [
        (100, 350, 0, 250),
        (100, 100, 1_000, 0),
        (900, 100, 1_000, 200),  # it began again
        (900, 100, 0, None),  # the same, and nobody knows where
        (500, 0, 1_000, 500),
        (400, 0, 1_000, None),  # it would have used more than half of its range: it was reset
        (5_000, 4_900, 1_000, None),  # beyond what it says it counts to
        (1_100, 200, 1_000, None),
        (900, 100, -5, None),
    ],
)
def test_energy_between_two_readings_is_never_negative(first: int, last: int, range_uj: int, used: int | None) -> None:
    assert energy_between(first, last, range_uj) == used


def test_power_is_unknown_for_the_time_in_which_a_counter_without_a_range_began_again(tmp_path: Path) -> None:
    rapl = "sys/class/powercap/intel-rapl:0"
    tree(tmp_path, {f"{rapl}/name": "package-0\n", f"{rapl}/energy_uj": "900000"})
    source, clock = sensors(tmp_path)
    told = [source.read().power_mw]
    for energy_uj in ("100000", "600000"):
        clock.sleep_ns(10**9)
        tree(tmp_path, {f"{rapl}/energy_uj": energy_uj})
        told.append(source.read().power_mw)
    assert told == [None, None, 500]


def test_an_energy_counter_for_root_only_is_unknown(tmp_path: Path) -> None:
    tree(tmp_path, {"sys/class/powercap/intel-rapl:0/name": "package-0"})
    source, clock = sensors(tmp_path)
    source.read()
    clock.sleep_ns(10**9)
    assert source.read().power_mw is None


def test_what_no_record_could_hold_is_refused_before_the_measurement() -> None:
    (found,) = load_backend("fake").find("1")
    check_recordable(found)
    long = found._replace(model=replace(found.model, library="/opt/" + "x" * 300))
    with pytest.raises(InputError, match="no record can hold") as refused:
        check_recordable(long)
    assert refused.value.code == "device-tool-unknown"
