"""Every check of R6, R12 and R13 is held by a test: taken out alone, some broken record is judged otherwise.

A check is a place in the judge that yields a code, or a whole rule. The judge's own functions are changed, one place at
a time; the records are those of `test_rules.BROKEN` and of the forger.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from types import CodeType, ModuleType
from typing import Any, NamedTuple, get_args

import pytest
from msgspec.structs import replace

from bench.record import NodeRecord, digest
from certify.judge import ceilings, identities, parts, plausibility, products, record, rules, scope, telemetry, timing
from certify.judge.tally import counted_sums
from certify.policy import reasons
from certify.statement.build import StatementInputs
from tests.certify.forger import basis, invented
from tests.certify.judge.test_rules import BROKEN, judged
from tests.certify.judged import basis_of, tally_of
from tests.certify.test_forger import CARD, PARTS, alone

RULES = tuple(f"run-rules.md#{rule}" for rule in ("r6-step-by-step", "r12", "r12-step-by-step", "r13"))
MODULES = (ceilings, identities, products, timing, plausibility, telemetry, parts, record, scope)
GONE = "taken-out"  # what a check yields that was taken out
CODES = {code for code, entry in reasons.reasons().items() if entry.rule in RULES}
WRITTEN_BY_THE_ENGINE = {"device-busy"}  # a failure, not a judgement of a figure


class Check(NamedTuple):
    """One place that yields a code: inside a function, or a value of a table of the module."""

    module: ModuleType
    function: str | None
    line: int
    column: int
    code: str

    def __str__(self) -> str:
        return f"{self.module.__name__.rpartition('.')[2]}:{self.line} {self.function or 'table'} {self.code}"


def checks() -> Iterator[Check]:
    """Yield each place of the judge that yields a code of these rules."""
    for module in MODULES:
        for top in ast.parse(inspect.getsource(module)).body:
            if ast.unparse(top).startswith("NEVER_SCHEDULED"):
                continue  # says what an accepted hold is worth, and checks no figure
            name = top.name if isinstance(top, ast.FunctionDef) else None
            for node in ast.walk(top):
                if isinstance(node, ast.Constant) and node.value in CODES:
                    yield Check(module, name, node.lineno, node.col_offset, str(node.value))


CHECKS = tuple(checks())


def take_out(check: Check, patch: pytest.MonkeyPatch) -> None:
    """Let a place yield nothing that is looked at."""
    if check.function is None:
        for table in vars(check.module).values():
            if isinstance(table, dict):
                for key in [key for key, value in table.items() if value == check.code]:
                    patch.setitem(table, key, GONE)
        return
    tree = ast.parse(inspect.getsource(check.module))
    (top,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == check.function)
    for node in ast.walk(top):
        if isinstance(node, ast.Constant) and (node.lineno, node.col_offset) == (check.line, check.column):
            node.value = GONE
    compiled = compile(ast.Module([top], []), str(check.module.__file__), "exec")
    (body,) = (code for code in compiled.co_consts if isinstance(code, CodeType) and code.co_name == check.function)
    patch.setattr(getattr(check.module, check.function), "__code__", body)


Said = tuple[frozenset[str], int]


@dataclass(frozen=True)
class Held:
    """A record that breaks rules, and what it is judged against."""

    name: str
    record: NodeRecord
    basis: StatementInputs
    codes: frozenset[str] | None  # that it breaks; None: whatever they are

    def said(self) -> Said:
        """Return what is said of it, and how much of it counts."""
        tally = tally_of([self.record], self.basis)
        codes = {code for code, _ in tally.findings} | {code for *_, codes in tally.not_counted for code in codes}
        sums = counted_sums(tally, self.basis.scope)
        return frozenset(codes - {GONE}), sum(one.counted.certified_mflop_s for _, one in sums)

    @cached_property
    def whole(self) -> Said:
        """What the judge says with all its checks."""
        return self.said()


@cache
def broken_records() -> tuple[Held, ...]:
    """Return the broken records of these rules, and the forger's of whole units and nodes, which no one fake is."""
    found = []
    for broken in BROKEN:
        one, codes = judged(broken), frozenset((*broken.codes, *broken.carries))
        if codes & CODES:
            found.append(Held(broken.test, one.record, basis_of(one.campaign, one.profile, one.centre), codes))
    given = basis("fp16", "certification")
    for how, (kind, count, tflops, parent, facts) in PARTS.items():
        if count < 100:
            record = invented(alone(kind, tflops * 10**6), count, parent, **facts)
            found.append(Held(how, record, given, None))
    dies = invented(alone(PARTS["3 dies of one package"][0], 140 * 10**6), 2, lambda place: "package")
    found.append(Held("two dies that tell one power", dies, given, None))
    begin = "1970-01-01T08:01:00.000000Z"
    campaign = replace(given.scope.campaign, starts_from=begin)
    times = {"starts_at": begin, "started_at": begin, "ready_at": begin}
    scope = dataclasses.replace(given.scope, campaign=campaign, campaign_sha256=digest(campaign), starts_at=begin)
    old = replace(CARD, campaign_sha256=digest(campaign), **times)
    found.append(Held("1970", old, dataclasses.replace(given, scope=scope), None))
    return tuple(found)


def notices(code: str | None) -> str | None:
    """Return the first record of which something else is said, or counts, than with all checks."""
    for held in broken_records():
        if (code is None or held.codes is None or code in held.codes) and held.said() != held.whole:
            return held.name
    return None


@pytest.fixture(scope="module", autouse=True)
def _whole() -> None:
    """Judge every record before anything is taken out."""
    assert all(held.whole for held in broken_records())


@pytest.fixture(autouse=True)
def _gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reasons._effects(), GONE, "note")


def test_the_checks_are_those_of_the_rules() -> None:
    assert {check.code for check in CHECKS} == CODES - WRITTEN_BY_THE_ENGINE
    assert notices(None) is None  # nothing was taken out


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_a_check_that_is_taken_out_is_missed(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    take_out(check, monkeypatch)
    assert notices(check.code) is not None


def nothing(case: Any) -> tuple[str, ...]:
    return ()


WHOLE_RULES = [rule for rule in rules.FIGURE_RULES if rule.__name__.startswith(("r6_", "r12_", "r13_"))]


@pytest.mark.parametrize("rule", WHOLE_RULES, ids=lambda rule: rule.__name__)
def test_a_rule_that_is_taken_out_is_missed(rule: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "__code__", nothing.__code__)
    assert notices(None) is not None


@pytest.mark.parametrize(
    ("module", "name", "result"),
    [
        (rules, "wholes_of", {}),  # the sum over the parts of a unit
        (rules, "too_many_parts", frozenset()),
        (rules, "references_of", {}),  # what was measured beside
        (record, "record_codes", ()),
        (record, "r12_kind", ()),
        (record, "identity_codes", ()),
        (identities, "is_incomplete", False),
        (identities, "has_other_form", False),
        (telemetry, "exposed_by", frozenset()),  # what a source tells, whatever a record says of it
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_rule_rests_on_is_missed(
    module: ModuleType, name: str, result: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, lambda *args, **kwargs: result)
    assert notices(None) is not None


@pytest.mark.parametrize("name", get_args(ceilings.LimitName))
def test_a_limit_that_is_taken_out_is_missed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that is gone names no step and binds nothing."""
    made = ceilings.Ceilings.passed

    def passed(found: ceilings.Ceilings, rate_mflop_s: int) -> tuple[str, ...]:
        return made(found._replace(limits=tuple(one for one in found.limits if one.name != name)), rate_mflop_s)

    monkeypatch.setattr(ceilings.Ceilings, "passed", passed)
    assert notices(None) is not None
