"""Versions of a vendor's stack: from torch, from its plug-in, and from the files that a toolkit's installer writes."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from bench.versions import stack_versions

INFO = f"{platform.machine()}-linux/ascend_toolkit_install.info"


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            f"usr/local/Ascend/cann/{INFO}",
            "package_name=Ascend-cann-toolkit\nversion=8.5.0\narch=x86_64\n",
            "cann 8.5.0",
        ),
        (f"usr/local/Ascend/ascend-toolkit/latest/{INFO}", "version=8.0.RC2.alpha001\n", "cann 8.0.RC2.alpha001"),
        ("opt/rocm/.info/version", "7.0.2-56\n", "rocm 7.0.2-56"),
        ("opt/dtk/.info/version", "24.04.1\n", "dtk 24.04.1"),
        ("opt/maca/Version.txt", "Version:3.3.0.15\n", "maca 3.3.0.15"),
        ("usr/local/musa/version.json", '{"musa": {"name": "MUSA", "version": "4.2.0"}}\n', "musa 4.2.0"),
        ("opt/maca/Version.txt", "no number\n", None),
        ("opt/maca/Version.txt", "\x00\xff", None),
    ],
)
def test_a_toolkits_version_file(tmp_path: Path, file: str, text: str, expected: str | None) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="latin-1")
    assert stack_versions({}, tmp_path) == (dict([expected.split()]) if expected else {})


def test_the_environments_folder_comes_first(tmp_path: Path) -> None:
    for folder, text in (("opt/rocm", "6.4.0"), ("other", "7.1.0")):
        (tmp_path / folder / ".info").mkdir(parents=True)
        (tmp_path / folder / ".info/version").write_text(text, encoding="ascii")
    assert stack_versions({"ROCM_PATH": str(tmp_path / "other")}, tmp_path) == {"rocm": "7.1.0"}


def test_what_torch_was_built_for_comes_before_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opt/rocm/.info").mkdir(parents=True)
    (tmp_path / "opt/rocm/.info/version").write_text("6.4.0", encoding="ascii")
    torch = ModuleType("torch")
    torch.version = SimpleNamespace(cuda=None, hip="7.0.51831")  # type: ignore[attr-defined]
    plugin = ModuleType("torch_npu")
    plugin.__version__ = "2.13.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch_npu", plugin)
    assert stack_versions({}, tmp_path) == {"rocm": "7.0.51831", "torch_npu": "2.13.0"}
