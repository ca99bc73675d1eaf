"""Hostile files: whatever lies at a path, reading it is bounded and never blocks; writing is whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bench.errors import InputError
from bench.record import Document, Positive, Shape, config_names, parse_yaml, read_bytes, read_config, write_atomic
from bench.record.plan import Profile


def refused(path: Path, limit: int = 100) -> str:
    with pytest.raises(InputError) as caught:
        read_bytes(path, limit)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_missing_empty_large_and_irregular_files(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_bytes(b"x" * 100)
    assert read_bytes(good, 100) == b"x" * 100
    assert refused(good, 99) == "file-too-large"
    assert refused(tmp_path / "none") == "file-missing"
    (tmp_path / "empty").touch()
    assert refused(tmp_path / "empty") == "file-empty"
    assert refused(tmp_path) == "not-regular-file"
    (tmp_path / "link").symlink_to(good)
    assert refused(tmp_path / "link") == "not-regular-file"
    os.mkfifo(tmp_path / "fifo")
    assert refused(tmp_path / "fifo") == "not-regular-file"
    assert refused(Path("/dev/zero")) == "not-regular-file"
    assert refused(good / "below") == "file-unreadable"


class Small(Document, frozen=True, kw_only=True):
    """A type to read YAML into."""

    size: Positive
    name: str = "x"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("size: 1\nsize: 2\n", "yaml-invalid"),
        ("size: &a 1\nname: *a\n", "yaml-invalid"),
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "yaml-invalid"),
        ("base: &b {size: 1}\n<<: *b\n", "yaml-invalid"),
        ("size: !!python/object/apply:os.system ['true']\n", "yaml-invalid"),
        ("size: !!python/name:os.system\n", "yaml-invalid"),
        ("size: 1\n---\nsize: 2\n", "yaml-invalid"),
        ("{1: 2}\n", "yaml-invalid"),
        ("size: [\n", "yaml-invalid"),
        ("\x00", "yaml-invalid"),
        ("[" * 5_000, "yaml-invalid"),
        ("size: true\n", "config-invalid"),
        ("size: 0\n", "config-invalid"),
        ("size: 1.5\n", "config-invalid"),
        ("size: '1'\n", "config-invalid"),
        ("size: 1\nother: 2\n", "config-invalid"),
        ("name: y\n", "config-invalid"),
        ("- 1\n", "config-invalid"),
        ("", "config-invalid"),
        ("size: 1" + "0" * 400 + "\n", "config-invalid"),
    ],
)
def test_bad_yaml(text: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text.encode(), Small, "here.yaml")
    assert caught.value.code == code
    assert str(caught.value).startswith("here.yaml: ")
    assert "\n" not in str(caught.value)


def test_good_yaml_keeps_dates_as_text() -> None:
    assert parse_yaml(b"size: 3\nname: 2026-03-01\n", Small, "x") == Small(size=3, name="2026-03-01")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(b"\xff\xfe\xfd", Small, "x")
    assert caught.value.code == "yaml-invalid"


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        read_config("profiles", "no-such", Profile)
    assert caught.value.code == "unknown-name"
    assert all(name in str(caught.value) for name in config_names("profiles"))


def test_write_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "file"
    write_atomic(target, b"one", 0o600)
    assert target.read_bytes() == b"one"
    assert target.stat().st_mode & 0o777 == 0o600

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left") as caught:
        write_atomic(target, b"two")
    assert caught.value.code == "output-not-writable"
    assert target.read_bytes() == b"one"
    assert [p.name for p in target.parent.iterdir()] == ["file"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_atomic(Path("/dev/full/x"), b"two")
    assert caught.value.code == "output-not-writable"
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        write_atomic(tmp_path / "file" / "x", b"two")


def test_shape_is_strict() -> None:
    with pytest.raises(InputError):
        parse_yaml(b"{m: 1, n: 1, k: -1}", Shape, "x")
