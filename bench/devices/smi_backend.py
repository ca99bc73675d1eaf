"""A back end that lists and watches its devices through the vendor's command-line tool: everything but the parsing.

Which device is meant: the tool lists all of the node, the visibility variables (the user's, Slurm's) leave some in some
order, and a device's index is its place among those, as for the frameworks. The worker leaves its own device alone.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from bench.clock import Clock
from bench.devices.base import Faulty, Found, check_same, index_of, parse_index
from bench.devices.pci import present
from bench.devices.smi import Tool, told
from bench.devices.torch_device import OpenedTorch
from bench.errors import DeviceError, InputError, one_line
from bench.host.device_files import why_unusable
from bench.record import Device, DeviceModel, NodeClock, Precision
from bench.record.identities import IDENTITY_FIELDS
from bench.record.node import CountUnit, readable_identifier
from bench.telemetry import Reading

if TYPE_CHECKING:
    from kernels.base import Kernel

# Several vendors' stacks obey this variable: it may speak of devices of another of them (PCI vendor ids).
SHARED_VARIABLE, SHARING = "CUDA_VISIBLE_DEVICES", frozenset({0x10DE, 0x1002, 0x1D94, 0x9999, 0x1E3E, 0x1D22})


class Told(NamedTuple):
    """One device as its tool tells it; None is what it does not tell."""

    number: int  # on the node, in the tool's order
    model: str
    keys: tuple[str, ...] = ()  # other names by which a visibility variable may mean it
    uuid: str | None = None
    serial: str | None = None
    die_id: str | None = None
    pci_address: str | None = None
    parent: str | None = None
    bin: str | None = None
    board_part: str | None = None
    count_unit: CountUnit = "card"
    firmware: str | None = None
    driver: str | None = None
    memory_bytes: int | None = None
    units: int | None = None
    max_clock_mhz: int | None = None
    place: tuple[str, ...] = ()  # what the tool wants to be told to speak of this device alone
    fault: InputError | None = None  # why this one cannot be used although the tool lists others


def usable(rows: list[Told]) -> list[Told]:
    """Return devices of which some may be lost or broken, each in its place.

    Raises:
        InputError: all of them are: then it is not one device, but the driver, the tool or the form of its output.
    """
    faults = [row.fault for row in rows if row.fault is not None]
    if faults and len(faults) == len(rows):
        raise faults[0]
    return rows


IDENTIFYING = ("bin", "board_part", "firmware")


class SmiBackend:
    """A back end that lists and watches its devices through the vendor's command-line tool.

    Args:
        root: the file system's root (tests).
    """

    kind: ClassVar[str]  # of device, as in `bench.devices.DEVICES`
    record_kind: ClassVar[Literal["gpu", "npu"]] = "gpu"
    vendor: ClassVar[str]
    vendor_ids: ClassVar[frozenset[int]]  # PCI
    vga_counts: ClassVar[bool] = True  # False where the vendor also makes graphics for consoles and desktops
    tools: ClassVar[tuple[str, ...]]
    exposes: ClassVar[tuple[str, ...]]  # quantities that readings have (`bench.record.DeviceModel`)
    folder: ClassVar[str]  # where the vendor's packages put the tool
    variables: ClassVar[tuple[tuple[str, ...], ...]]  # applied one after another; of each group the first that is set
    torch_type: ClassVar[str] = "cuda"
    plugin: ClassVar[str | None] = None  # the package that adds the type to torch
    no_fp64: ClassVar[str | None] = None
    files: ClassVar[tuple[str, ...]] = ()  # of the devices, as patterns below the root: to say why they cannot be used
    tool_in_pod: ClassVar[str] = "let the vendor's container runtime put it there, or mount it"  # where it is missing

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def rows(self, tool: Tool) -> list[Told]:
        """Return all devices of the node that the tool lists; one that is lost or broken with its fault (`usable`).

        Raises:
            InputError: the tool fails, or its output has an unknown form.
        """
        raise NotImplementedError

    def fill(self, tool: Tool, row: Told) -> Told:
        """Return a device with what takes further runs of the tool to know."""
        return row

    def reader(self, tool: Tool, row: Told) -> Callable[[], Reading | None]:
        """Return what takes one reading of a device."""
        raise NotImplementedError

    def choice(self, row: Told) -> str:
        """Return the value of the first visibility variable that leaves this device alone visible."""
        return str(row.number)

    def find(self, argument: str | None) -> list[Found]:
        """Return the vendor's devices that the visibility variables leave: all, or the one named."""
        functions = present(self.vendor_ids, self.root)
        sure = [function for function in functions if self.vga_counts or not self._is_vga(function)]
        if argument is None and not functions:
            return []
        try:
            tool = Tool.find(self.tools, self.folder)
            allowed = self._allowed(tool, functions, argument)
            chosen = parse_index(self.kind, argument, len(allowed))
            rows = usable([self._filled(tool, allowed[index]) for index in chosen])
            return [self._found(tool, index, row) for index, row in zip(chosen, rows, strict=True)]
        except InputError as error:
            if argument is None and not sure:
                return []  # a console's or a desktop's graphics: nobody meant to compute on it
            raise self.explained(error) from None

    def hint(self, what: str) -> str | None:
        """Return what a vendor's tool means by what it says, where its own words tell nobody; None for the rest."""
        return None

    def hinted(self, error: InputError) -> InputError:
        """Return an error of the tool with what it means."""
        hint = self.hint(error.what)
        what = error.what if hint is None else f"{error.what} ({hint})"
        return InputError(error.code, what, where=error.where, fix=error.fix)

    def explained(self, error: InputError) -> InputError:
        """Return why no device can be used, with where its tool was sought and what its device files are."""
        if not error.code.startswith("device-tool-") and error.code != "device-permission":
            return error
        told = self.hinted(error)
        what, fix = told.what, told.fix
        if error.code == "device-tool-missing":
            what += f" ({one_line(os.environ.get('PATH', ''), 200)})"
            fix = f"{fix}; in a container {self.tool_in_pod}"
        closed = why_unusable(self.files, self.root)
        if closed is not None and error.code == "device-tool-failed":
            fix = None  # its files say more than that the tool is to be run by hand
        return InputError(error.code, "; ".join(filter(None, (what, closed))), where=error.where, fix=fix)

    def open(self, found: Found, clock: Clock) -> OpenedSmi:
        """Return a device for measuring, and make it the only one that frameworks in this process see."""
        index = index_of(found)
        tool = Tool.find(self.tools, self.folder)
        allowed = self._allowed(tool, present(self.vendor_ids, self.root), str(index))
        (row,) = usable([self._filled(tool, allowed[i]) for i in parse_index(self.kind, str(index), len(allowed))])
        check_same(found, self._found(tool, index, row).device)
        for name in (name for group in self.variables for name in group):
            os.environ.pop(name, None)
        os.environ[self.variables[0][0]] = self.choice(row)
        return OpenedSmi(self, tool, row)

    def node_clock(self) -> NodeClock | None:
        """Return None: a real machine has a real clock."""
        return None

    def _allowed(self, tool: Tool, functions: Sequence[str], argument: str | None) -> list[Told]:
        """Return the devices that the visibility variables leave, in their order.

        Raises:
            InputError: the tool lists none although the hardware is there, or a variable leaves none.
        """
        rows = self.rows(tool)
        # two vendors' tools may bear one name, and then list the other's devices
        rows = [row for row in rows if row.pci_address is None or not functions or row.pci_address in functions]
        if not rows:
            raise tool.unknown("device, although the hardware is there")
        for group in self.variables:
            name = next((n for n in group if n in os.environ), None)
            if name is None:
                continue
            rows = _visible(name, rows)
            if not rows:
                if argument is None and name == SHARED_VARIABLE and present(SHARING - self.vendor_ids, self.root):
                    return []
                raise InputError(
                    "device-not-visible",
                    f"{name}={os.environ[name]!r} names no {self.vendor} device of this node",
                    where=self.kind,
                    fix=f"unset {name}, or name devices by the indexes that {self.tools[0]} shows",
                )
        return rows

    def _filled(self, tool: Tool, row: Told) -> Told:
        """Return a device with all that is known of it; with its fault, where the tool fails for it."""
        if row.fault is not None:
            return row
        try:
            return self.fill(tool, row)
        except InputError as error:
            return row._replace(fault=self.hinted(error))

    def _is_vga(self, pci_address: str) -> bool:
        try:
            text = (self.root / "sys/bus/pci/devices" / pci_address / "class").read_text(encoding="ascii")
            return int(text, 16) >> 8 == 0x0300
        except (OSError, ValueError):
            return False

    def _found(self, tool: Tool, index: int, row: Told) -> Found:
        identities = {name: _identity(getattr(row, name)) for name in IDENTITY_FIELDS}
        parts = {name: told(getattr(row, name)) for name in IDENTIFYING}
        known = {"vendor": self.vendor, "model": row.model} | parts | identities
        model = DeviceModel(
            kind=self.record_kind,
            vendor=self.vendor,
            model=row.model,
            **parts,
            simulated=False,
            plays=None,
            count_unit=row.count_unit,
            obtained={name: "host_attested" for name, value in known.items() if value is not None},
            driver=told(row.driver),
            library=str(tool.path),
            library_sha256=tool.sha256,
            memory_bytes=row.memory_bytes,
            cache_bytes=None,
            units=row.units,
            max_clock_mhz=row.max_clock_mhz,
            locked_clock_mhz=None,
            power_limit_mw=None,
            power_limit_default_mw=None,
            power_limit_max_mw=None,
            modes={},
            instruction_set=None,
            source=tool.name,
            exposes=self.exposes,
        )
        device = Device(device=f"{self.kind}:{index}", model=0, numa_node=None, **identities)
        return Found(model, device) if row.fault is None else Faulty(model, device, "device-failed", row.fault.what)


def _identity(value: str | None) -> str | None:
    """Return an identity as a record holds it; None for a placeholder and for what is too long to be one."""
    found = readable_identifier(value)
    return found if found is not None and len(found) <= 200 and found.isprintable() else None


def _visible(name: str, rows: Sequence[Told]) -> list[Told]:
    """Return the devices that a visibility variable leaves, in its order: by place in the list or by another name.

    As the vendors' runtimes do, the list ends at the first entry that names none.
    """
    chosen: list[Told] = []
    for entry in os.environ[name].split(","):
        text = entry.strip()
        place = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else None
        if place is not None and place < len(rows):
            chosen.append(rows[place])
        elif (match := next((r for r in rows if text and text.lower() in map(str.lower, r.keys)), None)) is not None:
            chosen.append(match)
        else:
            break
    return list(dict.fromkeys(chosen))


class SmiSource:
    """Telemetry through a tool: one process start for each reading (`bench.telemetry.Source`)."""

    def __init__(self, take: Callable[[], Reading | None]) -> None:
        self._take = take

    def read(self) -> Reading | None:
        """Return the present reading; None where the tool says nothing of the device.

        Raises:
            InputError: the tool fails or its output has an unknown form, which costs one reading.
        """
        reading = self._take()
        return None if reading == Reading() else reading


class OpenedSmi(OpenedTorch):
    """A device that torch computes on and a vendor's tool watches (`bench.devices.base.Opened`)."""

    def __init__(self, backend: SmiBackend, tool: Tool, row: Told) -> None:
        super().__init__(f"{backend.torch_type}:0")
        self._backend = backend
        self._row = row
        self._tool = tool

    def kernel(self) -> Kernel:
        """Return the GEMM by torch, after the vendor's package has added its device type and the device is the one.

        Raises:
            InputError: torch or the vendor's package cannot be imported.
            DeviceError: torch's device is another than the one that was opened.
        """
        for package in filter(None, ("torch", self._backend.plugin)):
            try:
                importlib.import_module(package)
            except (ImportError, OSError, RuntimeError) as error:
                said = one_line(str(error) or type(error).__name__, 150)
                raise InputError(
                    "missing-library",
                    f"{package} cannot be imported ({said}); {self._backend.vendor} devices compute through it",
                    where=package,
                    fix=f"install the torch that {self._backend.vendor} publishes, and load its environment script",
                ) from None
        seen = _torch_address(self._backend.torch_type)
        if None not in (seen, self._row.pci_address) and seen != str(self._row.pci_address)[:-2]:
            raise DeviceError(
                "device-differs",
                f"torch computes on the device at {seen}, the tool's is at {self._row.pci_address}",
                where=self._backend.kind,
            )
        return super().kernel()

    def unsupported(self, precision: Precision) -> str | None:
        """Return why the vendor's stack does not compute FP64, where that is documented."""
        return self._backend.no_fp64 if precision == "fp64" else None

    def source(self) -> SmiSource:
        """Return the vendor's tool as a source."""
        return SmiSource(self._backend.reader(self._tool, self._row))


def _torch_address(torch_type: str) -> str | None:
    """Return the PCI address, without the function, of torch's device 0; None where torch does not tell it."""
    import torch

    try:
        properties = getattr(torch, torch_type).get_device_properties(0)
        parts = [int(getattr(properties, f"pci_{name}_id")) for name in ("domain", "bus", "device")]
        return "{:04x}:{:02x}:{:02x}".format(*parts) if any(parts) else None  # some leave them all 0
    except Exception:  # a vendor's module raises what it likes; then the visibility variable alone tells
        return None
