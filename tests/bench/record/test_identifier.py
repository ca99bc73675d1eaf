"""The one form in which device identities are compared."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.record import identifier, readable_identifier

PREFIXES = ("uuid", "gpu", "mig", "npu", "mlu", "dcu", "hcu", "gcu", "xpu", "ppu", "0x", "0")
BARE = st.from_regex(r"[1-9a-f][0-9a-f]{7,31}", fullmatch=True).filter(lambda text: set(text) != {"f"})
SPELLED = st.tuples(st.sampled_from(PREFIXES), st.sampled_from(("", "-", "_", ": ", " ", "/")))


@settings(max_examples=300, deadline=None)
@given(BARE, st.lists(SPELLED, max_size=6))
def test_no_prefix_makes_another_identity(bare: str, prefixes: list[tuple[str, str]]) -> None:
    text = "".join(name + separator for name, separator in prefixes) + bare
    if identifier(bare) is None:  # "123456789" is a placeholder behind a prefix too
        assert identifier(text) is None
        return
    assert identifier(bare) == bare
    for spelling in (text, text.upper(), f" {text}\n", "-".join(text)):
        assert identifier(spelling) == bare


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_the_form_that_is_compared_stays_as_it_is(text: str) -> None:
    if (found := identifier(text)) is not None:
        assert identifier(found) == found
        assert readable_identifier(text) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "N/A",
        "[N/A]",
        "GPU-N/A",
        "UUID: unknown",
        "0",
        "0x0",
        "-1",
        "12",
        "0123456789",
        "gpugpu",
        "GPU-00000000-0000-0000-0000-000000000000",
        "GPU-ffffffff-ffff-ffff-ffff-ffffffffffff",
        "To be filled by O.E.M.",
    ],
)
def test_a_placeholder_is_no_identity(text: str | None) -> None:
    assert identifier(text) is None
    assert readable_identifier(text) is None


def test_words_that_vendors_put_before_an_identity_are_no_hex_digits() -> None:
    """Else a prefix could be a part of the identity itself."""
    assert not [name for name in PREFIXES if name != "0" and set(name) <= set("0123456789abcdef")]
