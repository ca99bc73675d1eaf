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

from bench.devices.base import Backend, Faulty, Found, UnusableError, sound
from bench.errors import DeviceError, InputError, PetasealError
from bench.host.cpus import numa_node
from bench.record.fields import in_words
from bench.record.identities import collisions

DEVICES = {
    "cpu": "bench.devices.cpu:Cpu",
    "cuda": "bench.devices.nvidia:Nvidia",
    "fake": "bench.devices.fake:Fake",
    "rocm": "bench.devices.amd:Amd",
    "npu": "bench.devices.ascend:Ascend",
    "mlu": "bench.devices.cambricon:Cambricon",
    "dcu": "bench.devices.hygon:Hygon",
    "musa": "bench.devices.mthreads:MooreThreads",
    "maca": "bench.devices.metax:MetaX",
    "corex": "bench.devices.iluvatar:Iluvatar",
    "kunlun": "bench.devices.kunlunxin:Kunlunxin",
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


def select_devices(wanted: str) -> list[Found]:
    """Return the devices that a command line names, in its order (see `survey_devices`).

    One that is lost or broken is among them (`Faulty`), for the record, as long as another can be measured.

    Raises:
        InputError: a device is unknown, absent or named twice, or a kind of device is there and cannot be used: what a
            node has is measured whole or not at all, unless the devices to measure are named.
        RefusedError: two of them have one identity: no statement could hold a record of both.
        DeviceError: every device is lost or broken.
    """
    found, problems = _find(wanted)
    if problems:
        first = problems[0]
        raise InputError(
            first.code,
            first.what,
            where=first.where,
            fix=f"{first.fix or 'mend it'}, or name the devices to measure with --device",
        )
    for collision in collisions([one.device for one in found]):
        raise collision
    if all(isinstance(one, Faulty) for one in found):
        first_fault = next(one for one in found if isinstance(one, Faulty))
        raise DeviceError(first_fault.code, first_fault.what, where=first_fault.device.device)
    return found


def survey_devices(wanted: str) -> tuple[list[Found], list[InputError]]:
    """Return the devices that a command line names, in its order, and why others cannot be used.

    Args:
        wanted: "all" (every accelerator of this node, or its CPU where there is none), or a list like "cuda:0,cuda:2",
            "cpu" or "fake:8" (eight fakes).

    Raises:
        InputError: a device is unknown, absent or named twice, or a kind that is named cannot be used.
    """
    found, problems = _find(wanted)
    fix = "repair or restart it; its neighbours are measured without it"
    for one in found:
        if isinstance(one, Faulty):
            why = InputError(one.code, one.what, where=one.device.device, fix=fix)
            problems.append(UnusableError(why, [one]))
    return sound(found), problems


def faulty_neighbours(wanted: str, found: Sequence[Found]) -> list[Faulty]:
    """Return the lost or broken devices that were not named, of the kinds of which some were.

    Args:
        wanted: as in `survey_devices`.
        found: the devices that it names.
    """
    names = {one.device.device for one in found}
    kinds = {kind.strip() for kind, colon, _ in (part.partition(":") for part in wanted.split(",")) if colon}
    others: list[Faulty] = []
    for kind in sorted(kinds - NEVER_IN_ALL):  # a kind that is named whole, or "all", has told of them already
        with suppress(PetasealError):
            others += [one for one in load_backend(kind).find(None) if isinstance(one, Faulty)]
    return [one for one in others if one.device.device not in names]


def file_patterns(found: Sequence[Found]) -> list[str]:
    """Return patterns of the files of the kinds of some devices, where the kinds say which (`SmiBackend.files`)."""
    kinds = sorted({one.device.device.partition(":")[0] for one in found})
    return [pattern for kind in kinds for pattern in getattr(load_backend(kind), "files", ())]


def _find(wanted: str) -> tuple[list[Found], list[InputError]]:
    """Return the devices that are named, and for "all" why other kinds of device cannot be used."""
    found: list[Found] = []
    problems: list[InputError] = []
    if wanted == "all":
        for kind in backend_names():
            if kind not in NEVER_IN_ALL:
                try:
                    found += load_backend(kind).find(None)
                except InputError as error:
                    problems.append(error)
        found = [f for f in found if f.model.kind != "cpu"] or found
    else:
        for part in wanted.split(","):
            kind, _, argument = part.strip().partition(":")
            found += load_backend(kind).find(argument or None)
    if not found:
        raise InputError("no-device", "no device was found", where=wanted, fix="see: petaseal devices")
    names = [f.device.device for f in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError("device-named-twice", f"{', '.join(twice)} is named more than once", where=wanted)
    for one in found:
        check_recordable(one)
    return [on_its_node(one) for one in found], problems


def on_its_node(found: Found) -> Found:
    """Return a device with the NUMA node that its PCI function is attached to; a simulated one has none."""
    known = not found.model.simulated and not isinstance(found, Faulty)
    node = numa_node(found.device.pci_address) if known else None
    return found if node is None else Found(found.model, msgspec.structs.replace(found.device, numa_node=node))


def check_recordable(found: Found) -> None:
    """Refuse, before anything is measured, what a record could not hold: a text that is too long, say.

    Raises:
        InputError: what a driver or tool tells of a device is no part of a record.
    """
    for told in (found.model, found.device):
        try:
            msgspec.convert(msgspec.to_builtins(told), type(told))
        except msgspec.ValidationError as error:
            raise InputError(
                "device-tool-unknown", f"tells what no record can hold: {in_words(error)}", where=found.device.device
            ) from None
