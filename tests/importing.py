"""What a Python file imports, late imports included, for the order of the rooms and for what a change touches."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import NamedTuple


class Import(NamedTuple):
    """One imported name, ``package.module`` or ``package.module.name``, and whether it stands at module level."""

    name: str
    at_top: bool


@cache
def imports(text: str, path: str) -> tuple[Import, ...]:
    """Return everything that a file imports, wherever it stands; constants given to ``import_module`` too.

    Args:
        text: the file's content.
        path: from the root, which relative imports start from.
    """
    return tuple(of_tree(ast.parse(text), path))


def of_tree(tree: ast.Module, path: str) -> Iterator[Import]:
    """Yield everything that a parsed file imports (see `imports`)."""
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(PurePosixPath(path).parts[: -node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield from (Import(f"{module}.{alias.name}", id(node) in top) for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node.func) == "import_module":
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield Import(str(argument.value), False)


def _called(function: ast.expr) -> str | None:
    """Return the last part of the name that is called."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
