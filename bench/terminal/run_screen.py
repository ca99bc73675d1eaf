"""What ``petaseal run`` shows of a measurement that goes on: its state, and a screen of it as lines.

Pure: events, the time and the size of the screen are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.language import text
from bench.terminal.columns import Column, Line, fitted, table
from bench.terminal.summary import clipped
from bench.units import MFLOP_PER_UNIT, SECOND_NS, percent_text, ratio_ppm, truncated, utc_ns

if TYPE_CHECKING:
    from bench.engine.progress import SoFar
    from bench.engine.schedule import UtcWindow
    from bench.engine.workers import Event
    from bench.telemetry import Reading

UNKNOWN = "-"  # as in `devices --watch`: not exposed, or not read yet
REMARKS_SHOWN = 3
LOADING = ("preheat", "warmup", "window")  # phases with a rate that is the figure's
PHASES = ("preparing", "ready", *LOADING, "guard", "measured", "concluding", "failed")


class DeviceNow:
    """One device at this moment, as its worker's last event says.

    Args:
        name: such as cuda:0.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.phase = "preparing"
        self.workload = ""
        self.rate_mflop_s: int | None = None
        self.nominal_mflop_s: int | None = None
        self.so_far: SoFar | None = None
        self.is_wrong = False
        self.trouble: str | None = None

    def take(self, event: Event) -> None:
        """Take an event of this device."""
        if event.workload is not None and event.workload != self.workload:
            self.so_far, self.rate_mflop_s, self.is_wrong = None, None, False
            self.workload = event.workload
        self.phase = event.what if event.what in PHASES else "reference"
        self.rate_mflop_s = event.rate_mflop_s if self.phase in LOADING else None
        if event.so_far is not None:
            self.so_far = event.so_far
        self.trouble = event.text if event.what == "failed" else None  # of one workload: the next may be measured

    def phase_at(self, window: UtcWindow | None, now_ns: int) -> str:
        """Return the phase; after the window's end the load of the guard, of which a worker reports nothing."""
        is_over = window is not None and self.phase == "window" and now_ns >= window.closes_ns
        return "guard" if is_over else self.phase

    def left_ns(self, window: UtcWindow | None, now_ns: int) -> int | None:
        """Return how long the phase will last from now on, ns; None where that is not known."""
        if window is None:
            return None
        ends = {
            "ready": window.load_ns,
            "preheat": window.load_ns,
            "warmup": window.opens_ns,
            "window": window.closes_ns,
            "guard": window.stops_ns,
        }
        until_ns = ends.get(self.phase_at(window, now_ns))
        return None if until_ns is None else max(0, until_ns - now_ns)


class RunNow:
    """A run at this moment.

    Args:
        node_id: of the node.
        profile: by which it is measured.
        devices: of the node.
    """

    def __init__(self, node_id: str, profile: str, devices: Sequence[DeviceNow]) -> None:
        self.node_id = node_id
        self.profile = profile
        self.devices = devices
        self.windows: Mapping[str, UtcWindow] = {}
        self.starts_ns: int | None = None  # T0, UTC
        self.prepared_by_ns: int | None = None  # as estimated, UTC
        self.after_start_ns: int | None = None  # from T0 to the record, as estimated
        self._by_name = {one.name: one for one in devices}

    def device(self, name: str | None) -> DeviceNow | None:
        """Return a device by its name; None for none."""
        return None if name is None else self._by_name.get(name)

    def take(self, event: Event) -> None:
        """Take an event of the measurement."""
        if event.what == "start" and event.windows is not None:
            self.windows = event.windows
            self.starts_ns = utc_ns(event.text or "")
        elif (device := self.device(event.device)) is not None:
            device.take(event)

    def left_ns(self, now_ns: int) -> int | None:
        """Return how long the whole run takes from now on, ns; None where that is not known."""
        if self.after_start_ns is None or self.prepared_by_ns is None:
            return None
        starts_ns = self.starts_ns or max(now_ns, self.prepared_by_ns)
        return max(0, starts_ns + self.after_start_ns - now_ns)


def frame(run: RunNow, columns: int, rows: int, now_ns: int, remarks: Sequence[str]) -> list[Line]:
    """Return a run at one moment as a screen of at most so many lines, each at most so wide.

    Args:
        run: to be shown.
        columns: of the terminal; one is left free, where a line that fills it would be wrapped.
        rows: of the terminal.
        now_ns: UTC.
        remarks: so far, the oldest first.
    """
    width = columns - 1
    shown = [clipped(one, width) for one in remarks[-REMARKS_SHOWN:]] if rows > 12 else []
    room = max(1, rows - 2 - (1 + len(shown) if shown else 0))  # title and headings
    # The worst come first where not all fit: a device in trouble must not be among those that are left out.
    ordered = list(run.devices)
    if len(ordered) > room:
        ordered.sort(key=lambda one: not (one.trouble or one.is_wrong))
    listed = ordered if len(ordered) <= room else ordered[: room - 1]
    heading, *lines = device_table(run, listed, ordered[len(listed) :], width, now_ns)
    styles = [style_of(one) for one in listed] + [""] * (len(lines) - len(listed))
    screen = [(clipped(title(run, width, now_ns), width), "head"), (clipped(heading, width), "dim")]
    screen += [(clipped(line, width), style) for line, style in zip(lines, styles, strict=True)]
    if shown:
        screen += [("", ""), *((one, "dim") for one in shown)]
    return screen[:rows]


def style_of(device: DeviceNow) -> str:
    """Return how a device's line is painted."""
    if device.trouble or device.is_wrong:
        return "bad"
    return "warn" if device.so_far is not None and device.so_far.reading.throttled else ""


def title(run: RunNow, width: int, now_ns: int) -> str:
    """Return what is being measured and how long it takes, the most important first, as much as fits."""
    place = next((i for i, one in enumerate(run.windows.values()) if now_ns < one.stops_ns), None)
    if place is not None:
        name = list(run.windows)[place]
        what = text("run", "window-of", workload=name, place=place + 1, windows=len(run.windows))
    else:
        what = text("phase", "concluding" if run.windows else "preparing")
    left_ns = run.left_ns(now_ns)
    whole = [] if left_ns is None else [text("run", "whole-left", left=left_text(left_ns))]
    return fitted([what, *whole, text("run", "profile", profile=run.profile), run.node_id], width)


def device_table(
    run: RunNow, listed: Sequence[DeviceNow], rest: Sequence[DeviceNow], width: int, now_ns: int
) -> list[str]:
    """Return a table with one line a device, and one for those that the screen has no room for."""
    scale = scale_of([one.rate_mflop_s for one in run.devices] + [sustained(one) for one in run.devices])
    rows = [device_cells(one, run.windows.get(one.workload), scale, now_ns) for one in listed]
    if rest:
        rows.append(rest_cells(rest, scale))
    # How important each is: the least is dropped first on a narrow terminal.
    headings = (
        (text("run", "device"), 0, False),
        (text("run", "phase"), 2, False),
        (text("run", "now", unit=scale.unit), 1, True),
        (text("run", "sustained"), 3, True),
        (text("run", "at-least"), 4, True),
        (text("run", "share-short"), 5, True),
        (text("run", "temperature"), 8, True),
        (text("run", "power"), 9, True),
        (text("run", "clock"), 11, True),
        (text("run", "throttled"), 7, False),
        (text("run", "verified"), 10, False),
        (text("run", "left"), 6, True),
    )
    columns = zip(*rows, strict=True)
    shown = [Column(name, of_all, rank, right) for (name, rank, right), of_all in zip(headings, columns, strict=True)]
    shown[2] = shown[2]._replace(short=scale.unit)
    return table(shown, width)


def device_cells(device: DeviceNow, window: UtcWindow | None, scale: Scale, now_ns: int) -> tuple[str, ...]:
    """Return one device as text, in the order of the table's columns."""
    so_far, phase = device.so_far, device.phase_at(window, now_ns)
    bounds = None if so_far is None else so_far.bounds()
    least = scale.text(None if bounds is None else bounds.certified_mflop_s)
    rate = sustained(device)
    if rate is not None and bounds is None:
        least = text("run", "too-few")
    share = None if rate is None or device.nominal_mflop_s is None else ratio_ppm(rate, device.nominal_mflop_s)
    left_ns = device.left_ns(window, now_ns)
    # What voids a figure is said on the narrowest screen, where the column of checks is dropped.
    phase = "failed" if device.trouble is not None else "wrong" if device.is_wrong else phase
    return (
        device.name,
        text("phase", phase),
        scale.text(device.rate_mflop_s),
        scale.text(rate),
        least,
        UNKNOWN if share is None else percent_text(share),
        *reading_cells(None if so_far is None else so_far.reading),
        verified_text(device),
        UNKNOWN if left_ns is None else left_text(left_ns),
    )


def reading_cells(reading: Reading | None) -> tuple[str, str, str, str]:
    """Return temperature, power, clock and reasons of throttling as text; what is not exposed is never 0."""
    if reading is None:
        return (UNKNOWN,) * 4
    reasons = UNKNOWN
    if reading.throttled is not None:
        first, *further = reading.throttled or (text("run", "no"),)
        reasons = first + (f" +{len(further)}" if further else "")
    return (
        UNKNOWN if reading.temperature_c is None else str(reading.temperature_c),
        UNKNOWN if reading.power_mw is None else str(reading.power_mw // 1000),
        UNKNOWN if reading.clock_mhz is None else str(reading.clock_mhz),
        reasons,
    )


def verified_text(device: DeviceNow) -> str:
    """Return how many products were verified, and whether any was wrong."""
    if device.so_far is None or not device.so_far.verified:
        return UNKNOWN
    return text("run", "wrong" if device.is_wrong else "good", launches=device.so_far.verified)


def rest_cells(rest: Sequence[DeviceNow], scale: Scale) -> tuple[str, ...]:
    """Return devices that the screen has no room for as one line: sums of rates and powers, the highest temperature."""
    looks = [one.so_far for one in rest if one.so_far is not None]
    readings = [look.reading for look in looks]
    temperatures = [one.temperature_c for one in readings if one.temperature_c is not None]
    powers = [one.power_mw for one in readings if one.power_mw is not None]
    clocks = [one.clock_mhz for one in readings if one.clock_mhz is not None]
    rates = [one.rate_mflop_s for one in rest if one.rate_mflop_s is not None]
    so_far = [rate for one in rest if (rate := sustained(one)) is not None]
    nominal = [one.nominal_mflop_s for one in rest if one.nominal_mflop_s is not None and sustained(one) is not None]
    share = ratio_ppm(sum(so_far), sum(nominal)) if len(nominal) == len(so_far) else None
    verified = sum(look.verified for look in looks)
    return (
        text("run", "rest", devices=len(rest)),
        text("run", "summed"),
        scale.text(sum(rates) if rates else None),
        scale.text(sum(so_far) if so_far else None),
        UNKNOWN,  # bounds are not added up before they are judged
        UNKNOWN if share is None else percent_text(share),
        str(max(temperatures)) if temperatures else UNKNOWN,
        str(sum(powers) // 1000) if powers else UNKNOWN,
        str(min(clocks)) if clocks else UNKNOWN,
        str(sum(bool(one.throttled) for one in readings)) if readings else UNKNOWN,
        text("run", "wrong" if any(one.is_wrong for one in rest) else "good", launches=verified),
        "",
    )


def sustained(device: DeviceNow) -> int | None:
    """Return the rate of a device's window so far, MFLOP/s; None before it."""
    return None if device.so_far is None else device.so_far.sustained_mflop_s()


class Scale(NamedTuple):
    """The unit and the digits in which all rates of a table are shown, so that they can be compared at a glance."""

    unit: str
    decimals: int

    def text(self, rate_mflop_s: int | None) -> str:
        """Return a rate without its unit, truncated."""
        return UNKNOWN if rate_mflop_s is None else truncated(rate_mflop_s, MFLOP_PER_UNIT[self.unit], self.decimals)


def scale_of(rates: Sequence[int | None]) -> Scale:
    """Return the scale of some rates: the unit of the largest, and as many decimals as the least needs, at most 3."""
    known = [rate for rate in rates if rate] or [MFLOP_PER_UNIT["TFLOPS"]]
    # A device that is nearly standing must not make the numbers of all others long.
    unit = "TFLOPS" if max(known) >= MFLOP_PER_UNIT["TFLOPS"] else "GFLOPS"
    whole = min(known) // MFLOP_PER_UNIT[unit]
    return Scale(unit, 3 if whole < 10 else 2 if whole < 100 else 1)


def left_text(left_ns: int) -> str:
    """Return a time to come as a text, such as "48 s", "12:05" or "1:02:05"; rounded up, so that 0 is the end."""
    seconds = -(-left_ns // SECOND_NS)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
