"""How the house stands: its folders, imports, functions and words, counted from the sources (``make house``).

Only the standard library is used, so that any checkout can be counted: ``python -m tests.house [ROOT]``. What each
number may be stands in `TARGETS`; `tests/test_house.py` holds the tree to them.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tests import importing

PRODUCT = ("kernels", "bench", "certify")
COMMANDS = "certify/commands/"  # a command's parameters are its options: their number is the user's
MIGRATIONS = "certify/registry/storage/migrations/versions/"  # one function a schema's version, as Alembic wants it
VERIFY = "certify.verify.verifier"
FOLLOWED = frozenset({"verify", "trust", "documents"})  # rooms of certify whose calls a reader of `verify` follows
# Parts of names that say nothing where the field has a term.
VAGUE = frozenset(
    """acts alone beside dated emit endings enlist existing found founding heads kept mine nobody others own rim some
    somebody sort stand tell told wishes""".split()  # noqa: SIM905 - a list of words is read more easily so
)


class Target(NamedTuple):
    """What a number may be: at most (`most`), or at least (`least`)."""

    most: float | None = None
    least: float | None = None

    def holds(self, value: float) -> bool:
        """Return whether a value keeps within the target."""
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def __str__(self) -> str:
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}" if self.least is not None else ""


TARGETS: Mapping[str, Target] = {
    "files in the fullest folder": Target(most=16),
    "circles of imports": Target(most=0),
    "modules to open for verify": Target(most=25),
    "class names that occur twice": Target(most=0),
    "lines of the longest function": Target(most=60),
    "parameters of the widest function": Target(most=8),
    "comments per 100 lines": Target(least=6),
    "vague words among bound names, %": Target(most=2),
}


class Function(NamedTuple):
    """A function of the product, methods and nested ones among them."""

    place: str  # file:line name
    lines: int  # of code: the signature's and the docstring's lines are not counted
    parameters: int  # `self` and `cls` aside


class Number(NamedTuple):
    """One number, with where it comes from."""

    value: float
    detail: str = ""


class House:
    """The sources under a root, parsed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = sorted(path for room in PRODUCT for path in (root / room).rglob("*.py"))
        self.tests = sorted((root / "tests").rglob("*.py"))
        self.texts = {path: path.read_text() for path in self.files}
        self.trees = {path: ast.parse(text) for path, text in self.texts.items()}
        self.nodes = {path: list(ast.walk(tree)) for path, tree in self.trees.items()}
        self.modules = {self.module(path): path for path in self.files}

    def module(self, path: Path) -> str:
        """Return the import name of a file."""
        return ".".join(path.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__")

    def name(self, path: Path) -> str:
        """Return a file's path below the root."""
        return path.relative_to(self.root).as_posix()

    @cached_property
    def imported(self) -> dict[str, set[str]]:
        """Each module with those of ours that it imports, wherever the import stands."""
        return {module: self._imports(path, late=True) for module, path in self.modules.items()}

    def _imports(self, path: Path, *, late: bool) -> set[str]:
        found = importing.of_tree(self.trees[path], self.name(path))
        names = {one.name for one in found if late or one.at_top}
        modules = {name if name in self.modules else name.rpartition(".")[0] for name in names}
        return (modules & self.modules.keys()) - {self.module(path)}

    def circles(self) -> set[frozenset[str]]:
        """Return the groups of modules that all lead to one another."""
        return circles(self.imported)

    def floors(self) -> int:
        """Return the length of the longest way down through the imports, circles counted as one floor."""
        depth: dict[str, int] = {}

        def below(module: str, above: frozenset[str]) -> int:
            if module not in depth:
                ways = self.imported[module] - above
                depth[module] = 1 + max((below(other, above | {module}) for other in ways), default=0)
            return depth[module]

        return max(below(module, frozenset()) for module in self.modules)

    def opened_for(self, module: str) -> list[str]:
        """Return what a reader of a module opens: where it calls a function or class of certify, and so on from there.

        Calls are followed within the rooms of `FOLLOWED`. A module of another room is opened and not followed: what a
        run rule or a sum is stands there under its own name. A module imported for its constants and types alone is
        not opened, nor are those of bench, whose names (units, errors, types) explain themselves.
        """
        seen = {module}
        waiting = [module]
        while waiting:
            for other in self._called(self.modules[waiting.pop()]) - seen:
                seen.add(other)
                if other.split(".")[1] in FOLLOWED:
                    waiting.append(other)
        return sorted(seen)

    def _called(self, path: Path) -> set[str]:
        """Return the modules of certify that a file calls a function or class of."""
        nodes = self.nodes[path]
        called = {name for node in nodes if isinstance(node, ast.Call) for name in _callee(node)}
        modules = set()
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("certify."):
                for alias in node.names:
                    deeper = f"{node.module}.{alias.name}"
                    if (alias.asname or alias.name) in called:
                        modules.add(deeper if deeper in self.modules else node.module)
        return modules & self.modules.keys()

    def classes(self) -> dict[str, set[str]]:
        """Return each class name with the modules that define it."""
        where: dict[str, set[str]] = defaultdict(set)
        for path, nodes in self.nodes.items():
            for node in nodes:
                if isinstance(node, ast.ClassDef):
                    where[node.name].add(self.module(path))
        return where

    def functions(self) -> Iterator[Function]:
        """Yield every function of the product, migrations aside."""
        for path, nodes in self.nodes.items():
            if self.name(path).startswith(MIGRATIONS):
                continue
            for node in nodes:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield Function(f"{self.name(path)}:{node.lineno} {node.name}", _lines(node), _parameters(node))

    def bound(self) -> Iterator[tuple[str, str]]:
        """Yield every name that the product binds, with its place; a name counts once in a scope."""
        for path, nodes in self.nodes.items():
            name = self.name(path)
            for scope in nodes:
                if isinstance(scope, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield from ((bound, f"{name}:{line}") for bound, line in _binds(scope).items())

    def comments(self) -> tuple[int, int]:
        """Return how many comments the product has, and how many lines that are neither blank nor a docstring's."""
        comments = lines = 0
        for path, text in self.texts.items():
            comments += sum(
                token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(text).readline)
            )
            lines += _code_lines(text, self.nodes[path])
        return comments, lines


def circles(imported: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Return the strongly connected components with more than one module (Tarjan, without recursion)."""
    reach = {module: _reached(imported, module) for module in imported}
    groups = {frozenset(other for other in reach[module] if module in reach[other]) | {module} for module in imported}
    return {group for group in groups if len(group) > 1}


def _reached(imported: Mapping[str, set[str]], module: str) -> set[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        for other in imported.get(waiting.pop(), ()):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


def _callee(node: ast.Call) -> Iterator[str]:
    function = node.func
    while isinstance(function, ast.Attribute):
        function = function.value
    if isinstance(function, ast.Name):
        yield function.id


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function's body has, its docstring aside."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return 0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    named = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    return len([one for one in named if one.arg not in ("self", "cls")])


def _binds(scope: ast.AST) -> dict[str, int]:
    """Return the names that a module, class or function binds itself, with their lines."""
    names: dict[str, int] = {}
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = scope.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        names |= {one.arg: one.lineno for one in every if one is not None and one.arg not in ("self", "cls")}
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names[node.name] = node.lineno
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names[node.id] = node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names[node.attr] = node.lineno
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names[node.name] = node.lineno
        elif isinstance(node, ast.Lambda):
            names |= {one.arg: one.lineno for one in node.args.args}
        waiting += ast.iter_child_nodes(node)
    return names


def _code_lines(text: str, nodes: Iterable[ast.AST] = ()) -> int:
    """Return how many lines hold code: blank ones, comments on their own and the docstrings of `nodes` are left out."""
    aside: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                aside |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in aside
        for number, line in enumerate(text.splitlines(), 1)
    )


def is_vague(name: str) -> bool:
    """Return whether a part of a name is one of `VAGUE`."""
    return not VAGUE.isdisjoint(name.strip("_").lower().split("_"))


def numbers(house: House) -> dict[str, Number]:
    """Return every number, by its name."""
    folders = Counter(path.parent for path in house.files if path.name != "__init__.py")
    fullest = max(folders, key=folders.__getitem__)
    functions = list(house.functions())
    none = Function("", 0, 0)
    longest = max(functions, key=lambda one: one.lines, default=none)
    asked = (one for one in functions if not one.place.startswith(COMMANDS))
    widest = max(asked, key=lambda one: one.parameters, default=none)
    twice = sorted(name for name, where in house.classes().items() if len(where) > 1)
    bound = list(house.bound())
    vague = Counter(part for name, _ in bound for part in name.strip("_").lower().split("_") if part in VAGUE)
    comments, lines = house.comments()
    opened = house.opened_for(VERIFY) if VERIFY in house.modules else []
    opened_lines = sum(house.texts[house.modules[module]].count("\n") for module in opened)
    test_lines = sum(_code_lines(path.read_text()) for path in house.tests)  # docstrings too: parsing takes seconds
    return {
        "modules": Number(len(house.files)),
        "files in the fullest folder": Number(folders[fullest], house.name(fullest)),
        "floors of imports": Number(house.floors()),
        "arrows of imports": Number(sum(map(len, house.imported.values()))),
        "circles of imports": Number(len(found := house.circles()), "; ".join(" ".join(sorted(one)) for one in found)),
        "modules to open for verify": Number(len(opened), f"{opened_lines} lines"),
        "class names that occur twice": Number(len(twice), " ".join(twice)),
        "lines of the longest function": Number(longest.lines, longest.place),
        "parameters of the widest function": Number(widest.parameters, widest.place),
        "comments per 100 lines": Number(round(100 * comments / lines, 1), f"{comments} comments"),
        "vague words among bound names, %": Number(
            round(100 * sum(is_vague(name) for name, _ in bound) / len(bound), 1),
            " ".join(f"{part} {count}" for part, count in vague.most_common(12)),
        ),
        "lines of the product": Number(lines),
        "lines of the tests": Number(test_lines),
    }


def main() -> None:
    """Print every number beside its target."""
    root = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).resolve().parent.parent
    for name, (value, detail) in numbers(House(root)).items():
        target = TARGETS.get(name)
        mark = "" if target is None else f"({target})" if target.holds(value) else f"({target}: NOT MET)"
        print(f"{name:36}{value:>10,g}  {mark:18}{detail}")


if __name__ == "__main__":
    main()
