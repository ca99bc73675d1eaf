"""What a vendor's library answers, as a reading or a record holds it: sentinels and impossible values are unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from bench.errors import InputError, one_line
from bench.telemetry import Reading
from bench.units import MAX_INTEGER

Number = float | Decimal
POWER_MW = (1_000, 10_000_000)  # of one accelerator; what is outside is in another unit
CLOCK_MHZ = (1, 20_000)
COLDEST_C, HOTTEST_C = -100, 250
ALL_ONES = -1  # 0xFFFF... as a signed number
ALL_ONES_32 = 2**32 - 1
SWITCH = {0: "off", 1: "on"}


def bounded(value: Number | None, least: int, most: int) -> int | None:
    """Return a number as a whole one, rounded down; None for NaN and for what is out of range.

    Args:
        value: as the library answers; None where it has no answer.
        least: possible value.
        most: possible value.
    """
    return None if value is None or not math.isfinite(value) or not least <= value <= most else int(value)


def power_mw(value_mw: Number | None) -> int | None:
    """Return a power or a limit of power, mW; None for 0, a sentinel and what must be in another unit."""
    return bounded(value_mw, *POWER_MW)


def clock_mhz(value_mhz: Number | None) -> int | None:
    """Return a clock, MHz; None for 0 and a sentinel."""
    return bounded(value_mhz, *CLOCK_MHZ)


def temperature_c(value_c: Number | None) -> int | None:
    """Return a temperature in degrees Celsius, at least 0; None for a sentinel."""
    bound = None if value_c == ALL_ONES else bounded(value_c, COLDEST_C, HOTTEST_C)
    return None if bound is None else max(0, bound)


def utilisation_ppm(percent: Number | None) -> int | None:
    """Return a utilisation in millionths; None for a sentinel and for more than 100 %."""
    return bounded(None if percent is None else percent * 10_000, 0, 1_000_000)


def count(value: Number | None) -> int | None:
    """Return a count; None for a sentinel."""
    return bounded(value, 0, MAX_INTEGER)


def believed(reading: Reading) -> Reading:
    """Return a reading without what is a sentinel, in another unit or impossible."""
    errors = count(reading.ecc_uncorrected)
    return reading._replace(
        power_mw=power_mw(reading.power_mw),
        temperature_c=temperature_c(reading.temperature_c),
        clock_mhz=clock_mhz(reading.clock_mhz),
        utilisation_ppm=bounded(reading.utilisation_ppm, 0, 1_000_000),
        ecc_uncorrected=None if errors == ALL_ONES_32 else errors,
        energy_mj=bounded(reading.energy_mj, 1, MAX_INTEGER),  # 0 is what a device without a counter shows
    )


def text(raw: bytes | None) -> str | None:
    """Return a text up to its first NUL byte, trimmed; None for an empty one and for what is not printable.

    Args:
        raw: as the library wrote it; None where it has no answer.
    """
    decoded = " ".join((raw or b"").split(b"\0")[0].decode("utf-8", "replace").split())
    return decoded[:200] if decoded and decoded.isprintable() else None


def exposed(promised: Sequence[str], reading: Reading) -> tuple[str, ...]:
    """Return the quantities that a device exposes: those that are promised, and what else a reading has.

    Args:
        promised: of every device of the source.
        reading: of this one.
    """
    values = {
        "power": reading.power_mw,
        "clock": reading.clock_mhz,
        "temperature": reading.temperature_c,
        "throttle": reading.throttled,
        "ecc": reading.ecc_uncorrected,
        "processes": reading.processes,
    }
    return tuple(name for name, value in values.items() if name in promised or value is not None)


def ecc_modes(now: int, pending: int) -> tuple[tuple[str, str], ...]:
    """Return whether error correction is on, and where that changes with the next reset what it then is.

    Args:
        now: 0 for off, 1 for on; any other number is unknown.
        pending: the same, after the reset.
    """
    numbers = {"ecc": now} if pending == now else {"ecc": now, "ecc-pending": pending}
    return tuple((name, SWITCH[number]) for name, number in numbers.items() if number in SWITCH)


def refused(library: str, what: str, *, denied: bool = False) -> InputError:
    """Return the error of a library that does not answer.

    Args:
        library: file name, such as "libmtml.so".
        what: it does not do, a clause.
        denied: whether it lacked a permission.
    """
    return InputError(
        "device-permission" if denied else "device-library-unusable",
        one_line(what, 200),
        where=library,
        fix="give this user access to the devices" if denied else "load the driver that belongs to this library",
    )
