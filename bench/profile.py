"""Profiles: reading and checking them, and choosing a shape from them by memory and trial rate (R3, R4, R7).

Pure but for reading the file; the trial is a function that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from bench.errors import DeviceError, InputError
from bench.record import ITEM_BYTES, MINIMUM_WINDOW_NS, SUBWINDOWS, Profile, Shape, Workload, read_profile
from bench.record.campaign import named_workloads
from bench.record.fields import WorkloadName
from bench.record.plan import operand_bytes
from bench.units import SECOND_NS
from kernels.base import MIN_DIMENSION

LEAST_LAUNCHES_PER_SUBWINDOW = 4  # R4
FINALISTS = 3  # of a tuned choice: those that are tried again for longer
# On accelerators, of operands: small shapes would need thousands of sets to exceed a cache (R3), each of which is made
# on the host, copied and checked. A device is measured with fewer, larger ones wherever it is fast enough for them.
MOST_SETS = 64

# On top of operands and products: the check's temporaries, the library's workspace, up-cast copies.
MEMORY_MARGIN_PERCENT = 150


class Trial(NamedTuple):
    """One shape that was tried, and the mean time of a launch, ns; None where it did not fit into the memory."""

    shape: Shape
    launch_ns: int | None


TryShape = Callable[[Shape], "int | None"]  # mean time of a launch, ns; None where the shape does not fit after all


def load_profile(name_or_file: str) -> Profile:
    """Return a profile that keeps what its grade promises.

    Raises:
        InputError: there is none of that name, it is not well-formed, its window is too short for its grade, or a
            precision has no shapes.
    """
    profile = read_profile(name_or_file)
    check_profile(profile, name_or_file)
    return profile


def check_profile(profile: Profile, where: object) -> None:
    """Refuse a profile that cannot reach its own grade or has nothing to run.

    Raises:
        InputError: as `load_profile`.
    """
    least = MINIMUM_WINDOW_NS[profile.grade]
    if counted_ns(profile) < least:
        raise InputError(
            "profile-below-grade",
            f"a window of {profile.window_ns / SECOND_NS:g} s counts as little as "
            f"{counted_ns(profile) / SECOND_NS:.3f} s, and grade {profile.grade} needs {least // SECOND_NS} s",
            where=where,
            fix="lengthen window_ns or lower the grade",
        )
    if not profile.measured:
        what = "does not say what is measured in each class of pools"
        raise InputError("profile-invalid", what, where=where, fix="name it: measured: {intelligent: [fp16]}")
    if any(len(set(names)) != len(names) for names in profile.measured.values()):
        raise InputError("profile-invalid", "names a workload twice in one class", where=where)
    references = [names for kernels in profile.kernels.values() for names in kernels.companions.values()]
    if any(len(set(names)) != len(names) for names in references):
        raise InputError("profile-invalid", "names a companion twice", where=where)
    for workload in {one: None for pools in profile.measured for one in profile.workloads_of(pools)}:
        shapes = profile.registered(workload)
        if not shapes:
            raise InputError("profile-invalid", f"has no shapes for {workload}", where=where)
        if min(min(s.m, s.n, s.k) for s in shapes) < MIN_DIMENSION:
            raise InputError("profile-invalid", f"has a dimension below {MIN_DIMENSION}", where=where)
    orders = [(p, s) for p, shapes in (profile.solve_shapes or {}).items() for s in shapes]
    if any(precision != "fp64" or not s.m == s.n == s.k >= MIN_DIMENSION for precision, s in orders):
        what = f"has a solve that is not of FP64, not of one order m = n = k, or below {MIN_DIMENSION}"
        raise InputError("profile-invalid", what, where=where)


def chosen_workloads(
    profile: Profile, pool_class: str, wanted: Sequence[str], also: Sequence[str]
) -> tuple[Workload, ...]:
    """Return what to measure: what was asked for, else what the profile measures in a class, and what is added.

    Raises:
        InputError: as `named_workloads`, or the profile measures nothing in the class.
    """
    measured: dict[str, tuple[WorkloadName, ...]] = dict((profile.measured or {}).items())
    if pool_class not in measured:
        what, fix = f"measures nothing in {pool_class} pools", f"choose from {', '.join(measured)}"
        raise InputError("usage", what, where=profile.profile, fix=fix)
    chosen = named_workloads(profile, wanted or measured[pool_class])
    return tuple(dict.fromkeys((*chosen, *named_workloads(profile, also))))


def counted_ns(profile: Profile) -> int:
    """Return the least time that a window of this profile counts, ns: a remainder of launches is lost (R9).

    A unit of launches is at most the 30 x launches_per_subwindow-th part of the window; at most 29 are left over, and
    half of one is lost at each edge.
    """
    units = SUBWINDOWS * profile.launches_per_subwindow
    return profile.window_ns * (units - SUBWINDOWS - 1) // units


def longest_launch_ns(profile: Profile) -> int:
    """Return how long one launch may take for a shape to be chosen (R4), ns."""
    return profile.window_ns // (SUBWINDOWS * profile.launches_per_subwindow)


def batch_of(profile: Profile, launch_ns: int) -> int:
    """Return how many launches are stamped together: what half of the longest launch holds, at least one."""
    return max(1, longest_launch_ns(profile) // 2 // max(1, launch_ns))


def needed_bytes(shape: Shape, workload: Workload, least_bytes: int) -> int:
    """Return the memory that a shape takes with all its operand sets and products, with a margin, in bytes.

    All sets of a solve share the place in which a copy of the matrix becomes its factors.
    """
    operands, output = operand_bytes(workload, shape.m, shape.n, shape.k), output_bytes(shape, workload)
    factors = shape.n * shape.n * ITEM_BYTES[workload.precision] if workload.is_solve else 0
    sets = operand_sets(shape, workload, least_bytes)
    return (sets * (operands + output) + factors) * MEMORY_MARGIN_PERCENT // 100


def output_bytes(shape: Shape, workload: Workload) -> int:
    """Return the bytes of one output: a product, or the solution of a solve."""
    return shape.m * (1 if workload.is_solve else shape.n) * ITEM_BYTES[workload.precision]


def operand_sets(shape: Shape, workload: Workload, least_bytes: int) -> int:
    """Return how many operand sets of a shape R3 asks for."""
    return max(2, -(-least_bytes // operand_bytes(workload, shape.m, shape.n, shape.k)))


def choose_fixed(
    profile: Profile,
    workload: Workload,
    least_bytes: int,
    memory_bytes: int | None,
    trial: TryShape,
    units: int | None = None,
    most_sets: int | None = None,
) -> Trial:
    """Return the largest registered shape that fits and whose launch is short enough (R4).

    Shapes are tried upwards, each only if the rate seen so far says that it will be short enough: a device that is
    slow on large shapes never has to run one. Those that need many operand sets are tried only if no other will do.

    Args:
        profile: with the registered shapes.
        workload: to run.
        least_bytes: of all operand sets together (R3).
        memory_bytes: that operands may take; None where it is unknown.
        trial: tries a shape.
        units: of the device: some shapes are registered for devices with so many only.
        most_sets: of operands, as long as there is another shape; None for any number.

    Raises:
        DeviceError: no shape fits into the memory, or the smallest is still too slow.
    """
    fitting = _fitting(profile, workload, least_bytes, memory_bytes, units)
    longest = longest_launch_ns(profile)
    # A launch somewhat over the profile's wish still keeps R4 on the smallest shape, which is better than no figure.
    bearable = longest * profile.launches_per_subwindow // LEAST_LAUNCHES_PER_SUBWINDOW
    for shapes in _by_sets(fitting, workload, least_bytes, most_sets):
        best = _largest_short(shapes, longest, trial)
        if best.launch_ns is not None and best.launch_ns <= bearable:
            return best
    if best.launch_ns is None:
        raise DeviceError("out-of-memory", f"not even the smallest {workload} shape fits into the memory")
    raise DeviceError("no-shape", f"one launch of the smallest {workload} shape takes {best.launch_ns} ns")


def _largest_short(shapes: Sequence[Shape], longest_ns: int, trial: TryShape) -> Trial:
    """Return the largest of some shapes whose launch is short enough, else the smallest with its trial."""
    smallest, *untried = sorted(shapes, key=_flop)
    # From below: the smallest shape gives the rate that all predictions start from, and costs least if it is too slow.
    best = Trial(smallest, trial(smallest))
    while best.launch_ns is not None and (candidate := _largest_within(untried, best, longest_ns)):
        tried = Trial(candidate, trial(candidate))
        if tried.launch_ns is None or tried.launch_ns > longest_ns:
            untried = [s for s in untried if _flop(s) < _flop(candidate)]
        else:
            best = tried
            untried = [s for s in untried if _flop(s) > _flop(candidate)]
    return best


def _by_sets(
    shapes: Sequence[Shape], workload: Workload, least_bytes: int, most_sets: int | None
) -> list[Sequence[Shape]]:
    """Return shapes in the order in which to try them: first those that need few operand sets, then those of many."""
    few = [s for s in shapes if most_sets is None or operand_sets(s, workload, least_bytes) <= most_sets]
    return [group for group in (few, [s for s in shapes if s not in few]) if group]


def choose_tuned(
    profile: Profile,
    workload: Workload,
    least_bytes: int,
    memory_bytes: int | None,
    trial: TryShape,
    seen: Trial,
    longer: TryShape | None = None,
    most_sets: int | None = None,
) -> Trial:
    """Return the registered shape that was fastest in its trial (R4), of those that fit and are short enough.

    Args:
        profile, workload, least_bytes, memory_bytes, trial, most_sets: as in `choose_fixed`.
        seen: a shape that was tried, whose rate says which others need not be.
        longer: tries one of the fastest again, for longer; None to take the fastest at once.

    Raises:
        DeviceError: no shape fits into the memory, or none is short enough.
    """
    longest = longest_launch_ns(profile)
    assert seen.launch_ns is not None
    fitting = _fitting(profile, workload, least_bytes, memory_bytes)
    hopeful = [s for s in fitting if seen.launch_ns * _flop(s) <= 2 * longest * _flop(seen.shape)]
    within: list[Trial] = []
    for shapes in _by_sets(hopeful, workload, least_bytes, most_sets):
        tried = [Trial(shape, trial(shape)) for shape in sorted(shapes, key=_flop, reverse=True)]
        within = [t for t in tried if t.launch_ns is not None and t.launch_ns <= longest]
        if within:
            break
    else:
        raise DeviceError("no-shape", f"no registered {workload} shape is short enough")
    # A burst does not meet the power limit: the fastest few are tried for seconds, as a window will load them.
    finalists = sorted(within, key=_ns_per_flop)[:FINALISTS]
    if longer is not None and len(finalists) > 1:
        finalists = [t for t in (Trial(f.shape, longer(f.shape)) for f in finalists) if t.launch_ns is not None]
    return min(finalists, key=_ns_per_flop)


def _ns_per_flop(trial: Trial) -> Fraction:
    return Fraction(trial.launch_ns or 0, _flop(trial.shape))


def _fitting(
    profile: Profile, workload: Workload, least_bytes: int, memory_bytes: int | None, units: int | None = None
) -> list[Shape]:
    fitting = [
        shape
        for shape in profile.registered_for(workload, units)
        if memory_bytes is None or needed_bytes(shape, workload, least_bytes) <= memory_bytes
    ]
    if not fitting:
        raise DeviceError("no-shape", f"no registered {workload} shape fits into the memory")
    return fitting


def _flop(shape: Shape) -> int:
    return 2 * shape.m * shape.n * shape.k


def _largest_within(shapes: Sequence[Shape], seen: Trial, longest_ns: int) -> Shape | None:
    """Return the largest shape whose launch is predicted to be short enough, by the rate of one that was tried.

    Rates grow with the shape: the next larger one is tried even if it would have to be twice as fast.
    """
    assert seen.launch_ns is not None
    predicted = [(s, seen.launch_ns * _flop(s) // _flop(seen.shape)) for s in shapes]
    within = [s for s, launch_ns in predicted if launch_ns <= longest_ns]
    if not within and predicted and predicted[0][1] <= 2 * longest_ns:
        return predicted[0][0]
    return within[-1] if within else None
