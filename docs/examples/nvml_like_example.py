"""A back end for a vendor whose library copies NVML under another name: this one file, and one entry point."""

from __future__ import annotations

from bench.devices.libraries.nvml_like import NvmlLikeSource
from bench.devices.vendor import VendorBackend


class BorealMl(NvmlLikeSource):
    """``libborealml.so``, whose functions are NVML's with "bnml" in place of "nvml"."""

    source = "bnml"  # as records name it
    vendor = "Boreal"
    prefix = "bnml"
    libraries = ("libborealml.so.2", "libborealml.so")
    folders = ("opt/boreal/lib64",)  # where the loader does not look by itself
    exposes = ("power", "clock", "temperature")  # on every release; the rest is found out on the node


class Boreal(VendorBackend):
    """Back end of kind "boreal"."""

    kind = "boreal"  # the entry point's name
    vendor = "Boreal"  # as in the ratings table
    vendor_ids = frozenset({0xFFF2})  # PCI
    sources = (BorealMl,)  # in the order of preference: a tool (vendor_example.py) would come last
    variables = (("CUDA_VISIBLE_DEVICES",),)
