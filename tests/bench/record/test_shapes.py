"""One shape for each model: the smallest that any of its devices chose, whatever the order in which nodes told it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.devices.fake import Fake
from bench.profile import load_profile
from bench.record import Shape
from bench.record.shapes import ChosenShape, SettledShape, product_of, settle
from bench.scenario import Scenario
from tests.bench.campaigns import chose, product

SHAPES = (
    Shape(m=4096, n=4096, k=4096),
    Shape(m=2048, n=8192, k=4096),  # as much work
    Shape(m=8192, n=2048, k=4096),
    Shape(m=1024, n=1024, k=1024),
    Shape(m=8192, n=8192, k=16),  # least work, largest product
)
PROFILE = replace(load_profile("smoke"), shapes={"fp16": SHAPES, "fp64": SHAPES[:1]})
MODEL = Fake(Scenario()).find("1")[0].model


def work(shape: Shape) -> int:
    return 2 * shape.m * shape.n * shape.k


choices = st.lists(
    st.builds(
        ChosenShape,
        st.sampled_from([product(), product(model="NVIDIA H20"), product(simulated=True)]),
        st.sampled_from(["fp16", "fp64"]),
        st.sampled_from([*SHAPES, Shape(m=77, n=77, k=77)]),
        st.integers(1, 64),
    ),
    max_size=20,
)


@given(told=choices, mixed=st.randoms())
def test_the_smallest_choice_of_each_model_whatever_the_order(told: list[ChosenShape], mixed: object) -> None:
    settled = settle(told, PROFILE)
    again = list(told)
    mixed.shuffle(again)  # type: ignore[attr-defined]
    assert settle(again, PROFILE) == settled
    valid = [one for one in told if one.shape in PROFILE.shapes[one.precision]]
    assert len(settled) == len({(one.product, one.precision) for one in settled})
    assert {(one.product, one.precision) for one in settled} == {(one.product, one.precision) for one in valid}
    for one in settled:
        same = [c for c in valid if (c.product, c.precision) == (one.product, one.precision)]
        assert one.shape in {c.shape for c in same}
        assert all(work(one.shape) <= work(c.shape) for c in same)
        assert one.devices == sum(c.devices for c in same)
        assert one.chosen_by == sum(c.devices for c in same if c.shape == one.shape)


def test_a_tie_is_broken_by_m_then_n() -> None:
    told = [ChosenShape(product(), "fp16", shape, 1) for shape in SHAPES[:3]]
    assert settle(told, PROFILE) == (SettledShape(product(), "fp16", SHAPES[1], 3, 1),)


def test_a_shape_for_devices_with_some_units_is_a_choice() -> None:
    """As on an H200, whose 132 units have one of their own; nodes tell a shape without them."""
    profile = replace(PROFILE, shapes={"fp16": (*SHAPES, Shape(m=8448, n=8192, k=8192, units=132))})
    own = ChosenShape(product(), "fp16", Shape(m=8448, n=8192, k=8192), 7)
    assert settle([own], profile) == (SettledShape(product(), "fp16", own.shape, 7, 7),)


def test_nobody_chose_anything() -> None:
    assert settle([], PROFILE) == ()


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"driver": "571", "firmware": "2", "memory_bytes": 2**30, "cache_bytes": None, "library": "/x"}, True),
        ({"units": 64, "max_clock_mhz": None}, True),
        ({"vendor": "other"}, False),
        ({"model": "Fake-2"}, False),
        ({"bin": "b1"}, False),
        ({"count_unit": "die"}, False),
        ({"simulated": False}, False),
        ({"plays": "nvidia-h200"}, False),
    ],
)
def test_what_makes_two_devices_one_model(changes: dict[str, object], is_same: bool) -> None:
    assert (product_of(replace(MODEL, **changes)) == product_of(MODEL)) is is_same


def test_slices_of_two_sizes_are_two_models() -> None:
    small, large = (product_of(replace(MODEL, count_unit="slice", units=units)) for units in (16, 32))
    assert small != large
    assert str(small) == "petaseal Fake-1, slice of 16 units"
    assert str(product_of(MODEL)) == "petaseal Fake-1"
    assert str(product(bin="b3")) == "NVIDIA H200, b3"


def test_what_is_published_reads_back() -> None:
    settled = settle([chose(8192), chose(4096, 3)], load_profile("smoke"))
    assert msgspec.json.decode(msgspec.json.encode(settled), type=tuple[SettledShape, ...]) == settled
    assert [str(one) for one in settled] == ["fp16 of NVIDIA H200: 4096 x 4096 x 4096, the choice of 3 of 5 devices"]
