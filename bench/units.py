"""Units and numbers: integers in signed documents, truncated decimal text for people (docs/formats.md).

1 PFLOPS is 10^15 FLOP/s, decimal only; one multiply-add is 2 FLOP. Rates in documents are integers in MFLOP/s.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from functools import lru_cache

MAX_INTEGER = 2**53 - 1  # what every JSON parser keeps exact (RFC 8259, section 6)
MFLOP_PER_PFLOP = 10**9
SECOND_NS = 10**9
DAY_NS = 86_400 * SECOND_NS
MFLOP_PER_UNIT = {"EFLOPS": 10**12, "PFLOPS": 10**9, "TFLOPS": 10**6, "GFLOPS": 10**3, "MFLOPS": 1}
SOLVES = ("solve", "mixed")  # the choices of a workload that are no products (R15)
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def launch_sixths(choice: str, m: int, n: int, k: int) -> int:
    """Return the exact work of one launch in sixths of a FLOP: that of a solve is no whole number of FLOP (R15).

    Args:
        choice: of the workload (`bench.record.fields.Choice`): products 2mnk, solves (2/3)n^3 + (3/2)n^2.
        m, n, k: of the shape; of a solve all three are its order.
    """
    return n * n * (4 * n + 9) if choice in SOLVES else 12 * m * n * k


def work_mflop(choice: str, m: int, n: int, k: int, launches: int) -> int:
    """Return the work of `launches` launches of a workload in whole MFLOP, truncated once (docs/formats.md)."""
    return launches * launch_sixths(choice, m, n, k) // (6 * 10**6)


def gemm_mflop(m: int, n: int, k: int, launches: int) -> int:
    """Return the work of `launches` products of m x k by k x n in whole MFLOP, truncated once."""
    return work_mflop("fixed", m, n, k, launches)


def truncated(value: int, per: int, decimals: int) -> str:
    """Return value/per as decimal text truncated towards zero, so that 1999.96 never prints as 2000.0.

    Args:
        value: integer to show.
        per: integer size of the unit that is shown.
        decimals: digits after the point, >= 0.
    """
    # Digits of integers, never of a float: a sum that just misses a threshold must not be rounded to it.
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value), per)
    digits = f"{rest * 10**decimals // per:0{decimals}d}" if decimals else ""
    return f"{sign}{whole:,}" + (f".{digits}" if decimals else "")


def rate_text(rate_mflop_s: int | None) -> str:
    """Return a rate as a text, in the largest unit that leaves at least one whole digit, truncated."""
    if rate_mflop_s is None:
        return "n/a"
    for unit in ("PFLOPS", "TFLOPS", "GFLOPS"):
        if abs(rate_mflop_s) >= MFLOP_PER_UNIT[unit]:
            return f"{truncated(rate_mflop_s, MFLOP_PER_UNIT[unit], 3)} {unit}"
    return f"{rate_mflop_s} MFLOPS"


def bandwidth_text(mb_s: int) -> str:
    """Return a bandwidth in 10^6 byte/s as a text in GB/s, truncated."""
    return f"{truncated(mb_s, 1000, 3)} GB/s"


def size_text(size_bytes: int) -> str:
    """Return the size of a file as a text: in KB, rounded up, and from 1 MB on in MB with one decimal."""
    return f"{-(-size_bytes // 1000)} KB" if size_bytes < 10**6 else f"{size_bytes / 1e6:.1f} MB"


def pflops_text(rate_mflop_s: int | None, decimals: int = 1) -> str:
    """Return a rate in PFLOPS, truncated to `decimals` digits; "n/a" where there is none."""
    return "n/a" if rate_mflop_s is None else truncated(rate_mflop_s, MFLOP_PER_PFLOP, decimals)


def percent_text(ppm: int | None, decimals: int = 1) -> str:
    """Return a ratio in parts per million as per cent, truncated."""
    return "n/a" if ppm is None else truncated(ppm, 10_000, decimals) + " %"


def ratio_ppm(part: int, whole: int) -> int | None:
    """Return part/whole in parts per million, truncated; None where there is no whole."""
    return part * 10**6 // whole if whole > 0 else None


def full_name(vendor: str, model: str) -> str:
    """Return a device's vendor and model as a text, the vendor's name once."""
    return model if model.casefold().startswith(vendor.casefold()) else f"{vendor} {model}"


def efficiency(rate_mflop_s: int, power_mw: int | None) -> int | None:
    """Return MFLOP/s for each watt, truncated; None where the power is not known."""
    return rate_mflop_s * 1000 // power_mw if power_mw else None


def utc_text(epoch_ns: int) -> str:
    """Return nanoseconds since the epoch in the one form that documents use, truncated to microseconds."""
    return (_EPOCH + timedelta(microseconds=epoch_ns // 1000)).strftime(TIME_FORMAT).rjust(27, "0")


@lru_cache(maxsize=4096)
def utc_ns(text: str) -> int:
    """Return the nanoseconds since the epoch of a time in the one form that documents use.

    Raises:
        ValueError: `text` is not exactly of the form 2026-03-01T08:00:00.000000Z.
    """
    # Formatted again and compared: other forms are read too, and two texts of one time would be two documents.
    moment = datetime.fromisoformat(text[:-1]).replace(tzinfo=None)
    if f"{moment.isoformat(timespec='microseconds')}Z" != text:
        raise ValueError(f"time {text!r} is not of the form 2026-03-01T08:00:00.000000Z")
    return (moment.replace(tzinfo=timezone.utc) - _EPOCH) // timedelta(microseconds=1) * 1000


def shortened_list(names: Iterable[str], shown: int = 3) -> str:
    """Return the first of many names, with how many more there are: "a, b, c and 7 more"."""
    known = list(names)
    rest = len(known) - shown
    return ", ".join(known[:shown]) + (f" and {rest} more" if rest > 0 else "")
