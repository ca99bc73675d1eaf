"""Refusals that stand in the way of a command, each by its own code: what is asked cannot be, and nothing is done."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bench.campaign.launch.plan import engine_of
from bench.campaign.opening import OpenCampaign
from bench.errors import Interrupted, PetasealError
from bench.launchers.base import Gang
from bench.launchers.local import LocalLauncher
from bench.record.folder import Folder
from bench.record.status import Launched, Published
from bench.units import utc_ns, utc_text
from certify.campaign.collect import collect, only_collection
from certify.offline.wheels import parse_requirement, pip, read_wheel
from certify.statement.campaign import of_campaign, open_campaign
from certify.statement.package import pack
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet
from tests.certify.campaign.laid_campaign import campaign_of, lay


def code(work: Callable[[], object]) -> str:
    """Return the code by which something is refused."""
    with pytest.raises(PetasealError) as caught:
        work()
    return caught.value.code


def test_whoever_interrupts_is_told_so() -> None:
    error = Interrupted()
    assert (error.code, error.exit_status) == ("interrupted", 130)
    assert str(error).endswith("[interrupted]")


def test_what_still_measures_is_not_collected(tmp_path: Path) -> None:
    now = time.time_ns()
    begins = utc_text(now - 5 * 10**9)
    until = utc_text(now + 3600 * 10**9)
    laid = lay(tmp_path, 1, measured=False, started=False, starts_from=begins, starts_until=until, issued_at=begins)
    laid.folder.publish(Published(begins, begins, 1))
    launched = Launched("local", (), None, ("petaseal",), begins)
    laid.folder.write_launched(launched)
    assert code(lambda: collect(laid.folder)) == "campaign-running"


def test_one_process_collects(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with only_collection(folder):
        assert code(lambda: only_collection(folder).__enter__()) == "collect-running"


def test_what_was_not_collected_is_not_certified(tmp_path: Path) -> None:
    laid = lay(tmp_path, 1)
    assert code(lambda: of_campaign(laid.folder.root, None, None, None, ())) == "records-not-collected"


def test_a_centre_is_said(tmp_path: Path) -> None:
    assert code(lambda: of_campaign(tmp_path, None, None, None, ())) == "centre-missing"


def test_a_campaign_goes_on_under_its_engine() -> None:
    launched = Launched("slurm", (), None, ("petaseal",), "2026-03-01T08:00:00.000000Z")
    folder = SimpleNamespace(launched=lambda: launched, started=lambda: "2026-03-01T08:00:00.000000Z")
    opened = cast(OpenCampaign, SimpleNamespace(folder=folder, roster=SimpleNamespace(engine="slurm")))
    assert engine_of(opened, None) == engine_of(opened, "slurm") == "slurm"
    assert code(lambda: engine_of(opened, "local")) == "engine-differs"


def test_a_program_that_is_not_there_is_not_started(tmp_path: Path) -> None:
    gang = Gang("c-ai", "ai", ("n0",), (str(tmp_path / "no program"),), tmp_path, 60)
    assert code(lambda: LocalLauncher().submit(gang)) == "engine-refused"


def test_a_package_is_named_as_one(tmp_path: Path) -> None:
    assert code(lambda: pack(tmp_path, tmp_path / "statement.zip")) == "package-name-invalid"
    assert not (tmp_path / "statement.zip").exists()


def test_pip_says_why_it_failed(tmp_path: Path) -> None:
    assert code(lambda: pip("download", "--no-such-option", what="a wheel", work=tmp_path)) == "pip-failed"


def test_what_is_no_wheel(tmp_path: Path) -> None:
    file = tmp_path / "petaseal-1-py3-none-any.whl"
    file.write_bytes(b"not a wheel")
    assert code(lambda: read_wheel(file)) == "wheel-invalid"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("petaseal/__init__.py", "")
    assert code(lambda: read_wheel(file)) == "wheel-invalid"
    assert code(lambda: parse_requirement("numpy @ file:///tmp/numpy.whl")) == "wheel-invalid"


def test_a_campaign_that_a_node_issued_is_not_the_centres(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    laid = lay(tmp_path, 1)
    issued = SimpleNamespace(predicate=SimpleNamespace(self_issued=True))
    monkeypatch.setattr(Verifier, "open", lambda *_: issued)
    verifier = Verifier(cast(TrustedSet, None), utc_text(utc_ns(campaign_of(1).issued_at)))
    assert code(lambda: open_campaign(laid.folder.campaign, verifier)) == "campaign-self-issued"
