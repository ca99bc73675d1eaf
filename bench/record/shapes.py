"""One fixed shape for each model of a campaign (R4): what nodes choose, and what is settled from that. Pure.

The smallest shape that any device of a model chose: all of them can run it, and equal devices do equal work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from bench.record.fields import Count, Name, Positive, Precision, Text, UtcTime, Workload, encode
from bench.record.node import CountUnit, DeviceModel
from bench.record.plan import Profile, Shape
from bench.units import utc_ns


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes two devices one model: its name, not what a host adds to it, such as drivers and free memory."""

    kind: Literal["cpu", "gpu", "npu"]
    vendor: Text
    model: Text
    bin: Text | None
    count_unit: CountUnit
    units: Count | None  # of a slice, whose size its name need not give; null for all else
    simulated: bool
    plays: Name | None

    def __str__(self) -> str:
        name = self.model if self.model.startswith(self.vendor) else f"{self.vendor} {self.model}"
        size = f"{self.count_unit} of {self.units} units" if self.units else None
        return ", ".join(filter(None, (name, self.bin, size)))


def product_of(model: DeviceModel) -> Product:
    """Return the product that a device is, by which shapes are settled."""
    product = Product(*(getattr(model, name) for name in Product.__struct_fields__))
    return product if model.count_unit == "slice" else msgspec.structs.replace(product, units=None)


class ChosenShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fixed shape that devices of one node chose."""

    product: Product
    precision: Precision
    shape: Shape
    devices: Positive


class SettledShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fixed shape that every device of a model runs in a campaign."""

    product: Product
    precision: Precision
    shape: Shape
    devices: Positive  # that reported a choice
    chosen_by: Positive  # those of them that chose this shape

    def __str__(self) -> str:
        shape = f"{self.shape.m} x {self.shape.n} x {self.shape.k}"
        return f"{self.precision} of {self.product}: {shape}, the choice of {self.chosen_by} of {self.devices} devices"


class Settled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shapes of a campaign, as the coordinator published them before T0."""

    settled_at: UtcTime
    shapes: tuple[SettledShape, ...]

    def __post_init__(self) -> None:
        utc_ns(self.settled_at)


def settle(chosen: Iterable[ChosenShape], profile: Profile) -> tuple[SettledShape, ...]:
    """Return the smallest shape that devices of each model chose in each precision, whatever the order of the nodes.

    Args:
        chosen: what all nodes reported; a shape that the profile does not register is no choice.
        profile: of the campaign.
    """
    by_model: dict[tuple[Product, Precision], dict[Shape, int]] = {}
    for one in chosen:
        if one.shape in {Shape(m=s.m, n=s.n, k=s.k) for s in profile.registered(Workload(one.precision))}:
            devices = by_model.setdefault((one.product, one.precision), {})
            devices[one.shape] = devices.get(one.shape, 0) + one.devices
    settled = []
    # A larger one would not fit into, or be too slow on, the device that chose the smallest.
    for (product, precision), devices in by_model.items():
        smallest = min(devices, key=lambda s: (s.m * s.n * s.k, s.m, s.n, s.k))
        settled.append(SettledShape(product, precision, smallest, sum(devices.values()), devices[smallest]))
    return tuple(sorted(settled, key=encode))
