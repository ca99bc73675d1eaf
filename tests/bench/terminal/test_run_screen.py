"""The screen of a run that goes on: what a line of a device says, at any size, in both languages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from bench.engine.progress import SoFar
from bench.engine.schedule import UtcWindow
from bench.engine.workers import Event
from bench.language import choose_language
from bench.record import throughput_bounds
from bench.telemetry import Reading
from bench.terminal.run_screen import DeviceNow, RunNow, frame, left_text
from bench.units import SECOND_NS, utc_text

T0 = 1_767_225_600 * SECOND_NS
WINDOWS = {
    "fp16": UtcWindow(T0, T0 + 60 * SECOND_NS, T0 + 660 * SECOND_NS, T0 + 662 * SECOND_NS),
    "fp64": UtcWindow(T0 + 670 * SECOND_NS, T0 + 730 * SECOND_NS, T0 + 1330 * SECOND_NS, T0 + 1332 * SECOND_NS),
}
READING = Reading(650_250, 63, 1755, 994_000, ("power-cap", "thermal"), 0, 1)
PARTS = tuple(10**9 + 10**6 * (i % 7) for i in range(30))
NAMES = ("device", "phase", "TFLOPS now", "sustained", "at least", "nominal", "throttled", "verified", "left")
LATE = T0 + 300 * SECOND_NS


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    choose_language("en")
    yield
    choose_language(None)


def so_far(parts: tuple[int, ...] = PARTS, verified: int = 4, reading: Reading = READING) -> SoFar:
    return SoFar(311_900_000 * len(parts), parts, verified, 400_000, 400_000, reading)


def run_of(devices: int = 8, workload: str = "fp16", **given: SoFar) -> RunNow:
    run = RunNow("gpu01", "standard", [DeviceNow(f"cuda:{i}") for i in range(devices)])
    run.prepared_by_ns, run.after_start_ns = T0 - 5 * SECOND_NS, 1400 * SECOND_NS
    run.take(Event("start", text=utc_text(T0), windows=WINDOWS))
    for device in run.devices:
        run.take(Event("window", device.name, workload, 312_045_000, so_far=given.get("look", so_far())))
        device.nominal_mflop_s = 989_000_000
    return run


def lines(run: RunNow, columns: int = 100, rows: int = 40, now_ns: int = LATE) -> list[str]:
    return [line for line, _ in frame(run, columns, rows, now_ns, [])]


def test_a_line_says_everything_of_a_device_on_100_columns() -> None:
    title, headings, first, *rest = lines(run_of())
    assert title == "fp16, window 1 of 2  about 18:20 left in all  profile standard  gpu01"
    assert [name for name in (*NAMES, " C ", " W ", " MHz ") if name not in headings] == []
    bounds = throughput_bounds(311_900_000 * 30, PARTS)
    least, rate = (f"{value / 10**6:.3f}"[:-2] for value in (bounds.certified_mflop_s, bounds.sustained_mflop_s))
    assert first.split() == [
        *("cuda:0", "measuring", "312.0", rate, least, "31.4", "%", "63", "650", "1755"),
        *("power-cap", "+1", "4", "good", "6:00"),
    ]
    assert len(rest) == 7


def test_too_little_for_a_bound_is_said_and_what_is_not_read_is_never_0() -> None:
    few = run_of(1, look=so_far((10**9,), 0, Reading()))
    assert lines(few)[2].split() == [
        *("cuda:0", "measuring", "312.0", "311.9", "too", "few", "31.5", "%", "-", "-", "-", "-", "-", "6:00")
    ]
    before = run_of(1, look=so_far((), 0))
    assert lines(before)[2].split()[2:6] == ["312.0", "-", "-", "-"]
    assert so_far(PARTS[:29]).bounds() is None
    assert so_far((0,) * 30).bounds() is None


def test_wrong_products_a_failure_and_throttling_are_painted() -> None:
    run = run_of(4, look=so_far(reading=Reading(throttled=())))
    run.devices[1].is_wrong = True
    run.take(Event("failed", "cuda:2", "fp16", text="device-lost: the worker was ended by signal 9"))
    run.take(Event("window", "cuda:3", "fp16", 1, so_far=so_far()))
    shown = frame(run, 100, 40, LATE, ["cuda:2 fp16: device-lost: the worker was ended by signal 9"])
    assert [style for _, style in shown[2:6]] == ["", "bad", "bad", "warn"]
    assert "4, WRONG" in shown[3][0]
    assert "cuda:1 WRONG" in frame(run, 40, 24, LATE, [])[3][0]  # also where there is no room for the checks
    assert "failed" in shown[4][0]
    assert "signal 9" in shown[-1][0]
    run.take(Event("warmup", "cuda:2", "fp64", 1))  # it fails in one workload: the next is measured all the same
    assert frame(run, 100, 40, LATE, [])[4][1] == ""


def test_time_goes_on_where_no_event_comes() -> None:
    run = run_of(1)
    assert lines(run, now_ns=T0 + 659 * SECOND_NS)[2].split()[-2:] == ["1", "s"]
    guard = lines(run, now_ns=T0 + 661 * SECOND_NS)
    assert "guard" in guard[2]
    assert guard[0].startswith("fp16, window 1 of 2")
    assert lines(run, now_ns=T0 + 700 * SECOND_NS)[0].startswith("fp64, window 2 of 2  about 11:40")
    assert lines(run, now_ns=T0 + 1399 * SECOND_NS)[0].startswith("concluding  about 1 s left")
    assert lines(run, now_ns=T0 + 9999 * SECOND_NS)[0].startswith("concluding  about 0 s left")
    early = RunNow("gpu01", "smoke", [DeviceNow("cpu:0")])
    assert lines(early)[0] == "preparing  profile smoke  gpu01"
    texts = [left_text(seconds * SECOND_NS) for seconds in (0, 59, 60, 725, 3725)]
    assert texts == ["0 s", "59 s", "1:00", "12:05", "1:02:05"]
    assert left_text(1) == "1 s"


def test_processors_are_shown_in_a_unit_that_does_not_begin_with_0() -> None:
    run = RunNow("n", "smoke", [DeviceNow("cpu:0")])
    run.take(Event("warmup", "cpu:0", "fp64", 51_700))
    shown = lines(run)
    assert "GFLOPS now" in shown[1]
    assert "51.70" in shown[2]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("devices", [1, 8, 64])
@pytest.mark.parametrize(("columns", "rows"), [(40, 24), (80, 24), (100, 40), (200, 50), (40, 4), (60, 1)])
def test_every_size_is_kept_and_the_worst_devices_stay(language: str, devices: int, columns: int, rows: int) -> None:
    choose_language("zh" if language == "zh" else "en")
    run = run_of(devices)
    run.devices[-1].is_wrong = True
    shown = frame(run, columns, rows, LATE, ["cuda:63: 一个很长的说明 " * 20, "a remark of many words " * 20])
    assert len(shown) <= rows
    assert max(cell_len(line) for line, _ in shown) < columns
    room = rows - 2 - (3 if rows > 12 else 0)
    if room >= 3:
        assert any(f"cuda:{devices - 1} " in line for line, _ in shown)
        table = [line for line, _ in shown[2 : 2 + min(devices, room)]]
        assert sum("cuda:" in line for line in table) == (devices if devices <= room else room - 1)
        if devices > room:
            assert str(devices - room + 1) in table[-1]


def test_devices_that_the_screen_has_no_room_for_are_summed() -> None:
    run = run_of(64)
    last = lines(run, 100, 12)[-1].split()
    assert last[:3] == ["55", "more", "together"]
    rate = so_far().sustained_mflop_s()
    assert rate is not None
    assert last[3:5] == ["17,162.4", f"{55 * rate / 10**6:,.3f}"[:-2]]
    assert "63" in last  # the highest temperature
    assert last[-2:] == ["220", "good"]


@pytest.mark.parametrize("width", range(40, 201, 20))
def test_columns_go_in_one_order(width: int) -> None:
    shown = lines(run_of(), width)[1]
    order = [
        "TFLOPS",
        "sustained",
        "phase",
        "at least",
        "nominal",
        "left",
        "throttled",
        " C ",
        " W ",
        "verified",
        "MHz",
    ]
    there = [name in f"{shown} " for name in order]
    assert there == sorted(there, reverse=True), shown
