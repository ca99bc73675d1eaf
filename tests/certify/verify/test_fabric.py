"""Step 20: a statement that claims more of its network than its records show is refused by the code of the cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.certify.attacks import payload_of, statement
from tests.certify.forged_fabric import FORGERIES
from tests.certify.measured import Measured, measured
from tests.certify.networked import lay_network, with_network
from tests.certify.verify.test_verifier import code

NODES, DEVICES = 4, 2


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("centre")
    place = measured(folder, NODES, DEVICES, "smoke", ("fp16",), campaigned=with_network)
    lay_network(place)
    place.certify()
    return place


@pytest.fixture(scope="module")
def honest(centre: Measured) -> dict[str, Any]:
    """The fabric of the honest statement."""
    fabric: dict[str, Any] = payload_of((centre.folder / "out" / "statement.dsse.json").read_bytes())["predicate"][
        "fabric"
    ]
    return fabric


def claimed(centre: Measured, out: Path, fabric: Any) -> None:
    """Let the operator say something of the fabric in the statement that lies in a folder."""
    place = Measured(out.parent, centre.key, centre.centre, centre.campaign, centre.records)
    made = statement(lambda value: value["predicate"].update(fabric=fabric))(place)
    (out / "statement.dsse.json").write_bytes(made.statement)


def test_an_honest_statement_is_accepted_with_its_fabric(centre: Measured, honest: dict[str, Any]) -> None:
    report = centre.verify()
    assert code(report) is None
    assert "fabric" in report.checked
    assert (honest["state"], honest["devices"], honest["codes"]) == ("connected", NODES * DEVICES, [])
    assert abs(honest["losses"][0]["network_loss_ppm"] - 70_000) < 5_000


def test_without_records_it_is_said_and_not_believed(centre: Measured, honest: dict[str, Any], tmp_path: Path) -> None:
    report = centre.verify(records=None)
    assert code(report) is None
    assert "fabric" not in report.checked
    assert any(one.endswith("[fabric-not-recomputed]") for one in report.not_checked)
    centre.certify(tmp_path / "out")
    losses = [{**honest["losses"][0], "network_loss_ppm": 1}, *honest["losses"][1:]]
    claimed(centre, tmp_path / "out", {**honest, "losses": losses})
    assert code(centre.verify(tmp_path / "out", records=None)) == "fabric-differs"
    assert code(centre.verify(tmp_path / "out")) == "fabric-differs"


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused_by_its_cause(centre: Measured, honest: dict[str, Any], tmp_path: Path, name: str) -> None:
    """`certify` says what forged records show, and an operator who claims otherwise is refused."""
    change, expected = FORGERIES[name]
    forged = measured(tmp_path, NODES, DEVICES, "smoke", ("fp16",), campaigned=with_network)
    lay_network(forged, change)
    stated = forged.certify().statement.fabric
    assert stated is not None
    assert (stated.state, stated.codes[0]) == ("not-shown", expected)
    assert code(forged.verify()) is None
    claimed(forged, tmp_path / "out", honest)
    assert code(forged.verify()) == expected


def test_a_fabric_that_is_left_out_is_seen(centre: Measured, tmp_path: Path) -> None:
    """Left out, a network that nobody could show would look like one that nobody measured."""
    centre.certify(tmp_path / "out")
    claimed(centre, tmp_path / "out", None)
    assert code(centre.verify(tmp_path / "out")) == "fabric-differs"
    assert code(centre.verify(tmp_path / "out", records=None)) == "fabric-differs"
