"""Packages: what is packed comes out again, and every archive that could do harm or be read in two ways is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.errors import InputError, PetasealError, RefusedError
from certify.commands.offline import package as package_cli
from certify.documents.caps import CAPS
from certify.statement import package
from certify.statement.archive import BLOCK, RECORD, header
from certify.statement.package import members, opened, pack
from tests.certify.measured import Measured, measured

GOLDEN = Path(__file__).parents[1] / "golden"
STATEMENT = (GOLDEN / "statement.dsse.json").read_bytes()
RECORDS = (GOLDEN / "records.jsonl").read_bytes()
SAMPLES = (GOLDEN / "gpu-00000.samples.csv.gz").read_bytes()
NODE = "samples/gpu-00000.samples.csv.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a statement, its records, samples, and much that belongs to nobody else."""
    made = tmp_path / "statement"
    (made / "samples").mkdir(parents=True)
    for name in ("statement.dsse.json", "records.jsonl"):
        shutil.copy(GOLDEN / name, made / name)
    for name in ("gpu-00000", "gpu-00001"):
        shutil.copy(GOLDEN / f"{name}.samples.csv.gz", made / "samples")
    (made / "statement.html").write_text("<!doctype html>")
    (made / "baseline.dsse.json").write_text("{}\n")
    (made / "witness-1.dsse.json").write_text("{}\n")
    (made / "receipt.dsse.json").write_text("{}\n")
    (made / "operator.pem").write_text("a private key lies beside it")
    (made / "samples" / "notes.txt").write_text("nobody else's business")
    (made / "state").mkdir()
    return made


def refused(content: bytes, tmp_path: Path) -> str | None:
    """Return the code that a package is refused with; nothing of it is ever found outside its own folder."""
    file = tmp_path / "some" / "package.tar"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    code = None
    try:
        with opened(file):
            pass
    except RefusedError as error:
        code = error.code
        said = str(error)
    assert sorted(tmp_path.rglob("*")) == before
    assert code is None or said.startswith(f"{file}: ")
    return code


# What is packed


def test_what_is_packed_comes_out_again(folder: Path, tmp_path: Path) -> None:
    for name in ("out.tar", "out.tar.gz"):
        made = pack(folder, tmp_path / name)
        content = made.path.read_bytes()
        assert (made.size_bytes, made.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert made.members == (
            *("baseline.dsse.json", "receipt.dsse.json", "records.jsonl", NODE, "samples/gpu-00001.samples.csv.gz"),
            *("statement.dsse.json", "statement.html", "witness-1.dsse.json"),
        )
        with opened(made.path) as place:
            assert place.is_dir()
            found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
            assert found == set(made.members)
            for member in found:
                assert (place / member).read_bytes() == (folder / member).read_bytes()
        assert not place.exists()


def test_the_same_files_make_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first = pack(folder, tmp_path / "1.tar").path.read_bytes()
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    for path in again.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (1, 1))
    assert pack(again, tmp_path / "2.tar").path.read_bytes() == first
    one, two = (pack(folder, tmp_path / f"{n}.tgz").path.read_bytes() for n in (1, 2))
    assert one == two
    assert gzip.decompress(one) == first


def test_the_system_s_own_tar_reads_it(folder: Path, tmp_path: Path) -> None:
    made = pack(folder, tmp_path / "out.tar")
    listed = subprocess.run(["tar", "-tvf", made.path], capture_output=True, text=True, check=True)
    assert (listed.stderr, tuple(line.split()[-1] for line in listed.stdout.splitlines())) == ("", made.members)
    assert all(line.startswith("-rw-r--r-- 0/0") and "1970" in line for line in listed.stdout.splitlines())
    with tarfile.open(made.path) as archive:
        assert tuple(archive.getnames()) == made.members


@pytest.mark.parametrize("kind", ["ustar", "gnu", "pax"])
def test_what_the_system_s_own_tar_packs_is_read(folder: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "theirs.tar.gz"
    names = ["statement.dsse.json", "records.jsonl", "samples/"]
    (folder / "samples" / "notes.txt").unlink()
    subprocess.run(["tar", f"--format={kind}", "-czf", out, "-C", folder, *names], check=True)
    with opened(out) as place:
        assert (place / NODE).read_bytes() == SAMPLES


def test_samples_elsewhere_and_none(folder: Path, tmp_path: Path) -> None:
    (folder / "samples").rename(tmp_path / "raw")
    assert not [name for name in members(folder) if name.startswith("samples/")]
    assert NODE in members(folder, tmp_path / "raw")
    with pytest.raises(InputError) as caught:
        members(folder, tmp_path / "nowhere")
    assert caught.value.code == "file-unreadable"


def test_a_folder_and_a_statement_are_yielded_as_they_are(folder: Path) -> None:
    for path in (folder, folder / "statement.dsse.json"):
        with opened(path) as place:
            assert place == path


def test_what_a_file_is_goes_by_its_name_alone(folder: Path, tmp_path: Path) -> None:
    """No file is read in two ways: what is not named as a package is a document, whatever it holds."""
    packed = pack(folder, tmp_path / "out.tar").path
    (tmp_path / "statement.dsse.json").write_bytes(packed.read_bytes())
    with opened(tmp_path / "statement.dsse.json") as place:
        assert place == tmp_path / "statement.dsse.json"
    polyglot = tmp_path / "statement.tar"
    polyglot.write_bytes((b'{"payload":"'.ljust(257, b"A") + b"ustar").ljust(600, b"A"))
    with pytest.raises(RefusedError, match="archive-"), opened(polyglot):
        pass


def test_what_cannot_be_packed(folder: Path, tmp_path: Path) -> None:
    def code(out: Path = tmp_path / "out.tar") -> str:
        with pytest.raises(PetasealError) as caught:
            pack(folder, out)
        assert not (tmp_path / "out.tar").exists()
        assert not list(tmp_path.glob(".*"))
        return caught.value.code

    (tmp_path / "there.tar").write_text("mine")
    assert code(tmp_path / "there.tar") == "output-exists"
    assert (tmp_path / "there.tar").read_text() == "mine"
    assert code(tmp_path / "nowhere" / "out.tar") == "output-not-writable"
    (folder / "statement.html").unlink()
    os.mkfifo(folder / "statement.html")
    assert code() == "not-regular-file"
    (folder / "statement.html").unlink()
    (folder / "statement.html").symlink_to(folder / "operator.pem")
    assert code() == "not-regular-file"
    (folder / "statement.html").unlink()
    for kind in ("witness", "receipt"):
        (folder / f"{kind}-1.dsse.json").write_bytes(bytes(CAPS.witness_bytes + 1))
        assert code() == "archive-member-too-large"
        for number in range(1, 10):
            (folder / f"{kind}-{number}.dsse.json").write_text("{}\n")
        assert code() == "archive-too-many"
        for number in range(1, 10):
            (folder / f"{kind}-{number}.dsse.json").unlink()
    (folder / "records.jsonl").unlink()
    assert code() == "archive-member-missing"
    shutil.rmtree(folder)
    assert code() == "file-unreadable"


def test_a_killed_packing_leaves_nothing_under_the_final_name(folder: Path, tmp_path: Path) -> None:
    """The child stops itself in the middle of writing, and is killed there."""
    out = tmp_path / "out.tar"
    code = (
        "import os, signal, sys; from pathlib import Path; from certify.statement import package\n"
        "def stop(archive, name, path):\n"
        "    archive.write(b'half'); archive.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "package._add = stop; package.pack(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, folder, out])
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert list(tmp_path.glob(".out.tar.*.tmp"))  # it was in the middle of it
    assert pack(folder, out).path == out


def test_a_file_that_grows_while_it_is_packed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def growing(name: str, size: int) -> bytes:
        with (folder / "records.jsonl").open("ab") as file:
            file.write(b"\n")
        return header(name, size)

    monkeypatch.setattr(package, "header", growing)
    with pytest.raises(InputError) as caught:
        pack(folder, tmp_path / "out.tar")
    assert caught.value.code == "file-unreadable"
    assert not (tmp_path / "out.tar").exists()


def test_the_command(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(package_cli.app, [str(folder), "--out", str(tmp_path / "out.tar"), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["members"] == list(members(folder))
    told = CliRunner().invoke(package_cli.app, [str(folder), "--out", str(tmp_path / "lines.tar")])
    assert "  samples of 2 node(s)" in told.stdout.splitlines()


# Attacks: an archive as tarfile would write it, or one made by hand


def member(name: str, content: bytes = b"x", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


GOOD = (member("statement.dsse.json", STATEMENT), member("records.jsonl", RECORDS))


def tar(*added: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.USTAR_FORMAT, **options: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind, **options) as archive:
        for info, content in (*GOOD, *added):
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def special(kind: bytes, name: str = NODE, linkname: str = "") -> bytes:
    return tar(member(name, b"", type=kind, linkname=linkname))


def blocks(*parts: bytes) -> bytes:
    """Return an archive by hand: the good members, then `parts`, then the end."""
    good = tar()[: sum(BLOCK + len(content) + -len(content) % BLOCK for _, content in GOOD)]
    return good + b"".join(parts) + bytes(2 * BLOCK)


def edited(at: int, value: bytes, size: int = 0, name: str = NODE) -> bytes:
    """Return an archive with one more header, some of whose bytes are changed, under a right check sum."""
    block = bytearray(header(name, size))
    block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return blocks(bytes(block), bytes(size + -size % BLOCK))


def pax(*entries: tuple[str, str], kind: bytes = b"x") -> bytes:
    """Return an archive with an extended header before a further member."""
    content = b""
    for key, value in entries:
        body = f" {key}={value}\n".encode()
        length = next(n for n in range(len(body), len(body) + 8) if len(str(n)) + len(body) == n)
        content += str(length).encode() + body
    return pax_raw(content, kind)


def pax_raw(content: bytes, kind: bytes = b"x") -> bytes:
    block = bytearray(header("PaxHeader", len(content)))
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = header(NODE, len(SAMPLES)) + SAMPLES + bytes(-len(SAMPLES) % BLOCK)
    return blocks(bytes(block), content, bytes(-len(content) % BLOCK), more)


def whole(names: Iterable[str]) -> bytes:
    return tar(*(member(name) for name in names))


CUT = tar()[: 3 * BLOCK]
ATTACKS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "nothing": (tar, None),
    "nothing, gzip": (lambda: gzip.compress(tar()), None),
    "the folder of samples": (lambda: special(tarfile.DIRTYPE, "samples/"), None),
    "harmless times": (lambda: pax(("mtime", "1.5"), ("atime", "2"), ("uname", "someone")), None),
    "a comment for all": (lambda: pax(("comment", "x"), kind=b"g"), None),
    "a name with ..": (lambda: whole(["../statement.dsse.json"]), "archive-name-parent"),
    "a name with .. inside": (lambda: whole(["samples/../../x"]), "archive-name-parent"),
    "a name with .. at its end": (lambda: whole(["samples/.."]), "archive-name-parent"),
    "a folder ..": (lambda: special(tarfile.DIRTYPE, "../"), "archive-name-parent"),
    "an absolute name": (lambda: whole(["/etc/cron.d/x"]), "archive-name-absolute"),
    "an absolute name in the prefix": (lambda: edited(345, b"/etc"), "archive-name-absolute"),
    "a drive": (lambda: whole(["C:x"]), "archive-name-absolute"),
    "a backslash": (lambda: whole(["samples\\..\\x"]), "archive-name-backslash"),
    "a name with a control character": (lambda: whole(["x\n"]), "archive-name-invalid"),
    "a name that is not UTF-8": (lambda: edited(0, b"\xff"), "archive-name-invalid"),
    "a name that goes on behind its end": (lambda: edited(90, b"x"), "archive-name-invalid"),
    "no name": (lambda: edited(0, bytes(100)), "archive-name-invalid"),
    "a symbolic link": (lambda: special(tarfile.SYMTYPE, linkname="/etc/passwd"), "archive-symlink"),
    "a symbolic link of the statement": (
        lambda: special(tarfile.SYMTYPE, "statement.html", "records.jsonl"),
        "archive-symlink",
    ),
    "a hard link": (lambda: special(tarfile.LNKTYPE, linkname="records.jsonl"), "archive-hardlink"),
    "a character device": (lambda: special(tarfile.CHRTYPE), "archive-device"),
    "a block device": (lambda: special(tarfile.BLKTYPE), "archive-device"),
    "a FIFO": (lambda: special(tarfile.FIFOTYPE), "archive-fifo"),
    "another folder": (lambda: special(tarfile.DIRTYPE, "more/"), "archive-folder"),
    "a folder named as a file": (lambda: special(tarfile.DIRTYPE, "statement.html/"), "archive-folder"),
    "the samples' folder as a file": (lambda: whole(["samples"]), "archive-member-unknown"),
    "a folder with a content": (lambda: edited(156, b"5", 8, "samples"), "archive-size-invalid"),
    "an empty member": (lambda: tar(member(NODE, b"")), "archive-size-invalid"),
    "a member twice": (lambda: whole([NODE, NODE]), "archive-name-twice"),
    "the statement twice": (lambda: whole(["statement.dsse.json"]), "archive-name-twice"),
    "names that differ in case": (lambda: whole(["STATEMENT.dsse.json"]), "archive-name-collides"),
    "names that differ in case, neither known": (lambda: whole(["a", "A"]), "archive-name-collides"),
    "NFC and NFD": (lambda: whole(["\u00e9", "e\u0301"]), "archive-name-collides"),
    "full-width letters": (lambda: whole(["\uff53tatement.dsse.json"]), "archive-name-collides"),
    "the Kelvin sign": (
        lambda: whole(["samples/k.samples.csv.gz", "samples/\u212a.samples.csv.gz"]),
        "archive-name-collides",
    ),
    "an unknown member": (lambda: whole(["readme.txt"]), "archive-member-unknown"),
    "a key": (lambda: whole(["operator.pem.pub"]), "archive-member-unknown"),
    "a further record": (lambda: whole(["gpu-00002.record.dsse.json"]), "archive-member-unknown"),
    "samples outside their folder": (lambda: whole(["gpu-00000.samples.csv.gz"]), "archive-member-unknown"),
    "a dot before the name": (lambda: whole(["./statement.html"]), "archive-member-unknown"),
    "a hidden file": (lambda: whole(["samples/.x.samples.csv.gz"]), "archive-member-unknown"),
    "nothing in it": (lambda: bytes(RECORD), "archive-member-missing"),
    "no statement": (lambda: tar()[BLOCK + len(STATEMENT) + -len(STATEMENT) % BLOCK :], "archive-member-missing"),
    "nine witnesses": (lambda: whole(f"witness-{n}.dsse.json" for n in range(9)), "archive-too-many"),
    "nine receipts": (lambda: whole(f"receipt-{n}.dsse.json" for n in range(9)), "archive-too-many"),
    "eight witnesses and eight receipts": (
        lambda: whole(f"{kind}-{n}.dsse.json" for kind in ("witness", "receipt") for n in range(8)),
        None,
    ),
    "a receipt in capitals": (lambda: whole(["Receipt.dsse.json"]), "archive-member-unknown"),
    "a receipt of a long name": (lambda: whole([f"receipt{'x' * 33}.dsse.json"]), "archive-member-unknown"),
    "a receipt in a folder": (lambda: whole(["samples/receipt.dsse.json"]), "archive-member-unknown"),
    "a receipt larger than one can be": (
        lambda: tar(member("receipt.dsse.json", bytes(CAPS.witness_bytes + 1))),
        "archive-member-too-large",
    ),
    "a sparse member": (lambda: special(b"S"), "archive-sparse"),
    "a sparse member in pax": (lambda: pax(("GNU.sparse.major", "1"), ("GNU.sparse.name", "x")), "archive-sparse"),
    "pax renames": (lambda: pax(("path", "/etc/passwd")), "archive-extension"),
    "pax links": (lambda: pax(("linkpath", "/etc/passwd")), "archive-extension"),
    "pax resizes": (lambda: pax(("size", "1")), "archive-extension"),
    "pax resizes all": (lambda: pax(("size", "1"), kind=b"g"), "archive-extension"),
    "pax redefines text": (lambda: pax(("hdrcharset", "BINARY")), "archive-extension"),
    "pax of another maker": (lambda: pax(("SCHILY.xattr.user.x", "1")), "archive-extension"),
    "pax without end": (lambda: pax_raw(b"9 mtime=1"), "archive-invalid"),
    "pax longer than it is": (lambda: pax_raw(b"99 mtime=1\n"), "archive-invalid"),
    "pax of no length": (lambda: pax_raw(b"0 mtime=1\n"), "archive-invalid"),
    "pax of one time twice": (lambda: pax(("mtime", "1"), ("mtime", "2")), "archive-invalid"),
    "pax of a length in other digits": (lambda: pax_raw("１１ mtime=1\n".encode()), "archive-invalid"),
    "pax with a hidden second entry": (lambda: pax_raw(b"23 mtime=1\n12 path=/e\n\n"), None),
    "pax of a mebibyte": (lambda: pax(("comment", "x" * 2**20)), "archive-extension"),
    "a long name of GNU": (lambda: tar(member("x" * 300), kind=tarfile.GNU_FORMAT), "archive-extension"),
    "a size in base 256": (lambda: edited(124, b"\x80".ljust(12, b"\0")), "archive-size-invalid"),
    "a size below nothing": (lambda: edited(124, b"-0000000001\0"), "archive-size-invalid"),
    "a size with an underscore": (lambda: edited(124, b"0000_000001\0"), "archive-size-invalid"),
    "no size": (lambda: edited(124, bytes(12)), "archive-size-invalid"),
    "a size larger than the archive": (lambda: edited(124, b"%011o\0" % 10**8), "archive-truncated"),
    "a size smaller than the member": (
        lambda: blocks(header(NODE, 1), b"x" * BLOCK),
        "archive-trailing-bytes",
    ),
    "a size smaller by a block": (
        lambda: blocks(header(NODE, BLOCK), b"x" * 2 * BLOCK),
        "archive-invalid",
    ),
    "a wrong check sum": (lambda: tar().replace(b"0000644", b"0000645", 1), "archive-invalid"),
    "cut in a member": (lambda: CUT, "archive-truncated"),
    "cut in a header": (lambda: tar()[:100], "archive-truncated"),
    "cut before its end": (lambda: blocks()[: -2 * BLOCK], "archive-truncated"),
    "cut in its end": (lambda: blocks()[:-BLOCK], "archive-truncated"),
    "empty": (lambda: b"", "archive-truncated"),
    "bytes after the end": (lambda: tar() + b"x", "archive-trailing-bytes"),
    "a byte in the fill": (lambda: tar()[:-1] + b"x", "archive-trailing-bytes"),
    "another archive behind it": (lambda: tar() + tar(), "archive-trailing-bytes"),
    "a member between the blocks of the end": (
        lambda: blocks()[:-BLOCK] + header(NODE, 0) + bytes(2 * BLOCK),
        "archive-trailing-bytes",
    ),
    "zeros without end": (lambda: tar() + bytes(10 * RECORD), "archive-trailing-bytes"),
    "no tar": (lambda: b"x" * RECORD, "archive-invalid"),
    "an old tar without a mark": (lambda: edited(257, bytes(8)), "archive-invalid"),
    "gzip of something else": (lambda: gzip.compress(b"x" * RECORD), "archive-invalid"),
    "gzip in gzip": (lambda: gzip.compress(gzip.compress(os.urandom(9999))), "archive-gzip-nested"),
    "gzip cut": (lambda: gzip.compress(tar())[:-9], "archive-truncated"),
    "gzip cut in its sum": (lambda: gzip.compress(tar())[:-1], "archive-truncated"),
    "gzip with a wrong sum": (lambda: gzip.compress(tar())[:-8] + bytes(8), "archive-invalid"),
    "gzip with bytes behind it": (lambda: gzip.compress(tar()) + b"\0", "archive-trailing-bytes"),
    "gzip of two parts": (lambda: gzip.compress(tar()) + gzip.compress(b""), "archive-trailing-bytes"),
    "a bomb of zeros": (lambda: gzip.compress(bytes(64 << 20)), "archive-trailing-bytes"),
    "a bomb in a member": (lambda: gzip.compress(tar(member(NODE, bytes(64 << 20)))), "archive-too-large"),
}


@pytest.mark.parametrize("how", ATTACKS)
def test_every_attack_is_refused_for_its_own_reason(tmp_path: Path, how: str) -> None:
    made, expected = ATTACKS[how]
    assert refused(made(), tmp_path) == expected


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_a_sparse_file_of_the_system_s_own_tar(folder: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "theirs.tar"
    with (folder / NODE).open("wb") as file:
        file.truncate(2**30)
        file.seek(2**29)
        file.write(b"x")
    names = ["statement.dsse.json", "records.jsonl", NODE]
    subprocess.run(["tar", f"--format={kind}", "-Scf", out, "-C", folder, *names], check=True)
    assert out.stat().st_size < 2**20
    with pytest.raises(RefusedError) as caught, opened(out):
        pass
    assert caught.value.code == "archive-sparse"


def test_a_bomb_takes_little_memory(tmp_path: Path) -> None:
    bomb = gzip.compress(tar(member(NODE, bytes(64 << 20))))
    tracemalloc.start()
    try:
        assert refused(bomb, tmp_path) == "archive-too-large"
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("cap", "value", "code"),
    [
        ("package_bytes", len(tar()) - 1, "archive-too-large"),
        ("package_members", 2, "archive-too-many"),
        ("samples_bytes", len(SAMPLES) - 1, "archive-member-too-large"),
        ("records_bytes", len(RECORDS) - 1, "archive-member-too-large"),
    ],
)
def test_each_cap(tmp_path: Path, cap: str, value: int, code: str) -> None:
    file = tmp_path / "package.tar"
    file.write_bytes(tar(member(NODE, SAMPLES)))
    with opened(file):
        pass
    with pytest.raises(RefusedError) as caught, opened(file, replace(CAPS, **{cap: value})):
        pass
    assert caught.value.code == code


def test_what_is_given_for_a_package(folder: Path, tmp_path: Path) -> None:
    def code(path: Path) -> str:
        with pytest.raises(InputError) as caught, opened(path):
            pass
        return caught.value.code

    made = pack(folder, tmp_path / "out.tar").path
    (tmp_path / "link.tar").symlink_to(made)
    os.mkfifo(tmp_path / "fifo.tar")
    assert code(tmp_path / "link.tar") == "not-regular-file"
    assert code(tmp_path / "fifo.tar") == "not-regular-file"
    assert code(tmp_path / "none.tar") == "file-missing"


def test_no_room_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    """The child may write no file of more than 1,000 bytes, as on a disk that is full."""
    made = pack(folder, tmp_path / "out.tar").path
    code = (
        "import resource, sys; from pathlib import Path; from certify.statement.package import opened\n"
        "from bench.errors import PetasealError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    with opened(Path(sys.argv[1])): pass\n"
        "except PetasealError as error: print(error.code)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, made], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("output-not-writable\n", "")
    assert not list(tmp_path.glob("petaseal-*"))


# Folders of records: the same attacks on files as they lie


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    made = measured(tmp_path_factory.mktemp("centre"), nodes=3, devices=1, profile="smoke", precisions=("fp16",))
    made.certify()
    return made


def fifo(path: Path, folder: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def linked(path: Path, folder: Path) -> None:
    path.symlink_to(path.rename(folder.parent / "elsewhere"))


def copied(path: Path, folder: Path) -> None:
    os.link(path, folder / "stranger.record.dsse.json")


def socketed(path: Path, folder: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        before = Path.cwd()
        os.chdir(folder)  # the path of a socket is at most 107 bytes long
        try:
            bound.bind(path.name)
        finally:
            os.chdir(before)


def device(path: Path, folder: Path) -> None:
    path.unlink()
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")


def subfolder(path: Path, folder: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced(path: Path, folder: Path) -> None:
    """Put a record of another campaign's node in its place: the number of records stays."""
    other = folder / path.name.replace("00001", "00002")
    (folder / other.name).unlink()
    shutil.copy(path, folder / other.name)


FOLDERS: dict[str, tuple[Callable[[Path, Path], object], str | None]] = {
    "nothing": (lambda path, folder: None, None),
    "a FIFO": (fifo, "not-regular-file"),
    "a symbolic link": (linked, "not-regular-file"),
    "a hard link under another name": (copied, "file-name-differs"),
    "a hard link elsewhere": (
        lambda path, folder: os.link(path, folder.parent / "elsewhere"),
        None,
    ),  # the bytes are signed
    "a socket": (socketed, "file-unreadable"),
    "a device": (device, "not-regular-file"),
    "a folder": (subfolder, "not-regular-file"),
    "a record missing": (lambda path, folder: path.unlink(), "records-count"),
    "a record in another's place": (replaced, "file-name-differs"),
    "an empty record": (lambda path, folder: path.write_bytes(b""), "file-empty"),
    "a sparse record": (lambda path, folder: os.truncate(path, 2**40), "file-too-large"),
}


@pytest.mark.parametrize("how", FOLDERS)
def test_a_folder_of_records(centre: Measured, tmp_path: Path, how: str) -> None:
    records = tmp_path / "records"
    shutil.copytree(centre.records, records)
    harm, expected = FOLDERS[how]
    harm(records / "gpu-00001.record.dsse.json", records)
    try:
        refusal: PetasealError | None = centre.verify(records=records).refusal
    except PetasealError as error:
        refusal = error
    assert (refusal.code if refusal else None) == expected


def test_a_record_too_many_and_another_one(centre: Measured, tmp_path: Path) -> None:
    """The statement is of two of the three nodes; what lies beside it is of three, or of another two."""
    records = tmp_path / "records"
    shutil.copytree(centre.records, records)
    (records / "gpu-00002.record.dsse.json").unlink()
    centre.certify(tmp_path / "out", records=records)

    def code(records: Path) -> str | None:
        refusal = centre.verify(tmp_path / "out", records=records).refusal
        return refusal.code if refusal else None

    assert code(records) is None
    assert code(centre.records) == "records-count"
    shutil.copy(centre.records / "gpu-00002.record.dsse.json", records)
    (records / "gpu-00001.record.dsse.json").unlink()
    assert code(records) == "records-root"
