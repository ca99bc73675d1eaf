"""The tables of every release: found by digest, checked against their names, the installed ones among them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from bench.errors import InputError
from bench.record import Profile, config_path, digest, encode, read_profile
from certify.policy import released
from certify.policy.policies import Policy, load_policy, read_policy
from certify.policy.rating import Rating
from certify.policy.ratings import Ratings, installed_ratings, load_ratings

UNKNOWN = "ab" * 32
TABLES = tuple(released.index().values())
READ = {"ratings": released.ratings_of, "policy": released.policy_of, "profile": released.profile_of}
POLICY = digest(load_policy("guangzhou-2000p"))


class LaterPolicy(Policy, frozen=True, kw_only=True):
    """A policy of a later version, with a field that no table of today has."""

    later: int | UnsetType = UNSET


class LaterProfile(Profile, frozen=True, kw_only=True):
    """A profile of a later version."""

    later: int | UnsetType = UNSET


class LaterRating(Rating, frozen=True, kw_only=True):
    """A rating of a later version."""

    later: int | UnsetType = UNSET


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a copy of the released tables that a test may change."""
    folder = tmp_path / "released"
    shutil.copytree(config_path("released"), folder)
    monkeypatch.setattr(released, "config_path", tmp_path.joinpath)
    monkeypatch.setattr(released, "config_names", lambda folder: [])  # nothing is installed
    released.index.cache_clear()
    yield folder
    released.index.cache_clear()


def test_what_is_installed_is_released() -> None:
    missing = [f"{table.kind} {table.name}" for table in released.current() if table.sha256 not in released.index()]
    assert not missing, "a table in configs/ was changed; keep it by its digest with: make release-tables"
    assert not released.withdrawn(table.sha256 for table in released.current()), "a new statement would be refused"


def test_the_folder_holds_what_the_index_lists_and_nothing_else() -> None:
    names = {path.name for path in config_path("released").iterdir()}
    assert names == {"index.yaml", *(f"{table.sha256}.json" for table in TABLES)}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.name} {table.sha256[:8]}")
def test_every_released_table_is_read_and_keeps_its_digest(table: released.Table) -> None:
    content = released.table_path(table.sha256).read_bytes()
    assert hashlib.sha256(content).hexdigest() == table.sha256
    value = READ[table.kind](table.sha256)
    assert value is not None
    assert (value.content if isinstance(value, Ratings) else encode(value)) == content, (
        "an optional field that comes later has the default msgspec.UNSET (ADR 19)"
    )


@pytest.mark.parametrize(("kind", "later"), [("policy", LaterPolicy), ("profile", LaterProfile)])
def test_a_later_version_reads_an_earlier_table_and_keeps_its_digest(kind: str, later: type[msgspec.Struct]) -> None:
    for table in (table for table in TABLES if table.kind == kind):
        content = released.table_path(table.sha256).read_bytes()
        value = msgspec.json.decode(content, type=later)
        assert (encode(value), digest(value)) == (content, table.sha256)
        assert digest(msgspec.structs.replace(value, later=1)) != table.sha256


def test_a_later_version_reads_earlier_ratings_and_keeps_their_digest() -> None:
    for table in (table for table in TABLES if table.kind == "ratings"):
        content = released.table_path(table.sha256).read_bytes()
        rows = [(row["match"], row["rating"]) for row in msgspec.json.decode(content)]
        again = [{"match": match, "rating": msgspec.convert(rating, LaterRating)} for match, rating in rows]
        assert encode(again) == content


def test_a_digest_that_nobody_has() -> None:
    assert [read(UNKNOWN) for read in READ.values()] == [None, None, None]
    assert not released.is_ours(UNKNOWN)
    assert released.earlier([UNKNOWN, POLICY]) == ()


def test_a_digest_finds_a_table_of_its_own_kind_only() -> None:
    assert released.ratings_of(POLICY) is None
    assert released.profile_of(POLICY) is None
    assert released.policy_of(installed_ratings().digest) is None


def test_a_file_that_was_given_is_found_by_its_digest(tmp_path: Path) -> None:
    for folder, name, read in (
        ("policies", "wuhan-2025", released.policy_of),
        ("profiles", "smoke", released.profile_of),
    ):
        text = config_path(folder, f"{name}.yaml").read_text()
        file = tmp_path / f"{name}.yaml"
        file.write_text(text.replace(f": {name}", ": mine", 1))
        sha256 = digest(read_policy(str(file)) if folder == "policies" else read_profile(str(file)))
        assert read(sha256) is None
        assert read(sha256, (str(file),)) is not None


def test_ratings_are_given_as_a_table_or_as_a_release_keeps_them(tmp_path: Path) -> None:
    table = tmp_path / "ratings.yaml"
    table.write_text(config_path("accelerators.yaml").read_text().replace('fp16: "312"', 'fp16: "311"'))
    sha256 = load_ratings(table).digest
    kept = tmp_path / "ratings.json"
    kept.write_bytes(load_ratings(table).content)
    assert released.ratings_of(sha256) is None
    for file in (table, kept):
        found = released.ratings_of(sha256, (str(file),))
        assert found is not None
        assert found.digest == sha256
    kept.write_bytes(b"[1]")
    with pytest.raises(InputError) as refused:
        released.ratings_of(sha256, (str(kept),))
    assert refused.value.code == "config-invalid"


def test_a_table_of_an_earlier_release(store: Path) -> None:
    assert [table.sha256 for table in released.earlier([POLICY, UNKNOWN])] == [POLICY]
    assert released.policy_of(POLICY) == load_policy("guangzhou-2000p")


def test_a_file_that_is_not_what_its_name_says(store: Path) -> None:
    path = store / f"{POLICY}.json"
    path.write_bytes(path.read_bytes().replace(b'"value":2000', b'"value":2001'))
    with pytest.raises(InputError) as refused:
        released.policy_of(POLICY)
    assert refused.value.code == "table-altered"
    assert str(refused.value).startswith(f"{path}: holds other bytes than its name says")
    path.unlink()
    with pytest.raises(InputError) as refused:
        released.policy_of(POLICY)
    assert refused.value.code == "file-missing"


def test_a_released_table_that_this_version_cannot_read(store: Path) -> None:
    content = encode({"policy": "from-afar"})
    sha256 = hashlib.sha256(content).hexdigest()
    (store / f"{sha256}.json").write_bytes(content)
    with (store / "index.yaml").open("a") as index:
        index.write(f'- {{release: "9", kind: policy, name: from-afar, sha256: "{sha256}"}}\n')
    with pytest.raises(InputError) as refused:
        released.policy_of(sha256)
    assert refused.value.code == "config-invalid"


def test_a_line_that_stands_twice_cannot_hide_that_a_table_is_withdrawn(store: Path) -> None:
    index = store / "index.yaml"
    (line,) = (line for line in index.read_text().splitlines() if POLICY in line)
    index.write_text(index.read_text().replace(line, line.replace("}", ', withdrawn: "a hole"}')))
    assert [table.withdrawn for table in released.withdrawn([POLICY, UNKNOWN])] == ["a hole"]
    index.write_text(f"{index.read_text()}{line}\n")
    released.index.cache_clear()
    with pytest.raises(InputError) as refused:
        released.index()
    assert refused.value.code == "config-invalid"
