"""Centre files, policies, profiles, keys and outputs that are wrong: one sentence each, and nothing is written."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519

from bench.record import config_path
from bench.terminal.show import CLOSED_PIPE
from certify.keys.files import load_public, new_key, public_path
from tests.bad_input.command import Answer, contents, petaseal, process
from tests.bad_input.laid_out import certified, stated, verified
from tests.certify.measured import Measured, centre_yaml, measured

ROOT = Path(__file__).resolve().parents[2]
POOL = {"pool": "main", "class": "intelligent", "nodes": "all", "devices": "all"}


def with_key(place: Path, key: Path) -> Measured:
    """Return a measured centre that is to be certified with another key."""
    centre = measured(place)
    return Measured(centre.folder, key, centre.centre, centre.campaign, centre.records)


# --- centre files: YAML text -> code ---


def centre_text(**changes: Any) -> str:
    return yaml.safe_dump(centre_yaml(**changes), allow_unicode=True)


ALIASES = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CENTRES: dict[str, tuple[str, str]] = {
    "duplicate key": (centre_text() + "operator: 另一个\n", "yaml-invalid"),
    "duplicate key inside": (
        centre_text(name=None).replace("name: null", "name: {zh: 甲, zh: 乙, en: A}"),
        "yaml-invalid",
    ),
    "alias bomb": (ALIASES, "yaml-invalid"),
    "merge key": ("a: {b: 1}\n<<: {c: 1}\n", "yaml-invalid"),
    "python tag": ("!!python/object/apply:os.system ['touch /tmp/petaseal-owned']\n", "yaml-invalid"),
    "another tag": ("centre_id: !secret x\n", "yaml-invalid"),
    "two documents": (centre_text() + "---\n" + centre_text(), "yaml-invalid"),
    "tabs": ("centre_id:\tx\n\t- y\n", "yaml-invalid"),
    "no text": ("\x00\x01", "yaml-invalid"),
    "deep": ("[" * 5000, "yaml-invalid"),
    "a list": ("[1, 2]\n", "config-invalid"),
    "a number": ("1\n", "config-invalid"),
    "unknown field": (centre_text(also=1), "config-invalid"),
    "missing field": ("centre_id: x\n", "config-invalid"),
    "path as an id": (centre_text(centre_id="../x"), "config-invalid"),
    "newline behind an id": (centre_text(centre_id="gz-test\n"), "config-invalid"),
    "no pools": (centre_text(pools=[]), "no-pools"),
    "pool without devices": (centre_text(pools=[{**POOL, "devices": []}]), "pool-without-devices"),
    "pool without nodes": (centre_text(pools=[{**POOL, "nodes": []}]), "pool-without-nodes"),
    "two pools of one name": (
        centre_text(pools=[{**POOL, "nodes": ["a"]}, {**POOL, "nodes": ["b"]}]),
        "duplicate-pool",
    ),
    "device in two pools": (
        centre_text(pools=[POOL, {**POOL, "pool": "also", "class": "edge"}]),
        "device-in-two-pools",
    ),
    "device twice in one pool": (centre_text(pools=[{**POOL, "devices": ["fake:0", "fake:0"]}]), "device-in-two-pools"),
    "pool's name with a newline": (centre_text(pools=[{**POOL, "pool": "main\n"}]), "config-invalid"),
    "pool's name in capitals": (centre_text(pools=[POOL, {**POOL, "pool": "Main"}]), "config-invalid"),
    "node's name with a path": (centre_text(pools=[{**POOL, "nodes": ["a/b"]}]), "config-invalid"),
    "unknown class": (centre_text(pools=[{**POOL, "class": "quantum"}]), "unknown-class"),
    "unknown tier": (centre_text(tier="galaxy"), "unknown-tier"),
    "unknown owner": (centre_text(owner_type="nobody"), "unknown-owner-type"),
    "unknown state": (centre_text(lifecycle="dreamt"), "unknown-lifecycle"),
    "wrong check digit": (centre_text(uscc="91350100M000100Y44"), "uscc-invalid"),
    "baseline without a date": (centre_text(baseline="b.dsse.json"), "baseline-incomplete"),
    "baseline that lies elsewhere": (centre_text(baseline="../b", baseline_date="2025-01-01"), "config-invalid"),
    "baseline that is missing": (centre_text(baseline="b.dsse.json", baseline_date="2025-01-01"), "file-missing"),
    "30 February": (centre_text(baseline="b", baseline_date="2025-02-30"), "date-invalid"),
    "empty": ("", "file-empty"),
    "only a comment": ("# nothing\n", "config-invalid"),
}


@pytest.mark.parametrize("case", CENTRES)
def test_a_bad_centre_file(place: Path, case: str) -> None:
    text, code = CENTRES[case]
    centre = measured(place)
    centre.centre.write_text(text)
    answer = certified(centre)
    assert (answer.code, answer.status) == (code, 2)
    assert len(answer.err) < 520
    if code != "file-missing":
        answer = petaseal("centre", "check", centre.centre)
        assert (answer.code, answer.status) == (code, 2)
    assert not Path("/tmp/petaseal-owned").exists()


# --- baselines ---


def test_an_empty_baseline_and_a_device_without_identity(place: Path) -> None:
    key, out, file = place / "k.pem", place / "b.dsse.json", place / "inventory.yaml"
    new_key(key, None)
    nobody = {"uuid": None, "serial": None, "die_id": None}
    for devices, code in (([], "baseline-empty"), ([nobody], "baseline-device-without-identity")):
        file.write_text(
            yaml.safe_dump({"centre_id": "gz-test", "taken_at": "2025-06-30T00:00:00.000000Z", "devices": devices})
        )
        before = contents(place)
        answer = petaseal("centre", "baseline", file, "--key", key, "--out", out)
        assert answer.code == code
        assert answer.status in (1, 2)
        assert contents(place) == before


# --- names of things ---


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--policy", "guangzhou-3000p"), "unknown-name"),
        (("--policy", "nowhere.yaml"), "file-missing"),
        (("--centre", "atlantis"), "unknown-name"),
        (("--key", "nowhere.pem"), "file-missing"),
        (("--campaign", "nowhere.json"), "file-missing"),
        (("--profile", "quickest"), "unknown-name"),
        (("--previous", "nowhere.json", "--sequence", "2"), "file-missing"),
        (("--sequence", "2"), "sequence-invalid"),
        (("--sequence", "0"), "usage"),
        (("--sequence", "9" * 30), "sequence-invalid"),
        (("--valid-days", "367"), "validity-too-long"),
        (("--passphrase-file", "nowhere"), "file-missing"),
    ],
)
def test_certify_of_what_there_is_not(
    place: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: str
) -> None:
    monkeypatch.chdir(place)
    answer = certified(measured(place), *arguments)
    assert (answer.code, answer.status) == (code, 2)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("run", "--out", "o", "--device", "tpu:0"), "unknown-device"),
        (("run", "--out", "o", "--device", "fake:1", "--precision", "fp12"), "unknown-precision"),
        (("run", "--out", "o", "--device", "fake:1", "--profile", "quick"), "unknown-name"),
        (("run", "--out", "o", "--device", "fake:1", "--kernel", "magic"), "unknown-kernel"),
        (("run", "--out", "o", "--device", "fake:1", "--campaign", "nowhere.json"), "file-missing"),
        (("run", "--out", "o", "--device", "fake:1", "--key", "nowhere.pem"), "file-missing"),
        (("devices", "--device", "cpu,cpu"), "device-named-twice"),
        (("policy", "show", "guangzhou"), "unknown-name"),
        (("centre", "check", "atlantis"), "unknown-name"),
        (("explain", "no-such-code"), "unknown-name"),
        (("keys", "show", "nowhere.pub"), "file-missing"),
        (("verify", "nowhere.json"), "trust-missing"),
        (("verify", "nowhere.json", "--trust", "a", "--public-key", "b"), "trust-missing"),
        (("verify", "nowhere.json", "--public-key", "b", "--samples", "c"), "records-missing"),
        (("verify", "nowhere.json", "--public-key", "b"), "file-missing"),
    ],
)
def test_what_there_is_not(place: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: str) -> None:
    monkeypatch.chdir(place)
    answer = petaseal(*arguments)
    assert (answer.code, answer.status, answer.out) == (code, 2, "")
    assert contents(place) == {}


@pytest.mark.parametrize(
    "wanted", ["perfect", "guangzhou-2000p/unheard-of", "trusted", "audited", "recomputed,audited"]
)
def test_a_requirement_that_is_unknown_or_unmet(place: Path, wanted: str) -> None:
    answer = verified(stated(place), "--require", wanted)
    unmet = wanted in ("trusted", "audited")
    assert (answer.code, answer.status) == (("requirement-unmet", 1) if unmet else ("unknown-name", 2))


# --- altered files under an official name ---


def altered(name: str, old: str, new: str) -> Callable[[Path], None]:
    def alter(configs: Path) -> None:
        path = configs / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return alter


def test_an_altered_policy_under_its_official_name(place: Path) -> None:
    file = place / "guangzhou-2000p.yaml"
    text = config_path("policies", "guangzhou-2000p.yaml").read_text()
    file.write_text(text.replace("minimum_grade: certification", "minimum_grade: smoke"))
    assert file.read_text() != text
    centre = measured(place)
    answer = certified(centre, "--policy", file)
    assert (answer.code, answer.status) == ("policy-altered", 2)
    answer = verified(stated(new_folder(place)), "--policy", file)
    assert (answer.code, answer.status) == ("policy-altered", 2)


def new_folder(place: Path) -> Path:
    path = place / "again"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("alter", "code"),
    [
        (altered("accelerators.yaml", 'fp16: "312"', 'fp16: "999"'), "ratings-unknown"),
        (
            altered("policies/guangzhou-2000p.yaml", "minimum_grade: certification", "minimum_grade: smoke"),
            "policy-unknown",
        ),
        (altered("profiles/standard.yaml", "grade: standard", "grade: smoke"), None),
    ],
)
def test_an_altered_installation_is_refused_by_an_honest_verifier(
    place: Path, alter: Callable[[Path], None], code: str | None
) -> None:
    for name in ("bench", "kernels", "certify", "configs"):
        shutil.copytree(ROOT / name, place / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    alter(place / "tree" / "configs")
    centre = measured(new_folder(place))
    answer = process(
        *("certify", centre.records, "--centre", centre.centre, "--key", centre.key, "--campaign", centre.campaign),
        *("--out", centre.folder / "out"),
        cwd=place / "tree",
        env={**os.environ, "PYTHONPATH": str(place / "tree")},
    )
    if code is None:  # an altered profile is no longer the one that the campaign binds
        assert (answer.code, answer.status) == ("profile-altered", 1)
        return
    assert answer.status == 0, answer.err
    answer = verified(centre)
    assert (answer.code, answer.status) == (code, 1)


# --- keys ---


def pem(key: Any, passphrase: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    content: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    return content


def public_pem(key: Any) -> bytes:
    content: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return content


def small_order_pem() -> bytes:
    import base64

    spki = bytes.fromhex("302a300506032b6570032100") + b"\x01" + bytes(31)
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(spki) + b"\n-----END PUBLIC KEY-----\n"


def private_key(file: Path, case: str) -> tuple[object, ...]:
    """Write a private key that is no good, and return further arguments."""
    if case == "readable by all":
        new_key(file, None)
        file.chmod(0o644)
    elif case == "wrong passphrase":
        new_key(file, b"right")
        file.with_name("pass").write_bytes(b"wrong\n")
        return ("--passphrase-file", file.with_name("pass"))
    elif case == "encrypted, no terminal":
        new_key(file, b"right")
    elif case == "passphrase for a key in clear":
        new_key(file, None)
        file.with_name("pass").write_bytes(b"wrong\n")
        return ("--passphrase-file", file.with_name("pass"))
    elif case == "public key":
        new_key(file.with_name("other"), None)
        shutil.copy(public_path(file.with_name("other")), file)
    else:
        makers: dict[str, Callable[[], Any]] = {
            "RSA": lambda: rsa.generate_private_key(65537, 2048),
            "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "X25519": x25519.X25519PrivateKey.generate,
        }
        file.write_bytes(pem(makers[case]()) if case in makers else b"-----BEGIN PRIVATE KEY-----\n")
        file.chmod(0o600)
    return ()


PRIVATE_KEYS = {
    "readable by all": ("key-file-permissions", 2),
    "wrong passphrase": ("key-passphrase-wrong", 2),
    "encrypted, no terminal": ("key-passphrase-missing", 2),
    "passphrase for a key in clear": ("key-not-encrypted", 2),
    "public key": ("public-key-given", 2),
    "RSA": ("key-unsupported", 1),
    "P-256": ("key-unsupported", 1),
    "X25519": ("key-unsupported", 1),
    "truncated": ("key-invalid", 2),
}


@pytest.mark.parametrize("case", PRIVATE_KEYS)
@pytest.mark.parametrize("command", ["certify", "run"])
def test_a_bad_private_key(place: Path, case: str, command: str) -> None:
    folder = new_folder(place)
    more = private_key(folder / "k.pem", case)
    if command == "certify":
        answer = certified(with_key(place, folder / "k.pem"), *more)
    else:
        before = contents(place)
        answer = petaseal("run", "--device", "fake:1", "--key", folder / "k.pem", "--out", place / "o", *more)
        assert contents(place) == before
    assert (answer.code, answer.status) == PRIVATE_KEYS[case]


PUBLIC_KEYS: dict[str, tuple[Callable[[], bytes], str, int]] = {
    "private key": (lambda: pem(ed25519()), "private-key-given", 2),
    "small-order point": (small_order_pem, "key-weak", 1),
    "RSA": (lambda: public_pem(rsa.generate_private_key(65537, 2048)), "key-unsupported", 1),
    "truncated": (lambda: b"-----BEGIN PUBLIC KEY-----\n", "key-invalid", 2),
    "a statement": (lambda: b'{"payload":""}\n', "key-invalid", 2),
    "empty": (lambda: b"", "file-empty", 2),
}


def ed25519() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate()


@pytest.mark.parametrize("case", PUBLIC_KEYS)
def test_a_bad_public_key(place: Path, case: str) -> None:
    make, code, status = PUBLIC_KEYS[case]
    centre = stated(place)
    file = place / "k.pub"
    file.write_bytes(make())
    answer = verified(centre, "--public-key", file, key=False)
    assert (answer.code, answer.status) == (code, status)
    answer = petaseal("keys", "show", file)
    assert (answer.code, answer.status) == (code, status)


# --- outputs ---

Output = Callable[[Path], tuple[object, ...]]
OUTPUTS: dict[str, Output] = {
    "certify": lambda place: (
        *("certify", place / "records", "--centre", place / "centre.yaml", "--key", place / "operator.pem"),
        *("--campaign", place / "campaign.dsse.json", "--out"),
    ),
    "run": lambda place: ("run", "--device", "fake:1", "--out"),
    "keys new": lambda place: ("keys", "new", "--no-passphrase", "--out"),
    "centre new": lambda place: ("centre", "new", "--out"),
    "centre baseline": lambda place: (
        *("centre", "baseline", place / "inventory.yaml", "--key", place / "operator.pem", "--out"),
    ),
}


def laid_out(place: Path) -> None:
    measured(place)
    (place / "inventory.yaml").write_text(
        "centre_id: gz-test\ntaken_at: 2025-06-30T00:00:00.000000Z\n"
        "devices: [{uuid: gpu-1a2b3c, serial: null, die_id: null}]\n"
    )


@pytest.mark.parametrize("command", OUTPUTS)
def test_an_output_that_cannot_be_written(place: Path, command: str) -> None:
    laid_out(place)
    (place / "file").write_text("mine")
    (place / "link").symlink_to("nowhere/at/all")
    before = contents(place)
    folder = command in ("certify", "run")
    wrong = [
        place / "file" / "below",
        Path("/proc/petaseal") / "x",
        Path("/dev/full") / "x",
        place / ("n" * 300),
        place / "file",
        place / "link",
    ]
    for out in wrong:
        answer = petaseal(*OUTPUTS[command](place), out)
        expected = {"output-not-writable", "output-not-folder"} if folder else {"output-not-writable", "output-exists"}
        assert answer.code in expected, out
        assert (answer.status, answer.out) == (2, "")
        assert contents(place) == before


@pytest.mark.parametrize("command", ["certify", "keys new", "centre baseline", "centre new"])
def test_an_output_that_exists_is_never_overwritten(place: Path, command: str) -> None:
    laid_out(place)
    out = place / "out"
    assert petaseal(*OUTPUTS[command](place), out).status == 0
    before = contents(place)
    answer = petaseal(*OUTPUTS[command](place), out)
    assert answer.code in ("output-exists", "output-not-writable")
    assert answer.status == 2
    assert contents(place) == before


@pytest.mark.parametrize("command", [command for command in OUTPUTS if command != "run"])
def test_a_disk_that_is_full_at_any_write(place: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system fails at each call in turn: afterwards there is what was before, and the same command works."""
    laid_out(place)
    before = contents(place)
    done = False
    for step in range(60):
        left = [step]

        def failing(real: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real(*args, **options)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in ("fsync", "replace", "link", "fchmod", "mkdir"):
                patch.setattr(os, name, failing(getattr(os, name)))
            answer = petaseal(*OUTPUTS[command](place), place / "out")
        if answer.status == 0:
            done = True
            break
        assert answer.code == "output-not-writable", step
        assert {k: v for k, v in contents(place).items() if v != "folder"} == {
            k: v for k, v in before.items() if v != "folder"
        }, step
    assert done
    assert step >= (0 if command == "centre new" else 2)


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from certify.__main__ import main
main()
"""


@pytest.mark.parametrize("limit", [0, 100, 4096, 12_000])
def test_a_file_that_may_not_grow(place: Path, limit: int) -> None:
    """The system itself refuses to write on in the middle of a file."""
    laid_out(place)
    before = contents(place)
    command = [sys.executable, "-c", LIMITED, str(limit), *map(str, OUTPUTS["certify"](place)), str(place / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = Answer(done.returncode, done.stdout, done.stderr)
    assert (answer.code, answer.status, answer.out) == ("output-not-writable", 2, "")
    after = {name: what for name, what in contents(place).items() if name != "out"}
    assert after == before


def test_an_answer_that_nobody_can_read(place: Path) -> None:
    """Exit status 0 means that the answer was given."""
    centre = stated(place)
    arguments = (
        "verify",
        place / "out" / "statement.dsse.json",
        "--public-key",
        centre.public_key,
        "--accept-simulated",
    )
    for more in ((), ("--json",)):
        with open("/dev/full", "w") as full:
            answer = process(*arguments, *more, stdout=full)
        assert (answer.code, answer.status) == ("system-error", 2)
        reader, writer = os.pipe()
        os.close(reader)
        answer = process(*arguments, *more, stdout=writer)
        os.close(writer)
        assert answer.status == CLOSED_PIPE
        assert answer.err == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_disk_that_takes_a_part_of_an_answer(tmp_path: Path, unbuffered: str) -> None:
    """A limit of 1,024 bytes for a file does what a full disk does: the first write is short, the next one fails."""
    command = 'ulimit -f 1; exec "$0" -m certify verify --explain > "$1"'
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONDONTWRITEBYTECODE": "1"}
    words = ["bash", "-c", command, sys.executable, str(tmp_path / "answer")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert (tmp_path / "answer").stat().st_size == 1024
    assert done.returncode == 2
    assert "[system-error]" in done.stderr


def test_closed_streams(place: Path) -> None:
    """A service may start the command with nothing at all."""
    centre = stated(place)
    command = f"{sys.executable} -m certify"
    statement = place / "out" / "statement.dsse.json"
    cases = {
        f"{command} keys new --out {place}/k.pem <&-": 2,
        f"{command} policy list >&- 2>&-": 0,
        f"{command} verify {statement} --public-key {centre.public_key} >&- 2>&- <&-": 1,
        f"{command} certify {place}/none --centre demo --key {centre.key} --out {place}/o 2>&-": 2,
    }
    for line, status in cases.items():
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == status, line
        assert "Traceback" not in done.stderr
    assert not (place / "k.pem").exists()


def test_new_keys_are_private_from_the_beginning(place: Path) -> None:
    before = os.umask(0)
    try:
        assert petaseal("keys", "new", "--no-passphrase", "--out", place / "k.pem").status == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((place / "k.pem").stat().st_mode) == 0o600
    assert load_public(place / "k.pem.pub").keyid in petaseal("keys", "show", place / "k.pem.pub").out
