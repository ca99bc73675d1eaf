"""The command line: help, machines' output, people's output on a terminal, completion, usage, exit statuses."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
import yaml

from bench.campaign.launch import coordinator
from bench.campaign.launch.plan import LaunchPlan
from certify.commands.root import app
from certify.keys.files import load_public, new_key
from certify.policy.policies import describe, load_policy
from certify.policy.reasons import home_lines, mending, reasons
from tests.bad_input.command import Answer, petaseal
from tests.bench.test_run import quick
from tests.certify.measured import Measured, centre_yaml, measured

TWO_NODES = {"pool": "main", "class": "intelligent", "nodes": ["n1", "n2"], "devices": "all"}
GROUPS = ("keys", "centre", "policy", "campaign", "trust", "audit", "report", "registry")
SERVICES = [("registry", "serve")]  # that speak over a network


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PETASEAL_SCENARIO", "")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def centre(tmp_path: Path) -> Measured:
    (tmp_path / "centre").mkdir()
    return measured(tmp_path / "centre")


def certifying(centre: Measured, *more: object) -> tuple[object, ...]:
    return (
        *("certify", centre.records, "--centre", centre.centre, "--key", centre.key),
        *("--campaign", centre.campaign, "--out", centre.folder / "out", *more),
    )


def verifying(centre: Measured, *more: object) -> tuple[object, ...]:
    out = centre.folder / "out"
    return (
        *("verify", out / "statement.dsse.json", "--public-key", centre.public_key),
        *("--records", out / "records.jsonl", "--accept-simulated", *more),
    )


def running(folder: Path, *more: object) -> tuple[object, ...]:
    scenario = folder / "scenario.yaml"
    scenario.write_text(yaml.safe_dump({"default": {"rate_gflop_s": {"fp16": 700, "fp64": 700}}}))
    return (
        *("run", "--profile", quick(folder), "--device", "fake:2", "--precision", "fp16"),
        *("--scenario", scenario, "--out", folder / "run", *more),
    )


def campaigning(folder: Path, centre: Measured) -> dict[str, tuple[object, ...]]:
    """Return every command of a campaign of two nodes of one fake each, in the order in which they are used."""
    (folder / "two.yaml").write_text(yaml.safe_dump(centre_yaml(pools=[TWO_NODES])))
    root, key = folder / "campaign", ("--key", centre.key)
    return {
        "campaign create": (
            *("campaign", "create", "--centre", folder / "two.yaml", *key, "--out", root),
            *("--profile", quick(folder), "--precision", "fp16", "--device", "main=fake:1"),
        ),
        "campaign check": ("campaign", "check", root),
        "campaign hpl": (
            *("campaign", "hpl", root, "--binary", "/opt/xhpl", "--ranks-per-node", 2, "--memory", "8GiB"),
            *("--out", folder / "hpl"),
        ),
        "campaign status": ("campaign", "status", root),
        "campaign launch": ("campaign", "launch", root, "--lead", 1),
        "campaign join": ("campaign", "join", root, "--node", "n1"),
        "campaign collect": ("campaign", "collect", root),
        "campaign coordinate": ("campaign", "coordinate", root),
        "campaign diagnose": ("campaign", "diagnose", root, "--public-key", centre.public_key),
        "campaign rerun": ("campaign", "rerun", root, *key, "--out", folder / "again"),
        "campaign abort": ("campaign", "abort", folder / "again"),
    }


def trusting(folder: Path, centre: Measured) -> dict[str, tuple[object, ...]]:
    """Return the commands of a trust root of one keeper, in the order in which they are used."""
    keeper, second = folder / "keeper.pem", folder / "second.pem"
    for key in (keeper, second):
        new_key(key, None)
    first, added, gone = (folder / f"root-{i}.json" for i in (1, 2, 3))
    one = ("--root", f"{keeper}.pub", "--root", f"{second}.pub", "--threshold", 1, "--key", keeper)
    return {
        "trust init": ("trust", "init", "--id", "cn-test", *one, "--out", first),
        "trust sign": ("trust", "sign", first, "--key", second),
        "trust show": ("trust", "show", first),
        "trust add": (
            *("trust", "add", first, "--role", "operator", "--centre", "gz-test", "--key", keeper),
            *("--public-key", centre.public_key, "--out", added),
        ),
        "trust revoke": (
            *("trust", "revoke", added, load_public(centre.public_key).keyid, "--reason", "lost"),
            *("--key", keeper, "--out", gone),
        ),
        "trust rotate": ("trust", "rotate", gone, "--key", keeper, "--out", folder / "root-4.json"),
    }


def good(*args: object) -> Answer:
    answer = petaseal(*args)
    assert (answer.status, answer.err) == (0, ""), answer.err
    return answer


def commands() -> list[tuple[str, ...]]:
    """Return every command, as it is typed."""

    def walk(command: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        below = getattr(getattr(command, "group", command), "commands", None)  # a group is imported when it is called
        return [path] if below is None else [p for name, one in below.items() for p in walk(one, (*path, name))]

    return walk(typer.main.get_command(app), ())


# --- help ---


def test_the_commands_are_those_of_the_design() -> None:
    known = {" ".join(path) for path in commands()}
    assert {
        "devices",
        "run",
        "certify",
        "verify",
        "keys new",
        "centre new",
        "policy list",
        "policy show",
        "explain",
    } <= known


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example_and_speaks_to_machines(path: tuple[str, ...]) -> None:
    for option in ("--help", "-h"):
        told = good(*path, option).out
        assert f"Example: petaseal {' '.join(path)}" in " ".join(told.split())
        assert path in SERVICES or "--json" in told
        assert f"Usage: petaseal {' '.join(path)}" in told
        assert "\x1b" not in told
        assert max(map(len, told.splitlines())) <= 80


@pytest.mark.parametrize("path", [(), *((group,) for group in GROUPS)])
def test_nothing_said_shows_the_help_on_stderr(path: tuple[str, ...]) -> None:
    answer = petaseal(*path)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith(f"Usage: {' '.join(('petaseal', *path))} ")
    assert answer.err.rstrip() == good(*path, "--help").out.rstrip()


# --- usage ---


@pytest.mark.parametrize(
    "arguments",
    [
        ("divine",),
        ("keys", "lose"),
        ("verify", "--fast", "x"),
        ("--fast",),
        ("run",),
        ("certify", "x"),
        ("certify", "a", "b"),
        ("explain",),
        ("explain", "a", "b"),
        ("certify", "x", "--sequence", "many", "--centre", "demo", "--key", "k", "--out", "o"),
        ("certify", "x", "--valid-days", "0", "--centre", "demo", "--key", "k", "--out", "o"),
        ("keys", "new", "--out"),
        ("verify", "a\n\x1b[31mb", "c\u202ed"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: tuple[str, ...]) -> None:
    answer = petaseal(*arguments)
    assert (answer.code, answer.status, answer.out) == ("usage", 2, "")
    assert "; see petaseal" in answer.err
    assert "--help [usage]" in answer.err
    assert answer.err.strip().isprintable()


def test_a_passphrase_and_no_passphrase(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("x\n")
    answer = petaseal("keys", "new", "--no-passphrase", "--passphrase-file", tmp_path / "pass", "--out", tmp_path / "k")
    assert (answer.code, answer.status) == ("usage", 2)
    assert not (tmp_path / "k").exists()


# --- machines ---


def test_json_is_one_object_and_nothing_else(centre: Measured, tmp_path: Path) -> None:
    told: dict[str, Any] = {}
    (tmp_path / "pass").write_text("secret\n")
    new_key(tmp_path / "witness.pem", None)
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        "centre_id: gz-test\ntaken_at: 2025-06-30T00:00:00.000000Z\n"
        "devices: [{uuid: gpu-1a2b3c, serial: null, die_id: null}]\n"
    )
    cases: dict[str, tuple[object, ...]] = {
        "devices": ("devices", "--device", "cpu,fake:2"),
        "run": running(tmp_path, "--dry-run"),
        "certify": certifying(centre),
        "verify": verifying(centre),
        "keys new": ("keys", "new", "--passphrase-file", tmp_path / "pass", "--out", tmp_path / "k.pem"),
        "keys show": ("keys", "show", tmp_path / "k.pem.pub"),
        "keys node": ("keys", "node", "--out", tmp_path / "node.pub"),
        "witness": (
            *("witness", centre.folder / "out", "--public-key", centre.public_key, "--accept-simulated"),
            *("--key", tmp_path / "witness.pem", "--out", tmp_path / "witness.json"),
        ),
        "package": ("package", centre.folder / "out", "--samples", centre.records, "--out", tmp_path / "p.tar"),
        "audit run": ("audit", tmp_path / "p.tar", "--public-key", centre.public_key),
        "audit prove": (
            *("audit", "prove", centre.folder / "out", "--node", "gpu-00000"),
            *("--out", tmp_path / "proof.json"),
        ),
        "audit check": (
            *("audit", "check", tmp_path / "proof.json", "--public-key", centre.public_key),
            *("--statement", centre.folder / "out" / "statement.dsse.json"),
        ),
        **trusting(tmp_path, centre),
        "centre new": ("centre", "new", "--out", tmp_path / "new.yaml"),
        "centre check": ("centre", "check", "demo"),
        "centre baseline": (
            *("centre", "baseline", inventory, "--key", centre.key),
            *("--out", tmp_path / "baseline.dsse.json"),
        ),
        "policy list": ("policy", "list"),
        "policy show": ("policy", "show", "wuhan-2025"),
        "explain": ("explain", "not-steady"),
        "report pdf": ("report", "pdf", centre.folder / "out", "--out", tmp_path / "statement.pdf"),
        **campaigning(tmp_path, centre),
    }
    elsewhere = ["bundle", "campaign spot-check"]  # tests/certify/offline/test_bundle.py, which fetches; below
    elsewhere += ["trust verify", "audit retest", "doctor", "report html"]  # tests/certify: each has its tests
    elsewhere += [" ".join(path) for path in commands() if path[0] in ("registry", "import")]  # tests/certify
    assert sorted([*cases, *elsewhere]) == sorted(" ".join(path) for path in commands())
    for name, arguments in cases.items():
        out = good(*arguments, "--json").out
        assert out.isascii()
        assert out.endswith("}\n")
        assert out.count("\n") == 1
        told[name] = json.loads(out)
        assert isinstance(told[name], dict)
    assert told["certify"]["predicate"] == told["verify"]["predicate"]
    assert told["verify"]["accepted"] is True
    assert told["keys new"]["keyid"] == told["keys show"]["keyid"]
    assert told["explain"]["effect"] == "hold"
    places = told["campaign launch"]["places"]
    assert places["done"] + places["void"] == 2  # on a busy machine a fake is late
    assert told["campaign collect"]["complete"] is True
    assert told["campaign rerun"]["campaign"]["earlier"][0]["outcome"] == "not-submitted"


@pytest.mark.long
def test_a_campaign_and_its_spot_check_on_this_machine(
    centre: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine fakes are neither in time nor the same twice: what counts is told, and the answer may be no."""
    monkeypatch.setattr(coordinator, "LaunchPlan", partial(LaunchPlan, lead_ns=10**9))  # a spot check has no --lead
    lenient = msgspec.to_builtins(load_policy("guangzhou-2000p")) | {"policy": "lenient", "accept": ["not-warm"]}
    (tmp_path / "lenient.yaml").write_text(yaml.safe_dump(lenient, allow_unicode=True))
    steps = campaigning(tmp_path, centre)
    good(*steps["campaign create"], "--policy", tmp_path / "lenient.yaml")
    for name in ("campaign launch", "campaign collect"):
        assert petaseal(*steps[name]).status == 0, name
    root, spot = tmp_path / "campaign", tmp_path / "spot"
    out = root / "statement"
    made = json.loads(good("certify", root, "--key", centre.key, "--out", out, "--json").out)
    counted = made["predicate"]["classes"][0]["counted"]["devices"]
    assert counted + len(made["predicate"]["not_counted"]) == 2
    answer = petaseal(
        *("campaign", "spot-check", out / "statement.dsse.json", "--records", out / "records.jsonl"),
        *("--fraction", "0.5", "--seed", "ab" * 16, "--campaign", root, "--key", centre.key, "--out", spot),
        *("--public-key", centre.public_key, "--profile", root / "profile.yaml"),
        *("--policy", tmp_path / "lenient.yaml", "--accept-simulated", "--json"),
    )
    if not counted:  # then there is nothing to re-measure, and the answer says so
        assert (answer.code, answer.status) == ("spot-check-invalid", 2)
        return
    report = json.loads(answer.out)
    (one,) = report["classes"]
    assert answer.status == (0 if report["passed"] else 1)
    assert (one["check"]["nodes"], report["attempts_before"], report["refused"]) == (counted, 0, [])
    assert json.loads((spot / "spot-check.json").read_text())["seed"] == "ab" * 16
    refused = petaseal("certify", spot, "--key", centre.key, "--out", tmp_path / "no")
    assert (refused.code, refused.status) == ("campaign-invalid", 1)  # a spot check makes no statement


def test_json_of_a_no(centre: Measured) -> None:
    good(*certifying(centre))
    answer = petaseal(*verifying(centre, "--at", "2026-01-01T00:00:00.000000Z", "--json"))
    told = json.loads(answer.out)
    assert (answer.status, answer.code) == (1, "not-yet-valid")
    assert (told["accepted"], told["code"], told["predicate"]) == (False, "not-yet-valid", None)
    assert told["reason"] in answer.err
    answer = petaseal(*verifying(centre, "--require", "trusted", "--json"))
    assert (answer.status, answer.code, json.loads(answer.out)["accepted"]) == (1, "requirement-unmet", False)
    answer = petaseal("explain", "nonsense", "--json")
    assert (answer.status, answer.code, answer.out) == (2, "unknown-name", "")


def test_nothing_but_plain_text_where_there_is_no_terminal(centre: Measured, tmp_path: Path) -> None:
    for arguments in (certifying(centre), verifying(centre), ("devices", "--device", "cpu,fake:1"), ("policy", "list")):
        answer = good(*arguments)
        assert "\x1b" not in answer.out
        assert "\r" not in answer.out
        assert all(line == line.rstrip() for line in answer.out.splitlines())


# --- people, on a terminal ---


def on_terminal(*args: object, columns: int = 80, typed: tuple[bytes, ...] = ()) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit status and everything that was shown."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "certify", *map(str, args)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**{k: v for k, v in os.environ.items() if k != "COLUMNS"}, "TERM": "xterm"},
    )
    os.close(slave)
    shown, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([master], [], [], 0.2)[0]:
            if typed and shown.endswith(b": "):  # a question: what is typed before it is thrown away
                os.write(master, typed[0])
                typed = typed[1:]
            continue
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(master)
    return process.wait(timeout=30), shown.decode()


def plain(shown: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").split("\n")


@pytest.mark.parametrize("columns", [80, 200])
def test_certify_and_verify_on_a_terminal(centre: Measured, columns: int) -> None:
    from rich.cells import cell_len

    for verb, arguments in (("judged", certifying(centre)), ("checked", verifying(centre))):
        status, shown = on_terminal(*arguments, "--all", columns=columns)
        assert status == 0, shown
        assert f"{verb}: 2 records" in shown  # the progress, which is wiped away at the end
        lines = plain(shown)
        assert max(map(cell_len, lines)) <= columns
        assert any(line.startswith("guangzhou-2000p/scale-2000p: ") for line in lines)
    status, shown = on_terminal(*verifying(centre, "--json"), columns=columns)
    assert json.loads(shown)["accepted"] is True  # not even here anything else


def test_devices_and_policies_on_a_terminal() -> None:
    from rich.cells import cell_len

    for arguments in (("devices", "--device", "cpu,fake:2"), ("policy", "show", "guangzhou-2000p"), ("policy", "list")):
        status, shown = on_terminal(*arguments)
        assert status == 0
        assert max(map(cell_len, plain(shown))) <= 80


def test_run_shows_live_progress_on_a_terminal_only(tmp_path: Path) -> None:
    status, shown = on_terminal(*running(tmp_path))
    assert status == 0, shown
    assert "measuring" in shown
    assert "at least" in shown
    assert "\x1b[?1049l" in shown  # the screen is left
    assert "certified " in shown


def test_a_passphrase_is_asked_for_on_a_terminal_only(tmp_path: Path) -> None:
    status, shown = on_terminal("keys", "new", "--out", tmp_path / "k.pem", typed=(b"secret\n", b"secret\n"))
    assert status == 0, shown
    assert "new passphrase for" in shown
    assert "secret" not in shown
    assert b"ENCRYPTED" in (tmp_path / "k.pem").read_bytes()
    status, shown = on_terminal("keys", "new", "--out", tmp_path / "l.pem", typed=(b"\x04",))
    assert status == 130
    assert "[interrupted]" in shown
    assert not (tmp_path / "l.pem").exists()


def test_never_a_question_without_a_terminal(tmp_path: Path) -> None:
    answer = petaseal("keys", "new", "--out", tmp_path / "k.pem")
    assert (answer.code, answer.status) == ("key-passphrase-missing", 2)
    for stdin in (subprocess.DEVNULL, subprocess.PIPE):
        done = subprocess.run(
            [sys.executable, "-m", "certify", "keys", "new", "--out", str(tmp_path / "k.pem")],
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, "[key-passphrase-missing]" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


# --- completion ---


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "certify"],
        env={**os.environ, "_PETASEAL_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "_PETASEAL_COMPLETE" in done.stdout


def test_completion_completes() -> None:
    words = {
        "petaseal ver": ["verify"],
        "petaseal c": ["certify", "centre", "campaign"],
        "petaseal keys ": ["new", "node", "show"],
    }
    for typed, expected in words.items():
        done = subprocess.run(
            [sys.executable, "-m", "certify"],
            env={
                **os.environ,
                "_PETASEAL_COMPLETE": "complete_bash",
                "COMP_WORDS": typed,
                "COMP_CWORD": str(len(typed.split(" ")) - 1),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert sorted(done.stdout.split()) == sorted(expected)


# --- what is imported ---


def imported(*args: object) -> set[str]:
    """Return the top-level modules that a command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "certify", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) > 50
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


def test_help_is_light() -> None:
    assert not imported("--help") & {"rich", "yaml", "cryptography", "numpy", "torch", "jinja2", "multiprocessing"}


def test_verify_never_imports_numpy_or_torch(centre: Measured) -> None:
    """But for samples, which are read with numpy (ADR 18)."""
    good(*certifying(centre))
    seen = imported(*verifying(centre))
    assert "cryptography" in seen
    assert not seen & {"numpy", "torch", "cupy", "kernels", "jinja2", "rich"}
    seen = imported(*verifying(centre, "--samples", centre.records))
    assert not seen & {"torch", "cupy", "kernels", "jinja2", "rich"}


# --- exit statuses and single commands ---


def test_exit_statuses(centre: Measured, tmp_path: Path) -> None:
    good(*certifying(centre))
    assert petaseal(*verifying(centre)).status == 0
    refused = petaseal(*verifying(centre)[:-1])
    assert refused.code == "simulated"
    assert "--accept-simulated" in refused.err
    assert petaseal(*verifying(centre, "--require", "trusted")).status == 1
    assert petaseal(*verifying(centre, "--require", "guangzhou-2000p/scale-2000p")).status == 1
    assert petaseal(*verifying(centre, "--require", "recomputed")).status == 0
    record = centre.record(0)
    record.write_bytes(record.read_bytes().replace(b"A", b"B", 1))
    (centre.folder / "out" / "statement.dsse.json").unlink()
    assert petaseal(*certifying(centre)).status == 1


def test_a_run_of_which_every_device_fails_exits_1(centre: Measured, tmp_path: Path) -> None:
    scenario = tmp_path / "broken.yaml"
    scenario.write_text(yaml.safe_dump({"default": {"rate_gflop_s": {"fp64": 1000}}}))
    answer = petaseal(*running(tmp_path, "--scenario", scenario))
    assert answer.status == 1
    assert answer.out.count("unsupported\n") == 2
    assert answer.out.count("unsupported-precision [all]: ") == 1
    assert len(list((tmp_path / "run").glob("*.record.dsse.json"))) == 1
    # It ended before its windows did, over which nothing may be signed before: that is waited for, not refused.
    profile = ("--profile", quick(tmp_path))
    made = petaseal(
        "certify", tmp_path / "run", "--centre", "demo", *profile, "--key", centre.key, "--out", tmp_path / "s"
    )
    assert made.status == 0, made.err
    assert "petaseal: the run ended before its last window did: waiting " in made.err
    assert "NOTHING COUNTS" in made.out


def test_two_policies_and_one_policy_twice(centre: Measured) -> None:
    answer = good(*certifying(centre, "--policy", "guangzhou-2000p", "--policy", "guangzhou-2027"))
    assert "guangzhou-2000p/" in answer.out
    assert "guangzhou-2027/" in answer.out
    good(*verifying(centre))
    answer = petaseal(
        *certifying(
            centre, "--policy", "guangzhou-2000p", "--policy", "guangzhou-2000p", "--out", centre.folder / "two"
        )
    )
    assert (answer.code, answer.status) == ("usage", 2)


def test_a_policy_from_a_file(tmp_path: Path) -> None:
    from bench.record import config_path

    file = tmp_path / "mine.yaml"
    text = config_path("policies", "guangzhou-2000p.yaml").read_text()
    file.write_text(text.replace("policy: guangzhou-2000p", "policy: mine"))
    expected = describe(load_policy("guangzhou-2000p"))
    told = good("policy", "show", file).out.splitlines()
    assert told[0] == expected[0].replace("guangzhou-2000p", "mine")
    assert told[1:] == expected[1:]


@pytest.mark.parametrize("code", reasons())
def test_every_reason_code_is_explained(code: str) -> None:
    first, *texts = good("explain", code).out.splitlines()
    entry = reasons()[code]
    assert first == f"{code} ({entry.effect}, {entry.rule})"
    mended = mending().get(code)
    said = [text for one in (entry, mended) if one is not None for text in (one.en, one.zh)]
    assert texts == [f"  {text}" for text in (*said, *home_lines(code))]
    assert any(f"rule: docs/{entry.rule}" in text for text in texts)


def test_the_template_of_a_centre_is_a_centre_that_declares_nothing(tmp_path: Path) -> None:
    file = tmp_path / "centre.yaml"
    assert f"petaseal centre check {file}" in good("centre", "new", "--out", file).out
    assert petaseal("centre", "check", file).code == "centre-template"
    text = file.read_text()
    for field, own in (("centre_id", "own"), ("name", "{zh: 中心, en: Centre}"), ("operator", "公司")):
        text = re.sub(rf"^{field}:.*$", f"{field}: {own}", text, flags=re.MULTILINE)
    file.write_text(text)
    told = good("centre", "check", file).out
    assert told.startswith("own: ")
    assert "pool ai: intelligent" in told
    again = petaseal("centre", "new", "--out", file)
    assert (again.code, again.status) == ("output-exists", 2)


def test_a_terminal_of_another_encoding(tmp_path: Path) -> None:
    for encoding in ("ascii", "gbk", "latin-1"):
        done = subprocess.run(
            [sys.executable, "-m", "certify", "policy", "list"],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"guangzhou-2000p" in done.stdout


def test_a_dry_run_of_a_campaign_shows_each_workload_once(centre: Measured, tmp_path: Path) -> None:
    out = tmp_path / "run"
    answer = petaseal("run", "--device", "fake:1", "--campaign", centre.campaign, "--dry-run", "--json", "--out", out)
    assert json.loads(answer.out)["workloads"] == ["fp16", "fp16-tuned", "fp64", "fp64-tuned"]
