"""Key files and the checks of the keys themselves."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError, PetasealError, RefusedError
from certify.keys import files as keys
from certify.keys import signers
from certify.keys.signers import ed25519, pem_text, sm2
from tests.certify.signed import b64

P = 2**255 - 19
PREFIX = bytes.fromhex("302a300506032b6570032100")


def refusal(act: Callable[[], object]) -> str:
    """Return the reason code that `act` is refused with."""
    with pytest.raises(PetasealError) as refused:
        act()
    assert "\n" not in str(refused.value)
    return refused.value.code


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def private_pem(key: object, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem: bytes = key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return pem


def write(path: Path, content: bytes, permissions: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(permissions)
    return path


def public_pem(spki: bytes) -> bytes:
    return f"-----BEGIN PUBLIC KEY-----\n{b64(spki)}\n-----END PUBLIC KEY-----\n".encode()


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_a_new_key_can_be_loaded_and_its_signatures_verified(tmp_path: Path, passphrase: bytes | None) -> None:
    path = tmp_path / "new" / "centre.key"
    public = keys.new_key(path, passphrase)
    assert mode(path) == 0o600
    assert mode(keys.public_path(path)) == 0o644
    assert (b"ENCRYPTED" in path.read_bytes()) == (passphrase is not None)
    private = keys.load_private(path, passphrase)
    assert private.public == public == keys.load_public(tmp_path / "new" / "centre.key.pub")
    assert public.verify(private.sign(b"message"), b"message")
    assert not public.verify(private.sign(b"message"), b"Message")
    assert sorted(p.name for p in path.parent.iterdir()) == ["centre.key", "centre.key.pub"]


def test_key_files_are_those_of_other_tools(tmp_path: Path) -> None:
    public = keys.new_key(tmp_path / "k", None)
    loaded = serialization.load_pem_public_key((tmp_path / "k.pub").read_bytes())
    spki = loaded.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert spki == public.spki
    assert (tmp_path / "k.pub").read_bytes() == loaded.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert isinstance(
        serialization.load_pem_private_key((tmp_path / "k").read_bytes(), password=None), Ed25519PrivateKey
    )


def test_keyid_is_the_digest_of_the_spki() -> None:
    """The public key of RFC 8410 section 10.1."""
    spki = bytes.fromhex("302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1")
    expected = __import__("hashlib").sha256(spki).hexdigest()
    assert keys.keyid(spki) == expected == signers.public_key(spki).keyid


@pytest.mark.parametrize("there", ["k", "k.pub"])
def test_a_key_is_never_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    assert refusal(lambda: keys.new_key(tmp_path / "k", None)) == "output-exists"
    assert [p.name for p in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "k").symlink_to(tmp_path / "elsewhere")
    assert refusal(lambda: keys.new_key(tmp_path / "k", None)) == "output-exists"
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(lambda: keys.new_key(tmp_path / "file" / "k", None)) == "output-not-writable"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refusal(lambda: keys.new_key(tmp_path / "k", None)) == "output-not-writable"
    assert list(tmp_path.iterdir()) == []


def test_an_empty_passphrase_is_none(tmp_path: Path) -> None:
    assert refusal(lambda: keys.new_key(tmp_path / "k", b"")) == "key-passphrase-missing"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("permissions", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, permissions: int) -> None:
    keys.new_key(tmp_path / "k", None)
    (tmp_path / "k").chmod(permissions)
    assert refusal(lambda: keys.load_private(tmp_path / "k")) == "key-file-permissions"


def test_passphrases(tmp_path: Path) -> None:
    keys.new_key(tmp_path / "locked", b"right")
    keys.new_key(tmp_path / "open", None)
    assert refusal(lambda: keys.load_private(tmp_path / "locked", b"wrong")) == "key-passphrase-wrong"
    assert refusal(lambda: keys.load_private(tmp_path / "locked")) == "key-passphrase-missing"
    assert refusal(lambda: keys.load_private(tmp_path / "locked", b"")) == "key-passphrase-missing"
    assert refusal(lambda: keys.load_private(tmp_path / "open", b"right")) == "key-not-encrypted"


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"secret\n", b"secret"), (b"secret", b"secret"), (b"secret\r\nmore", b"secret"), (b" a b \n", b" a b ")],
)
def test_a_passphrase_is_the_first_line(tmp_path: Path, content: bytes, expected: bytes) -> None:
    assert keys.read_passphrase(write(tmp_path / "p", content)) == expected


def test_an_empty_passphrase_file(tmp_path: Path) -> None:
    assert refusal(lambda: keys.read_passphrase(write(tmp_path / "p", b"\nsecret"))) == "key-passphrase-missing"
    assert refusal(lambda: keys.read_passphrase(write(tmp_path / "q", b""))) == "file-empty"


PEM = private_pem(Ed25519PrivateKey.generate())
LOCKED = private_pem(Ed25519PrivateKey.generate(), b"right")
PUBLIC = public_pem(signers.load_scheme("ed25519").generate().public.spki)
PRIVATE_FILES = {
    "RSA": (private_pem(rsa.generate_private_key(65537, 2048)), "key-unsupported"),
    "EC": (private_pem(ec.generate_private_key(ec.SECP256R1())), "key-unsupported"),
    "X25519": (private_pem(x25519.X25519PrivateKey.generate()), "key-unsupported"),
    "public": (PUBLIC, "public-key-given"),
    "without its end line": (PEM[: PEM.index(b"-----END")], "key-invalid"),
    "truncated in the middle": (PEM[:60], "key-invalid"),
    "with a line missing": (PEM.replace(PEM.splitlines()[1], PEM.splitlines()[1][:20]), "key-invalid"),
    "encrypted, with a line missing": (LOCKED.replace(LOCKED.splitlines()[2] + b"\n", b""), "key-invalid"),
    "two keys": (PEM + PEM, "key-invalid"),
    "text before": (b"my key:\n" + PEM, "key-invalid"),
    "DER": (b"\x30\x2e\x02\x01\x00", "key-invalid"),
    "binary": (bytes(range(256)), "key-invalid"),
    "empty": (b"", "file-empty"),
    "huge": (PEM + b"\n" * 70_000, "file-too-large"),
    "another label": (PEM.replace(b"PRIVATE KEY", b"CERTIFICATE"), "key-invalid"),
    "not PKCS#8": (PEM.replace(b"PRIVATE KEY", b"EC PRIVATE KEY"), "key-invalid"),
    "encrypted, says its label": (PEM.replace(b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"), "key-passphrase-wrong"),
    "encrypted, its label does not say": (LOCKED.replace(b"ENCRYPTED ", b""), "key-invalid"),
    "RSA, encrypted": (private_pem(rsa.generate_private_key(65537, 2048), b"right"), "key-unsupported"),
    "trailing byte": (pem_text(b"PRIVATE KEY", b64decode(PEM.splitlines()[1]) + b"\0"), "key-invalid"),
}


@pytest.mark.parametrize("name", PRIVATE_FILES)
def test_what_is_no_private_key_of_ours(tmp_path: Path, name: str) -> None:
    content, code = PRIVATE_FILES[name]
    path = write(tmp_path / "k", content)
    passphrase = b"right" if b"ENCRYPTED" in content else None
    assert refusal(lambda: keys.load_private(path, passphrase)) == code


def spki_pem(key: object) -> bytes:
    pem: bytes = key.public_key().public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def point(y: int, sign: int = 0) -> bytes:
    return PREFIX + (y | sign << 255).to_bytes(32, "little")


PUBLIC_FILES = {
    "private": (PEM, "private-key-given"),
    "encrypted private": (LOCKED, "private-key-given"),
    "public, then private": (PUBLIC + PEM, "private-key-given"),
    "RSA": (spki_pem(rsa.generate_private_key(65537, 2048)), "key-unsupported"),
    "X25519": (spki_pem(x25519.X25519PrivateKey.generate()), "key-unsupported"),
    "Ed25519 of 31 bytes": (public_pem(PREFIX + bytes(31)), "key-unsupported"),
    "trailing byte": (public_pem(point(P // 3) + b"\0"), "key-unsupported"),
    "two keys": (PUBLIC + PUBLIC, "key-invalid"),
    "certificate": (PUBLIC.replace(b"PUBLIC KEY", b"CERTIFICATE"), "key-invalid"),
    "bad base64": (PUBLIC.replace(b"MCow", b"MCo="), "key-invalid"),
    "truncated": (PUBLIC[:50], "key-invalid"),
    "identity": (public_pem(point(1)), "key-weak"),
    "order 2": (public_pem(point(P - 1)), "key-weak"),
    "order 4": (public_pem(point(0, 1)), "key-weak"),
    "order 8": (public_pem(point(ed25519._Y_ORDER_8)), "key-weak"),
    "order 8, negative": (public_pem(point(P - ed25519._Y_ORDER_8, 1)), "key-weak"),
    "not canonical": (public_pem(point(P + 3)), "key-weak"),
    "identity, not canonical": (public_pem(point(P + 1)), "key-weak"),
    "identity, wrong sign": (public_pem(point(1, 1)), "key-weak"),
    "off the curve": (public_pem(point(2)), "key-weak"),
}


@pytest.mark.parametrize("name", PUBLIC_FILES)
def test_what_is_no_public_key_of_ours(tmp_path: Path, name: str) -> None:
    content, code = PUBLIC_FILES[name]
    path = write(tmp_path / "k.pub", content)
    assert refusal(lambda: keys.load_public(path)) == code


def test_a_key_may_be_a_link_and_is_no_folder(tmp_path: Path) -> None:
    made = keys.new_key(tmp_path / "k", None)
    (tmp_path / "link").symlink_to(tmp_path / "k")
    (tmp_path / "link.pub").symlink_to(tmp_path / "k.pub")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    assert keys.load_private(tmp_path / "link").public.keyid == made.keyid
    assert keys.load_public(tmp_path / "link.pub").keyid == made.keyid
    assert refusal(lambda: keys.load_public(tmp_path / "link.pub", shared=True)) == "not-regular-file"
    for name, code in ((".", "not-regular-file"), ("no", "file-missing"), ("dangling", "file-missing")):
        assert refusal(lambda name=name: keys.load_private(tmp_path / name)) == code  # type: ignore[misc]
        assert refusal(lambda name=name: keys.load_public(tmp_path / name)) == code  # type: ignore[misc]


def doubled(x: int, y: int) -> tuple[int, int]:
    """Return 2 (x, y) on the curve -x^2 + y^2 = 1 + d x^2 y^2."""
    t = ed25519._D * x * x * y * y % P
    return (
        2 * x * y * pow(1 + t, -1, P) % P,
        (y * y + x * x) * pow(1 - t, -1, P) % P,
    )


def test_the_small_order_points_are_those_whose_order_divides_eight() -> None:
    for y in ed25519._SMALL_ORDER_Y:
        square = (y * y - 1) * pow(ed25519._D * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        if x * x % P != square:
            x = x * pow(2, (P - 1) // 4, P) % P
        assert x * x % P == square
        for _ in range(3):
            x, y = doubled(x, y)
        assert (x, y) == (0, 1)
    # 8 points: two have x = 0 and one sign, the three other y have both signs
    assert 2 + 2 * (len(ed25519._SMALL_ORDER_Y) - 2) == 8


@given(st.binary(min_size=32, max_size=32))
def test_honest_keys_pass_every_check(seed: bytes) -> None:
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert signers.public_key(spki).spki == spki


def test_no_signature_holds_under_an_off_curve_key_that_is_not_checked_thoroughly() -> None:
    weak = signers.public_key(point(2), thorough=False)
    assert not any(weak.verify(signature, b"") for signature in (bytes(64), point(2)[-32:] + bytes(32), b"\x01" * 64))


@pytest.mark.parametrize("signature", [b"", b"\0" * 63, b"\0" * 64, b"\0" * 65, b"\xff" * 64])
def test_a_signature_of_any_shape_is_only_false(signature: bytes) -> None:
    assert not signers.load_scheme("ed25519").generate().public.verify(signature, b"message")


def test_a_signature_has_one_encoding() -> None:
    """S + L verifies in careless libraries (RFC 8032 section 5.1.7 refuses it)."""
    key = signers.load_scheme("ed25519").generate()
    signature = key.sign(b"message")
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    assert not key.public.verify(signature[:32] + s.to_bytes(32, "little"), b"message")


def test_rfc_8032_vector() -> None:
    """RFC 8032 section 7.1, test 2."""
    spki = PREFIX + bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert signers.public_key(spki).verify(signature, b"\x72")
    assert not signers.public_key(spki).verify(signature, b"\x73")


def test_table_and_files_of_the_algorithms_agree() -> None:
    folder = Path(signers.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {entry.partition(":")[0].rpartition(".")[2] for entry in signers.SIGNERS.values()} == files
    for name in signers.SIGNERS:
        assert signers.load_scheme(name).generate().public.scheme == name


@pytest.mark.parametrize(("text", "name"), [("ed25519", "ed25519"), ("sm2", sm2.NAME), (sm2.NAME, sm2.NAME)])
def test_an_algorithm_has_a_short_name(text: str, name: str) -> None:
    assert keys.scheme_named(text) == name


@pytest.mark.parametrize("text", ["", "sm", "sm2-", "sm2-sm3", "SM2", "rot13"])
def test_nothing_else_names_an_algorithm(text: str) -> None:
    assert refusal(lambda: keys.scheme_named(text)) == "usage"


def test_an_unknown_algorithm() -> None:
    assert refusal(lambda: signers.load_scheme("rot13")) == "key-unsupported"
    with pytest.raises(RefusedError) as refused:
        signers.public_key(b"", "a file")
    assert (refused.value.code, refused.value.where) == ("key-unsupported", "a file")


class PlugIn:
    """An entry point as `importlib.metadata` gives it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self) -> type[ed25519.Ed25519]:
        return ed25519.Ed25519


def test_a_plug_in_adds_an_algorithm_and_replaces_none(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [PlugIn("ed25519"), PlugIn("test-scheme")]

    def entry_points(group: str, name: str | None = None) -> list[PlugIn]:
        return [entry for entry in there if name in (None, entry.name)]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    signers.load_scheme.cache_clear()
    signers._plugins.cache_clear()
    try:
        assert [type(scheme) for scheme in signers.schemes()] == [ed25519.Ed25519, sm2.SM2, ed25519.Ed25519]
        assert isinstance(signers.load_scheme("test-scheme"), ed25519.Ed25519)
    finally:
        signers.load_scheme.cache_clear()
        signers._plugins.cache_clear()


def test_a_node_makes_its_key_once(tmp_path: Path) -> None:
    first = keys.node_key(tmp_path, "0123abcd")
    path = tmp_path / "node-keys" / "0123abcd.pem"
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert keys.node_key(tmp_path, "0123abcd").public == first.public
    assert keys.node_key(tmp_path, "other").public != first.public


@pytest.mark.parametrize("machine_id", ["", "../x", "a/b", ".hidden", "a\n", "A" * 4, "x" * 64])
def test_a_machine_id_cannot_lead_elsewhere(tmp_path: Path, machine_id: str) -> None:
    assert refusal(lambda: keys.node_key(tmp_path, machine_id)) == "machine-id-invalid"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_node_key_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "node-keys").mkdir()
    path = write(tmp_path / "node-keys" / "m.pem", b"damaged")
    assert refusal(lambda: keys.node_key(tmp_path, "m")) == "key-invalid"
    assert path.read_bytes() == b"damaged"


def test_threads_that_start_at_once_share_one_node_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        ids = {key.public.keyid for key in pool.map(lambda _: keys.node_key(tmp_path, "m"), range(64))}
    assert len(ids) == 1
    assert [p.name for p in (tmp_path / "node-keys").iterdir()] == ["m.pem"]


def test_processes_that_start_at_once_share_one_node_key(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, certify.keys.files as k; print(k.node_key(pathlib.Path(sys.argv[1]), 'm').public.keyid)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in running}) == 1
    assert all(process.returncode == 0 for process in running)


def test_another_error_than_a_lost_race_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "node-keys").write_text("a file")
    with pytest.raises(InputError) as refused:
        keys.node_key(tmp_path, "m")
    assert refused.value.code == "output-not-writable"
