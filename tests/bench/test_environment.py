from __future__ import annotations

import getpass
import os
import pwd
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench import environment as env
from bench.errors import InputError
from bench.record import emulation_libraries, encode
from bench.record.files import state_dir
from bench.record.sources import tool
from certify.keys.files import node_key
from tests.bench.devices.test_devices import tree

ENABLING = {
    "NVIDIA_TF32_OVERRIDE": "1",
    "TORCH_ALLOW_TF32_CNMATMUL_OVERRIDE": "1",
    "CUBLAS_EMULATE_SINGLE_PRECISION": "1",
    "CUBLAS_EMULATE_DOUBLE_PRECISION": "1",
    "CUBLAS_EMULATION_STRATEGY": "performant",
    "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT": "55",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "DNNL_DEFAULT_FPMATH_MODE": "ANY",
    "MKL_BLAS_COMPUTE_MODE": "FLOAT_TO_BF16X2,FLOAT_TO_TF32",
    "HIPBLASLT_ALLOW_TF32": "1",
    "HIPBLASLT_EMULATE_SINGLE_PRECISION": "1",
    "HIPBLASLT_EMULATE_DOUBLE_PRECISION": "1",
    "HIPBLASLT_EMULATION_STRATEGY": "eager",
    "HIPBLASLT_OVERRIDE_COMPUTE_TYPE_XF32": "2",
    "ROCBLAS_INTERNAL_FP16_ALT_IMPL": "1",
    "IPEX_FP32_MATH_MODE": "TF32",
}
TAKEN_AWAY = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
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
    assert {variable.name for variable in env.VARIABLES} == {*ENABLING, TAKEN_AWAY}
    assert [variable.name for variable in env.VARIABLES if variable.taken_away] == [TAKEN_AWAY]


@pytest.mark.parametrize(("name", "value"), ENABLING.items())
def test_r1_a_variable_that_enables_emulation_is_wrong_input(name: str, value: str) -> None:
    with pytest.raises(InputError) as refused:
        env.refuse_emulation({"PATH": "/bin", name: value})
    assert refused.value.code == "emulation-enabled"
    assert name in str(refused.value)
    assert refused.value.exit_status == 2


@pytest.mark.parametrize(("name", "value"), HARMLESS.items())
def test_r1_a_harmless_value_is_none(name: str, value: str) -> None:
    environ = {name: value}
    assert env.refuse_emulation(environ) == ()
    assert environ == {name: value}


def test_r1_what_images_set_is_taken_away_and_named() -> None:
    environ = {"PATH": "/bin", TAKEN_AWAY: "1"}
    assert env.refuse_emulation(environ) == (TAKEN_AWAY,)
    assert environ == {"PATH": "/bin"}
    assert env.refuse_emulation({TAKEN_AWAY: "0"}) == ()
    both = {TAKEN_AWAY: "1", "NVIDIA_TF32_OVERRIDE": "1"}
    with pytest.raises(InputError, match="NVIDIA_TF32_OVERRIDE"):
        env.refuse_emulation(both)
    assert env.environment({}, {}, unset=(TAKEN_AWAY,)).unset == (TAKEN_AWAY,)


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
    (kept,) = (tmp_path / "state" / "machine-ids").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_damaged_own_id_is_refused_and_kept(tmp_path: Path) -> None:
    env.machine_id(tmp_path / "absent", tmp_path)
    (kept,) = (tmp_path / "machine-ids").iterdir()
    kept.write_text("damaged")
    with pytest.raises(InputError) as refused:
        env.machine_id(tmp_path / "absent", tmp_path)
    assert refused.value.code == "machine-id-damaged"
    assert kept.read_text() == "damaged"


UUID = "4c4c4544-0042-3110-8052-b4c04f4e3533"
MAKERS, MADE_UP = "b8:ce:f6:01:02:03", "52:54:00:01:02:03"  # the second has the bit of an address that no maker gave


def host(
    root: Path,
    uuid: str = "",
    mac: str = "",
    boot: str = "0f17efb4",
    serial: str = "",
    assigned: str = "0",
    bus: str = "pci0000:00",
) -> Path:
    """Return the root of a machine without /etc/machine-id, with an adapter on a bus and one that is not."""
    files = {
        "sys/class/dmi/id/product_uuid": uuid,
        "sys/class/dmi/id/product_serial": serial,
        "proc/sys/kernel/random/boot_id": boot,
        "sys/class/net/lo/address": "00:00:00:00:00:00",
        "sys/class/net/veth0/address": "0a:58:0a:80:00:01",
        "sys/class/net/veth0/addr_assign_type": "0",
        "sys/class/net/eth0/address": mac,
        "sys/class/net/eth0/addr_assign_type": assigned,
        f"sys/devices/{bus}/0000:00:03.0/vendor": "0x15b3",
    }
    tree(root, {name: text for name, text in files.items() if text})
    if mac:
        (root / "sys/class/net/eth0/device").symlink_to(root / f"sys/devices/{bus}/0000:00:03.0")
    return root


def made_up(root: Path, state: Path) -> str:
    return env.machine_id(root / "etc/machine-id", state, root)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"uuid": UUID}, {"uuid": UUID.replace("3533", "3534")}),
        ({"serial": "CN7792194B"}, {"serial": "CN7792194C"}),
        ({"mac": MAKERS}, {"mac": MAKERS.replace("03", "04")}),
        ({"uuid": UUID, "mac": MAKERS}, {"uuid": UUID, "mac": MAKERS.replace("03", "04")}),  # a copied virtual machine
        ({"uuid": UUID, "mac": MADE_UP}, {"uuid": UUID, "mac": MADE_UP.replace("03", "04")}),
        ({}, {"boot": "1a"}),
        ({"mac": MADE_UP}, {"mac": MADE_UP, "boot": "1a"}),
        ({"mac": MAKERS, "assigned": "1"}, {"mac": MAKERS, "assigned": "1", "boot": "1a"}),
        ({"mac": MAKERS, "bus": "pci0000:00/usb1"}, {"mac": MAKERS, "bus": "pci0000:00/usb1", "boot": "1a"}),
        (
            {"uuid": "03000200-0400-0500-0006-000700080009"},
            {"uuid": "03000200-0400-0500-0006-000700080009", "boot": "1a"},
        ),
        ({"serial": "To Be Filled By O.E.M."}, {"serial": "To Be Filled By O.E.M.", "boot": "1a"}),
    ],
)
def test_hosts_that_share_their_home_never_share_an_id(
    tmp_path: Path, one: dict[str, str], other: dict[str, str]
) -> None:
    state = tmp_path / "state"
    hosts = [host(tmp_path / name, **facts) for name, facts in (("a", one), ("b", other))]
    ids = [made_up(root, state) for root in hosts]
    assert len({env.node_id(machine) for machine in ids}) == 2
    assert len({node_key(state, machine).public.keyid for machine in ids}) == 2
    assert [made_up(root, state) for root in hosts] == ids  # each finds its own again
    kept = " ".join(path.name + path.read_text() for path in (state / "machine-ids").iterdir())
    assert not any(fact.replace("-", "").lower() in kept for fact in (*one.values(), *other.values()) if len(fact) > 8)


@pytest.mark.parametrize("facts", [{"uuid": UUID}, {"mac": MAKERS}, {"serial": "CN7792194B"}])
def test_a_made_up_id_outlives_a_boot(tmp_path: Path, facts: dict[str, str]) -> None:
    before, after = host(tmp_path / "a", **facts), host(tmp_path / "b", **facts, boot="1a")
    assert made_up(before, tmp_path / "state") == made_up(after, tmp_path / "state")


def test_processes_of_hosts_with_one_home(tmp_path: Path) -> None:
    """Two of each host at once: those of one host take one id, and another host's is another."""
    code = (
        "import sys; from pathlib import Path; from bench.environment import machine_id as own; r = Path(sys.argv[1]);"
    )
    code += "print(own(r / 'etc/machine-id', root=r))"
    hosts = [host(tmp_path / "a", mac=MAKERS), host(tmp_path / "b", boot="1a")] * 2
    environ = {name: text for name, text in os.environ.items() if name not in ("PETASEAL_STATE", "XDG_STATE_HOME")}
    environ["HOME"] = str(tmp_path / "home")
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(root)], env=environ, stdout=subprocess.PIPE, text=True)
        for root in hosts
    ]
    a, b, a_again, b_again = (process.communicate(timeout=60)[0] for process in running)
    assert (a, b) == (a_again, b_again)
    assert a != b
    assert len(list((tmp_path / "home/.local/state/petaseal/machine-ids").iterdir())) == 2


def test_a_state_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(InputError) as refused:
        env.machine_id(tmp_path / "absent", tmp_path / "state")
    assert refused.value.code == "output-not-writable"


def test_the_state_folder(tmp_path: Path) -> None:
    assert state_dir({"PETASEAL_STATE": "/a", "XDG_STATE_HOME": "/b"}) == Path("/a")
    assert state_dir({"XDG_STATE_HOME": "/b"}) == Path("/b/petaseal")
    assert (
        state_dir({"HOME": "/h"})
        == state_dir({"HOME": "/h", "XDG_STATE_HOME": "b"})
        == Path("/h/.local/state/petaseal")
    )
    own = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert state_dir({}) == state_dir({"HOME": ""}) == own / ".local/state/petaseal"
    with pytest.raises(InputError, match=r"'h' is a relative path.* PETASEAL_STATE"):
        state_dir({"HOME": "h"})


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
    assert re.fullmatch("[0-9a-f]{64}", tool().sha256)
    assert tool() is tool()
