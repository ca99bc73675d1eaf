"""What operators run into: sentences that say what to do, clocks that are wrong, and inputs that are links or pipes."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
import yaml
from cryptography.hazmat.primitives import serialization

import bench
from bench.errors import InputError
from bench.profile import load_profile
from bench.record import SharedFile, config_path, write_atomic
from bench.record.fields import FORMS, in_words
from bench.scenario import use_scenario
from bench.units import utc_ns
from certify.keys.files import load_private, new_key
from certify.policy.policies import read_policy
from tests.bad_input.command import contents, petaseal, process, started
from tests.bad_input.laid_out import certified, laid_out
from tests.bench.test_run import quick
from tests.certify.measured import Measured, centre_yaml

ROOT = Path(__file__).resolve().parents[2]
POOL = {"pool": "main", "class": "intelligent", "nodes": "all", "devices": "all"}


def checked(place: Path, content: bytes) -> str:
    """Return what is said of a centre file."""
    (place / "c.yaml").write_bytes(content)
    answer = petaseal("centre", "check", place / "c.yaml")
    assert answer.status == 2
    assert re.search(r"\^\[|\\x0a|<byte string>|\$\(\?", answer.err) is None
    return answer.err.removeprefix(f"petaseal: {place}/c.yaml: ")


def pooled(nodes: str) -> bytes:
    return yaml.safe_dump(centre_yaml(pools=[{**POOL, "nodes": "NODES"}])).replace("NODES", nodes).encode()


def test_a_centre_file_says_what_to_do(place: Path) -> None:
    gbk = yaml.safe_dump(centre_yaml(), allow_unicode=True).encode("gbk")
    told = "is not text in UTF-8 (line 2), but in another encoding, such as GBK; save it as UTF-8 [yaml-invalid]\n"
    assert checked(place, b"# a\n" + gbk[gbk.index(b"district") :]) == told
    at = "at `$.pools[0].nodes[0]`"
    quote = f"- {at}; put the value in quotes: YAML takes it for something else than text [config-invalid]\n"
    for value, kind in (("[0012]", "int"), ("[1e3]", "str"), ("[no]", "bool"), ("[1.5]", "float")):
        if kind != "str":
            assert checked(place, pooled(value)) == f"Expected `str`, got `{kind}` {quote}"
    words = "Expected lower-case letters and digits, and . _ - between them (at most 63)"
    assert checked(place, pooled("[n/1]")) == f"{words} - {at} [config-invalid]\n"
    assert "(line 2, column 1) [yaml-invalid]" in checked(place, b"a: [\n")


def test_every_pattern_of_a_document_has_words() -> None:
    for kind, words in FORMS.items():
        with pytest.raises(msgspec.ValidationError) as refused:
            msgspec.convert({"a": ["\n"]}, dict[str, list[kind]])  # type: ignore[valid-type]
        assert in_words(refused.value) == f"Expected {words} - at `$[...][0]`"
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert("b", Annotated[str, msgspec.Meta(pattern="^a'\n$")])
    assert in_words(refused.value) == "Expected text of another form"


def test_a_record_whose_line_ends_were_changed(place: Path) -> None:
    centre = laid_out(place)
    record = min(centre.records.glob("*.record.dsse.json"))
    record.write_bytes(record.read_bytes().replace(b"\n", b"\r\n"))
    answer = certified(centre)
    assert answer.code == "not-canonical"
    assert "it was changed in transport; copy it again as it was, as a binary file" in answer.err


@pytest.mark.parametrize("kind", [b"EC", b"SM2"])
def test_a_key_file_with_parameters_before_the_key(place: Path, kind: bytes) -> None:
    """As ``openssl ecparam -genkey`` writes it, for SM2 by the release."""
    centre = laid_out(place)
    block = b"-----BEGIN %b PARAMETERS-----\nBggqgRzPVQGCLQ==\n-----END %b PARAMETERS-----\n" % (kind, kind)
    centre.key.write_bytes(block + centre.key.read_bytes())
    answer = certified(centre)
    assert answer.code == "key-invalid"
    assert f"holds a block {kind.decode()} PARAMETERS besides the key" in answer.err
    assert "drop that block" in answer.err


def test_a_name_that_is_not_utf8_is_shown_by_its_bytes(place: Path) -> None:
    centre = laid_out(place)
    name = Path(os.fsdecode(os.fsencode(place) + b"/\xd6\xd0"))
    assert petaseal("keys", "show", name).err == f"petaseal: {place}/\\xd6\\xd0: no such file [file-missing]\n"
    made = process(
        *("certify", centre.records, "--centre", centre.centre, "--key", centre.key),
        *("--campaign", centre.campaign, "--out", name),
    )
    assert (made.status, made.err) == (0, "")
    assert f"written to {place}/\\xd6\\xd0\n" in made.out


def test_a_member_of_a_package_bears_the_name_of_the_package(place: Path) -> None:
    centre = laid_out(place)
    assert certified(centre).status == 0
    records = place / "out" / "records.jsonl"
    records.write_bytes(records.read_bytes().replace(b'"sig"', b'"sIg"', 1))
    (place / "out" / "receipt.dsse.json").write_text("{}")
    assert petaseal("package", place / "out", "--out", place / "p.tar").status == 0
    named = ("--public-key", centre.public_key, "--accept-simulated")
    answer = petaseal("verify", place / "p.tar", *named)
    assert answer.err.startswith(f"petaseal: {place}/p.tar/records.jsonl, byte 0: ")
    assert tempfile.gettempdir() + "/petaseal-" not in answer.out + answer.err
    answer = petaseal("audit", "run", place / "p.tar", *named[:2])
    assert tempfile.gettempdir() + "/petaseal-" not in answer.out + answer.err


# --- a clock that is before the release ---


def test_a_clock_before_the_release(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    centre = laid_out(place)
    before = contents(place)
    monkeypatch.setattr("time.time_ns", lambda: utc_ns("2020-01-01T00:00:00.000000Z"))
    create = ("campaign", "create", "--centre", centre.centre, "--key", centre.key)
    for command in (
        ("run", "--device", "fake:1", "--out", place / "out"),
        ("certify", centre.records, "--centre", centre.centre, "--key", centre.key, "--out", place / "out"),
        (*create, "--out", place / "out"),
        ("campaign", "rerun", place, "--key", centre.key, "--out", place / "out"),
        ("campaign", "join", place, "--node", "n1"),
    ):
        answer = petaseal(*command)
        assert (answer.code, answer.status) == ("clock-before-release", 2)
        assert "this machine: the clock says 2020-01-01T00:00:00.000000Z, and petaseal" in answer.err
    assert contents(place) == before


def test_the_day_of_the_release_is_that_of_this_version() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version == bench.VERSION, "say in bench/__init__.py when this version is released"
    days = re.findall(rf"^## \[{re.escape(version)}\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert days in ([], [bench.RELEASED])


# --- what the user names may be a link or a pipe ---

PASSPHRASE = "correct horse"


def with_own_tables(place: Path) -> tuple[Measured, Path, Path]:
    """Return a measured centre, a policy with a name of its own, and the encrypted key that signs."""
    centre = laid_out(place)
    policy = yaml.safe_load((ROOT / "configs/policies/guangzhou-2000p.yaml").read_text())
    (place / "policy.yaml").write_text(yaml.safe_dump({**policy, "policy": "own"}))
    locked = place / "locked.pem"
    key = serialization.load_pem_private_key(centre.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    write_atomic(locked, key.private_bytes(*form), 0o600)
    shutil.copy(f"{centre.key}.pub", f"{locked}.pub")
    (place / "passphrase").write_text(PASSPHRASE)
    return centre, place / "policy.yaml", locked


def shell(text: str) -> str:
    """Run a script of bash in which `petaseal` is the command, and return what it prints."""
    script = f'set -e; petaseal() {{ {sys.executable} -m certify "$@"; }}; {text}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_process_substitutions_and_standard_input(place: Path) -> None:
    centre, policy, key = with_own_tables(place)
    out = place / "out"
    told = shell(
        f"petaseal certify {centre.records} --centre <(cat {centre.centre}) --policy <(cat {policy})"
        f" --key <(cat {key}) --passphrase-file <(cat {place}/passphrase) --campaign <(cat {centre.campaign})"
        f" --out {out} >/dev/null;"
        f" petaseal verify /dev/stdin --public-key <(cat {key}.pub) --records {out}/records.jsonl"
        f" --policy <(cat {policy}) --accept-simulated --json <{out}/statement.dsse.json >/dev/null;"
        f" petaseal devices --device fake:1 --ratings <(cat {config_path('accelerators.yaml')}) --json >/dev/null;"
        f" cat {key}.pub | petaseal keys show /dev/stdin"
    )
    assert told == f"ed25519 {load_private(key, PASSPHRASE.encode()).public.keyid}\n"


def test_standard_input_that_is_a_socket(place: Path) -> None:
    """As some remote shells hand it over."""
    key = new_key(place / "k", None)
    here, there = socket.socketpair()
    with here, there:
        running = started("keys", "show", "/dev/stdin", stdin=there.fileno())
        here.sendall((place / "k.pub").read_bytes())
        here.shutdown(socket.SHUT_WR)
        told, error = running.communicate(timeout=60)
    assert (told, error) == (f"ed25519 {key.keyid}\n", "")


def test_worker_processes_find_a_scenario_that_came_through_a_pipe(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PETASEAL_SCENARIO", "")
    source, sink = os.pipe()
    os.write(sink, b"model: Piped\n")
    os.close(sink)
    use_scenario(Path(f"/dev/fd/{source}"))
    os.close(source)
    worker = "from bench.scenario import read_scenario; print(read_scenario().model)"
    told = subprocess.run([sys.executable, "-c", worker], capture_output=True, text=True, check=True)
    assert told.stdout == "Piped\n"


def test_links_as_a_kubernetes_secret_has_them(place: Path) -> None:
    centre, policy, key = with_own_tables(place)
    (place / "..2026_11_30").mkdir()
    (place / "..data").symlink_to("..2026_11_30")
    named: dict[Path, Path] = {}
    for path in (centre.centre, centre.campaign, policy, key, place / "locked.pem.pub", place / "passphrase"):
        path.rename(place / "..2026_11_30" / path.name)
        named[path] = place / "secret" / path.name
        named[path].parent.mkdir(exist_ok=True)
        named[path].symlink_to(f"../..data/{path.name}")
    answer = petaseal(
        *("certify", centre.records, "--centre", named[centre.centre], "--policy", named[policy]),
        *("--key", named[key], "--passphrase-file", named[place / "passphrase"]),
        *("--campaign", named[centre.campaign], "--out", place / "out"),
    )
    assert answer.status == 0, answer.err
    (place / "out" / "current").symlink_to("records.jsonl")
    answer = petaseal(
        *("verify", place / "out" / "statement.dsse.json", "--public-key", named[place / "locked.pem.pub"]),
        *("--records", place / "out" / "current", "--policy", named[policy], "--accept-simulated"),
    )
    assert answer.status == 0, answer.err


def test_in_a_folder_that_others_write_to_no_link_is_followed(place: Path) -> None:
    (place / "profile.yaml").symlink_to(quick(place))
    (place / "policy.yaml").symlink_to(ROOT / "configs/policies/guangzhou-2000p.yaml")
    os.mkfifo(place / "pipe.yaml")
    assert load_profile(str(place / "profile.yaml")).profile == "quick"
    assert read_policy(str(place / "policy.yaml")).policy == "guangzhou-2000p"
    for load, name in ((load_profile, "profile.yaml"), (read_policy, "policy.yaml"), (load_profile, "pipe.yaml")):
        with pytest.raises(InputError) as refused:
            load(SharedFile(place / name))
        assert refused.value.code == "not-regular-file"
