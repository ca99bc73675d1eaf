"""No test reads or leaves anything in the user's own state."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path_factory.mktemp("state")))
    monkeypatch.delenv("PETASEAL_SCENARIO", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to lay out a centre in."""
    (tmp_path / "centre").mkdir()
    return tmp_path / "centre"
