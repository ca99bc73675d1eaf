"""Which tests name a reason code: in their own lines, or in a table that they run over, of their module or of another.

A test *names* a code where the code stands as a literal in it, in a value of the tests that it uses, or in a table of
another module of tests that it imports. The nearer, the likelier it is that the test is about the code.
"""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.codes.sites import FUNCTIONS, ROOT, text_of

PRINTED = re.compile(r"[\[.]([a-z0-9]+(?:-[a-z0-9]+)+)\\?[\].]")  # "[code]" in a printed line, or in a pattern for one
FURTHEST = 4  # names from a test to the literal
# A test of these needs a service, a browser, a cluster or real time, and is named where there is no other.
SLOW = ("slurm/", "web/test_browser", "realtime", "bad_input/", "kube", "test_cli.py", "test_wheel", "npu/", "oracle/")


class Definition(NamedTuple):
    """A module-level name of a file of tests: the codes in it, and the names that it uses."""

    codes: frozenset[str]
    names: frozenset[str]
    is_test: bool
    is_table: bool  # it is run over parameters


class Naming(NamedTuple):
    """A test that names a code: how many names lie between them (0: in its own lines), and where the test stands."""

    distance: int
    test: str  # path::function


def _definition(node: ast.stmt, codes: Collection[str]) -> Definition:
    texts, names = set[str](), set[str]()
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            names.add(child.id)
        elif isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name):
            names.add(f"{child.value.id}.{child.attr}")
        elif text := text_of(child):
            texts.add(text)
    found = {text for text in texts if text in codes}
    found |= {code for text in texts for code in PRINTED.findall(text) if code in codes}
    if isinstance(node, FUNCTIONS):
        names |= {argument.arg for argument in node.args.args}  # fixtures
    is_test = isinstance(node, FUNCTIONS) and node.name.startswith("test_")
    is_table = isinstance(node, FUNCTIONS) and any("parametrize" in ast.unparse(one) for one in node.decorator_list)
    return Definition(frozenset(found), frozenset(names), is_test, is_table)


def _targets(node: ast.stmt) -> list[str]:
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [child.id for target in targets for child in ast.walk(target) if isinstance(child, ast.Name)]


def definitions(codes: Collection[str]) -> dict[str, Definition]:
    """Return every module-level name of the tests as ``file::name``, with the full names of what it uses."""
    found: dict[str, Definition] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        if file.startswith(("tests/codes/", "tests/oracle/")):
            continue
        tree = ast.parse(path.read_text())
        imported: dict[str, str] = {}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
                for alias in node.names:
                    imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        local = {name for node in tree.body for name in _targets(node)}

        def full(name: str, imported: dict[str, str] = imported, local: set[str] = local, file: str = file) -> str:
            head, _, tail = name.partition(".")
            if head in imported:
                module, _, last = f"{imported[head]}{'.' if tail else ''}{tail}".rpartition(".")
                return f"{module.replace('.', '/')}.py::{last}"
            return f"{file}::{head}" if head in local else ""

        for node in tree.body:
            for name in _targets(node):
                definition = _definition(node, codes)
                uses = frozenset(filter(None, map(full, definition.names)))
                place = f"{file}::{name}"
                if place in found:  # a table that is made in steps
                    earlier = found[place]
                    definition = definition._replace(codes=definition.codes | earlier.codes)
                    uses |= earlier.names
                found[place] = definition._replace(names=uses - {place})
            if not _targets(node) and isinstance(node, ast.AugAssign | ast.Expr):  # TABLE |= {...}, TABLE.update(...)
                more = _definition(node, codes)
                for name in more.names & local:
                    if (place := f"{file}::{name}") in found and not found[place].is_test:
                        found[place] = found[place]._replace(codes=found[place].codes | more.codes)
    return found


@cache
def tests_naming(codes: frozenset[str]) -> dict[str, list[Naming]]:
    """Return the tests that name each code, the likeliest to be about it first."""
    all_definitions = definitions(codes)
    found: dict[str, dict[str, int]] = {code: {} for code in codes}
    for place, definition in all_definitions.items():
        if not definition.is_test:
            continue
        seen, queue = {place}, deque([(place, 0)])
        while queue:
            at, distance = queue.popleft()
            for code in all_definitions[at].codes:
                found[code].setdefault(place, distance)
            if distance < FURTHEST:
                for name in all_definitions[at].names - seen:
                    if name in all_definitions and not all_definitions[name].is_test:
                        seen.add(name)
                        queue.append((name, distance + 1))

    def order(test: str, distance: int) -> tuple[object, ...]:
        slow = any(part in test for part in SLOW)
        return (
            slow,
            distance > 2,
            not test.startswith("tests/certify/"),
            not all_definitions[test].is_table,
            distance,
            test,
        )

    return {
        code: [Naming(distance, test) for test, distance in sorted(tests.items(), key=lambda one: order(*one))]
        for code, tests in found.items()
    }


def file_of(test: str) -> Path:
    """Return the file that a test stands in."""
    return ROOT / test.partition("::")[0]
