"""The house keeps its targets (`tests.house`), and each number that is held to one is able to fail."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.house import TARGETS, House, Number, is_vague, numbers

ROOT = Path(__file__).resolve().parent.parent


@cache
def ours() -> dict[str, Number]:
    return numbers(House(ROOT))


@pytest.mark.parametrize("name", TARGETS)
def test_the_house_keeps_its_targets(name: str) -> None:
    value, detail = ours()[name]
    assert TARGETS[name].holds(value), f"{name}: {value:g} ({TARGETS[name]}): {detail}"


def house(root: Path, **files: str) -> dict[str, Number]:
    """Return the numbers of a tree with these files, by their paths with ``__`` for a slash."""
    for name, text in {"kernels__a": "A = 1\n", "tests__t": "T = 1\n", **files}.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return numbers(House(root))


FUNCTION = 'def f() -> None:\n    """Do."""\n'


def test_late_imports_and_those_for_types_close_a_circle(tmp_path: Path) -> None:
    late = "def f() -> None:\n    from bench import b\n"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bench.a import f\n"
    value, detail = house(tmp_path, bench__a=late, bench__b=typed)["circles of imports"]
    assert (value, detail) == (1, "bench.a bench.b")


def test_a_class_name_in_two_modules_is_counted(tmp_path: Path) -> None:
    found = house(
        tmp_path, bench__a="class Line: ...\n", certify__b="def f():\n    class Line: ...\n", bench__c=FUNCTION
    )
    assert found["class names that occur twice"] == (1, "Line")


def test_functions_are_measured_without_signature_and_docstring(tmp_path: Path) -> None:
    body = "    x = 1\n" * 61
    found = house(tmp_path, bench__a=FUNCTION + body, certify__commands__b="def c(" + "a, " * 9 + "b): ...\n")
    assert found["lines of the longest function"] == (61, "bench/a.py:1 f")
    assert found["parameters of the widest function"].value == 0  # a command's are its user's
    found = house(tmp_path, bench__d="class C:\n    def wide(self, a, b, /, c, *, d): ...\n")
    assert found["parameters of the widest function"] == (4, "bench/d.py:2 wide")


def test_docstrings_and_blank_lines_are_no_lines_and_comments_are_no_code(tmp_path: Path) -> None:
    text = '"""Module.\n\nMore.\n"""\n\n# why\nA = 1  # and why\n\n\n' + FUNCTION + "    return\n"
    found = house(tmp_path, bench__a=text)
    assert found["lines of the product"].value == 1 + 3  # that of kernels, and A, def, return
    assert found["comments per 100 lines"] == (50, "2 comments")


def test_a_full_folder_is_counted_without_its_init(tmp_path: Path) -> None:
    found = house(tmp_path, bench____init__="", **{f"bench__m{index}": FUNCTION for index in range(17)})
    assert found["files in the fullest folder"] == (17, "bench")


@pytest.mark.parametrize(
    ("name", "vague"), [("told", True), ("_own_key", True), ("Told", True), ("known", False), ("owner", False)]
)
def test_a_name_is_vague_by_a_whole_part_of_it(name: str, vague: bool) -> None:
    assert is_vague(name) is vague


def test_every_way_to_bind_a_name_counts_once_in_its_scope(tmp_path: Path) -> None:
    text = (
        "def f(told, *own, **kept):\n    for found in told:\n        found = 1\n"
        "    with open() as beside:\n        pass\n    try:\n        pass\n    except OSError as mine:\n        pass\n"
        "    self.rim = [others for others in own]\n    return lambda tell: (some := tell)\n"
    )
    value, detail = house(tmp_path, bench__a=text)["vague words among bound names, %"]
    # 10 of 13: A, T's tree is not counted, f and A are plain
    names = ["told", "own", "kept", "found", "beside", "mine", "rim", "others", "tell", "some"]
    assert all(f"{name} 1" in detail for name in names)
    assert value == round(100 * 10 / 12, 1)


def test_a_reader_of_verify_opens_what_is_called_and_stops_at_the_doors_of_other_rooms(tmp_path: Path) -> None:
    found = house(
        tmp_path,
        certify__verify__verifier="from certify.judge.a import f, TYPE\nfrom certify.trust.b import g\n"
        "from certify.policy.c import NAME\nf(g())\n",
        certify__trust__b="def g():\n    from certify.documents import d\n    d.h()\n",
        certify__documents__d="def h(): ...\n",
        certify__judge__a="from certify.judge.deep import x\nTYPE = 1\ndef f(): x()\n",
        certify__judge__deep="def x(): ...\n",
        certify__policy__c="NAME = 1\n",
    )
    assert found["modules to open for verify"].value == 4  # itself, judge.a, trust.b, documents.d


def test_floors_count_the_longest_way_down(tmp_path: Path) -> None:
    found = house(tmp_path, bench__a="from bench import b\n", bench__b="import bench.c\n", bench__c="C = 1\n")
    assert found["floors of imports"].value == 3
    assert found["arrows of imports"].value == 2
