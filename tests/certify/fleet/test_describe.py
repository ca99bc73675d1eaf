"""The summary of a diagnosis: one screen for any number of findings, in two languages; the whole names all of them."""

from __future__ import annotations

import itertools
import re
from functools import cache

import pytest

from bench.language import LANGUAGES, Language
from bench.terminal.summary import MOST_LINES, cells, height, summarised, wrapped
from certify.documents.statement import NotCounted
from certify.fleet.describe import describe, summary_of
from certify.fleet.fleet import diagnose
from certify.fleet.readings import RefusedRecord
from certify.fleet.report import FleetReport
from certify.statement.attendance import Absence
from tests.certify.fleet.test_fleet import fleet, racks

NODES = 10_000
CHINESE = re.compile("[一-鿿]")
SCREENS = list(itertools.product(LANGUAGES, (None, 80, 120, 200)))


@cache
def huge() -> FleetReport:
    """Return the diagnosis of a centre in which much is wrong, and of which much is missing."""
    readings = fleet(200, tweak=lambda n, d: 0.7 if n < 30 else 0.8 if d == 0 and n < 90 else 1)
    return FleetReport(
        centre_id="gz-test",
        campaign_id="2026-03",
        campaign_sha256="ab" * 32,
        starts_at="2026-03-01T08:00:00.000000Z",
        simulated=True,
        previous=None,
        remarks=("The campaign before was measured by another profile (smoke, now standard).",),
        names={f"node-{number}": f"gpu-{number:05}" for number in range(NODES)},
        expected=NODES,
        absent=tuple(Absence(node_id=f"node-{number}", code="node-lost", detail="x" * 256) for number in range(5000)),
        refused=tuple(RefusedRecord(file=f"stranger-{i}", code="json-invalid", what="no JSON") for i in range(50)),
        not_counted=tuple(
            NotCounted(node_id=f"node-{number}", device="cuda:0", workload="fp16", codes=("wrong-product",))
            for number in range(300)
        ),
        diagnosis=diagnose(readings, racks(readings, 10), fleet(200, seed=9)),
        pictures=(),
    )


@pytest.mark.parametrize(("lang", "width"), SCREENS)
def test_a_diagnosis_of_any_size_is_one_screen(lang: Language, width: int | None) -> None:
    shown = summarised(summary_of(huge(), lang, "written to diagnosis/index.html"), width)
    assert sum(height(line, width) for line in shown) <= MOST_LINES
    assert all(line.isprintable() for line in shown)
    assert width is None or all(cells(part) <= width for line in shown for part in wrapped(line, width))
    text = "\n".join(shown)
    assert len(huge().diagnosis.take_out) > 50
    for count in (5000, 50, 300, len(huge().diagnosis.take_out), len(huge().diagnosis.odd_nodes)):
        assert f"{count:,}" in text  # what is left out is counted
    # The answer first: the sums, then whom to take out.
    sums = {"en": "without the nodes to take out", "zh": "撤出上述节点后"}[lang]
    assert text.index(sums) < text.index({"en": "Nodes to take out", "zh": "建议撤出"}[lang])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_whole_names_every_node(lang: Language) -> None:
    whole = describe(huge(), lang)
    assert sum("node-lost" in line for line in whole) == 5000
    assert f"{len(whole) + 1:,}" in "\n".join(summarised(summary_of(huge(), lang, "written"), None))
    if lang == "zh":
        titles = [line for line in whole if not line.startswith("  ")]
        assert [line for line in titles if not CHINESE.search(line)] == []
