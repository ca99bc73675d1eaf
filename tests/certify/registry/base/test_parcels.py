"""The outcome of a verification after its way from the process that verifies."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from certify.registry.base.parcels import ITEMS, packed, unpacked
from certify.registry.base.pool import VerificationPool
from certify.registry.base.verifying import run
from certify.registry.intake.ingest import _job, _parse
from tests.certify.registry.laid import Laid, lay_centre


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_outcome_arrives_as_it_was(place: Laid, tmp_path: Path) -> None:
    from certify.registry.base.registry import open_registry

    centre = lay_centre(tmp_path / "centre", place.keys, nodes=3 * ITEMS + 3)
    centre.certify()
    out = centre.folder / "out"
    registry = open_registry(place.root)
    try:
        parsed = _parse((out / "statement.dsse.json").read_bytes())
        for records in (None, out / "records.jsonl"):
            job = _job(registry, out / "statement.dsse.json", parsed, records)
            outcome = run(job)
            assert outcome.code is None
            parts = packed(outcome)
            # none of them is most of it
            assert records is None or max(map(len, parts)) < sum(map(len, parts)) / 4
            for arrived in (unpacked(parts), VerificationPool(1).verify(job)):
                assert vars(arrived) | {"device_index": None} == vars(outcome) | {"device_index": None}
                assert (arrived.device_index is None) == (outcome.device_index is None)
                if outcome.device_index is not None and arrived.device_index is not None:
                    found, sent = vars(arrived.device_index), vars(outcome.device_index)
                    assert found.keys() | {"machines"} == sent.keys() | {"machines"}  # found when it is asked for
                    assert [list(found[name]) for name in ("devices", "parents")] == [
                        list(sent[name]) for name in ("devices", "parents")
                    ]
                    assert all(pickle.dumps(found[name]) == pickle.dumps(sent[name]) for name in ("devices", "samples"))
                    assert found["claimed"] == sent["claimed"]
                    assert arrived.device_index.machines == outcome.device_index.machines
    finally:
        registry.close()
