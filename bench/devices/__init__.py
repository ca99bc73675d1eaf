"""The back ends of accelerator vendors: one file and one line in this table for each.

A back end finds devices, tells what identifies them, and opens them for a kernel. It never measures and never judges,
and imports its vendor's library inside the function that needs it.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from bench.devices.base import Backend, Found
from bench.errors import InputError

DEVICES = {
    "cpu": "bench.devices.cpu:Cpu",
    "fake": "bench.devices.fake:Fake",
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
    """Return the devices that a command line names, in its order.

    Args:
        wanted: "all" (every accelerator of this node, or its CPU where there is none), or a list like "cuda:0,cuda:2",
            "cpu" or "fake:8" (eight fakes).

    Raises:
        InputError: a device is unknown, absent or named twice.
    """
    found: list[Found] = []
    if wanted == "all":
        kinds = [kind for kind in backend_names() if kind not in NEVER_IN_ALL]
        found = [device for kind in kinds for device in load_backend(kind).find(None)]
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
    return found
