"""Which tests ``make check`` runs for a change."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import touched

TEXTS = {
    "kernels/__init__.py": "",
    "kernels/base.py": "",
    "bench/__init__.py": "",
    "bench/measure.py": "def late():\n    from kernels.base import Kernel\n",
    "certify/page.py": "import bench.measure\nTEMPLATES = 'templates'\nSTYLE = 'site.css'\n",
    "tests/__init__.py": "",
    "tests/conftest.py": "from tests import fakes\n",
    "tests/fakes.py": "",
    "tests/helper.py": "import certify.page\n",
    "tests/bench/test_measure.py": "from bench import measure\n",
    "tests/certify/test_page.py": "from ..helper import read\n",
    "tests/test_docs.py": "FILE = 'README.md'\n",
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("tests/test_docs.py", {"tests/test_docs.py": 0}),
        ("bench/measure.py", {"tests/bench/test_measure.py": 1, "tests/certify/test_page.py": 3}),
        ("kernels/base.py", {"tests/bench/test_measure.py": 2, "tests/certify/test_page.py": 4}),
        ("certify/assets/site.css", {"tests/certify/test_page.py": 2}),
        ("certify/templates/new.html.j2", {"tests/certify/test_page.py": 2}),
        ("README.md", {"tests/test_docs.py": 0}),
        ("certify/gone.py", {}),
        ("LICENSE", {}),
        (
            "tests/fakes.py",
            {"tests/bench/test_measure.py": 2, "tests/certify/test_page.py": 2, "tests/test_docs.py": 2},
        ),
    ],
)
def test_the_tests_that_import_what_was_changed(changed: str, expected: dict[str, int]) -> None:
    assert touched.touched([changed], TEXTS) == expected


def test_the_nearest_come_first() -> None:
    found = touched.touched(["certify/page.py", "tests/test_docs.py", "bench/measure.py"], TEXTS)
    assert list(found) == ["tests/test_docs.py", "tests/bench/test_measure.py", "tests/certify/test_page.py"]


@pytest.mark.long
def test_our_own_modules_have_their_mirrors() -> None:
    texts = {path: (touched.ROOT / path).read_text() for path in touched.own_files()}
    for changed, mirror in (
        ("bench/steady.py", "tests/bench/test_steady.py"),
        ("certify/judge/rules.py", "tests/certify/judge/test_rules.py"),
        ("kernels/verify.py", "tests/kernels/test_verify.py"),
    ):
        assert touched.touched([changed], texts)[mirror] == 1
    assert "tests/certify/registry/web/test_browser.py" in touched.touched(
        ["certify/registry/web/assets/site.css"], texts
    )


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose one commit is also where origin/main is."""
    monkeypatch.setattr(touched, "ROOT", tmp_path)
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "x")
        monkeypatch.setenv(f"{name}_EMAIL", "x@localhost")
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "kept.py").write_text("")
    (tmp_path / "gone.py").write_text("1\n")
    for command in ("init", "add .", "commit -m one", "update-ref refs/remotes/origin/main HEAD"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_commits_what_is_not_committed_and_new_files_are_changes(clone: Path) -> None:
    since = touched.where_it_left("origin/main")
    assert touched.changed_files(since) == []
    (clone / "kept.py").write_text("2\n")
    subprocess.run(["git", "commit", "-am", "two"], cwd=clone, check=True, capture_output=True)
    assert since == touched.where_it_left("origin/main") != touched.where_it_left("nowhere") == "HEAD"
    (clone / "gone.py").unlink()
    (clone / "new.py").write_text("")
    (clone / "ignored").write_text("")
    assert touched.changed_files(since) == ["gone.py", "kept.py", "new.py"]


def test_what_fails_fails(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["touched"])
    monkeypatch.setattr(touched, "touched", lambda changed, texts: {"tests/test_docs.py": 0})
    monkeypatch.setattr(touched, "part_of", lambda path: "plain")
    for status, expected in ((0, 0), (1, 1), (2, 2), (touched.NO_TESTS, 0)):
        monkeypatch.setattr(touched, "run", lambda files, options, until, status=status: status if files else 0)
        assert touched.main() == expected


def test_what_begins_too_late_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    file = "tests/bench/test_units.py"
    assert touched.run([file], [], time.time() + 60) == 0
    assert "left out" not in capfd.readouterr().out
    assert touched.run([file], [], 0) == 0
    told = capfd.readouterr().out
    assert " left out in " in told
    assert told.splitlines()[-2].endswith(file)
    assert touched.run([f"{file}::test_that_is_not_there"], [], 0) not in (0, touched.NO_TESTS)
