"""Lists of shapes: each stands once, in ``configs/shapes.yaml``, and a profile's digest binds what stands in them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bench.errors import InputError
from bench.profile import load_profile
from bench.record import Shape, Workload, config_names, config_path, digest, read_yaml, shape_lists

Named = dict[str, dict[str, Any]]
PROFILES: dict[str, dict[str, Any]] = {
    name: read_yaml(config_path("profiles", f"{name}.yaml"), dict[str, Any]) for name in config_names("profiles")
}


def named(profile: str) -> list[tuple[str, str, Any]]:
    """Return what a profile's file says of shapes: field, precision and list."""
    written = PROFILES[profile]
    return [(f, p, of) for f in ("shapes", "tuned_shapes", "solve_shapes") for p, of in written[f].items()]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_names_lists_that_stand_once(profile: str) -> None:
    loaded = load_profile(profile)
    for field, precision, of in named(profile):
        assert isinstance(of, str), "a list stands in shapes.yaml, not in a profile"
        assert getattr(loaded, field)[precision] == shape_lists()[of]


def test_no_list_stands_twice_and_none_is_left_over() -> None:
    assert max(Counter(shape_lists().values()).values()) == 1
    assert {of for profile in PROFILES for _, _, of in named(profile)} == set(shape_lists())
    for shapes in shape_lists().values():
        assert max(Counter((s.m, s.n, s.k) for s in shapes).values()) == 1


def test_the_shapes_that_makers_of_accelerators_use_are_registered() -> None:
    makers = {(9728, 8192, 8192): 304, (4864, 4096, 8192): 304, (8448, 8192, 8192): 132}
    for name in ("certification", "standard"):
        profile = load_profile(name)
        for precision in profile.shapes:
            fixed = {(s.m, s.n, s.k): s.units for s in profile.registered(Workload(precision))}
            assert makers.items() <= fixed.items()
            tuned = {(s.m, s.n, s.k): s.units for s in profile.registered(Workload(precision, "tuned"))}
            assert set(tuned.values()) == {msgspec.UNSET}  # whichever is fastest
            assert makers.keys() <= tuned.keys()
    for (m, n, _), units in makers.items():
        tiles = (m // 256) * (n // 256)
        assert m % 256 == n % 256 == 0
        assert tiles % units == 0  # whole waves


def test_a_profile_of_the_users_own_lists_its_shapes_or_names_ours(tmp_path: Path) -> None:
    text = config_path("profiles", "smoke.yaml").read_text()
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("  fp64: smoke-64bit\n", "  fp64: [{m: 64, n: 64, k: 64}]\n"))
    profile = load_profile(str(own))
    assert profile.shapes["fp64"] == (Shape(m=64, n=64, k=64),)
    assert profile.shapes["fp16"] == load_profile("smoke").shapes["fp16"]
    assert digest(profile) != digest(load_profile("smoke"))
    written_out = replace(profile, shapes=dict(profile.shapes))
    own.write_bytes(msgspec.yaml.encode(msgspec.to_builtins(written_out)))
    assert digest(load_profile(str(own))) == digest(profile)  # by name or in full, one digest


@pytest.mark.parametrize(
    ("shapes", "code", "said"),
    [
        ("no-such", "unknown-name", "there is no list of shapes named 'no-such'"),
        ("[{m: 0, n: 1, k: 1}]", "config-invalid", "`int` >= 1"),
        ("12", "config-invalid", "Expected `array`"),
    ],
)
def test_what_is_no_list_of_shapes_is_one_sentence(tmp_path: Path, shapes: str, code: str, said: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(config_path("profiles", "smoke.yaml").read_text().replace("fp64: smoke-64bit", f"fp64: {shapes}"))
    with pytest.raises(InputError) as refused:
        load_profile(str(own))
    assert refused.value.code == code
    assert said in str(refused.value)
    assert str(own) in str(refused.value)
