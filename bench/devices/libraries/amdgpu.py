"""AMD accelerators read from files of the kernel alone: KFD's topology, and the sysfs, hwmon and tables of amdgpu.

No process, no library, no root: every quantity is one small file. What a file does not hold is None.
Source: Linux, Documentation/gpu/amdgpu/driver-misc.rst, thermal.rst and ras.rst.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from bench.devices.libraries.amd import kfd
from bench.devices.libraries.amd.gpu_metrics import GpuMetrics, gpu_metrics, reasons_between, reasons_of
from bench.devices.libraries.amd.kfd import KfdNode
from bench.devices.libraries.amd.sensors import Sensors, power_mw_of, reading_of, sensors_of
from bench.devices.source import DeviceSource, Fault, ListedDevice, usable
from bench.devices.tools.texts import reported_text
from bench.errors import DeviceError, InputError
from bench.host.device_files import why_forbidden
from bench.record.identities import readable_identifier
from bench.record.node import CountUnit
from bench.telemetry import Reading

FUNCTIONS = "sys/bus/pci/devices"
AMD = 0x1002
ACCELERATOR_CLASSES = frozenset({0x1200, 0x0380, 0x0302})  # base and sub-class: never a desktop's graphics
TWO_DIES = re.compile(r"\bMI250X?\b|\bMI200 \(MCM\)", re.IGNORECASE)
TWO_DIES_IDS = frozenset({0x7408, 0x740C, 0x0B0C})
PACKAGE = re.compile(r"\bMI3\d\d[A-Z]?\b", re.IGNORECASE)
WHOLE_GPU = "SPX"  # single partition
VIRTUAL = re.compile(r"\bVF\b")  # as in "Aqua Vanjaram [Instinct MI300X VF]"
VIRTUAL_IDS = frozenset({0x7410, 0x74B5, 0x74B9, 0x75B0, 0x75B3})  # of virtual functions, in the guest
# Names of AMD's own list by PCI device id (libdrm, data/amdgpu.ids), for boards whose memory holds no product name.
MODELS = {
    0x66A0: "AMD Instinct MI50",
    0x66A1: "AMD Instinct MI50",
    0x738C: "AMD Instinct MI100",
    0x7408: "AMD Instinct MI250X",
    0x740C: "AMD Instinct MI250X/MI250",
    0x740F: "AMD Instinct MI210",
    0x74A0: "AMD Instinct MI300A",
    0x74A1: "AMD Instinct MI300X",
    0x74A2: "AMD Instinct MI308X",
    0x74A5: "AMD Instinct MI325X",
    0x75A0: "AMD Instinct MI350X",
    0x75A3: "AMD Instinct MI355X",
}


def count_unit(model: str, *ids: int | None) -> CountUnit:
    """Return how a whole device of AMD counts: the driver lists each die of an MI250X as a device.

    Args:
        model: its name.
        ids: PCI device ids, of itself and of its subsystem.
    """
    if TWO_DIES.search(model) or TWO_DIES_IDS & set(ids):
        return "die"
    return "package" if PACKAGE.search(model) else "card"


def is_virtual(model: str, *ids: int | None) -> bool:
    """Return whether a device is a virtual function (SR-IOV): what a hypervisor gives of a GPU, if it be all of it.

    Args:
        model: its name.
        ids: PCI device ids of it.
    """
    return VIRTUAL.search(model) is not None or bool(VIRTUAL_IDS & set(ids))


def numeric_id(text: str | None) -> int | None:
    """Return a hexadecimal number, with or without "0x"; None for none, and for 0, which is no identity."""
    try:
        return int(text or "", 16) or None
    except ValueError:
        return None


def visible_uuid(unique_id: int) -> str:
    """Return the name by which ROCR_VISIBLE_DEVICES means a device: "GPU-" and 16 hex digits of its unique id."""
    return f"GPU-{unique_id:016x}"


def why_not_computing(root: Path) -> InputError | None:
    """Return why this process cannot compute on AMD's GPUs although their driver is loaded; None where it may.

    The device file is looked at and not opened: opening it would make this process one that computes.

    Args:
        root: the file system's root (tests).
    """
    if not (root / kfd.TOPOLOGY).is_dir():
        return None
    closed = why_forbidden(("dev/kfd",), root) if (root / "dev/kfd").exists() else "there is no /dev/kfd"
    if closed is None:
        return None
    fix = "give this user, or the container, /dev/kfd and /dev/dri (groups render and video)"
    return InputError("device-permission", closed, where="amdgpu", fix=fix)


class AmdgpuSource(DeviceSource):
    """All GPUs that the amdgpu driver offers to compute on."""

    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature")

    def __init__(self, root: Path, version: str | None) -> None:
        super().__init__(root, "amdgpu", None, None, version)
        self._sensors: dict[str, Sensors] = {}  # by PCI address
        self._tables: dict[str, tuple[GpuMetrics, tuple[str, ...] | None]] = {}  # the last, with the reasons until then

    @classmethod
    def open(cls, root: Path) -> Self:
        """Look for the compute driver.

        Raises:
            InputError: `device-library-missing`: it is not loaded, or /sys is not this machine's;
                `device-permission`: this process may not compute through it.
        """
        if not (root / kfd.TOPOLOGY).is_dir():
            raise InputError(
                "device-library-missing",
                f"AMD's compute driver shows no topology (/{kfd.TOPOLOGY})",
                where="amdgpu",
                fix="load the driver amdgpu; in a container mount /sys of the host",
            )
        if (closed := why_not_computing(root)) is not None:
            raise closed
        driver = kfd.text(root / "sys/module/amdgpu/version")
        return cls(root, driver or kfd.text(root / "proc/sys/kernel/osrelease"))

    def devices(self) -> list[ListedDevice]:
        """Return the GPU nodes in the runtime's order, then the functions that the driver could not start.

        Raises:
            InputError: there is none; `device-permission`: all are kept from this container.
        """
        nodes, hidden = kfd.topology(self.root)
        if not nodes and hidden:
            raise InputError(
                "device-permission",
                f"the kernel refuses to show this container any of the {hidden} AMD GPUs of the node",
                where=f"/{kfd.TOPOLOGY}",
                fix="give the container /dev/dri/renderD* of the GPUs that it shall use",
            )
        in_function = Counter(node.pci_address for node in nodes)
        named = Counter(node.unique_id for node in nodes)
        rows = [
            self._listed(place, node, in_function[node.pci_address] > 1, named[node.unique_id] == 1)
            for place, node in enumerate(nodes)
        ]
        if not hidden:  # what is hidden would seem to have failed
            rows += self._failed(len(rows), frozenset(in_function))
        if not rows:
            raise InputError(
                "device-library-missing",
                "AMD's compute driver lists no GPU",
                where=f"/{kfd.TOPOLOGY}",
                fix="read the kernel's log: the driver amdgpu did not start, or the GPU is bound to another driver",
            )
        return usable(rows)

    def _listed(self, place: int, node: KfdNode, shared: bool, named: bool) -> ListedDevice:
        """Return one GPU, or one partition of it.

        Args:
            place: among the nodes.
            node: of KFD.
            shared: whether other nodes are on the same function.
            named: whether no other node bears its unique id.
        """
        function = self.root / FUNCTIONS / node.pci_address
        model = _model(function, node.device_id)
        whole_id = numeric_id(kfd.text(function / "unique_id")) or node.unique_id
        mode = kfd.text(function / "current_compute_partition")
        is_slice = shared or node.partition is not None or (mode or WHOLE_GPU).upper() != WHOLE_GPU
        is_slice = is_slice or is_virtual(model, node.device_id) or (function / "physfn").exists()
        unique_id = node.unique_id if named else None
        ids = (unique_id,) if is_slice else (unique_id, whole_id)
        subsystem = numeric_id(kfd.text(function / "subsystem_device"))
        unit: CountUnit = "slice" if is_slice else count_unit(model, node.device_id, subsystem)
        memory_bytes = None if is_slice else kfd.number(function / "mem_info_vram_total")
        row = ListedDevice(
            number=place,
            model=model,
            keys=tuple(dict.fromkeys(visible_uuid(one) for one in ids if one)),
            uuid=_slice_uuid(node, unique_id, whole_id) if is_slice else _uuid(whole_id),
            serial=None if is_slice else readable_identifier(kfd.text(function / "serial_number")),
            pci_address=node.pci_address,
            parent=_uuid(whole_id) if is_slice else None,
            board_part=readable_identifier(kfd.text(function / "product_number")),
            count_unit=unit,
            firmware=kfd.text(function / "vbios_version"),
            driver=self.version,
            memory_bytes=memory_bytes or node.memory_bytes,
            units=node.units,
            max_clock_mhz=node.max_clock_mhz,
            modes=_modes(function),
            place=(node.pci_address, node.gpu_id),
        )
        limit, default, most = (None, None, None) if is_slice else self._limits(node.pci_address)
        return row._replace(
            exposes=self._exposed(row),
            power_limit_mw=limit,
            power_limit_default_mw=default,
            power_limit_max_mw=most,
        )

    def _failed(self, first: int, listed: frozenset[str]) -> list[ListedDevice]:
        """Return the accelerators that the driver holds and could not start, numbered behind the others."""
        rows: list[ListedDevice] = []
        for function in sorted((self.root / FUNCTIONS).glob("*")):
            vendor, kind = numeric_id(kfd.text(function / "vendor")), numeric_id(kfd.text(function / "class"))
            driver = function / "driver"
            if vendor != AMD or kind is None or kind >> 8 not in ACCELERATOR_CLASSES or function.name in listed:
                continue
            if not driver.is_symlink() or driver.readlink().name != "amdgpu":
                continue
            fault = Fault("device-failed", "the driver amdgpu has no compute node for it: it did not start", "amdgpu")
            model = _model(function, numeric_id(kfd.text(function / "device")) or 0)
            rows.append(
                ListedDevice(first + len(rows), model, pci_address=function.name, driver=self.version, fault=fault)
            )
        return rows

    def _exposed(self, row: ListedDevice) -> tuple[str, ...]:
        """Return what the readings of a device have; the power is not a slice's."""
        sensors, table = self._of(row.place[0]), self._table(row.place[0])
        more = {
            "throttle": table is not None and table.has_throttle_reasons,
            "ecc": bool(sensors.errors),
            "processes": (self.root / kfd.PROCESSES).is_dir(),
        }
        always = tuple(name for name in self.exposes if name != "power" or row.count_unit != "slice")
        return (*always, *(name for name, there in more.items() if there))

    def _limits(self, pci_address: str) -> tuple[int | None, int | None, int | None]:
        """Return the power limit that is enforced, the default one and the highest that can be set, mW."""
        power = self._of(pci_address).power
        cap = None if power is None else power.rpartition("_")[0] + "_cap"
        return (
            (None, None, None)
            if cap is None
            else (power_mw_of(cap), power_mw_of(f"{cap}_default"), power_mw_of(f"{cap}_max"))
        )

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all devices: some 20 small files each."""
        users = kfd.processes(self.root)
        return {row.number: self._reading(row, users) for row in rows if row.place}

    def _reading(self, row: ListedDevice, users: dict[str, int] | None) -> Reading | DeviceError:
        pci_address, gpu_id = row.place
        sensors, table = self._of(pci_address), self._table(pci_address)
        reading = reading_of(sensors, table, whole=row.count_unit != "slice")
        reading = reading._replace(throttled=self._throttled(pci_address, table))
        if reading == Reading() and (lost := self._lost(pci_address)) is not None:
            return lost
        return reading._replace(processes=None if users is None else users.get(gpu_id, 0))

    def _lost(self, pci_address: str) -> DeviceError | None:
        """Return that a device which tells nothing any more has left the bus; None where it is still there."""
        function = self.root / FUNCTIONS / pci_address
        if not function.exists():
            return DeviceError("device-lost", f"the kernel no longer shows a device at {pci_address}")
        if (kfd.read(function / "config") or b"").startswith(b"\xff\xff\xff\xff"):
            return DeviceError("device-lost", f"the device at {pci_address} has fallen off the bus")
        return None

    def _table(self, pci_address: str) -> GpuMetrics | None:
        content = kfd.read(self.root / FUNCTIONS / pci_address / "gpu_metrics")
        return None if content is None else gpu_metrics(content)

    def _throttled(self, pci_address: str, table: GpuMetrics | None) -> tuple[str, ...] | None:
        """Return the reasons in force, or that were at some time since the look before; None where neither is told."""
        if table is None:
            return None
        if table.status is not None:
            return reasons_of(table.status)
        before, reasons = self._tables.get(pci_address, (GpuMetrics(), None))
        if before.counter is None or before.counter != table.counter:  # else the firmware has no newer figures
            reasons = reasons_between(before, table)
            self._tables[pci_address] = (table, reasons)
        return reasons

    def _of(self, pci_address: str) -> Sensors:
        if pci_address not in self._sensors:
            self._sensors[pci_address] = sensors_of(self.root / FUNCTIONS / pci_address)
        return self._sensors[pci_address]


def _model(function: Path, device_id: int) -> str:
    return reported_text(kfd.text(function / "product_name")) or MODELS.get(device_id) or f"AMD GPU 0x{device_id:04x}"


def _uuid(unique_id: int | None) -> str | None:
    return None if unique_id is None else f"0x{unique_id:x}"


def _slice_uuid(node: KfdNode, unique_id: int | None, whole_id: int | None) -> str | None:
    """Return what a partition is known by; older kernels name all of a GPU alike, but for KFD's own number."""
    if unique_id is not None and unique_id != whole_id:
        return _uuid(unique_id)
    return None if whole_id is None else f"{_uuid(whole_id)}-{node.gpu_id}"


def _modes(function: Path) -> tuple[tuple[str, str], ...]:
    modes = {name: kfd.text(function / f"current_{name}_partition") for name in ("compute", "memory")}
    return tuple((f"{name}-partition", mode) for name, mode in modes.items() if mode is not None)
