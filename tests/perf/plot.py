"""A picture of one window: rate, clock, power and temperature over time, from a record and its samples, as an SVG."""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from bench.engine.measure import SampleRow
from bench.record import SUBWINDOWS, Measurement, NodeRecord, read_bytes, write_atomic
from bench.units import gemm_mflop
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import OpenedDocument, parse_payload

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 900, 130, 80, 16, 44, 26
SECOND_NS = 10**9
Points = list[tuple[float, float]]  # seconds from the opening of the core window, value


class Panel(NamedTuple):
    """One quantity over time."""

    title: str
    points: Points
    steps: bool = False  # each value holds until its time, from the time before it


def panels(measurement: Measurement, device: str, rows: Sequence[SampleRow]) -> list[Panel]:
    """Return what there is to draw of one device in one workload."""
    figure = next(f for f in measurement.figures() if f.device == device)
    mine = [row for row in rows if row.device == device and row.workload == str(measurement.workload)]
    m = measurement
    mflop = gemm_mflop(m.m, m.n, m.k, figure.launches) / SUBWINDOWS
    warm = [(row.offset_ns / SECOND_NS, int(row.value) / 10**6) for row in mine if row.quantity == "rate_mflop_s"]
    at = figure.opened_ns / SECOND_NS
    rates: Points = [*warm, (at, warm[-1][1])] if warm else [(at, 0.0)]
    for elapsed_ns in figure.subwindow_ns:
        at += elapsed_ns / SECOND_NS
        rates.append((at, mflop * SECOND_NS / elapsed_ns / 10**6))
    found = [Panel("rate, TFLOP/s", rates, steps=True)]
    scale = {"clock_mhz": (1, "clock, MHz"), "power_mw": (1000, "power, W"), "temperature_c": (1, "temperature, C")}
    for quantity, (per, title) in scale.items():
        points = [(row.offset_ns / SECOND_NS, int(row.value) / per) for row in mine if row.quantity == quantity]
        if points:
            found.append(Panel(title, points))
    return found


def svg(title: str, drawn: Sequence[Panel], length_s: float) -> str:
    """Return the picture: one panel above another on one axis of time; the core window is shaded."""
    times = [t for panel in drawn for t, _ in panel.points]
    first, last = min([0.0, *times]), max([length_s, *times])
    height = TOP + len(drawn) * (PANEL + GAP) + 24

    def x(t: float) -> float:
        return LEFT + (t - first) / max(last - first, 1e-9) * (WIDTH - LEFT - RIGHT)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
    ]
    for index, panel in enumerate(drawn):
        top = TOP + index * (PANEL + GAP)
        values = [v for _, v in panel.points]
        low, high = min(values), max(values)
        low, high = (
            (low - (high - low) * 0.1, high + (high - low) * 0.1) if high > low else (low * 0.9, high * 1.1 or 1)
        )

        def y(v: float, top: int = top, low: float = low, high: float = high) -> float:
            return top + PANEL - (v - low) / (high - low) * PANEL

        path = f"M{x(panel.points[0][0]):.1f},{y(values[0]):.1f}"
        for t, v in panel.points[1:]:
            path += f"V{y(v):.1f}H{x(t):.1f}" if panel.steps else f"L{x(t):.1f},{y(v):.1f}"
        shade = f'x="{x(0):.1f}" y="{top}" width="{x(length_s) - x(0):.1f}" height="{PANEL}"'
        out.append(f'<rect {shade} fill="#e8eef6"/><text x="{LEFT}" y="{top - 6}">{panel.title}</text>')
        for v in (low, (low + high) / 2, high):
            out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#ccc"/>')
            out.append(f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.4g}</text>')
        out.append(f'<path d="{path}" fill="none" stroke="#1f4e8c" stroke-width="1.5"/>')
    for t in (first, 0.0, length_s):
        out.append(f'<text x="{x(t):.1f}" y="{height - 14}" text-anchor="middle">{t:.4g} s</text>')
    return "\n".join([*out, "</svg>", ""])


def read_record(path: Path) -> NodeRecord:
    """Return a node record; its signature is not checked here."""
    envelope = parse_envelope(read_bytes(path, CAPS.record_bytes), CAPS.record_bytes, path)
    opened: OpenedDocument[NodeRecord] = parse_payload("node-record", envelope.payload, path)
    return opened.predicate


def read_samples(path: Path) -> list[SampleRow]:
    """Return the lines of a record's samples."""
    text = gzip.decompress(read_bytes(path, CAPS.samples_bytes)).decode()
    lines = csv.reader(io.StringIO(text))
    next(lines)  # the header
    return [
        SampleRow(device, workload, phase, int(offset_ns), quantity, value)
        for device, workload, phase, offset_ns, quantity, value in lines
    ]


def main(arguments: list[str]) -> int:
    """Write one picture."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf plot", description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--device", help="default: the first")
    parser.add_argument("--workload", help="such as fp16-tuned; default: the first")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    record = read_record(given.record)
    for measurement in record.measurements:
        device = given.device or measurement.device[0]
        if given.workload in (None, str(measurement.workload)) and device in measurement.device:
            break
    else:
        print("the record has no such figure", file=sys.stderr)
        return 2
    figure = next(f for f in measurement.figures() if f.device == device)
    model = record.models[next(d.model for d in record.devices if d.device == device)]
    m = measurement
    simulated = ", SIMULATED" if model.simulated else ""
    title = (
        f"{model.model} {device}, {m.workload}, {m.m} x {m.n} x {m.k}: {figure.sustained_mflop_s / 10**6:.4g} TFLOP/s"
    )
    drawn = panels(measurement, device, read_samples(given.samples))
    write_atomic(given.out, svg(title + simulated, drawn, figure.covered_until_ns / SECOND_NS).encode())
    return 0
