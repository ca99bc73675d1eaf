"""The profile: how every device is measured. (When and where is the campaign's to say.)"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bench.record.fields import (
    Choice,
    Count,
    Document,
    Grade,
    Name,
    PoolClass,
    Positive,
    Ppm,
    Precision,
    Workload,
    WorkloadName,
    workload_of,
)
from bench.record.network import NetworkPlan
from bench.units import SECOND_NS, SOLVES

# Contracts of the run rules that the harness keeps and every verifier checks: each stands here once.
MINIMUM_WINDOW_NS: dict[Grade, int] = {  # R7, of counted time; descending
    "certification": 600 * SECOND_NS,
    "standard": 60 * SECOND_NS,
    "smoke": 3 * SECOND_NS,
}
UNKNOWN_CACHE_OPERAND_BYTES = {"cpu": 256 * 2**20, "gpu": 2**30, "npu": 2**30}  # R3
ITEM_BYTES: dict[Precision, int] = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8}

ReferenceRole = Literal["path", "ceiling", "bandwidth"]
ROLES: tuple[ReferenceRole, ...] = get_args(ReferenceRole)
# What kind of reference a kernel is; any other is a cross-check ("path"), a second way to the same product.
REFERENCE_ROLES: dict[str, ReferenceRole] = {
    "issue-mma": "ceiling",
    "issue-wgmma": "ceiling",
    "issue-fma": "ceiling",
    "triad": "bandwidth",
}


LU_KERNELS = dict(zip(SOLVES, ("lu", "mixed"), strict=True))


def kernel_for(choice: Choice, kernel: str) -> str:
    """Return the kernel of a workload on a device whose products a kernel computes: solves use the same library."""
    return kernel if choice not in SOLVES else f"{LU_KERNELS[choice]}-{kernel.partition('-')[2]}"


def operand_bytes(workload: Workload, m: int, n: int, k: int) -> int:
    """Return the bytes of one operand set: A (m x k) and B (k x n); of a solve A and its right side."""
    return (m * k + k * (1 if workload.is_solve else n)) * ITEM_BYTES[workload.precision]


def role_of(kernel: str) -> ReferenceRole:
    """Return which kind of reference measurement a kernel gives."""
    return REFERENCE_ROLES.get(kernel, "path")


class Shape(Document, frozen=True, kw_only=True):
    """One pre-registered GEMM shape (R4): C (m x n) = A (m x k) B (k x n)."""

    m: Positive
    n: Positive
    k: Positive
    # Of the fixed choice: for devices with so many units only, over which the tiles of the product divide evenly.
    units: Positive | msgspec.UnsetType = msgspec.UNSET


class SteadyState(Document, frozen=True, kw_only=True):
    """Limits of the warm-up's trends (R6): the change over the last samples that still counts as no trend."""

    min_samples: Annotated[int, Meta(ge=4, le=10_000)]
    max_rate_trend_ppm: Ppm
    max_clock_trend_ppm: Ppm
    max_temperature_trend_c: Annotated[int, Meta(ge=0, le=100)]


class Kernels(Document, frozen=True, kw_only=True):
    """What computes on one kind of device."""

    figure: Name  # the kernel whose figure counts
    # By precision, the references of the fixed figure: kernels of a cross-check, ceilings and bandwidths.
    companions: dict[Precision, Annotated[tuple[Name, ...], Meta(max_length=8)]] = msgspec.field(default_factory=dict)


class Profile(Document, frozen=True, kw_only=True):
    """How every device is measured: a YAML file in ``configs/profiles``, whose digest stands in each record."""

    profile: Name
    grade: Grade
    # What is measured on the devices of each class of pools, in this order: what the policies count in it.
    measured: dict[PoolClass, Annotated[tuple[WorkloadName, ...], Meta(min_length=1)]] | UnsetType = UNSET
    # Of the profiles that 0.2.0 released first, which measured each precision in each choice on every device.
    precisions: Annotated[tuple[Precision, ...], Meta(min_length=1)] | UnsetType = UNSET
    choices: Annotated[tuple[Choice, ...], Meta(min_length=1)] | UnsetType = UNSET
    warmup_ns: Positive  # budget of R6: from full load to the opening of the core window
    # How long before its own ramp slot a ready device may load already (R6): it is never counted as warm-up.
    preheat_ns: Annotated[int, Meta(ge=0, le=300 * SECOND_NS)] | UnsetType = UNSET
    window_ns: Positive  # length of the core window; longer than R7's minimum, since a remainder is not counted (R9)
    guard_ns: Positive  # load goes on after the core window for this long (R10)
    stagger_ns: Count  # ramp: delay between one device of a node and the next
    launches_per_subwindow: Annotated[int, Meta(ge=4, le=100_000)]  # what a shape is chosen for; R4 demands >= 4
    verified_launches: Annotated[int, Meta(ge=1, le=10_000)]  # for each operand set in one window, drawn from the seed
    telemetry_interval_ns: Positive
    busy: Literal["refuse", "flag"]  # a device on which a foreign process has a context: no figure, or one that says so
    steady_state: SteadyState
    companion_ns: Count  # for each reference measurement
    kernels: dict[Name, Kernels]  # by kind of device, such as cuda; a kind that is absent computes with its own kernel
    shapes: dict[Precision, tuple[Shape, ...]]  # fixed: the largest that fits and whose launch is short enough
    tuned_shapes: dict[Precision, tuple[Shape, ...]]  # tuned: the fastest of these in short trials
    solve_shapes: dict[Precision, tuple[Shape, ...]] | UnsetType = UNSET  # of solves (R15), n x n x n: chosen as fixed
    network: NetworkPlan | UnsetType = UNSET

    def registered(self, workload: Workload) -> tuple[Shape, ...]:
        """Return the shapes that a workload may have (R4)."""
        tuned, solve = self.tuned_shapes, self.solve_shapes or {}
        shapes = {"fixed": self.shapes, "tuned": tuned, "solve": solve, "mixed": solve}[workload.choice]
        return shapes.get(workload.precision, ())

    def workloads_of(self, pool_class: PoolClass) -> tuple[Workload, ...]:
        """Return what is measured on the devices of a class of pools, in its order."""
        return tuple(map(workload_of, (self.measured or {}).get(pool_class, ())))

    def registered_for(self, workload: Workload, units: int | None) -> tuple[Shape, ...]:
        """Return those of a workload's shapes that a device with so many units takes; None: it does not report them."""
        return tuple(s for s in self.registered(workload) if s.units in (msgspec.UNSET, units))

    def references_of(self, kind: str, workload: Workload) -> tuple[Name, ...]:
        """Return the kernels of a workload's reference measurements on a kind of device."""
        kernels = self.kernels.get(kind)
        if kernels is None or workload.choice != "fixed":
            return ()
        return kernels.companions.get(workload.precision, ())

    def references_ns(self, workload: Workload, roles: Collection[ReferenceRole] = ROLES) -> int:
        """Return how long a workload's references of given roles take on the kind of device that has most, ns."""
        references = (self.references_of(kind, workload) for kind in self.kernels)
        counts = (sum(role_of(name) in roles for name in names) for names in references)
        return self.companion_ns * max(counts, default=0)
