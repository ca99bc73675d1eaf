"""Mutants of the product, one for each reason code, in one program: where a code's mutant is active, nothing yields it.

Modules are rewritten as they are imported. What raises, returns, yields, appends or assigns a value asks first whether
the value is the active code, an error with it, or holds it, and leaves it out. The check before it still runs; what it
found has no consequence, as if the check had been deleted.

A code that stands deeper in an expression (a keyword of a call) becomes None.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from types import CodeType, GeneratorType, ModuleType
from typing import Any

from tests.codes.sites import ROOMS, text_of


class Active:
    """The code whose mutant is active; none at first."""

    code: str | None = None


def is_it(value: Any) -> bool:
    """Whether a value is the active code, or says it: an error, a finding, a row of a table, a printed line."""
    if Active.code is None or value is None:
        return False
    if isinstance(value, str):
        return value == Active.code or value.endswith(f"[{Active.code}]")  # a printed line
    if isinstance(value, tuple) and value and not hasattr(value, "code"):
        if hasattr(value, "_fields"):
            return bool(value[0] == Active.code)
        row = value[: 1 if len(value) < 3 else 3]  # (code, words) or (whether it holds, code, words)
        return any(isinstance(one, str) and one == Active.code for one in row) and not _is_codes(value)
    return bool(getattr(value, "code", None) == Active.code)


def _is_codes(value: tuple[Any, ...]) -> bool:
    """Whether a tuple lists codes, rather than a code and what belongs to it."""
    return all(isinstance(one, str) and one.islower() and " " not in one for one in value)


def raised(error: Any) -> Any:
    """Return an error that is to be raised, or None."""
    return None if is_it(error) else error


def value(given: Any) -> Any:
    """Return a value without the active code."""
    if Active.code is None or given is None:
        return given
    if is_it(given):
        return None
    if isinstance(given, GeneratorType):
        return each(given)
    if type(given) in (tuple, list, set, frozenset):
        return type(given)(value(one) if type(one) in (tuple, list) else one for one in given if not is_it(one))
    if type(given) is dict:
        return {key: one for key, one in given.items() if not is_it(key) and not is_it(one)}
    return given


def each(given: Any) -> Iterator[Any]:
    """Yield what something yields, without the active code."""
    return (one for one in given if not is_it(one))


def code_of(code: str) -> str | None:
    """Return a code that stands within an expression, or None."""
    return None if Active.code == code else code


BUILTINS: Mapping[str, Any] = {  # what rewritten modules call, by names that none of them can have
    "_mutant_raised": raised,
    "_mutant_value": value,
    "_mutant_is": is_it,
    "_mutant_code": code_of,
    "_mutant_each": each,
}


class Rewriter(ast.NodeTransformer):
    """Rewrites the functions of a module."""

    def __init__(self, codes: frozenset[str]) -> None:
        self._codes = codes
        self._depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._depth += 1
        node.body = [new for one in node.body for new in _listed(self.visit(one))]
        self._depth -= 1
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        self.generic_visit(node)
        if node.exc is None or not self._depth:
            return node
        kept = ast.NamedExpr(ast.Name("_mutant_e", ast.Store()), _call("_mutant_raised", node.exc))
        test = ast.Compare(kept, [ast.IsNot()], [ast.Constant(None)])
        return ast.If(test, [ast.Raise(ast.Name("_mutant_e", ast.Load()), node.cause)], [])

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if node.value is not None:
            node.value = _call("_mutant_value", self._inner(node.value))
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        return self._assigned(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return self._assigned(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        return self._assigned(node)

    def _assigned(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> ast.AST:
        if node.value is None or not self._depth:
            return node
        touched = isinstance(node, ast.AugAssign) or any(text_of(one) in self._codes for one in ast.walk(node.value))
        node.value = self._inner(node.value)
        if touched:
            node.value = _call("_mutant_value", node.value)
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        touched = any(text_of(one) in self._codes for one in ast.walk(node.iter))
        node.iter = self._inner(node.iter)
        if touched and self._depth:
            node.iter = _call("_mutant_value", node.iter)
        node.body = [new for one in node.body for new in _listed(self.visit(one))]
        node.orelse = [new for one in node.orelse for new in _listed(self.visit(one))]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if not self._depth:
            return node
        value = node.value
        if isinstance(value, ast.Yield) and value.value is not None:
            kept = ast.NamedExpr(ast.Name("_mutant_v", ast.Store()), self._inner(value.value))
            yielded = ast.Expr(ast.Yield(ast.Name("_mutant_v", ast.Load())))
            return ast.If(ast.UnaryOp(ast.Not(), _call("_mutant_is", kept)), [yielded], [])
        if isinstance(value, ast.YieldFrom):
            value.value = _call("_mutant_each", self._inner(value.value))
            return node
        if isinstance(value, ast.Call):
            if isinstance(value.func, ast.Attribute) and value.func.attr in ("append", "add") and len(value.args) == 1:
                kept = ast.NamedExpr(ast.Name("_mutant_v", ast.Store()), self._inner(value.args[0]))
                value.args = [ast.Name("_mutant_v", ast.Load())]
                return ast.If(ast.UnaryOp(ast.Not(), _call("_mutant_is", kept)), [node], [])
            said = [text_of(one) for one in value.args]
            said += [text_of(one.args[0]) for one in value.args if isinstance(one, ast.Call) and one.args]
            said = [one for one in said if one in self._codes]
            if said and not ast.unparse(value.func).startswith("super"):
                test = _call("_mutant_is", ast.Constant(said[0]))
                return ast.If(ast.UnaryOp(ast.Not(), test), [node], [])
        return self.generic_visit(node)

    def _inner(self, node: ast.expr) -> ast.expr:
        """Rewrite what stands deeper in an expression whose own value is asked for."""
        if isinstance(node, ast.Constant):
            return node
        if isinstance(node, ast.IfExp):
            node.test = self.visit(node.test)
            node.body, node.orelse = self._inner(node.body), self._inner(node.orelse)
        elif isinstance(node, ast.BoolOp):
            node.values = [self._inner(one) for one in node.values]
        elif isinstance(node, ast.Tuple) and _is_pair(node) and text_of(node.elts[0]) not in self._codes:
            node.elts = [self._constant(self._inner(one)) for one in node.elts]  # (verdict, code)
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            node.elts = [self._row(one) for one in node.elts]
        elif isinstance(node, ast.Starred):
            node.value = self._inner(node.value)
        elif isinstance(node, ast.Call):
            node.args = [one if isinstance(one, ast.Constant) else self.visit(one) for one in node.args]
            node.keywords = [self.visit(one) for one in node.keywords]
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            node.elt = self._inner(node.elt)
        else:
            return self.visit(node)  # type: ignore[no-any-return]
        return node

    def _row(self, node: ast.expr) -> ast.expr:
        """Rewrite an element, which is asked for its code as a whole where it is a row of a table."""
        if isinstance(node, ast.Tuple):
            node.elts = [self._inner(one) for one in node.elts]
            return node
        return self._inner(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if self._depth and not ast.unparse(node.func).rpartition(".")[2].endswith(("Error", "__init__")):
            node.args = [self._constant(one) for one in node.args]
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        node.value = self._constant(self.visit(node.value))
        return node

    def _constant(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.IfExp):
            node.body, node.orelse = self._constant(node.body), self._constant(node.orelse)
        elif self._depth and text_of(node) in self._codes:
            return _call("_mutant_code", node)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        return node


def _is_pair(node: ast.Tuple) -> bool:
    return len(node.elts) > 1 and not any(isinstance(one, ast.Starred | ast.Tuple) for one in node.elts)


def _listed(made: Any) -> list[Any]:
    return made if isinstance(made, list) else [made]


def _call(name: str, argument: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name, ast.Load()), [argument], [])


def rewritten(text: str, file: str, codes: frozenset[str]) -> CodeType:
    """Return the code of a module in which every mutant sleeps."""
    tree = Rewriter(codes).visit(ast.parse(text))
    made: CodeType = compile(ast.fix_missing_locations(tree), file, "exec", dont_inherit=True)
    return made


class Importer(MetaPathFinder):
    """Imports the product with its mutants."""

    def __init__(self, codes: frozenset[str]) -> None:
        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname: str) -> CodeType:
                return rewritten(self.get_data(self.path).decode(), self.path, codes)

        self._loader = Loader

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in ROOMS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = self._loader(spec.loader.name, spec.loader.path)
        return spec


def install(codes: frozenset[str]) -> None:
    """Rewrite the product as it is imported from now on; what is imported already is not."""
    early = [name for name in sys.modules if name.partition(".")[0] in ROOMS]
    assert not early, f"imported too early: {early[:5]}"
    for name, one in BUILTINS.items():
        setattr(builtins, name, one)
    sys.meta_path.insert(0, Importer(codes))
