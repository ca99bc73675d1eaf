"""Tables that fit any width: columns go in a fixed order, no cell is cut, and Chinese counts double."""

from __future__ import annotations

import io

from rich.cells import cell_len

from bench.terminal.columns import Column, Surface, fitted, painted, surface_of, table

TABLE = (
    Column("设备", ["cuda:0", "cuda:10"], 0, right=False),
    Column("阶段", ["测量中", "预热"], 3, right=False),
    Column("下限值 TFLOPS", ["311.9", "7.1"], 1, short="TFLOPS"),
    Column("降频", ["power-cap +1", "无"], 2, right=False),
)


def shown_at(width: int | None) -> set[str]:
    heading, *_ = table(TABLE, width)
    return {one.heading for one in TABLE if (one.short or one.heading) in heading}


def test_columns_are_dropped_in_a_fixed_order_and_no_cell_is_cut() -> None:
    before: set[str] = set()
    for width in range(8, 80):
        lines = table(TABLE, width)
        assert max(map(cell_len, lines)) <= max(width, 7)
        shown = shown_at(width)
        assert before <= shown  # whatever fits a narrow terminal fits a wider one
        before = shown
        for one in TABLE:
            if one.heading in shown:
                assert all(cell in line for cell, line in zip(one.cells, lines[1:], strict=True))
    assert before == {one.heading for one in TABLE}
    assert shown_at(7) == {"设备"}


def test_chinese_columns_stay_aligned() -> None:
    heading, first, second = table(TABLE, None)
    starts = [
        cell_len(line[: line.index(cell)]) for line, cell in ((heading, "降频"), (first, "power"), (second, "无"))
    ]
    assert len(set(starts)) == 1
    ends = [cell_len(line[: line.index(cell) + len(cell)]) for line, cell in ((heading, "TFLOPS"), (second, "7.1"))]
    assert len(set(ends)) == 1


def test_the_most_important_parts_of_a_line_stay() -> None:
    parts = ["fp16", "about 12 s left", "node-1"]
    assert fitted(parts, 40) == "fp16  about 12 s left  node-1"
    assert fitted(parts, 22) == "fp16  about 12 s left"
    assert fitted(parts, 12) == "fp16  node-1"
    assert fitted(parts, None) == "fp16  about 12 s left  node-1"


def test_what_is_no_terminal_has_no_width_and_no_colour() -> None:
    for stream in (io.StringIO(), None):
        assert surface_of(stream, {"TERM": "xterm"}) == Surface(None, None, False, False)
    assert painted(("x", "bad"), Surface(80, 24, False, True)) == "x"
    assert painted(("x", "bad"), Surface(80, 24, True, True)) == "\x1b[1;31mx\x1b[0m"
    assert painted(("x", ""), Surface(80, 24, True, True)) == "x"
