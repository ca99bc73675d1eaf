"""Keys that a command signs with: every way to fail, a real software HSM, and the commands of docs/signing.md."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from bench.errors import InputError
from bench.record.folder import Folder
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE
from certify.keys import files as keys
from certify.keys.loading import CommandKey, command_key, load_signing_key
from certify.keys.signers import PrivateKey, load_scheme, sm2
from certify.trust.opening import Verifier
from certify.trust.trusted_set import TrustedSet
from tests.bad_input.command import petaseal
from tests.certify.keys.test_files import refusal, write
from tests.certify.measured import CENTRE_ID, Measured, centre_yaml, measured

DOCS = Path(__file__).resolve().parents[3] / "docs"
MESSAGE = b"message"


# What a command may do wrong
def python(code: str) -> str:
    """Return the command line of a signer that is a few lines of Python."""
    return f"{sys.executable} -c '{code}'"


FAILING = {
    "exit status": ("import sys; sys.exit(7)", "signer-failed", "exit status 7"),
    "killed": ("import os; os.kill(os.getpid(), 9)", "signer-failed", "signal 9"),
    "nothing": ("pass", "signer-failed", "no signature"),
    "too much": ("import os\nwhile 1: os.write(1, bytes(9999))", "signer-failed", "more than 4096 bytes"),
    "64 zeros": ("import os; os.write(1, bytes(64))", "signer-wrong-signature", "64 bytes"),
    "hex": ('print("ab" * 64)', "signer-wrong-signature", "129 bytes"),
    "the message itself": ("import os; os.write(1, os.read(0, 99))", "signer-wrong-signature", "7 bytes"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_signer_that_fails(name: str) -> None:
    code, reason, what = FAILING[name]
    key = command_key(load_scheme("ed25519").generate().public, python(code))
    with pytest.raises(InputError, match=what) as refused:
        key.sign(MESSAGE)
    assert refused.value.code == reason
    assert refused.value.where == sys.executable


def test_a_signer_that_is_not_there(tmp_path: Path) -> None:
    public = load_scheme("ed25519").generate().public
    for command in ("no-such-signer", str(tmp_path), str(write(tmp_path / "text", b"not a program")), "a\0b"):
        assert refusal(lambda command=command: command_key(public, command).sign(MESSAGE)) == "signer-failed"  # type: ignore[misc]


@pytest.mark.parametrize("command", ["", "   ", "sign 'open"])
def test_what_is_no_command(command: str) -> None:
    assert refusal(lambda: command_key(load_scheme("ed25519").generate().public, command)) == "usage"


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "import os, time; os.close(1); time.sleep(60)"])
def test_a_signer_that_never_ends_is_ended(code: str) -> None:
    public = load_scheme("ed25519").generate().public
    key = CommandKey(public, (sys.executable, "-c", code), timeout_ns=3 * 10**8)
    assert refusal(lambda: key.sign(MESSAGE)) == "signer-failed"


def test_a_signer_of_another_key(tmp_path: Path) -> None:
    other = load_scheme("ed25519").generate().sign(MESSAGE)
    key = command_key(load_scheme("ed25519").generate().public, f"cat {write(tmp_path / 'sig', other)}")
    assert refusal(lambda: key.sign(MESSAGE)) == "signer-wrong-signature"


# What it is given
def test_a_signer_is_told_the_key_and_reads_the_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    private = load_scheme("ed25519").generate()
    message = os.urandom(300_000)  # more than a pipe holds
    sig = write(tmp_path / "sig", private.sign(message))
    signer = write(
        tmp_path / "signer.sh",
        b'echo "$PETASEAL_KEYID $PETASEAL_SCHEME" >&2\ncat > "$2"\ncat "$1"\n',
    )
    key = command_key(private.public, f"sh {signer} {sig} {tmp_path / 'heard'}")
    assert key.sign(message) == sig.read_bytes()
    assert (tmp_path / "heard").read_bytes() == message
    assert capfd.readouterr().err == f"{private.public.keyid} ed25519\n"


def test_a_signer_need_not_read(tmp_path: Path) -> None:
    private, message = load_scheme("ed25519").generate(), bytes(300_000)
    sig = write(tmp_path / "sig", private.sign(message))
    assert command_key(private.public, f"cat {sig}").sign(message) == sig.read_bytes()


def test_no_shell_runs_it(tmp_path: Path) -> None:
    key = command_key(load_scheme("ed25519").generate().public, f"true; touch {tmp_path / 'made'}")
    assert refusal(lambda: key.sign(MESSAGE)) == "signer-failed"
    assert not (tmp_path / "made").exists()


def test_a_signer_takes_the_public_key_and_no_passphrase(tmp_path: Path) -> None:
    keys.new_key(tmp_path / "k", None)
    assert refusal(lambda: load_signing_key(tmp_path / "k", None, "true")) == "private-key-given"
    assert refusal(lambda: load_signing_key(tmp_path / "k.pub", tmp_path / "passphrase", "true")) == "usage"
    assert refusal(lambda: load_signing_key(tmp_path / "k.pub", None)) == "public-key-given"
    assert load_signing_key(tmp_path / "k.pub", None, "true").public == keys.load_public(tmp_path / "k.pub")


# The commands of the documentation
def blocks(page: str, heading: str) -> list[str]:
    """Return the indented blocks under a heading of a page."""
    text = (DOCS / page).read_text()
    (section,) = [part for part in re.split(r"^#+ ", text, flags=re.M) if part.startswith(f"{heading}\n")]
    return [dedent(found) for found in re.findall(r"(?:^(?:    .*)?\n)+", section, re.M) if found.strip()]


def tools(*names: str) -> None:
    """Skip where a program is missing; in CI it is not."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        assert not os.environ.get("CI"), missing
        pytest.skip(f"{', '.join(missing)} is not installed")


def shell(folder: Path, script: str, good: bool = True) -> str:
    """Run lines of the documentation as a reader would, and return what they print."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == good, done.stdout
    return done.stdout


def payload_of(envelope: Path) -> bytes:
    return base64.b64decode(json.loads(envelope.read_bytes())["payload"])


def signers_of(envelope: Path) -> list[str]:
    return [signature["keyid"] for signature in json.loads(envelope.read_bytes())["signatures"]]


def signed_again(centre: Measured, key: PrivateKey) -> None:
    """Let another key sign the campaign that the records belong to."""
    centre.campaign.write_bytes(dsse.seal(payload_of(centre.campaign), PAYLOAD_TYPE, [key]))


@pytest.fixture
def centre(tmp_path: Path) -> Measured:
    (tmp_path / "passphrase").write_text("correct horse\n")
    device = {"uuid": "gpu-1a2b3c", "serial": None, "die_id": None}
    inventory = {"centre_id": CENTRE_ID, "taken_at": "2026-01-01T00:00:00.000000Z", "devices": [device]}
    (tmp_path / "inventory.yaml").write_text(yaml.safe_dump(inventory))
    return measured(tmp_path, profile="smoke", precisions=("fp16",))


def test_two_algorithms_from_the_keys_to_openssl(tmp_path: Path, centre: Measured) -> None:
    tools("openssl", "sed", "base64")
    centre.key.unlink()
    centre.public_key.unlink()
    make, certify = blocks("signing.md", "Key files")
    assert shell(tmp_path, make).count(sm2.NAME) == 2
    signed_again(centre, load_signing_key(centre.key, tmp_path / "passphrase"))
    shell(tmp_path, certify)
    out = tmp_path / "statement"
    for public in (tmp_path / "operator.pem.pub", tmp_path / "operator-sm2.pem.pub"):
        report = centre.verify(out, public_key=public)
        assert (report.refusal, report.signers) == (None, (keys.load_public(public).keyid,))
        shutil.copy(public, out)
    (check,) = blocks("verification.md", "Checking a signature with openssl alone")
    assert shell(out, check).count("Signature Verified Successfully") == 2

    statement = out / "statement.dsse.json"
    altered = base64.b64encode(payload_of(statement).replace(b"gz-test", b"gz-text"))
    statement.write_bytes(statement.read_bytes().replace(base64.b64encode(payload_of(statement)), altered))
    for algorithm in ("Ed25519", "SM2"):
        begin, *parts = re.split(r"^# ", check, flags=re.M)
        (own,) = [part for part in parts if part.startswith(algorithm)]
        assert "Signature Verification Failure" in shell(out, f"{begin}# {own}", good=False)


def test_one_key_does_not_sign_a_statement_twice(centre: Measured) -> None:
    assert refusal(lambda: centre.certify(keys=(centre.key, centre.key))) == "signature-duplicate"
    assert refusal(lambda: centre.certify(keys=(centre.key,) * 9)) == "signature-too-many"
    assert not (centre.folder / "out").exists()


def test_a_software_hsm_signs_a_statement(tmp_path: Path, centre: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    tools("openssl", "softhsm2-util", "pkcs11-tool")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    script = shutil.copy(DOCS / "examples" / "pkcs11_signer.py", tmp_path)
    lines, _ = blocks("signing.md", "A key on a token or HSM")
    shell(tmp_path, lines)
    public = tmp_path / "token.pem.pub"
    keyid = keys.load_public(public).keyid
    assert signers_of(tmp_path / "baseline.dsse.json") == [keyid]

    for word in shlex.split(lines.strip().splitlines()[0].removeprefix("export ")):
        monkeypatch.setenv(*word.split("=", 1))
    signer = shlex.join([sys.executable, str(script)])
    signed_again(centre, load_signing_key(public, None, signer))
    certify = ("certify", centre.records, "--centre", centre.centre, "--campaign", centre.campaign)
    told = petaseal(*certify, "--key", public, "--signer", signer, "--out", tmp_path / "out", "--json")
    assert (told.status, json.loads(told.out)["keyids"]) == (0, [keyid])
    report = centre.verify(public_key=public)
    assert (report.refusal, report.signers) == (None, (keyid,))

    monkeypatch.setenv("PKCS11_PIN", "4321")
    refused = petaseal(*certify, "--key", public, "--signer", signer, "--out", tmp_path / "other")
    assert (refused.status, "[signer-failed]" in refused.err) == (2, True)
    assert not list(tmp_path.glob("other/*"))


def test_a_command_signs_with_sm2(tmp_path: Path, centre: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    tools("openssl")
    (make,) = blocks("signing.md", "SM2")
    _, sign = blocks("signing.md", "A key on a token or HSM")
    shell(tmp_path, make + sign)
    public = keys.load_public(tmp_path / "own-sm2.pem.pub")
    assert keys.load_private(tmp_path / "own-sm2.pem", b"correct horse").public == public
    baseline = (tmp_path / "baseline-sm2.dsse.json").read_bytes()
    assert Verifier(TrustedSet.single(public), "2026-03-01T00:00:00.000000Z").open("baseline", baseline).signers

    monkeypatch.chdir(tmp_path)  # the command names its files without a folder
    command = re.search(r'"(openssl [^"]*)"', sign)
    assert command is not None
    pool = {"pool": "main", "class": "intelligent", "nodes": ["n1"], "devices": "all"}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(centre_yaml(pools=[pool])))
    own = ("--key", "own-sm2.pem.pub", "--signer", command[1])
    profile = ("--profile", "smoke", "--precision", "fp16", "--device", "main=fake:1")
    created = petaseal("campaign", "create", "--centre", "one.yaml", *profile, *own, "--out", "campaign")
    assert (created.status, created.err) == (0, "")
    again = petaseal("campaign", "rerun", "campaign", *own, "--out", "again")
    assert (again.status, again.err) == (0, "")
    for folder in ("campaign", "again"):
        assert signers_of(Folder(tmp_path / folder).campaign) == [public.keyid]
