"""kernels <- bench <- certify: nothing imports against the arrow, and nothing heavy is imported at module level."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("kernels", "bench", "certify")
CERTIFY_MAY_IMPORT = {"bench.record", "bench.units", "bench.errors"}
ROOT_COMMAND = "certify/cli.py"
HEAVY = {"torch", "cupy", "pynvml"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield (module, whether at module level) of every import in a file."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or "", id(node) in top
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value), False


def allowed(room: str, file: str, module: str) -> bool:
    target = module.split(".")[0]
    if target not in OURS or target == room or file == ROOT_COMMAND:
        return True
    if room == "bench":
        return target == "kernels"
    return room == "certify" and (module in CERTIFY_MAY_IMPORT or module.startswith("bench.record."))


@pytest.mark.parametrize("room", OURS)
def test_imports_follow_the_arrow(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        file = path.relative_to(ROOT).as_posix()
        for module, _ in imports(path):
            assert allowed(room, file, module), f"{file} imports {module}"


@pytest.mark.parametrize("room", OURS)
def test_heavy_libraries_are_imported_where_they_are_needed(room: str) -> None:
    for path in sorted((ROOT / room).rglob("*.py")):
        for module, at_top in imports(path):
            assert not (at_top and module.split(".")[0] in HEAVY), f"{path} imports {module} at module level"


def test_the_check_would_notice() -> None:
    assert not allowed("kernels", "kernels/x.py", "bench.units")
    assert not allowed("bench", "bench/x.py", "certify.keys")
    assert not allowed("certify", "certify/x.py", "bench.node")
    assert not allowed("certify", "certify/x.py", "kernels.gemm_numpy")


@pytest.mark.parametrize("module", ["certify.verify", "certify.statement", "certify.records", "certify.cli"])
def test_a_verifier_never_imports_numpy_or_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('numpy', 'torch', 'cupy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
