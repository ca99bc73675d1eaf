"""What a record says of its node: software, virtualisation, and the switches that R1 forbids. No person is named.

No host name, user, address or dump of the environment may enter a record: only the names listed here are looked at.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import platform
import re
import secrets
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, OutputExistsError
from bench.host.cgroup import read_limits
from bench.host.container import in_container
from bench.host.cpus import usable_cpus
from bench.host.files import content
from bench.record import Environment, emulation_libraries, identifier, write_atomic
from bench.record.files import state_dir, writing_state


class Variable(NamedTuple):
    """An environment variable that can switch on emulation or reduced precision, and its values that do not."""

    name: str
    harmless: tuple[str, ...]
    effect: str
    taken_away: bool = False  # rather than refused: images set it for everybody, and no operator has asked for it


ZERO = ("0",)
STANDARD = ("standard",)
# Sources: cuBLAS (floating-point emulation), PyTorch, oneDNN, oneMKL, hipBLASLt, rocBLAS, torch_mlu and IPEX manuals.
VARIABLES = (
    Variable("NVIDIA_TF32_OVERRIDE", ZERO, "TF32"),
    Variable("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", ZERO, "TF32", taken_away=True),
    Variable("TORCH_ALLOW_TF32_CNMATMUL_OVERRIDE", ZERO, "TF32"),
    Variable("CUBLAS_EMULATE_SINGLE_PRECISION", ZERO, "emulated FP32"),
    Variable("CUBLAS_EMULATE_DOUBLE_PRECISION", ZERO, "emulated FP64"),
    Variable("CUBLAS_EMULATION_STRATEGY", (), "emulation"),
    Variable("CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT", (), "emulated FP64"),
    Variable("ONEDNN_DEFAULT_FPMATH_MODE", ("strict",), "reduced precision"),
    Variable("DNNL_DEFAULT_FPMATH_MODE", ("strict",), "reduced precision"),
    Variable("MKL_BLAS_COMPUTE_MODE", STANDARD, "reduced precision"),
    Variable("HIPBLASLT_ALLOW_TF32", ZERO, "TF32"),
    Variable("HIPBLASLT_EMULATE_SINGLE_PRECISION", ZERO, "emulated FP32"),
    Variable("HIPBLASLT_EMULATE_DOUBLE_PRECISION", ZERO, "emulated FP64"),
    Variable("HIPBLASLT_EMULATION_STRATEGY", (), "emulation"),
    Variable("HIPBLASLT_OVERRIDE_COMPUTE_TYPE_XF32", ("-1", "0"), "TF32"),
    Variable("ROCBLAS_INTERNAL_FP16_ALT_IMPL", ZERO, "BF16 in place of FP16"),
    Variable("IPEX_FP32_MATH_MODE", ("0", "fp32"), "TF32 or BF16 in place of FP32"),
)


def refuse_emulation(environ: MutableMapping[str, str]) -> tuple[str, ...]:
    """Refuse an environment that enables emulation or reduced precision (R1); take away what is only an image's.

    What is taken away, neither this process nor the workers that it starts have: to be called before anything is
    imported or asked that may read it.

    Returns:
        the names of the variables that were taken away.

    Raises:
        InputError: another variable is set to a value that is not known to be harmless.
    """
    enabling = [v for v in VARIABLES if environ.get(v.name, "").strip().lower() not in ("", *v.harmless)]
    # First all that is refused, then what is taken away: a refusal leaves the environment as it was.
    for variable in enabling:
        if not variable.taken_away:
            raise InputError(
                "emulation-enabled",
                f"the environment variable {variable.name} is set and enables {variable.effect}",
                fix=f"unset {variable.name}",
            )
    for variable in enabling:
        del environ[variable.name]
    return tuple(variable.name for variable in enabling)


def machine_id(etc: Path = Path("/etc/machine-id"), state: Path | None = None, root: Path = Path("/")) -> str:
    """Return this machine's own id, 32 hex digits; where the system has none, one that is made for it once and stored.

    Machines may share the state folder (a home on NFS): what is kept there is named after the host that it was made
    for, by a digest, so that no two of them take one id, nor one node key.

    Args:
        etc: where the system keeps it.
        state: the state folder.
        root: the file system's root (tests).

    Raises:
        InputError: the id kept in the state folder is damaged, or none can be written there.
    """
    try:
        text = etc.read_text(encoding="ascii").strip().lower()
    except (OSError, UnicodeDecodeError):
        text = ""
    if _is_id(text):
        return text
    path = (state_dir() if state is None else state) / "machine-ids" / derived_id("host", "\n".join(host_facts(root)))
    if not path.exists():
        with contextlib.suppress(OutputExistsError), writing_state():  # of two first runs both then read the same id
            write_atomic(path, secrets.token_hex(16).encode() + b"\n", mode=0o600, new=True)
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not _is_id(text):
        raise InputError("machine-id-damaged", "is not 32 hex digits", where=path, fix="remove it and run again")
    return text


def missing_machine_id(etc: Path = Path("/etc/machine-id")) -> str | None:
    """Return why the system keeps no machine id for this process, one clause; None where it does."""
    try:
        text = etc.read_text(encoding="ascii").strip().lower()
    except (OSError, UnicodeDecodeError) as error:
        name = errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)
        return f"{etc} cannot be read ({name})"
    return None if _is_id(text) else f"{etc} {'holds no id' if text else 'is empty'}"


def _is_id(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef") and set(text) != {"0"}


# What firmware writes where its maker wrote nothing, beyond the placeholders that `identifier` knows.
DMI_PLACEHOLDERS = frozenset(
    {
        "3000200040005000006000700080009",
        "20003000400050006000700080009",
        "12345678123456781234567812345678",
        "123456781234567890abcddeefaabbcc",
        "chassisserialnumber",
        "baseboardserialnumber",
        "notsettable",
        "empty",
    }
)


def dmi_identity(root: Path = Path("/")) -> tuple[str, str] | None:
    """Return the machine's identity by its firmware, as (what it is, value); None where only root may read it, or none.

    Args:
        root: the file system's root (tests).
    """
    for name in ("product_uuid", "product_serial", "board_serial"):
        value = identifier(_text(root / "sys/class/dmi/id" / name))
        if value is not None and value not in DMI_PLACEHOLDERS:
            return f"DMI {name}", value
    return None


def machine_identities(root: Path = Path("/")) -> dict[str, str]:
    """Return what distinguishes this machine, by name. It is compared as a digest and never leaves the machine."""
    firmware = dmi_identity(root)
    return {"machine id": machine_id(root=root)} | ({} if firmware is None else dict([firmware]))


def host_facts(root: Path) -> list[str]:
    """Return what distinguishes this host: its firmware's identity and an adapter's address, where there are any.

    Where neither is certain to be unique, the running kernel's own id is added, which lasts until the next boot.

    Args:
        root: the file system's root.
    """
    firmware = dmi_identity(root)
    addresses = _permanent_addresses(root)
    facts = ([] if firmware is None else [firmware[1]]) + addresses[:1]
    if firmware is None and not any(map(_is_universal, addresses)):
        facts.append(_text(root / "proc/sys/kernel/random/boot_id").strip() or platform.node())
    return facts


def _permanent_addresses(root: Path) -> list[str]:
    """Return the hardware addresses of the adapters on this host's buses, those first that a maker gave."""
    permanent_addresses = []
    for adapter in (root / "sys/class/net").glob("*"):
        address, bus = _text(adapter / "address").strip().lower(), adapter / "device"
        permanent = _text(adapter / "addr_assign_type").strip() == "0" and address.strip("0:")
        if permanent and bus.exists() and "/usb" not in str(bus.resolve()):  # service processors' adapters are alike
            permanent_addresses.append(address)
    return sorted(permanent_addresses, key=lambda address: (not _is_universal(address), address))


def _is_universal(address: str) -> bool:
    """Return whether a maker gave a hardware address: the second bit of its first octet is 0 (IEEE 802)."""
    return int(address[:2], 16) & 2 == 0


def derived_id(purpose: str, machine: str) -> str:
    """Return the hex SHA-256 of a machine id for one purpose: the id itself never leaves the machine."""
    return hashlib.sha256(f"petaseal/{purpose}/v1\0{machine}".encode()).hexdigest()


def node_id(machine: str | None = None) -> str:
    """Return this node's name in records of its own campaigns: "node-" and 12 hex digits."""
    return "node-" + derived_id("node", machine_id() if machine is None else machine)[:12]


# How torch, cuBLAS and the vendors' plug-ins spell "off": IEEE arithmetic, or the highest precision there is.
OFF = frozenset({"off", "false", "0", "ieee", "highest", "strict", "none"})
HARMLESS = {"off": 0, "absent": 1, "unreadable": 2}  # the least harmful first; any other state is worse than these


def normal_switches(switches: Mapping[str, str]) -> dict[str, str]:
    """Return what a kernel's switches read as, with the one word "off" for every value that means it (R1)."""
    return {name: "off" if value.lower() in OFF else value for name, value in switches.items()}


def worst_switches(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """Return the switches of two workers of a node, each as the worse of both reads."""
    return {
        name: max(one.get(name, "off"), other.get(name, "off"), key=lambda state: HARMLESS.get(state, len(HARMLESS)))
        for name in {**one, **other}
    }


def loaded_emulation(maps: Path = Path("/proc/self/maps")) -> list[str]:
    """Return the libraries that are known to emulate products and are in this process, such as put there by LD_PRELOAD.

    Args:
        maps: of the process (tests).
    """
    loaded = _text(maps).casefold()
    return [name for name in emulation_libraries() if name in loaded]


def environment(
    libraries: Mapping[str, str], switches: Mapping[str, str], root: Path = Path("/"), unset: tuple[str, ...] = ()
) -> Environment:
    """Return the node's environment.

    Args:
        libraries: those that computed, with their versions, as the workers read them.
        switches: emulation and reduced-precision switches, as read after they were set off.
        root: the file system's root (tests).
        unset: environment variables that the workers did not get.
    """
    limits = read_limits(root)
    return Environment(
        os=_os_name(root),
        kernel=platform.release() or "unknown",
        architecture=platform.machine() or "unknown",
        python=platform.python_version(),
        virtualised=virtualised(root),
        container=in_container(root),
        cpus=len(usable_cpus()),
        cpu_quota_mcpu=limits.quota_mcpu,
        memory_limit_bytes=limits.memory_bytes,
        unset=unset,
        libraries=dict(sorted(libraries.items())),
        switches=dict(sorted(switches.items())),
    )


def _os_name(root: Path) -> str:
    try:
        lines = (root / "etc/os-release").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return platform.system() or "unknown"
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    name = fields.get("PRETTY_NAME", "").strip().strip('"')
    return name[:128] if name and name.isprintable() else platform.system() or "unknown"


VIRTUAL_PRODUCTS = re.compile("kvm|qemu|vmware|virtualbox|virtual machine|xen|bochs|bhyve|openstack|alibaba cloud ecs")


def virtualised(root: Path = Path("/")) -> bool | None:
    """Return whether a hypervisor runs this node; None where nothing says."""
    cpuinfo = _text(root / "proc/cpuinfo")
    if any(line.startswith("flags") and " hypervisor" in line for line in cpuinfo.splitlines()):
        return True
    if _text(root / "sys/hypervisor/type").strip():  # Xen, whose guests need not have the processor's flag
        return True
    product = " ".join(_text(root / "sys/class/dmi/id" / name) for name in ("product_name", "sys_vendor")).lower()
    if VIRTUAL_PRODUCTS.search(product):
        return True
    known = product.strip() or any(line.startswith("flags") for line in cpuinfo.splitlines())
    return False if known else None


def _text(path: Path) -> str:
    try:
        return content(path).decode("utf-8", "replace")
    except OSError:
        return ""
