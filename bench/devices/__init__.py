"""The back ends of accelerator vendors: one file and one line in this table for each.

A back end finds devices, tells what identifies them, and opens them for a kernel. It never measures and never judges,
and imports its vendor's library inside the function that needs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import entry_points

import msgspec

from bench.devices.base import Backend, Faulty, LocalDevice, UnknownAcceleratorError, UnusableError, sound
from bench.devices.pci import PciFunction, unknown_accelerators
from bench.errors import DeviceError, InputError, PetasealError
from bench.host.cpus import numa_node
from bench.record.fields import in_words
from bench.record.identities import collisions

DEVICES = {
    "cpu": "bench.devices.cpu:Cpu",
    "cuda": "bench.devices.vendors.nvidia:Nvidia",
    "fake": "bench.devices.fake:Fake",
    "rocm": "bench.devices.vendors.amd:Amd",
    "npu": "bench.devices.vendors.ascend:Ascend",
    "mlu": "bench.devices.vendors.cambricon:Cambricon",
    "dcu": "bench.devices.vendors.hygon:Hygon",
    "musa": "bench.devices.vendors.mthreads:MooreThreads",
    "maca": "bench.devices.vendors.metax:MetaX",
    "corex": "bench.devices.vendors.iluvatar:Iluvatar",
    "kunlun": "bench.devices.vendors.kunlunxin:Kunlunxin",
    "torch": "bench.devices.generic:Torch",
}
ENTRY_POINTS = "petaseal.devices"
NEVER_IN_ALL = frozenset({"fake"})


def backend_names() -> dict[str, str]:
    """Return the kinds of devices that are known, each with its "module:Class": the table and installed plug-ins."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)} | DEVICES


def load_backend(kind: str) -> Backend:
    """Return the back end of one kind of device.

    Raises:
        InputError: there is no such kind, or a library that it needs is missing.
    """
    names = backend_names()
    if kind not in names:
        raise InputError(
            "unknown-device",
            f"there is no kind of device named {kind!r}",
            fix=f"choose from {', '.join(sorted(names))}",
        )
    module, _, name = names[kind].partition(":")
    backend: Backend = getattr(importlib.import_module(module), name)()
    return backend


class DeviceSurvey:
    """What one command knows of a node's devices: each kind is listed once, which takes a tool seconds."""

    def __init__(self) -> None:
        self._listed: dict[str, list[LocalDevice] | InputError] = {}

    def devices(self, kind: str, argument: str | None = None) -> list[LocalDevice]:
        """Return all devices of a kind, or the one that is named.

        Args:
            kind: of device.
            argument: what stands behind "kind:"; None for all.

        Raises:
            InputError: as `Backend.find`.
        """
        if argument is None or kind in NEVER_IN_ALL:
            return self._all(kind) if argument is None else load_backend(kind).find(argument)
        index = int(argument) if argument.isascii() and argument.isdigit() and len(argument) < 6 else None
        with suppress(InputError):
            for one in self._all(kind):
                if one.device.device == f"{kind}:{index}" and not isinstance(one, Faulty):
                    return [one]
        return load_backend(kind).find(argument)  # which says what is wrong with this one

    def _all(self, kind: str) -> list[LocalDevice]:
        if kind not in self._listed:
            try:
                self._listed[kind] = load_backend(kind).find(None)
            except InputError as error:
                self._listed[kind] = error
        listed = self._listed[kind]
        if isinstance(listed, InputError):
            raise listed
        return listed


def select_devices(wanted: str, survey: DeviceSurvey | None = None) -> list[LocalDevice]:
    """Return the devices that a command line names, in its order (see `survey_devices`).

    One that is lost or broken is among them (`Faulty`), for the record, as long as another can be measured.

    Args:
        wanted: as in `survey_devices`.
        survey: of the command, where it asks more than this.

    Raises:
        InputError: a device is unknown, absent or named twice, or a kind of device is there and cannot be used: what a
            node has is measured whole or not at all, unless the devices to measure are named.
        RefusedError: two of them have one identity: no statement could hold a record of both.
        DeviceError: every device is lost or broken.
    """
    devices, problems = _find(wanted, survey or DeviceSurvey())
    if problems:
        first = problems[0]
        raise InputError(
            first.code,
            first.what,
            where=first.where,
            fix=f"{first.fix or 'mend it'}, or name the devices to measure with --device",
        )
    for collision in collisions([one.device for one in devices]):
        raise collision
    if all(isinstance(one, Faulty) for one in devices):
        first_fault = next(one for one in devices if isinstance(one, Faulty))
        raise DeviceError(first_fault.code, first_fault.what, where=first_fault.device.device)
    return devices


def survey_devices(wanted: str, survey: DeviceSurvey | None = None) -> tuple[list[LocalDevice], list[InputError]]:
    """Return the devices that a command line names, in its order, and why others cannot be used.

    Args:
        wanted: "all" (every accelerator of this node, or its CPU where there is none), or a list like "cuda:0,cuda:2",
            "cpu" or "fake:8" (eight fakes).
        survey: of the command, where it asks more than this.

    Raises:
        InputError: a device is unknown, absent or named twice, or a kind that is named cannot be used.
    """
    devices, problems = _find(wanted, survey or DeviceSurvey())
    fix = "repair or restart it; its neighbours are measured without it"
    for one in devices:
        if isinstance(one, Faulty):
            why = InputError(one.code, one.what, where=one.device.device, fix=fix)
            problems.append(UnusableError(why, [one]))
    return sound(devices), problems


def faulty_neighbours(wanted: str, devices: Sequence[LocalDevice], survey: DeviceSurvey) -> list[Faulty]:
    """Return the lost or broken devices that were not named, of the kinds of which some were.

    Args:
        wanted: as in `survey_devices`.
        devices: the devices that it names.
        survey: of the command.
    """
    names = {one.device.device for one in devices}
    kinds = {kind.strip() for kind, colon, _ in (part.partition(":") for part in wanted.split(",")) if colon}
    faulty: list[Faulty] = []
    for kind in sorted(kinds - NEVER_IN_ALL):  # a kind that is named whole, or "all", has told of them already
        with suppress(PetasealError):
            faulty += [one for one in survey.devices(kind) if isinstance(one, Faulty)]
    return [one for one in faulty if one.device.device not in names]


def file_patterns(devices: Sequence[LocalDevice]) -> list[str]:
    """Return patterns of the files of the kinds of some devices, where the kinds say which (`VendorBackend.files`)."""
    kinds = sorted({one.device.device.partition(":")[0] for one in devices})
    return [pattern for kind in kinds for pattern in getattr(load_backend(kind), "files", ())]


def _find(wanted: str, survey: DeviceSurvey) -> tuple[list[LocalDevice], list[InputError]]:
    """Return the devices that are named, and for "all" why other kinds of device cannot be used."""
    devices: list[LocalDevice] = []
    problems: list[InputError] = []
    if wanted == "all":
        for kind in backend_names():
            if kind not in NEVER_IN_ALL:
                try:
                    devices += survey.devices(kind)
                except InputError as error:
                    problems.append(error)
        problems += _unknown(devices, problems)
        # Beside accelerators the CPU is their host: it is measured only where there is nothing else.
        devices = [f for f in devices if f.model.kind != "cpu"] or devices
    else:
        for part in wanted.split(","):
            kind, _, argument = part.strip().partition(":")
            devices += survey.devices(kind, argument or None)
    if not devices:
        raise InputError("no-device", "no device was found", where=wanted, fix="see: petaseal devices")
    names = [f.device.device for f in devices]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError("device-named-twice", f"{', '.join(twice)} is named more than once", where=wanted)
    for one in devices:
        check_recordable(one)
    return [on_its_node(one) for one in devices], problems


def _unknown(known: Sequence[LocalDevice], problems: Sequence[InputError]) -> list[InputError]:
    """Return one error for each vendor whose accelerators are on the bus and are no device of any back end.

    What torch reports without a PCI address, through what a vendor added to it, are the accelerators of that vendor.

    Args:
        known: all devices of the node.
        problems: why others cannot be used; these may name devices too.
    """
    devices = [*known, *(one for problem in problems for one in getattr(problem, "devices", ()))]
    by_vendor: dict[int, list[PciFunction]] = {}
    for function in unknown_accelerators(_known_vendors(), {one.device.pci_address for one in devices}):
        by_vendor.setdefault(function.vendor_id, []).append(function)
    by_torch = any(one.device.device.startswith("torch:") and one.model.kind == "npu" for one in devices)
    if by_torch and len(by_vendor) == 1:
        return []
    return [UnknownAcceleratorError(functions) for functions in by_vendor.values()]


def _known_vendors() -> set[int]:
    """Return the PCI vendor ids that back ends speak for (`vendor_ids`); one that cannot be loaded speaks for none."""
    known: set[int] = set()
    for kind in backend_names():
        # A broken plug-in of another vendor must not keep this node's devices from being listed.
        with suppress(Exception):
            known.update(getattr(load_backend(kind), "vendor_ids", ()))
    return known


def on_its_node(local: LocalDevice) -> LocalDevice:
    """Return a device with the NUMA node that its PCI function is attached to; a simulated one has none."""
    known = not local.model.simulated and not isinstance(local, Faulty)
    node = numa_node(local.device.pci_address) if known else None
    return local if node is None else local._replace(device=msgspec.structs.replace(local.device, numa_node=node))


def check_recordable(local: LocalDevice) -> None:
    """Refuse devices of which a record cannot hold a field, such as a text that is too long, before they are measured.

    Raises:
        InputError: a driver or tool reports a text or number that a record cannot hold.
    """
    for described in (local.model, local.device):
        try:
            # Structs are not checked when they are made: an hour later the record would be refused with all its
            # figures.
            msgspec.convert(msgspec.to_builtins(described), type(described))
        except msgspec.ValidationError as error:
            raise InputError(
                "device-tool-unknown", f"tells what no record can hold: {in_words(error)}", where=local.device.device
            ) from None
