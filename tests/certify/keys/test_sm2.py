"""SM2 with SM3: the standard's vector, every malformed key and signature, and the `openssl` command both ways."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError, RefusedError
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE
from certify.keys import files as keys
from certify.keys import libcrypto
from certify.keys.signers import NewKey, load_scheme, pem_text, public_key, sm2
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet
from tests.certify.keys.test_files import mode, refusal, write
from tests.certify.signed import NOW, record_payload, sealed

# GB/T 32918.5-2017 annex A.2, over "message digest" under the ID 1234567812345678
SECRET = 0x3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8
X = 0x09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020
Y = 0xCCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13
R = 0xF5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3
S = 0xB1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA
MESSAGE = b"message digest"

P = 2**256 - 2**224 - 2**96 + 2**64 - 1
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d03420004")
ALGORITHM = bytes.fromhex("301306072a8648ce3d020106082a811ccf5501822d")
SM3 = ("-rawin", "-digest", "sm3", "-pkeyopt")
ID = "distid:1234567812345678"


def spki(x: int = X, y: int = Y) -> bytes:
    return PREFIX + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def tlv(tag: int, content: bytes) -> bytes:
    length = bytes([len(content)]) if len(content) < 0x80 else bytes([0x81, len(content)])
    return bytes([tag]) + length + content


def integer(value: int) -> bytes:
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def signature(r: int = R, s: int = S) -> bytes:
    return tlv(0x30, integer(r) + integer(s))


def pkcs8(secret: int, x: int | None = None, y: int | None = None, algorithm: bytes = ALGORITHM) -> bytes:
    """Return a PrivateKeyInfo, with the public half where it is given."""
    inner = bytes.fromhex("020101") + tlv(4, secret.to_bytes(32, "big"))
    if x is not None and y is not None:
        inner += tlv(0xA1, tlv(3, b"\0\4" + x.to_bytes(32, "big") + y.to_bytes(32, "big")))
    return tlv(0x30, b"\2\1\0" + algorithm + tlv(4, tlv(0x30, inner)))


def generate() -> NewKey:
    return load_scheme(sm2.NAME).generate()


def openssl(*arguments: object, stdin: bytes = b"", good: bool = True) -> bytes:
    """Return what the command line of OpenSSL writes."""
    if shutil.which("openssl") is None:
        assert not os.environ.get("CI"), "openssl is not installed"
        pytest.skip("openssl is not installed")
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False)
    assert (done.returncode == 0) == good, done.stderr.decode()
    return done.stdout


# The published vector
def test_the_vector_of_the_standard() -> None:
    public = public_key(spki())
    assert public.scheme == "sm2-sm3-1234567812345678"
    assert public.keyid == hashlib.sha256(spki()).hexdigest()
    assert public.verify(signature(), MESSAGE)


def test_a_bit_of_the_vector_that_differs() -> None:
    public = public_key(spki())
    for bit in range(256):
        assert not public.verify(signature(R ^ 1 << bit), MESSAGE)
        assert not public.verify(signature(R, S ^ 1 << bit), MESSAGE)
    for bit in range(8 * len(MESSAGE)):
        assert not public.verify(signature(), (int.from_bytes(MESSAGE, "big") ^ 1 << bit).to_bytes(14, "big"))
    assert not generate().public.verify(signature(), MESSAGE)


@pytest.mark.parametrize("der", [pkcs8(SECRET), pkcs8(SECRET, X, Y)], ids=["computed", "stored"])
def test_the_private_key_of_the_standard(der: bytes) -> None:
    key = load_scheme(sm2.NAME).private(der, None)
    assert key is not None
    assert key.public == public_key(spki())
    assert key.public.verify(key.sign(MESSAGE), MESSAGE)


# Public keys
POINTS = {
    "the same": (spki(), None),
    "mirrored": (spki(X, P - Y), None),
    "y off by one": (spki(X, Y + 1), "key-weak"),
    "x off by one": (spki(X + 1, Y), "key-weak"),
    "all zero": (spki(0, 0), "key-weak"),
    "x is p": (spki(P, Y), "key-weak"),
    "y is p": (spki(X, P), "key-weak"),
    "all ones": (spki(2**256 - 1, 2**256 - 1), "key-weak"),
    "swapped": (spki(Y, X), "key-weak"),
    "at infinity": (tlv(0x30, ALGORITHM + tlv(3, b"\0\0")), "key-unsupported"),
    "compressed": (tlv(0x30, ALGORITHM + tlv(3, b"\0\3" + X.to_bytes(32, "big"))), "key-unsupported"),
    "hybrid": (spki().replace(b"\x42\x00\x04", b"\x42\x00\x07"), "key-unsupported"),
    "trailing byte": (spki() + b"\0", "key-unsupported"),
    "a byte short": (spki()[:-1], "key-unsupported"),
    "another curve": (spki().replace(bytes.fromhex("822d"), bytes.fromhex("822e")), "key-unsupported"),
    "P-256": (
        spki().replace(ALGORITHM, bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")),
        "key-unsupported",
    ),
    "long form of a length": (b"\x30\x81" + spki()[1:], "key-unsupported"),
}


@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize("name", POINTS)
def test_what_is_no_public_key(name: str, thorough: bool) -> None:
    der, code = POINTS[name]
    if code is None:
        assert public_key(der, thorough=thorough).spki == der
    else:
        assert refusal(lambda: public_key(der, thorough=thorough)) == code


def test_a_point_off_the_curve_verifies_nothing_in_libcrypto_either() -> None:
    for x, y in ((0, 0), (X, Y + 1), (P, Y), (2**256 - 1, 2**256 - 1)):
        assert not libcrypto.verify(spki(x, y), signature(), MESSAGE)


# Signatures
LARGE = (R | 1 << 255).to_bytes(32, "big")
MALFORMED = {
    "empty": b"",
    "one byte": b"\x30",
    "empty sequence": b"\x30\0",
    "r alone": tlv(0x30, integer(R)),
    "three numbers": tlv(0x30, integer(R) + integer(S) + integer(1)),
    "trailing byte": signature() + b"\0",
    "trailing byte inside": tlv(0x30, integer(R) + integer(S) + b"\0"),
    "a byte short": signature()[:-1],
    "wrong length": b"\x30\x45" + signature()[2:],
    "long form": b"\x30\x81" + signature()[1:],
    "indefinite length": b"\x30\x80" + signature()[2:] + b"\0\0",
    "long form of r": tlv(0x30, b"\x02\x81\x21\0" + LARGE + integer(S)),
    "a set": b"\x31" + signature()[1:],
    "bit string for r": signature().replace(b"\x02\x21", b"\x03\x21", 1),
    "r negative": tlv(0x30, tlv(2, LARGE) + integer(S)),
    "r padded": tlv(0x30, tlv(2, b"\0\0" + LARGE) + integer(S)),
    "s padded": tlv(0x30, integer(R) + tlv(2, b"\0\0" + S.to_bytes(32, "big"))),
    "r empty": tlv(0x30, tlv(2, b"") + integer(S)),
    "r zero": signature(0, S),
    "s zero": signature(R, 0),
    "r is n": signature(N, S),
    "s is n": signature(R, N),
    "r + n": signature(R + N, S),
    "s + n": signature(R, S + N),
    "r + s is n": signature(R, N - R),
    "r minus n": tlv(0x30, tlv(2, (R - N).to_bytes(33, "big", signed=True)) + integer(S)),
    "raw r and s": R.to_bytes(32, "big") + S.to_bytes(32, "big"),
    "swapped": signature(S, R),
    "s of the mirror": signature(R, N - S),
    "huge": b"\x30\x82\xff\xff" + bytes(65535),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_signature_is_only_false(name: str) -> None:
    assert not public_key(spki()).verify(MALFORMED[name], MESSAGE)


def test_a_signature_has_one_encoding() -> None:
    """Our own check refuses all of them but the two that libcrypto has to compute."""
    refused = {name for name, content in MALFORMED.items() if not sm2._is_well_formed(content)}
    assert set(MALFORMED) - refused == {"swapped", "s of the mirror"}
    assert sm2._is_well_formed(signature())
    assert sm2._is_well_formed(signature(1, N - 2))
    assert sm2._is_well_formed(signature(N - 1, N - 1))


ANY = st.one_of(
    st.binary(max_size=80),
    st.builds(signature, st.integers(0, 2**256), st.integers(0, 2**256)),
    st.tuples(st.integers(0, 71), st.integers(1, 255)).map(
        lambda flip: bytes(b ^ flip[1] * (i == flip[0]) for i, b in enumerate(signature()))
    ),
)


@given(ANY, st.binary(max_size=64))
def test_no_bytes_but_the_signature_verify(content: bytes, message: bytes) -> None:
    assert not public_key(spki()).verify(content, message)


@given(st.binary(max_size=120).map(lambda tail: (PREFIX + tail)[:91]) | st.binary(max_size=120))
def test_no_bytes_crash_as_a_public_key(der: bytes) -> None:
    with contextlib.suppress(RefusedError):
        public_key(der).verify(signature(), MESSAGE)
    assert not libcrypto.verify(der, signature(), MESSAGE)


@given(st.binary(max_size=160), st.integers(0, 160), st.none() | st.binary(min_size=1, max_size=8))
def test_no_bytes_crash_as_a_private_key(tail: bytes, kept: int, passphrase: bytes | None) -> None:
    key = None
    with contextlib.suppress(ValueError, RefusedError):
        key = load_scheme(sm2.NAME).private(pkcs8(SECRET, X, Y)[:kept] + tail, passphrase)
    assert key is None or key.public.verify(key.sign(MESSAGE), MESSAGE)


# Private keys
SECRETS = {
    "zero": (pkcs8(0), "key-invalid"),
    "zero, with a public half": (pkcs8(0, X, Y), "key-weak"),
    "n - 1": (pkcs8(N - 1), "key-weak"),
    "n": (pkcs8(N, X, Y), "key-weak"),
    "n + 1": (pkcs8(N + 1), "key-weak"),
    "all ones": (pkcs8(2**256 - 1), "key-weak"),
    "another's public half": (pkcs8(SECRET - 1, X, Y), "key-weak"),
    "mirrored public half": (pkcs8(SECRET, X, P - Y), "key-weak"),
    "public half off the curve": (pkcs8(SECRET, X, Y + 1), "key-invalid"),
    "of P-256": (
        pkcs8(SECRET, algorithm=bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")),
        "key-unsupported",
    ),
    "trailing byte": (pkcs8(SECRET) + b"\0", "key-invalid"),
    "a byte short": (pkcs8(SECRET)[:-1], "key-invalid"),
    "without the number": (tlv(0x30, b"\2\1\0" + ALGORITHM + tlv(4, b"\x30\0")), "key-invalid"),
}


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_no_private_key(tmp_path: Path, name: str) -> None:
    der, code = SECRETS[name]
    path = write(tmp_path / "k", pem_text(b"PRIVATE KEY", der))
    assert refusal(lambda: keys.load_private(path)) == code


@pytest.mark.parametrize("secret", [1, 2, N - 2])
def test_the_ends_of_the_range_sign(secret: int) -> None:
    key = load_scheme(sm2.NAME).private(pkcs8(secret), None)
    assert key is not None
    assert key.public.verify(key.sign(MESSAGE), MESSAGE)


@pytest.mark.parametrize("passphrase", [None, b"correct horse", "口令".encode(), b"\0\n"])
def test_a_new_key_can_be_loaded(tmp_path: Path, passphrase: bytes | None) -> None:
    path = tmp_path / "k"
    public = keys.new_key(path, passphrase, sm2.NAME)
    assert (mode(path), mode(keys.public_path(path))) == (0o600, 0o644)
    assert (b"ENCRYPTED" in path.read_bytes()) == (passphrase is not None)
    private = keys.load_private(path, passphrase)
    assert private.public == public == keys.load_public(keys.public_path(path))
    assert public.verify(private.sign(b"message"), b"message")
    assert not public.verify(private.sign(b"message"), b"Message")


def test_passphrases(tmp_path: Path) -> None:
    keys.new_key(tmp_path / "locked", b"right", sm2.NAME)
    keys.new_key(tmp_path / "open", None, sm2.NAME)
    assert refusal(lambda: keys.load_private(tmp_path / "locked", b"wrong")) == "key-passphrase-wrong"
    assert refusal(lambda: keys.load_private(tmp_path / "locked")) == "key-passphrase-missing"
    assert refusal(lambda: keys.load_private(tmp_path / "open", b"right")) == "key-not-encrypted"


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_messages_of_any_length(size: int) -> None:
    key, message = generate(), os.urandom(size)
    assert key.public.verify(key.sign(message), message)


def test_a_private_key_shows_and_leaves_nothing() -> None:
    key = load_scheme(sm2.NAME).private(pkcs8(SECRET), None)
    assert repr(SECRET.to_bytes(32, "big"))[2:-1] not in repr(key)
    assert "pkcs8" not in repr(key)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leave(key)


def test_a_public_key_travels() -> None:
    public = public_key(spki())
    assert pickle.loads(pickle.dumps(public)) == public


def test_threads_use_one_libcrypto() -> None:
    key = generate()

    def works(number: int) -> bool:
        message = b"%d" % number
        return key.public.verify(key.sign(message), message)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(works, range(64)))


FORKS = """
import os
from certify.keys.signers import load_scheme
key = load_scheme("sm2-sm3-1234567812345678").generate()
for _ in range(4):
    if os.fork() == 0:
        signature = key.sign(b"message")
        os.write(1, b"%d %b\\n" % (key.public.verify(signature, b"message"), signature.hex().encode()))
        os._exit(0)
for _ in range(4):
    os.wait()
"""


def test_forks_draw_numbers_of_their_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(set(lines)) == 4
    assert all(line.startswith("1 ") for line in lines)


def test_an_envelope_carries_both_algorithms() -> None:
    ours, other = generate(), load_scheme("ed25519").generate()
    envelope = dsse.parse_envelope(dsse.seal(b"{}", PAYLOAD_TYPE, [ours, other]), 10_000)
    ring = {key.public.keyid: key.public for key in (ours, other)}
    assert dsse.verify_signatures(envelope, ring) == frozenset(ring)
    crossed = {ours.public.keyid: public_key(spki())}
    assert refusal(lambda: dsse.verify_signatures(envelope, crossed)) == "signature-invalid"


def test_a_record_of_a_node_with_an_sm2_key() -> None:
    key = generate()
    content = sealed(record_payload(key), key)
    opened = Verifier(TrustedSet.single(public_key(spki())), NOW).record(content)
    assert (opened.signers, opened.self_asserted) == (frozenset({key.public.keyid}), True)
    stolen = sealed(record_payload(key), generate())
    assert refusal(lambda: Verifier(TrustedSet.single(public_key(spki())), NOW).record(stolen)) == "signer-mismatch"


# The openssl command
def test_openssl_verifies_ours(tmp_path: Path) -> None:
    public = keys.new_key(tmp_path / "k", b"right", sm2.NAME)
    private = keys.load_private(tmp_path / "k", b"right")
    write(tmp_path / "message", MESSAGE)
    write(tmp_path / "sig", private.sign(MESSAGE))
    verify = ("pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "k.pub", "-in", tmp_path / "message")
    sig = ("-sigfile", tmp_path / "sig", *SM3)
    assert b"Successfully" in openssl(*verify, *sig, ID)
    openssl(*verify, *sig, "distid:ALICE123@YAHOO.COM", good=False)
    shown = openssl("pkey", "-in", tmp_path / "k", "-passin", "pass:right", "-pubout", "-outform", "DER")
    assert shown == public.spki
    openssl("pkey", "-in", tmp_path / "k", "-passin", "pass:wrong", "-noout", good=False)
    assert (tmp_path / "k.pub").read_bytes() == openssl(
        "pkey", "-in", tmp_path / "k", "-passin", "pass:right", "-pubout"
    )


LOCKS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "SM4": ("-v2", "sm4-cbc"),
    "scrypt": ("-scrypt",),
    "SHA-512": ("-v2prf", "hmacWithSHA512"),
    "clear": ("-nocrypt",),
}


@pytest.mark.parametrize("lock", LOCKS)
def test_we_load_and_verify_what_openssl_makes(tmp_path: Path, lock: str) -> None:
    openssl("genpkey", "-algorithm", "SM2", "-out", tmp_path / "clear")
    locked = ("-passout", "pass:right") if lock != "clear" else ()
    openssl("pkcs8", "-topk8", "-in", tmp_path / "clear", *locked, *LOCKS[lock], "-out", tmp_path / "k")
    (tmp_path / "k").chmod(0o600)
    openssl("pkey", "-in", tmp_path / "clear", "-pubout", "-out", tmp_path / "k.pub")
    private = keys.load_private(tmp_path / "k", b"right" if locked else None)
    assert private.public == keys.load_public(tmp_path / "k.pub")
    if locked:
        assert refusal(lambda: keys.load_private(tmp_path / "k", b"wrong")) == "key-passphrase-wrong"
    sign = ("pkeyutl", "-sign", "-inkey", tmp_path / "clear", *SM3)
    assert private.public.verify(openssl(*sign, ID, stdin=MESSAGE), MESSAGE)
    assert not private.public.verify(openssl(*sign, "distid:ALICE123@YAHOO.COM", stdin=MESSAGE), MESSAGE)
    without_id = openssl(*sign[:-1], stdin=MESSAGE)  # the command's default is the empty ID
    assert not private.public.verify(without_id, MESSAGE)


def test_a_compressed_key_of_openssl_gets_the_one_form(tmp_path: Path) -> None:
    clear = tmp_path / "clear"
    openssl("genpkey", "-algorithm", "SM2", "-out", clear)
    openssl("ec", "-in", clear, "-conv_form", "compressed", "-out", tmp_path / "small")
    openssl("pkcs8", "-topk8", "-nocrypt", "-in", tmp_path / "small", "-out", tmp_path / "k")
    clear.chmod(0o600)
    (tmp_path / "k").chmod(0o600)
    assert keys.load_private(tmp_path / "k").public == keys.load_private(clear).public


@pytest.mark.parametrize("parameters", [("-param_enc", "explicit"), ()])
def test_keys_of_openssl_in_other_forms(tmp_path: Path, parameters: tuple[str, ...]) -> None:
    openssl("ecparam", "-name", "SM2", "-genkey", *parameters, "-out", tmp_path / "k")  # EC PARAMETERS before the key
    (tmp_path / "k").chmod(0o600)
    assert refusal(lambda: keys.load_private(tmp_path / "k")) == "key-invalid"
    if parameters:
        openssl("pkcs8", "-topk8", "-nocrypt", "-in", tmp_path / "k", "-out", tmp_path / "e")
        (tmp_path / "e").chmod(0o600)
        assert refusal(lambda: keys.load_private(tmp_path / "e")) == "key-unsupported"


# Where there is no libcrypto
@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Let one library be the only libcrypto that there is."""

    def look_for(name: str) -> None:
        monkeypatch.setattr(libcrypto, "_NAMES", (name,))
        libcrypto.libcrypto.cache_clear()

    yield look_for
    libcrypto.libcrypto.cache_clear()


@pytest.mark.parametrize("name", ["libno-such.so.9", "libc.so.6"], ids=["not there", "not OpenSSL 3"])
def test_without_libcrypto(tmp_path: Path, only: Callable[[str], None], name: str) -> None:
    der, locked = pkcs8(SECRET, X, Y), generate().pem(b"right")
    only(name)
    path = write(tmp_path / "k", pem_text(b"PRIVATE KEY", der))
    asked: list[Callable[[], object]] = [
        lambda: public_key(spki()),
        lambda: keys.new_key(tmp_path / "new", None, sm2.NAME),
        lambda: keys.load_private(path),
        lambda: keys.load_private(write(tmp_path / "locked", locked), b"right"),
    ]
    for ask in asked:
        assert refusal(ask) == "sm2-unavailable"
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match=str(path)):
        keys.load_private(path)


def test_without_libcrypto_the_rest_works(tmp_path: Path, only: Callable[[str], None]) -> None:
    only("libno-such.so.9")
    keys.new_key(tmp_path / "k", b"right")
    assert keys.load_private(tmp_path / "k", b"right").public == keys.load_public(tmp_path / "k.pub")
    assert refusal(lambda: keys.load_private(tmp_path / "k", b"wrong")) == "key-passphrase-wrong"
    other = write(tmp_path / "p256", pem_text(b"PRIVATE KEY", SECRETS["of P-256"][0]))
    assert refusal(lambda: keys.load_private(other)) == "key-unsupported"


def test_libcrypto_is_found_by_the_linkers_rules(only: Callable[[str], None]) -> None:
    only("crypto")
    assert public_key(spki()).verify(signature(), MESSAGE)


def test_a_libcrypto_that_fails_the_example_is_none(
    only: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    only("libcrypto.so.3")
    monkeypatch.setattr(libcrypto, "_EXAMPLE_SIGNATURE", signature(R, S ^ 1))
    assert refusal(lambda: public_key(spki())) == "sm2-unavailable"


def test_libcrypto_is_loaded_only_for_sm2() -> None:
    code = (
        "import certify.commands.root, certify.keys.libcrypto as c; from certify.keys.signers import load_scheme;"
        "k = load_scheme('ed25519').generate(); assert k.public.verify(k.sign(b''), b'');"
        "assert c.libcrypto.cache_info().currsize == 0; load_scheme('sm2-sm3-1234567812345678').generate();"
        "assert c.libcrypto.cache_info().currsize == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
