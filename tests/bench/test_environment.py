from __future__ import annotations

import getpass
import re
import socket
from pathlib import Path

import pytest

from bench import environment as env
from bench.errors import InputError
from bench.record import emulation_libraries, encode
from bench.record.files import state_dir
from tests.bench.test_devices import tree

ENABLING = {
    "NVIDIA_TF32_OVERRIDE": "1",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "TORCH_ALLOW_TF32_CNMATMUL_OVERRIDE": "1",
    "CUBLAS_EMULATE_SINGLE_PRECISION": "1",
    "CUBLAS_EMULATE_DOUBLE_PRECISION": "1",
    "CUBLAS_EMULATION_STRATEGY": "performant",
    "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT": "55",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "DNNL_DEFAULT_FPMATH_MODE": "ANY",
    "MKL_BLAS_COMPUTE_MODE": "FLOAT_TO_BF16X2,FLOAT_TO_TF32",
    "HIPBLASLT_ALLOW_TF32": "1",
    "HIPBLASLT_OVERRIDE_COMPUTE_TYPE_XF32": "2",
    "ROCBLAS_INTERNAL_FP16_ALT_IMPL": "1",
    "IPEX_FP32_MATH_MODE": "TF32",
}
HARMLESS = {
    "NVIDIA_TF32_OVERRIDE": "0",
    "CUBLAS_EMULATE_DOUBLE_PRECISION": " 0 ",
    "CUBLAS_EMULATION_STRATEGY": "",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    "MKL_BLAS_COMPUTE_MODE": "STANDARD",
    "HIPBLASLT_OVERRIDE_COMPUTE_TYPE_XF32": "-1",
    "IPEX_FP32_MATH_MODE": "FP32",
    "OMP_NUM_THREADS": "4",
}


def test_every_variable_is_tested() -> None:
    assert {variable.name for variable in env.VARIABLES} == set(ENABLING)


@pytest.mark.parametrize(("name", "value"), ENABLING.items())
def test_r1_a_variable_that_enables_emulation_is_wrong_input(name: str, value: str) -> None:
    with pytest.raises(InputError) as refused:
        env.refuse_emulation({"PATH": "/bin", name: value})
    assert refused.value.code == "emulation-enabled"
    assert name in str(refused.value)
    assert refused.value.exit_status == 2


@pytest.mark.parametrize(("name", "value"), HARMLESS.items())
def test_r1_a_harmless_value_is_none(name: str, value: str) -> None:
    env.refuse_emulation({name: value})


def test_switches_that_mean_off_read_off() -> None:
    found = {"a": "False", "b": "ieee", "c": "highest", "d": "tf32", "e": "true"}
    assert env.normal_switches(found) == {"a": "off", "b": "off", "c": "off", "d": "tf32", "e": "true"}


def test_a_switch_that_is_on_for_one_worker_is_on_for_the_node() -> None:
    on = {"a": "on", "b": "off", "c": "off", "e": "tf32", "f": "absent"}
    off = {"a": "off", "b": "unreadable", "d": "off", "e": "unreadable", "f": "unreadable"}
    merged = {"a": "on", "b": "unreadable", "c": "off", "d": "off", "e": "tf32", "f": "unreadable"}
    assert env.worst_switches(on, off) == env.worst_switches(off, on) == merged
    assert env.worst_switches({}, on) == env.worst_switches(on, {}) == on


def test_a_library_that_emulates_is_seen_in_the_process(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text("7f00-7f01 r-xp 0 00:00 0 /opt/libcublas.so.13\n7f02-7f03 r-xp 0 00:00 0 /opt/build/libozIMMU.so\n")
    assert env.loaded_emulation(maps) == ["ozimmu"]
    assert env.loaded_emulation(tmp_path / "absent") == []
    assert env.loaded_emulation() == []
    assert all(name == name.casefold() for name in emulation_libraries())


def test_the_environment_names_nobody() -> None:
    facts = encode(env.environment({"numpy": "2"}, {"x": "off"})).decode()
    assert socket.gethostname() not in facts
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", facts)


def test_the_machines_own_id_is_used_and_never_shown(tmp_path: Path) -> None:
    etc = tmp_path / "machine-id"
    etc.write_text("0123456789abcdef0123456789abcdef\n")
    assert env.machine_id(etc, tmp_path / "state") == "0123456789abcdef0123456789abcdef"
    assert not (tmp_path / "state").exists()
    name = env.node_id("0123456789abcdef0123456789abcdef")
    assert re.fullmatch("node-[0-9a-f]{12}", name)
    assert name != env.node_id("1123456789abcdef0123456789abcdef")
    assert env.derived_id("cpu", "x") != env.derived_id("node", "x")


@pytest.mark.parametrize("text", [None, "", "uninitialized\n", "0" * 32, "short"])
def test_where_there_is_none_one_is_created_once(tmp_path: Path, text: str | None) -> None:
    etc = tmp_path / "machine-id"
    if text is not None:
        etc.write_text(text)
    first = env.machine_id(etc, tmp_path / "state")
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert env.machine_id(etc, tmp_path / "state") == first
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["machine-id"]
    assert (tmp_path / "state" / "machine-id").stat().st_mode & 0o777 == 0o600


def test_a_damaged_own_id_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text("damaged")
    with pytest.raises(InputError) as refused:
        env.machine_id(tmp_path / "absent", tmp_path)
    assert refused.value.code == "machine-id-damaged"
    assert (tmp_path / "machine-id").read_text() == "damaged"


def test_a_state_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(InputError) as refused:
        env.machine_id(tmp_path / "absent", tmp_path / "state")
    assert refused.value.code == "output-not-writable"


def test_the_state_folder(tmp_path: Path) -> None:
    assert state_dir({"PETASEAL_STATE": "/a", "XDG_STATE_HOME": "/b"}) == Path("/a")
    assert state_dir({"XDG_STATE_HOME": "/b"}) == Path("/b/petaseal")
    assert state_dir({}) == Path.home() / ".local/state/petaseal"


@pytest.mark.parametrize(
    ("files", "virtual"),
    [
        ({"proc/cpuinfo": "flags : fpu hypervisor avx\n"}, True),
        ({"proc/cpuinfo": "flags : fpu avx\n"}, False),
        ({"sys/hypervisor/type": "xen\n"}, True),
        ({"sys/class/dmi/id/product_name": "KVM Virtual Machine\n"}, True),
        ({"sys/class/dmi/id/product_name": "TaiShan 200\n", "sys/class/dmi/id/sys_vendor": "Huawei\n"}, False),
        ({}, None),
    ],
)
def test_virtualised_or_not_or_unknown(tmp_path: Path, files: dict[str, str], virtual: bool | None) -> None:
    assert env.virtualised(tree(tmp_path, files)) is virtual


def test_the_name_of_the_system(tmp_path: Path) -> None:
    tree(tmp_path, {"etc/os-release": 'NAME=x\nPRETTY_NAME="openEuler 24.03 (LTS)"\n'})
    assert env.environment({}, {}, tmp_path).os == "openEuler 24.03 (LTS)"
    assert env.environment({}, {}, tmp_path / "absent").os


def test_the_tools_digest_is_that_of_its_sources() -> None:
    assert re.fullmatch("[0-9a-f]{64}", env.tool().sha256)
    assert env.tool() is env.tool()
