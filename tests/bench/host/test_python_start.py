"""A Python that petaseal starts runs nothing of the folder that the user happens to be in."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from bench.host.python_start import no_folder_first, start_code

HOSTILE = (
    "json",
    "io",
    "signal",
    "socket",
    "unicodedata",
    "encodings",
    "multiprocessing",
    "pikepdf",
    "bench",
    "typing",
)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a downloaded folder whose modules leave a trace; return the trace."""
    trace = tmp_path / "ran"
    for name in HOSTILE:
        (tmp_path / f"{name}.py").write_text(f"open({str(trace)!r}, 'a').write({name!r})\nraise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    return trace


@pytest.mark.parametrize(
    "module", ["certify.statement.paper.contents", "bench.devices.reader_main", "bench.engine.worker"]
)
def test_a_folder_with_modules_runs_none_of_them(hostile: Path, module: str) -> None:
    done = subprocess.run([sys.executable, "-c", start_code(module)], capture_output=True, text=True, check=False)
    assert done.stderr.rstrip().splitlines()[-1].startswith(("ValueError: ", "IndexError: "))  # for want of arguments
    assert not hostile.exists()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 puts the folder first, whatever one asks for")
def test_worker_processes_start_in_a_folder_with_modules(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    no_folder_first()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(os.getppid).result() == os.getpid()
    assert not hostile.exists()
