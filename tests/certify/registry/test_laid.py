"""What the registry's tests stand on: statements of the laid-out centres are good under the registry's trust root."""

from __future__ import annotations

import pytest

from tests.certify.measured import Measured
from tests.certify.registry.laid import Laid


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", ["centre", "other_centre"])
def test_statements_are_good(place: Laid, name: str, request: pytest.FixtureRequest) -> None:
    centre: Measured = request.getfixturevalue(name)
    anchor = place.anchor
    report = centre.verify(public_key=None, trust=anchor.trust, fingerprint=anchor.fingerprint)
    assert report.refusal is None, report.refusal
    assert (report.level, report.self_asserted) == ("recomputed", 0)
