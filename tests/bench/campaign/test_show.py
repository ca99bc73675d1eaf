"""The summary of a campaign: one screen for any number of nodes, pools and thresholds, in two languages."""

from __future__ import annotations

import itertools
import re

import pytest

from bench.campaign.board import OVER, PLACES, Against, BoardLine, Overview, Place
from bench.campaign.show import lines, said_phase, summary
from bench.language import LANGUAGES, Language, messages_of
from bench.record import Shape
from bench.record.shapes import Product, SettledShape
from bench.terminal.summary import MOST_LINES, cells, height, summarised, wrapped

NODES, POOLS, TARGETS = 10_000, 40, 36
CHINESE = re.compile("[一-鿿]")
SCREENS = list(itertools.product(LANGUAGES, (None, 80, 120, 200)))


def node(number: int) -> BoardLine:
    place: Place = PLACES[number % len(PLACES)]
    return BoardLine(
        node_id=f"node-{number:05}",
        name=f"gpu-{number:05}",
        pool=f"pool-{number % POOLS}",
        place=place,
        late=number % 7 == 0,
        straggler="at 81 % of its pool's median" if number % 5 == 0 else None,
        rate_mflop_s=10**9,
        message="\x1b[31mout of memory" if place in OVER else None,
        arrived_at=None,
        ready_at="2026-03-01T08:00:00.000000Z",
        ended_at=None,
    )


def product(number: int) -> Product:
    return Product(
        kind="gpu",
        vendor="V",
        model=f"M{number}",
        bin=None,
        count_unit="card",
        units=None,
        simulated=True,
        plays=None,
    )


def huge(phase: str = "measuring fp16, 12 s left") -> Overview:
    """Return a campaign of which everything is there often."""
    nodes = tuple(map(node, range(NODES)))
    return Overview(
        at="2026-03-01T08:00:00.000000Z",
        starts_at="2026-03-01T08:00:00.000000Z",
        ends_at="2026-03-01T09:00:00.000000Z",
        phase=phase,
        expected=NODES,
        places={place: sum(one.place == place for one in nodes) for place in PLACES},
        late=NODES // 7,
        missing=9,
        left_out=8,
        live_mflop_s={"fp16": 10**12, "fp64": 10**11, "fp32": 10**11},
        certified_mflop_s={"intelligent": 10**12, "supercomputing": 10**11, "general": 10**11, "edge": 10**9},
        shapes=tuple(
            SettledShape(product(number), "fp16", Shape(m=8, n=8, k=8), devices=3, chosen_by=1)
            for number in range(POOLS)
        ),
        against=tuple(Against(f"policy-{number}/scale", 10**12, 2 * 10**12) for number in range(TARGETS)),
        nodes=nodes,
        waiting=tuple(f"pool {number}: job {number} waits in the queue of slurm" for number in range(POOLS)),
        unready=tuple(f"gpu-{number} was not ready" for number in range(POOLS)),
    )


@pytest.mark.parametrize(("lang", "width"), SCREENS)
def test_a_campaign_of_any_size_is_one_screen(lang: Language, width: int | None) -> None:
    shown = summarised(summary(huge(), lang, "next       petaseal campaign collect c1"), width)
    assert sum(height(line, width) for line in shown) <= MOST_LINES
    assert all(line.isprintable() for line in shown)
    assert width is None or all(cells(part) <= width for line in shown for part in wrapped(line, width))
    text = "\n".join(shown)
    assert "next       petaseal campaign collect c1" in shown
    for count, word in ((TARGETS, "threshold"), (2 * POOLS, "wait or are not ready")) if lang == "en" else ():
        said = [int(n) for n in re.findall(rf"and (\d+) more[a-z ]* {word}", text)]
        listed = sum(line.startswith({TARGETS: "against "}.get(count, "waiting ")) for line in shown)
        assert sum(said) + listed == count
    if lang == "zh":
        assert [line for line in shown if not CHINESE.search(line) and "petaseal" not in line] == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_whole_has_every_node_in_trouble(lang: Language) -> None:
    whole = lines(huge(), lang, None)
    troubled = [one for one in huge().nodes if one.late or one.straggler or one.place in ("failed", "lost", "void")]
    assert sum("gpu-" in line for line in whole) >= len(troubled) > 4000
    assert f"{len(whole):,}" in summarised(summary(huge(), lang), None)[-1]


def test_every_phase_is_said_in_chinese() -> None:
    values = {
        "until": "t",
        "silent": 1,
        "nodes": 2,
        "how": "it was aborted",
        "seconds": 3,
        "workload": "fp16",
        "run": "C",
    }
    for message in messages_of("campaign_phase").values():
        said = said_phase(message.en.format(**values), "zh")
        assert CHINESE.search(said)
        assert not re.search("[a-z]{4}", said.replace("fp16", "")), said
    for message in messages_of("ending").values():
        english = message.en.format(at="2026")
        assert said_phase(f"is over: {english}", "zh") == f"已结束：{message.zh.format(at='2026')}"
        assert said_phase(f"is over: {english}", "en") == f"is over: {english}"
