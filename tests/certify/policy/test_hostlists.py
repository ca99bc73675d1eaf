"""Lists of node names in Slurm's form: what they stand for, and what is none."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError
from certify.policy.hostlists import MAX_NODES, expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", "n1"),
        ("gpu[001-003,020]", "gpu001 gpu002 gpu003 gpu020"),
        ("n[8-11]", "n8 n9 n10 n11"),
        ("n[08-11]", "n08 n09 n10 n11"),
        ("n[5-5]", "n5"),
        ("r[1-2]n[01-02]x", "r1n01x r1n02x r2n01x r2n02x"),
        ("[1-2]", "1 2"),
        ("a,b[1,3],c", "a b1 b3 c"),
        ("n[0-0,000-001]", "n0 n000 n001"),
        ("GPU[1-2].Site", "GPU1.Site GPU2.Site"),
    ],
)
def test_what_a_list_stands_for(text: str, names: str) -> None:
    assert expand([text], "x") == names.split()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("n[3-1]", "runs backwards"),
        ("n[010-9]", "runs backwards"),
        ("n[]", "where numbers are wanted"),
        ("n[1,]", "where numbers are wanted"),
        ("n[a-b]", "where numbers are wanted"),
        ("n[1-2-3]", "where numbers are wanted"),
        ("n[-1]", "where numbers are wanted"),
        ("n[1 - 2]", "where numbers are wanted"),
        ("n[\u0661-\u0662]", "where numbers are wanted"),  # digits of another script
        ("n[1-2", "without its counterpart"),
        ("n1-2]", "without its counterpart"),
        ("n[[1-2]]", "without its counterpart"),
        ("", "an empty name"),
        ("a,,b", "an empty name"),
        ("a,", "an empty name"),
        ("n[1-200001]", "more than 200,000"),
        ("r[1-1000]n[1-1000]s[1-1000]", "more than 200,000"),  # said before any name is made
        ("n[0-999999999999999999]", "more than 200,000"),
        ("n[1-" + "9" * 5000 + "]", "where numbers are wanted"),
        ("x" * 60_000 + "[1-200000]", "a name of more than 255 letters"),  # 12 GB of names otherwise
        ("n" + "[1-1]" * 60_000, "a name of more than 255 letters"),
    ],
)
def test_what_is_no_list(text: str, what: str) -> None:
    with pytest.raises(InputError, match=re.escape(what)) as caught:
        expand([text], "centre.yaml")
    assert (caught.value.code, caught.value.where) == ("host-list-invalid", "centre.yaml")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_the_cap_is_over_all_lists_together() -> None:
    assert len(expand([f"a[1-{MAX_NODES}]"], "x")) == MAX_NODES
    with pytest.raises(InputError, match="more than"):
        expand([f"a[1-{MAX_NODES}]", "b"], "x")


@given(st.text("n[]0123-, a\n\u0660", max_size=20))
def test_anything_is_a_list_or_refused_in_one_sentence(text: str) -> None:
    names: list[str] = []
    with contextlib.suppress(InputError):
        names = expand([text], "x")
    assert all(name and not set(name) & set("[],") for name in names)


@given(st.integers(0, 10**6), st.integers(0, 50), st.integers(1, 9))
def test_a_range_is_its_numbers_with_the_zeros_of_the_first(first: int, more: int, digits: int) -> None:
    text = f"n[{first:0{digits}}-{first + more:0{digits}}]"
    width = len(f"{first:0{digits}}")
    assert expand([text], "x") == [f"n{number:0{width}}" for number in range(first, first + more + 1)]
