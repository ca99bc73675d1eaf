"""What a Python file imports, late imports included, for the order of the rooms and for what a change touches."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple


class Import(NamedTuple):
    """One imported name, ``package.module`` or ``package.module.name``, and whether it stands at module level."""

    name: str
    at_top: bool


def imports(text: str, path: str) -> Iterator[Import]:
    """Yield everything that a file imports, wherever it stands; constants given to ``import_module`` too.

    Args:
        text: the file's content.
        path: from the root, which relative imports start from.
    """
    tree = ast.parse(text)
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(PurePosixPath(path).parts[: -node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield from (Import(f"{module}.{alias.name}", id(node) in top) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield Import(str(argument.value), False)
