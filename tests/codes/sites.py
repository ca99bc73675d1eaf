"""Which function yields a reason code: every literal code of the source, told from the places that only react to one.

A code that is compared, looked up or listed in a type is reacted to. Everywhere else it is yielded: raised, returned,
appended, or a value of a table, whose codes belong to the functions that use the table.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("kernels", "bench", "certify")
# The rooms that decide first, then those that ask them: the page of a statement names one function of a code.
ENFORCERS = (
    *("certify/judge", "certify/policy", "certify/verify", "certify/documents", "certify/trust", "certify/samples"),
    *("certify/statement", "certify/keys", "bench", "kernels", "certify/registry", "certify/campaign"),
)
FORETELLERS = ("certify/judge/expectation.py", "certify/policy/missing.py")  # what will be said, and decided elsewhere
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Site(NamedTuple):
    """One place of a code: the module, the function or table that it stands in, and the file with its line."""

    code: str
    module: str
    name: str
    file: str
    line: int
    yields: bool

    @property
    def function(self) -> str:
        """The function's full name."""
        return f"{self.module}.{self.name}" if self.name else self.module


class Source(NamedTuple):
    """A parsed file of the product."""

    file: str
    module: str
    tree: ast.Module


@cache
def sources() -> tuple[Source, ...]:
    """Return every file of the product, parsed."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return tuple(
        Source(
            path.relative_to(ROOT).as_posix(),
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"),
            ast.parse(path.read_text()),
        )
        for path in paths
    )


def text_of(node: ast.AST) -> str:
    """Return the text of a literal string, else nothing."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _reacts(parent: ast.AST, field: str) -> bool:
    """Whether what stands in this field of a node is looked for there, and not yielded."""
    if isinstance(parent, ast.Compare | ast.match_case | ast.Attribute):
        return True
    if isinstance(parent, ast.Subscript):
        return field == "slice"
    if isinstance(parent, ast.Dict):
        return field == "keys"
    return field in ("annotation", "returns", "decorator_list")


def _in_file(source: Source, codes: Collection[str]) -> list[Site]:
    found: list[Site] = []

    def walk(node: ast.AST, names: tuple[str, ...], yields: bool) -> None:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("frozenset", "Column"):
            yields = False
        for field in node._fields:
            value = getattr(node, field, None)
            for child in value if isinstance(value, list) else (value,):
                if isinstance(child, ast.Constant):
                    if isinstance(child.value, str) and child.value in codes:
                        name, said = ".".join(names), yields and not _reacts(node, field)
                        found.append(Site(child.value, source.module, name, source.file, child.lineno, said))
                elif isinstance(child, ast.AST) and child._fields:
                    walk(child, _below(names, child), yields and not _reacts(node, field))

    walk(source.tree, (), True)
    return found


def _below(names: tuple[str, ...], node: ast.AST) -> tuple[str, ...]:
    """Return the names that what is in a node stands under: functions, classes, and tables of the module."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return (*names, node.name)
    if not names and isinstance(node, ast.Assign | ast.AnnAssign):
        return (ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target),)
    return names


class _Use(NamedTuple):
    """A function that uses a name, and where."""

    function: str
    line: int
    source: Source


@cache
def _uses() -> dict[str, list[_Use]]:
    """Return the functions of the product that use each name of a table (`UPPER_CASE`), in the order of the files."""
    found: dict[str, list[_Use]] = {}

    def walk(node: ast.AST, names: tuple[str, ...], source: Source) -> None:
        for child in ast.iter_child_nodes(node):
            below = (*names, child.name) if isinstance(child, (*FUNCTIONS, ast.ClassDef)) else names
            if isinstance(child, ast.Name) and child.id.isupper() and isinstance(child.ctx, ast.Load) and names:
                found.setdefault(child.id, []).append(_Use(".".join(names), child.lineno, source))
            walk(child, below, source)

    for source in sources():
        walk(source.tree, (), source)
    return found


def _users(site: Site) -> list[Site]:
    """Return the functions that use the table that a code stands in: those of its module, else those that import it."""
    table = site.name.partition(".")[0]
    uses = _uses().get(table, [])
    near = [use for use in uses if use.source.module == site.module] or uses
    return [
        site._replace(name=use.function, line=use.line, module=use.source.module, file=use.source.file) for use in near
    ]


def _rank(site: Site) -> int:
    rooms = () if site.file in FORETELLERS else ENFORCERS
    return next((rank for rank, room in enumerate(rooms) if site.file.startswith(f"{room}/")), len(ENFORCERS))


def sites_of(codes: Collection[str]) -> dict[str, list[Site]]:
    """Return where each code is yielded, by `ENFORCERS`; what only reacts to it where nothing yields it."""
    found: dict[str, list[Site]] = {code: [] for code in codes}
    for source in sources():
        functions = {node.name for node in source.tree.body if isinstance(node, (*FUNCTIONS, ast.ClassDef))}
        for site in _in_file(source, codes):
            top = site.name.partition(".")[0]
            if top in functions:
                found[site.code].append(site)
                continue
            found[site.code] += (_users(site) if top else []) or [site._replace(yields=False)]
    chosen = {code: sorted([s for s in sites if s.yields] or sites, key=_rank) for code, sites in found.items()}
    return {
        code: list({site.function: site for site in reversed(sites)}.values())[::-1] for code, sites in chosen.items()
    }
