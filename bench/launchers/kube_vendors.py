"""The table of accelerators on Kubernetes: names of devices and of shares, and what each vendor's pods need.

Pure: ``configs/kubernetes/vendors.yaml`` tells of each field and of where it is from.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

import msgspec

from bench.errors import InputError
from bench.launchers.kube_options import KEY
from bench.record.configs import config_path, read_yaml

Basis = Literal["V", "T", "K"]  # the vendor's own documents, others', general knowledge
DEVICE_CLASS = "deviceclass.resource.kubernetes.io"  # under it any device class of DRA can be asked for


class Resource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name under which a device plug-in gives out accelerators, or shares of them."""

    resource: str
    device: str
    counts: Literal["device", "slice"]
    basis: Basis
    source: str
    note: str | None = None


class Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something by its name, and on what basis it is known."""

    name: str
    basis: Basis
    note: str | None = None


class DeviceGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of the host to which the device files belong."""

    name: str
    number: int | None
    basis: Basis


class HostPath(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pod needs from its host where no runtime of the vendor puts it in."""

    path: str
    type: Literal["File", "Directory"]
    basis: Basis


class Vendor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What pods with a vendor's accelerators need."""

    id: str
    vendor: str
    plugin: Fact
    resources: tuple[Resource, ...]
    runtime_class: Fact | None
    groups: tuple[DeviceGroup, ...] | None
    device_files: str
    host_paths: tuple[HostPath, ...]
    tool: Fact
    image: Fact
    setup: Fact | None = None

    def default_groups(self) -> tuple[int, ...]:
        """Return the numbers of the device files' groups, as far as they are alike on all hosts."""
        return tuple(group.number for group in self.groups or () if group.number is not None)

    def group_remark(self) -> str | None:
        """Return what the operator has to look up of groups; None where no pod needs one."""
        if self.groups == ():
            return None
        if self.groups is None:
            which = f"which group owns {self.vendor}'s device files is not known"
        else:
            listed = ", ".join(f"{one.name}{f' ({one.number} assumed)' if one.number else ''}" for one in self.groups)
            which = f"{self.vendor}'s device files belong to {listed}"
        return f"{which}: look the number up on a node (ls -ln {self.device_files}) and give group=NUMBER"


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of device plug-ins and of labels."""

    vendors: tuple[Vendor, ...]
    share_patterns: tuple[str, ...]
    topology_labels: tuple[str, ...]

    @property
    def resources(self) -> tuple[Resource, ...]:
        """Return the device resources of all vendors."""
        return tuple(one for vendor in self.vendors for one in vendor.resources)


@cache
def known() -> Known:
    """Return the table."""
    return read_yaml(config_path("kubernetes", "vendors.yaml"), Known)


@cache
def is_share(resource: str) -> bool:
    """Return whether a resource counts shares of devices: by the table, else by the last part of its name."""
    listed = [one.counts for one in known().resources if one.resource == resource]
    if listed:
        return listed[0] == "slice"
    last = resource.rpartition("/")[2]
    return any(re.search(pattern, last, re.IGNORECASE) for pattern in known().share_patterns)


def shares_device(resource: str) -> bool:
    """Return whether a resource counts shares of an accelerator, and not of a network card or the like."""
    named = re.search("[gnpx]pu|mlu|dcu|gcu|cuda", resource.rpartition("/")[2], re.IGNORECASE)
    return "/" in resource and is_share(resource) and (named is not None or vendor_of(resource) is not None)


@cache
def vendor_of(resource: str) -> Vendor | None:
    """Return whose devices a resource counts, by the domain of its name; None where no vendor of the table has it.

    Args:
        resource: such as "huawei.com/Ascend910", or a device class such as "gpu.nvidia.com" below `DEVICE_CLASS`.
    """
    domain, _, last = resource.partition("/")
    for vendor in known().vendors:
        for name in {one.resource.partition("/")[0] for one in vendor.resources}:
            if domain == name or (domain == DEVICE_CLASS and last.endswith(f".{name}")):
                return vendor
    return None


def parse_gres(gres: str) -> tuple[str, int]:
    """Return a device resource and how many of it each node has.

    Args:
        gres: such as "nvidia.com/gpu:8".

    Raises:
        InputError: it has another form, or counts shares of devices.
    """
    name, _, count = gres.rpartition(":")
    domain, slash, _ = name.partition("/")
    reserved = domain.endswith("kubernetes.io") and domain != DEVICE_CLASS
    if not slash or not KEY.fullmatch(name) or reserved or not re.fullmatch(r"[1-9]\d{0,3}", count):
        fix = "name the device plug-in's resource and its count on a node, such as nvidia.com/gpu:8"
        raise InputError("gres-invalid", "is no device resource of Kubernetes", where=gres, fix=fix)
    if is_share(name):
        fix = "set the device plug-in so that it gives out whole devices"
        raise InputError("gres-invalid", "counts shares of devices, not devices", where=gres, fix=fix)
    return name, int(count)
