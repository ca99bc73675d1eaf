"""Every attack of `attacks` is refused for its own reason; every kind of attack has cases."""

from __future__ import annotations

import importlib.util
from collections.abc import Sized
from importlib import import_module
from pathlib import Path

import msgspec
import pytest

from bench.errors import PetasealError, RefusedError
from bench.record import NodeRecord
from certify.keys import signers
from certify.policy.reasons import reasons
from tests.certify import attacks
from tests.certify.attacks import DISGUISES, INDEX, KEYS, PACKAGES, package
from tests.certify.measured import Measured, measured
from tests.certify.verify.test_verifier import code

ROOT = Path(__file__).resolve().parents[2]
NAMED = [(kind, name) for kind, table in PACKAGES.items() for name in table]


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    place = measured(tmp_path_factory.mktemp("centre"), nodes=3, devices=2, profile="smoke")
    place.certify()
    return place


@pytest.mark.parametrize(("kind", "name"), NAMED, ids=[name for _, name in NAMED])
def test_an_attack_is_refused_for_its_own_reason(centre: Measured, tmp_path: Path, kind: str, name: str) -> None:
    make, expected = PACKAGES[kind][name]
    made = make(centre)
    assert made != package(centre)
    (tmp_path / "statement.dsse.json").write_bytes(made.statement)
    (tmp_path / "records.jsonl").write_bytes(made.records)
    try:
        found = code(centre.verify(tmp_path))
    except PetasealError as error:  # wrong input, such as an empty file: nothing was looked at
        found = error.code
    assert found == expected


# What docs/independent_verifier.py says it does not check: rules of text and times, by their codes, and these by name.
LEFT_CODES = frozenset({"time-invalid", "text-forbidden-character", "text-not-nfc"})
LEFT_NAMES = frozenset(
    {
        "a note that nobody knows",
        "a supersession of nobody",
        "sequence 2^53 - 1",
        "a policy's name in capitals",
        "an algorithm is named",
        "a key is brought along",
        "a record sealed by the operator",
        "a record in another pool",
        "a record whose end is before its beginning",
        "a record that names another profile",
        "a record with a campaign of its own",
        *(name for name in PACKAGES["records and replays"] if "reference measurement" in name),
    }
)


def test_the_independent_script_refuses_what_it_says_it_checks(centre: Measured, tmp_path: Path) -> None:
    found = importlib.util.spec_from_file_location("independent", ROOT / "docs" / "independent_verifier.py")
    assert found is not None
    assert found.loader is not None
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)

    def accepts(made: attacks.Package) -> bool:
        (tmp_path / "statement").write_bytes(made.statement)
        (tmp_path / "records").write_bytes(made.records)
        try:
            script.main(centre.public_key, tmp_path / "statement", tmp_path / "records")
        except (SystemExit, Exception):  # as its last lines have it, each of them is a refusal
            return False
        return True

    assert accepts(package(centre))
    passed = {name: PACKAGES[kind][name][1] for kind, name in NAMED if accepts(PACKAGES[kind][name][0](centre))}
    assert {name for name, expected in passed.items() if expected not in LEFT_CODES} == LEFT_NAMES


def test_the_honest_package_is_accepted(centre: Measured) -> None:
    assert code(centre.verify()) is None


@pytest.mark.parametrize("name", DISGUISES)
def test_one_device_in_two_nodes(tmp_path: Path, name: str) -> None:
    first, second, expected = DISGUISES[name]

    def disguised(index: int, record: NodeRecord) -> NodeRecord:
        (device,) = record.devices
        changes = (second if index else first)(device)
        models = record.models
        if "parent" in changes:
            models = tuple(msgspec.structs.replace(model, count_unit="slice") for model in models)
        return msgspec.structs.replace(record, devices=(msgspec.structs.replace(device, **changes),), models=models)

    one = measured(tmp_path, 2, 1, "smoke", ("fp16",), disguised)
    with pytest.raises(RefusedError) as refused:
        one.certify()
    assert refused.value.code == expected
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_nobody_should_have(name: str) -> None:
    spki, expected = KEYS[name]
    with pytest.raises(RefusedError) as refused:
        signers.public_key(spki, "a key")
    assert refused.value.code == expected


def test_every_kind_of_attack_has_cases_and_every_code_is_explained() -> None:
    for kind, places in INDEX.items():
        for place in places:
            module, _, name = place.partition(":")
            table = getattr(import_module(f"tests.certify.{module}"), name)
            assert callable(table) or (isinstance(table, Sized) and len(table)), (kind, place)
    codes = {expected for table in PACKAGES.values() for _, expected in table.values()}
    assert codes | {expected for *_, expected in DISGUISES.values()} <= reasons().keys()
    assert len(NAMED) + len(DISGUISES) + len(KEYS) >= 60


def test_no_name_stands_for_two_attacks() -> None:
    names = [name for _, name in NAMED]
    assert len(set(names)) == len(names)
    assert set(attacks.SPELLINGS)  # each of them is one of the times
