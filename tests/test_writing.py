"""Whole files and locks come from `bench.record.files` alone: an AST walk finds who writes or locks in another way.

Appending to a log, and temporary files that never get a name, are nobody's concern here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOME = "bench/record/files.py"
SOURCES = [path for room in ("kernels", "bench", "certify") for path in sorted((ROOT / room).rglob("*.py"))]
FUNCTIONS = {
    "os": {"replace", "rename", "renames", "link", "O_EXCL", "O_CREAT", "mkfifo", "lockf"},
    "tempfile": {"mkstemp", "mkdtemp", "NamedTemporaryFile"},
    "shutil": {"move", "copy", "copy2", "copyfile", "copytree"},
    "fcntl": {"flock", "lockf"},
}
METHODS = {"write_text", "write_bytes", "rename", "hardlink_to", "symlink_to", "touch"}
OPENERS = {"open", "fdopen", "ZipFile", "GzipFile", "TarFile", "BZ2File", "LZMAFile", "FileIO"}
COLLECTED = (
    "a folder takes the place of another, by two renames, and the next run mends what a kill leaves between them"
)
UNSEEN = "a folder that nobody sees before all of it is on the disk"
EXCEPTIONS = {
    ("kernels/cuda_module.py", "load", "write_bytes"): "a temporary folder; kernels import nothing of bench",
    (
        "bench/devices/tools/turns.py",
        "take",
        "fcntl.flock",
    ): "a vendor's tool itself, which is never made and only read",
    ("bench/launchers/logs.py", "opened", "os.O_CREAT"): "a log, which is appended to and never whole",
    ("bench/terminal/live.py", "RunProgress._take_terminal", "fdopen"): "a terminal, which is no file",
    ("certify/campaign/collect.py", "_restore", "os.replace"): COLLECTED,
    ("certify/campaign/collect.py", "_write", "os.replace"): COLLECTED,
    ("certify/campaign/collect.py", "_link", "os.link"): "records get a second name and are not written again",
    ("certify/campaign/collect.py", "_link", "shutil.copyfile"): "the same where there are no hard links",
    ("certify/registry/maintenance/backup.py", "_folder", "tempfile.mkdtemp"): UNSEEN,
    ("certify/registry/maintenance/backup.py", "_folder", "rename"): "what makes that folder seen",
    ("certify/registry/maintenance/backup.py", "_copy_objects", "open"): UNSEEN,
    ("certify/registry/maintenance/backup.py", "_copied", "open"): UNSEEN,
    ("certify/registry/base/token_table.py", "create_tokens", "tempfile.mkdtemp"): UNSEEN,
    ("certify/registry/base/token_table.py", "create_tokens", "rename"): "what makes that folder seen",
    ("certify/offline/wheels.py", "rebuild_wheel", "ZipFile"): "a folder to work in, which is removed",
    ("certify/statement/package.py", "_Unpacking.place", "open"): "a temporary folder",
}


def ways(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, str]]:
    """Yield (function or class it stands in, way) for whatever writes a whole file or locks one."""
    for node in ast.iter_child_nodes(tree):
        name = inside
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{inside}.{node.name}".removeprefix(".")
        elif (way := way_of(node)) is not None:
            yield inside, way
        yield from ways(node, name)


def way_of(node: ast.AST) -> str | None:
    """Return how a piece of code writes a whole file or locks one, None where it does neither."""
    if isinstance(node, ast.ImportFrom) and FUNCTIONS.get(str(node.module), set()) & {one.name for one in node.names}:
        return f"from {node.module}"
    if isinstance(node, ast.Attribute) and is_module(node.value) and node.attr in FUNCTIONS[ast.unparse(node.value)]:
        return ast.unparse(node)
    return way_of_call(node) if isinstance(node, ast.Call) else None


def is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in FUNCTIONS


def way_of_call(node: ast.Call) -> str | None:
    name = ast.unparse(node.func).rpartition(".")[2]
    is_of_path = name == "replace" and len(node.args) == 1 and not node.keywords  # of a text it takes two
    is_method = isinstance(node.func, ast.Attribute) and not is_module(node.func.value)
    opens = name in OPENERS and not any(keyword.arg == "fileobj" for keyword in node.keywords)
    if (is_method and (name in METHODS or is_of_path)) or (opens and any(map(is_writing, ast.iter_child_nodes(node)))):
        return name
    return None


def is_writing(node: ast.AST) -> bool:
    """Return whether an argument is a mode in which a file is made or changed; appending is not."""
    value = node.value if isinstance(node, ast.keyword) else node
    text = value.value if isinstance(value, ast.Constant) else None
    return isinstance(text, str) and len(text) < 4 and bool(set(text) & set("wx+"))


def test_whole_files_and_locks_come_from_one_module() -> None:
    found = {
        (file, inside, way)
        for path in SOURCES
        if (file := path.relative_to(ROOT).as_posix()) != HOME
        for inside, way in ways(ast.parse(path.read_text()))
    }
    assert found == set(EXCEPTIONS)


def test_a_refusal_of_what_exists_comes_from_one_class() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and any(
                isinstance(one, ast.Constant) and one.value == "output-exists" for one in node.args
            ):
                assert path.relative_to(ROOT).as_posix() == "bench/errors.py"


@pytest.mark.parametrize(
    "code",
    [
        "os.replace(a, b)",
        "os.open(a, os.O_CREAT | os.O_WRONLY)",
        "from os import link",
        "fcntl.flock(a, fcntl.LOCK_EX)",
        "tempfile.NamedTemporaryFile(dir=a)",
        "Path(a).write_bytes(b)",
        "Path(a).rename(b)",
        "Path(a).replace(b)",
        "open(a, 'wb')",
        "open(a, mode='x')",
        "a.open('r+b')",
        "zipfile.ZipFile(a, 'w')",
        "shutil.move(a, b)",
    ],
)
def test_the_walk_would_notice(code: str) -> None:
    found = list(ways(ast.parse(f"class A:\n  def b():\n    {code}")))
    assert [inside for inside, _ in found[:1]] == ["A.b"]


@pytest.mark.parametrize(
    "code",
    ["open(a)", "a.open('rb')", "a.open('ab')", "a.replace('w', b)", "replace(a, b=c)", "tempfile.TemporaryFile()"],
)
def test_the_walk_passes_over_what_it_should(code: str) -> None:
    assert not list(ways(ast.parse(code)))
