"""The table at the end of a run: the worst first, codes grouped, one screen, and a command that can be copied."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Iterator, Sequence

import pytest
from rich.cells import cell_len

from bench.language import choose_language
from bench.terminal.closing import Row, RunSummary, closing_lines, device_names, groups_of, places_text, rows_of, show
from bench.terminal.columns import Surface
from certify.policy.reasons import reasons
from certify.statement.describe import judge_record
from tests.bench.fleet import FIXED, simulate

NOTES = {"identity-asserted": "note"}
COMMAND = ("petaseal", "certify", "a folder/of ours", "--centre", "demo", "--key", "operator.pem", "--out", "statement")


@pytest.fixture(autouse=True)
def _language() -> Iterator[None]:
    choose_language("en")
    yield
    choose_language(None)


def row(device: str, workload: str = "fp16", **effects: str) -> Row:
    codes = {code.replace("_", "-"): effect for code, effect in effects.items()}
    certified = None if "void" in codes.values() else 311_455_000
    return Row(device, workload, certified, 311_900_000, 989_000_000, "silicon", NOTES | codes)


def mixed() -> list[Row]:
    """Return 8 devices x 2 workloads: void, failed, held, counted, not supported, with a dozen codes."""
    rows = [row("cuda:0", wrong_product="void", autocorrelated="note"), row("cuda:0", "fp64", ecc_errors="void")]
    lost = Row("cuda:7", "fp16", None, None, None, "", {}, "device-lost", "ended by signal 9")
    rows += [lost, lost._replace(workload="fp64")]
    rows += [row("cuda:1", w, not_steady="hold", wide_interval="note") for w in ("fp16", "fp64")]
    rows += [row("cuda:2", w, not_warm="hold", power_missing="hold", throttled="note") for w in ("fp16", "fp64")]
    rows += [row(f"cuda:{i}", w, smaller_shape="note", late_load="note") for i in (3, 4, 5) for w in ("fp16", "fp64")]
    rows += [row("cuda:6"), Row("cuda:6", "fp64", None, None, None, "", {}, "unsupported-precision", "no fp64")]
    return rows


def meaning(code: str) -> str:
    entry = reasons().get(code)
    return code if entry is None else entry.en


def closing_of(rows: Sequence[Row], commands: Sequence[Sequence[str]] = (COMMAND,)) -> RunSummary:
    return RunSummary(
        rows, meaning, ["SMOKE: it proves nothing."], "wrote a/n.record.dsse.json and n.samples", commands
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_eight_devices_and_two_workloads_fit_one_screen(language: str) -> None:
    choose_language("zh" if language == "zh" else "en")
    lines = closing_lines(closing_of(mixed()), 100)
    assert len(lines) <= 39
    assert max(cell_len(line) for line, _ in lines) <= 100
    text = "\n".join(line for line, _ in lines)
    assert sum(line.startswith("cuda:") for line, _ in lines) == 16
    for code in {code for one in mixed() for code in one.effects} | {"device-lost", "unsupported-precision"}:
        assert code in text
    assert meaning("wrong-product")[:40] in text
    assert "identity-asserted" in text


def test_the_void_ones_come_first_and_in_red() -> None:
    rows = sorted(mixed(), key=lambda one: ("void", "failed", "hold", "counts", "unsupported").index(one.verdict))
    lines = closing_lines(closing_of(rows), 100)
    table = lines[1:17]
    assert [style for _, style in table] == ["bad"] * 4 + ["warn"] * 4 + [""] * 8
    assert [line.split()[-1] for line, _ in table[:8]] == ["VOID", "VOID", "FIGURE", "FIGURE", *["held"] * 4]
    assert table[0][0].split() == ["cuda:0", "fp16", "-", "311.9", "31.5", "%", "silicon", "VOID"]
    assert table[8][0].split() == ["cuda:3", "fp16", "311.4", "311.9", "31.5", "%", "silicon", "counts"]


def test_equal_codes_are_one_line_with_their_devices() -> None:
    groups = {group.code: group for group in groups_of(mixed())}
    assert [group.verdict for group in groups.values()][:3] == ["void", "void", "failed"]
    assert len(groups["smaller-shape"].places) == 6
    text = "\n".join(line for line, _ in closing_lines(closing_of(mixed()), None, most=99))
    assert "  smaller-shape [cuda:3-5]: A larger registered shape" in text
    assert "  identity-asserted [all]: " in text
    assert "  wrong-product [cuda:0 fp16]: " in text
    assert "  device-lost [cuda:7]: The device or its worker process was lost. (ended by signal 9)" in text


def test_devices_in_few_words() -> None:
    assert device_names([f"cuda:{i}" for i in (0, 1, 2, 5)]) == "cuda:0-2,5"
    assert device_names(["cpu:0", "npu:3", "npu:1", "npu:2", "odd"]) == "odd cpu:0 npu:1-3"
    assert device_names([f"cuda:{i}" for i in range(0, 40, 2)]) == "cuda:0,2,4,6,8,10,12,14,... (20)"
    every = {(f"cuda:{i}", w) for i in range(3) for w in ("fp16", "fp64")}
    assert places_text(sorted(every), every) == "all"
    assert places_text([(f"cuda:{i}", "fp64") for i in range(3)], every) == "fp64"
    assert places_text([("cuda:1", "fp16"), ("cuda:1", "fp64")], every) == "cuda:1"
    assert places_text([("cuda:1", "fp16"), ("cuda:2", "fp64")], every) == "cuda:1 fp16, cuda:2 fp64"


@pytest.mark.parametrize("width", [None, 40, 60, 80, 200])
def test_the_command_that_comes_next_can_be_copied(width: int | None) -> None:
    lines = [line for line, _ in closing_lines(closing_of(mixed()), width)]
    start = next(i for i, line in enumerate(lines) if line.startswith("next"))
    copied = "\n".join([lines[start].removeprefix("next"), *lines[start + 1 :]])
    assert shlex.split(copied.replace("\\\n", " ")) == list(COMMAND)
    assert all(cell_len(line) <= (width or 999) for line in lines)


@pytest.mark.parametrize("width", range(40, 201, 20))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for language in ("en", "zh"):
        choose_language("zh" if language == "zh" else "en")
        lines = [line for line, _ in closing_lines(closing_of(mixed()), width)]
        assert max(map(cell_len, lines)) <= width
        assert "cuda:0" in lines[1]
        assert lines[1].endswith("VOID" if language == "en" else "无效")


def test_elsewhere_nothing_is_wrapped_coloured_or_outside_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    show(closing_of(mixed()), Surface(None, None, False, False))
    assert shown.getvalue().isascii()
    assert "\x1b" not in shown.getvalue()
    assert f"next       {shlex.join(COMMAND)}\n" in shown.getvalue()
    coloured = io.StringIO()
    monkeypatch.setattr(sys, "stdout", coloured)
    show(closing_of(mixed()), Surface(100, 40, True, True))
    assert coloured.getvalue().count("\x1b[1;31m") >= 4
    assert coloured.getvalue().count("\x1b[0m") == coloured.getvalue().count("\x1b[") / 2


def test_a_real_record_in_its_order() -> None:
    record = simulate({"wrong": "element", "only": "fp64"}, 2)
    assert record.campaign is not None
    judged = judge_record(record, record.campaign, FIXED)
    rows = rows_of(record, judged, lambda figure, workload: 10**9 if workload.precision == "fp16" else None)
    assert [(one.device, one.workload, one.verdict) for one in rows[:2]] == [
        ("fake:0", "fp64", "void"),
        ("fake:1", "fp64", "void"),
    ]
    assert [one.certified_mflop_s for one in rows[:2]] == [None, None]
    assert "wrong-product" in rows[0].effects
    assert [one.nominal_mflop_s for one in rows] == [None, None, 10**9, 10**9]
    assert (rows[2].certified_mflop_s or 0) > 290_000_000
