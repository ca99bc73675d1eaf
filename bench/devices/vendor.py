"""A vendor's back end: which sources list and read its devices, which of them a process may see, and what is recorded.

Which device is meant: a source lists all of the node, the visibility variables (the user's, Slurm's) leave some in some
order, and a device's index is its place among those, as for the frameworks. The worker leaves its own device alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar, Literal

from bench.clock import Clock
from bench.devices.base import Faulty, LocalDevice, StackFacts, index_of, is_same, not_there, parse_index
from bench.devices.opened_vendor import OpenedVendor
from bench.devices.pci import present
from bench.devices.reader import find_apart
from bench.devices.source import DeviceSource, Fault, ListedDevice, usable, with_parts
from bench.devices.source_watch import SourceWatch, differing_source
from bench.devices.tools.texts import reported_text
from bench.errors import DeviceError, InputError, explained, one_line
from bench.host.device_files import why_unusable
from bench.record import Device, DeviceModel, NodeClock
from bench.record.identities import IDENTITY_FIELDS, readable_identifier
from bench.record.node import FailureCode

# Several vendors' stacks obey this variable: it may speak of devices of another of them (PCI vendor ids).
SHARED_VARIABLE, SHARING = "CUDA_VISIBLE_DEVICES", frozenset({0x10DE, 0x1002, 0x1D94, 0x9999, 0x1E3E, 0x1D22, 0x2057})
IDENTIFYING = ("bin", "board_part", "firmware")
LIMITS = ("power_limit_mw", "power_limit_default_mw", "power_limit_max_mw")
AS_LISTED = ("memory_bytes", "units", "max_clock_mhz", "locked_clock_mhz", *LIMITS)
FAKE_DRIVER = "petaseal-fake"  # how the drivers of the tests begin: what they list is simulated


class VendorBackend:
    """The back end of one vendor's devices.

    Args:
        root: the file system's root (tests).
    """

    kind: ClassVar[str]  # of device, as in `bench.devices.DEVICES`
    record_kind: ClassVar[Literal["gpu", "npu"]] = "gpu"
    vendor: ClassVar[str]
    vendor_ids: ClassVar[frozenset[int]] = frozenset()  # PCI; without them devices are found by their names alone
    vga_counts: ClassVar[bool] = True  # False where the vendor also makes graphics for consoles and desktops
    sources: ClassVar[tuple[type[DeviceSource], ...]]  # in the order of preference
    variables: ClassVar[tuple[tuple[str, ...], ...]]  # applied one after another; of each group the first that is set
    torch_type: ClassVar[str] = "cuda"
    plugin: ClassVar[str | None] = None  # the package that adds the type to torch
    no_fp64: ClassVar[str | None] = None
    files: ClassVar[tuple[str, ...]] = ()  # of the devices, as patterns below the root: to say why they cannot be used
    tool_in_pod: ClassVar[str] = "let the vendor's container runtime put it there, or mount it"  # where it is missing

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.skip: Mapping[str, str] = {}  # sources that hung or ended a reader, and what they did
        self.is_resumed = False  # the devices are measured already, and a reader that ended is replaced
        self.trying: Callable[[str, bool], None] = lambda source, is_last: None  # called before a source is opened

    def choice(self, row: ListedDevice) -> str:
        """Return the value of the first visibility variable that leaves this device alone visible."""
        return str(row.number)

    def hint(self, what: str) -> str | None:
        """Return what a cryptic error text of the vendor means, a clause; None where the text explains itself."""
        return None

    def start_stack(self) -> None:
        """Set what the vendor's torch needs before its first launch; its package is imported."""

    def another(self, device: Device) -> str | None:
        """Return what torch's device 0 is by its own identity where that is another device, one clause; else None."""
        return None

    def stack_facts(self) -> StackFacts | None:
        """Return what torch reports of its device 0 beyond the vendor's sources; None where it is not asked."""
        return None

    def find(self, argument: str | None) -> list[LocalDevice]:
        """Return the vendor's devices that the visibility variables leave: all, or the one named.

        Raises:
            InputError: there is no such device, or none can be used, and why.
        """
        if argument is None and not present(self.vendor_ids, self.root):
            return []
        return find_apart(self, argument)

    def look(self, argument: str | None) -> list[LocalDevice]:
        """Return what `find` does; called in the process that reads.

        Raises:
            InputError: there is no such device, or none can be used, and why.
        """
        # The bus is asked first: it answers at once and cannot hang, as a vendor's library can.
        functions = present(self.vendor_ids, self.root)
        sure = [function for function in functions if self.vga_counts or not self._is_vga(function)]
        if argument is None and not functions:
            return []
        try:
            source, rows, skipped = self.listing(functions)
            with closing(source):
                allowed = self._allowed(source, rows, argument)
                chosen = parse_index(self.kind, argument, len(allowed))
                rows = usable([self._filled(source, allowed[index]) for index in chosen])
                return [
                    self._local_device(source, index, row, skipped) for index, row in zip(chosen, rows, strict=True)
                ]
        except InputError as error:
            if argument is None and not sure:
                return []  # a console's or a desktop's graphics: nobody meant to compute on it
            raise self.explained(error) from None

    def listing(self, functions: Sequence[str]) -> tuple[DeviceSource, list[ListedDevice], tuple[str, ...]]:
        """Return the first source that lists devices of this vendor, these, and why the sources before it were skipped.

        Args:
            functions: PCI addresses of the vendor's devices; a source may also list those of another.

        Raises:
            InputError: no source lists any: why the last one does not, with what was wrong with the others.
        """
        errors: list[InputError] = []
        for kind_of in self.sources:
            is_last, label = kind_of is self.sources[-1], kind_of.label()
            if label in self.skip and not is_last:
                errors.append(InputError("device-library-unusable", self.skip[label], where=label))
                continue
            self.trying(label, is_last)
            try:
                source = kind_of.open(self.root)
                with ExitStack() as stack:
                    stack.callback(source.close)
                    rows = _rows_of(source, functions)
                    stack.pop_all()  # it is the one, and stays open
                    return source, rows, tuple(f"{error.where}: {error.what}" for error in errors)
            except InputError as error:
                errors.append(error)
            except Exception as error:  # what no source should raise costs itself, like what a library should not do
                code = "device-tool-failed" if is_last else "device-library-unusable"
                errors.append(InputError(code, f"petaseal cannot read it ({explained(error)})", where=label))
        last = next((error for error in errors if error.code == "device-permission"), errors[-1])
        other_causes = [
            f"{error.where}: {error.what}"
            for error in errors
            if error is not last and error.code != "device-library-missing"
        ]
        raise InputError(last.code, "; ".join([last.what, *other_causes]), where=last.where, fix=last.fix)

    def hinted(self, error: InputError) -> InputError:
        """Return an error of a source with what it means."""
        hint = self.hint(error.what)
        what = error.what if hint is None else f"{error.what} ({hint})"
        return InputError(error.code, what, where=error.where, fix=error.fix)

    def explained(self, error: InputError) -> InputError:
        """Return why no device can be used, with where its tool was sought and what its device files are."""
        if not error.code.startswith(("device-tool-", "device-library-")) and error.code != "device-permission":
            return error
        hinted = self.hinted(error)
        what, fix = hinted.what, hinted.fix
        if error.code == "device-tool-missing":
            what += f" ({one_line(os.environ.get('PATH', ''), 200)})"
            fix = f"{fix}; in a container {self.tool_in_pod}"
        closed = why_unusable(self.files, self.root)
        if closed is not None and error.code == "device-tool-failed":
            fix = None  # its files say more than that the tool is to be run by hand
        return InputError(error.code, "; ".join(filter(None, (what, closed))), where=error.where, fix=fix)

    def watch(self, devices: Sequence[LocalDevice]) -> SourceWatch:
        """Begin to read devices that `find` found, all through one source.

        Raises:
            InputError: no source lists them.
        """
        source, rows, _ = self.listing(present(self.vendor_ids, self.root))
        try:
            allowed = self._allowed(source, rows, "")
        except InputError:
            source.close()
            raise
        # Once devices are measured, one that is gone moves its neighbours: each is sought by what identifies it.
        places = range(len(allowed)) if self.is_resumed else {index_of(one) for one in devices} & {*range(len(allowed))}
        there = {place: self._watchable(source, allowed[place]) for place in places}
        watched: dict[str, ListedDevice] = {}
        faults: dict[str, DeviceError] = {}
        for one in devices:
            name, row = one.device.device, self._row_of(one, source, there)
            if row is not None and row.fault is None:
                watched[name] = row
            elif row is not None and row.fault is not None:
                code = "device-lost" if row.fault.code == "device-lost" else "device-failed"
                faults[name] = DeviceError(code, row.fault.what, where=name)
            elif not self.is_resumed:  # a measurement that runs loses readings by it
                faults[name] = not_there(one.device, is_listed=index_of(one) in there)
        return SourceWatch(source, watched, faults, differing_source(devices[0].model, source))

    def _row_of(self, one: LocalDevice, source: DeviceSource, there: Mapping[int, ListedDevice]) -> ListedDevice | None:
        """Return what is listed now of a device that was found; None where it is not."""
        index, of_one_source = index_of(one), one.model.source == source.name
        same = {
            place: is_same(one.device, self._local_device(source, index, row, ()).device, of_one_source=of_one_source)
            for place, row in there.items()
        }
        if same.get(index, False) is not False:
            return there[index]
        return next((there[place] for place, is_it in same.items() if is_it and self.is_resumed), None)

    def _watchable(self, source: DeviceSource, row: ListedDevice) -> ListedDevice:
        """Return a device with all that is known of it; where only a further question fails, with what was listed."""
        filled = self._filled(source, row)
        is_lost = filled.fault is not None and filled.fault.code == "device-lost"
        return row if row.fault is None and not is_lost and filled.fault is not None else filled

    def open(self, local: LocalDevice, clock: Clock) -> OpenedVendor:
        """Return a device for measuring, and make it the only one that frameworks in this process see."""
        # All of them, also those that are not set now: the first of a group that is set wins in the vendor's runtime.
        for name in (name for group in self.variables for name in group):
            os.environ.pop(name, None)
        os.environ.update(local.visibility)
        return OpenedVendor(self, local)

    def node_clock(self) -> NodeClock | None:
        """Return None: a real machine has a real clock."""
        return None

    def _allowed(self, source: DeviceSource, rows: list[ListedDevice], argument: str | None) -> list[ListedDevice]:
        """Return the devices that the visibility variables leave, in their order.

        Raises:
            InputError: a variable leaves none.
        """
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
                    fix=f"unset {name}, or name devices by the indexes that {source.name} shows",
                )
        return rows

    def _filled(self, source: DeviceSource, row: ListedDevice) -> ListedDevice:
        """Return a device with all that is known of it; with its fault, where the source fails for it."""
        if row.fault is not None:
            return row
        try:
            return source.complete(row)
        except InputError as error:
            return row._replace(fault=Fault.of(self.hinted(error)))

    def _is_vga(self, pci_address: str) -> bool:
        try:
            text = (self.root / "sys/bus/pci/devices" / pci_address / "class").read_text(encoding="ascii")
            return int(text, 16) >> 8 == 0x0300
        except (OSError, ValueError):
            return False

    def _local_device(
        self, source: DeviceSource, index: int, row: ListedDevice, skipped: tuple[str, ...]
    ) -> LocalDevice:
        identities = {name: _identity(getattr(row, name)) for name in IDENTITY_FIELDS}
        parts: dict[str, Any] = {name: reported_text(getattr(row, name)) for name in IDENTIFYING}
        known = {"vendor": self.vendor, "model": row.model} | parts | identities
        driver = reported_text(row.driver)
        model = DeviceModel(
            kind=self.record_kind,
            vendor=self.vendor,
            model=row.model,
            **parts,
            simulated=(driver or "").startswith(FAKE_DRIVER),
            plays=None,
            count_unit=row.count_unit,
            obtained={name: "host_attested" for name, value in known.items() if value is not None},
            driver=driver,
            library=source.path,
            library_sha256=source.sha256,
            cache_bytes=None,
            instruction_set=None,
            **{name: getattr(row, name) for name in AS_LISTED},
            modes=dict(row.modes),
            source=source.name,
            source_version=reported_text(source.version),
            exposes=source.exposes if row.exposes is None else row.exposes,
        )
        device = Device(device=f"{self.kind}:{index}", model=0, numa_node=None, **identities)
        if row.fault is not None:
            code: FailureCode = "device-lost" if row.fault.code == "device-lost" else "device-failed"
            return Faulty(model, device, code, row.fault.what, skipped)
        return LocalDevice(model, device, ((self.variables[0][0], self.choice(row)),), skipped)


def _rows_of(source: DeviceSource, functions: Sequence[str]) -> list[ListedDevice]:
    """Return the devices that a source lists at these PCI addresses; all, where there are no addresses.

    Raises:
        InputError: it lists none, or all of them are lost or broken.
    """
    # two vendors' tools may bear one name, and then list the other's devices
    rows = with_parts(source.devices())
    rows = [row for row in rows if row.pci_address is None or not functions or row.pci_address in functions]
    if not rows:
        raise InputError(
            "device-tool-unknown",
            "lists no device, although the hardware is there",
            where=source.name,
            fix="see whether the driver is loaded; report the output if it is",
        )
    return usable(rows)


def _identity(value: str | None) -> str | None:
    """Return an identity as a record holds it; None for a placeholder and for what is too long to be one."""
    identifier = readable_identifier(value)
    return identifier if identifier is not None and len(identifier) <= 200 and identifier.isprintable() else None


def _visible(name: str, rows: Sequence[ListedDevice]) -> list[ListedDevice]:
    """Return the devices that a visibility variable leaves, in its order: by place in the list or by another name.

    As the vendors' runtimes do, the list ends at the first entry that names none.
    """
    chosen: list[ListedDevice] = []
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
