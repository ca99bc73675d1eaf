"""The documents against the code: what they name exists, what is generated is committed, the script works."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main

from certify.commands.root import app
from certify.documents import dsse
from certify.documents.caps import CAPS
from certify.documents.kinds import DOCUMENTS, PAYLOAD_TYPE
from certify.keys.files import load_private, new_key, public_path
from certify.policy.reasons import reasons
from certify.verify.verifier import STEPS
from tests.certify.measured import Measured, measured

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = (ROOT / "results" / "README.md", *ROOT.glob("results/example-*/README.md"))
PAGES = sorted([*ROOT.glob("*.md"), *RESULTS, *DOCS.glob("*.md"), *DOCS.glob("adr/*.md")])
SCRIPT = DOCS / "independent_verifier.py"


def load(path: Path) -> Any:
    """Import a script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Generated files
def test_generated_pages_are_committed_as_they_are_made() -> None:
    made: dict[str, str] = load(DOCS / "generate.py").pages()
    assert len(made) == len(DOCUMENTS) + 2
    stale = [name for name, content in made.items() if (DOCS / name).read_text() != content]
    assert not stale, "run: make docs"
    assert {path.name for path in (DOCS / "schemas").iterdir()} == {
        Path(n).name for n in made if n.startswith("schemas")
    }


# Command lines
def commands(text: str) -> Iterator[str]:
    """Yield every command line of petaseal in a page: in code blocks, indented blocks and in-line code."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if re.match(r"^(    |\t)", line) and re.match(r"\s*petaseal ", line):
            yield line.split("  #")[0].strip()
    yield from (found.replace("\n", " ") for found in re.findall(r"`(petaseal [^`]+)`", text))


LINES = [(page, line) for page in PAGES for line in commands(page.read_text())]


@cache
def root() -> Any:
    """Return the root command, which takes a while to put together."""
    return typer.main.get_command(app)


def problem(line: str) -> str | None:
    """Return what of a command line the command line does not know, if anything."""
    words = shlex.split(re.sub(r"[\[\]()…|]", " ", line.replace("...", " ")))[1:]
    command: Any = root()
    while words and hasattr(command, "commands"):
        command, name = getattr(command, "group", command), words.pop(0)  # a group is imported when it is called
        if name.startswith("-"):
            return None if name in ("--help", "--version", "-h", "--install-completion") else f"option {name}"
        if name not in command.commands:
            name = getattr(command, "default", name)  # `petaseal audit DIR` is short for `petaseal audit run DIR`
        if name not in command.commands:
            return f"command {name!r}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    unknown = [word.split("=")[0] for word in words if word.startswith("-") and word.split("=")[0] not in known]
    return f"option {unknown[0]} of {command.name}" if unknown else None


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page_id(page)}: {line}" for page, line in LINES])
def test_every_command_line_exists(page: Path, line: str) -> None:
    assert problem(line) is None


def test_the_check_of_command_lines_would_notice() -> None:
    assert len(LINES) >= 12
    assert problem("petaseal verify x --public-key y --no-such") == "option --no-such of verify"
    assert problem("petaseal nonsense") == "command 'nonsense'"
    assert problem("petaseal keys forge") == "command 'forge'"


def test_every_option_of_verify_stands_on_its_page() -> None:
    text = (DOCS / "verification.md").read_text() + (ROOT / "README.md").read_text()
    for option in ("--trust", "--public-key", "--records", "--samples", "--at", "--require"):
        assert option in text


def test_every_command_has_an_example_that_it_understands() -> None:
    def walk(command: Any) -> Iterator[Any]:
        if hasattr(command, "commands"):
            for one in getattr(command, "group", command).commands.values():
                yield from walk(one)
        else:
            yield command

    found = list(walk(root()))
    assert len(found) >= 12
    for command in found:
        assert command.help, command.name
        assert command.epilog.startswith("Example: petaseal "), command.name
        assert problem(command.epilog.removeprefix("Example: ")) is None, command.epilog


# Paths, links and codes
def test_every_path_in_the_architecture_exists() -> None:
    text = (DOCS / "architecture.md").read_text()
    names = re.findall(r"`((?:[\w.-]+/)+[\w.*-]+)`", text)
    assert len(names) >= 30
    placeholders = {"bench/devices/vendors/x.py", "kernels/x.py", "certify/keys/signers/x.py", "bench/launchers/x.py"}
    missing = [name for name in names if name not in placeholders and not list(ROOT.glob(name))]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("https://", "http://", "mailto:")):
            assert (page.parent / target).exists(), target


def test_the_index_names_every_page_once() -> None:
    rows = [line for line in (DOCS / "README.md").read_text().splitlines() if line.startswith("| [")]
    named = [found.group(1) for row in rows if (found := re.match(r"\| \[[^]]+\]\(([^)]+)\) \| \S.* \| \S.* \|$", row))]
    assert len(named) == len(rows)
    assert sorted(name for name in named if name.endswith(".md") and "/" not in name) == sorted(
        path.name for path in DOCS.glob("*.md") if path.name != "README.md"
    )


def test_the_readme_is_two_calm_screens() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 90
    assert max(map(len, lines)) < 120
    assert max(line.count("](") for line in lines) <= 4
    text = "\n".join(lines)
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", text, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) == headings  # the table of contents


def test_every_code_on_the_page_of_verification_is_a_reason_code() -> None:
    text = (DOCS / "verification.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"^\| \d+ \|", line)]
    named = {code for row in rows for code in re.findall(r"`([a-z0-9-]+)`", row.split("|")[3])}
    assert len(named) >= 30
    assert named <= set(reasons())


def test_every_rule_stands_on_the_page_of_run_rules() -> None:
    text = (DOCS / "run-rules.md").read_text()
    assert [int(n) for n in re.findall(r"^\| R(\d+) \|", text, re.M)] == list(range(1, 16))
    for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]+)`", text):
        assert (ROOT / path).exists(), path


def test_every_document_stands_on_the_page_of_formats() -> None:
    text = (DOCS / "formats.md").read_text()
    for kind in DOCUMENTS.values():
        (row,) = [line for line in text.splitlines() if f"`{kind.predicate_type}`" in line]
        assert row.rstrip(" |").endswith(" or ".join(kind.roles))


# The steps of verification
STEP_ROWS = {
    int(number): sentence
    for number, sentence in re.findall(r"^\| (\d+) \| ([^|]+) \|", (DOCS / "verification.md").read_text(), re.M)
}


def test_the_steps_of_verification_are_those_on_their_page() -> None:
    steps = {step.number: step.sentence for step in STEPS}
    assert list(STEP_ROWS) == sorted(steps) == list(range(1, len(STEPS) + 1))
    assert len(STEPS) == len(steps)
    for number, sentence in steps.items():
        assert sentence.endswith(".")
        assert STEP_ROWS[number].startswith(sentence), number


def test_a_step_s_function_names_its_numbers() -> None:
    for function in {step.function for step in STEPS}:
        numbers = sorted(step.number for step in STEPS if step.function is function)
        (said,) = re.findall(r"^Steps? ([^:]+):", function.__doc__ or "", re.M)
        assert numbers == [n for part in re.split(", | and ", said) for n in _range(part)], function


def test_the_code_under_the_steps_bears_their_numbers() -> None:
    marked: set[int] = set()
    for name in ("verify/verifier.py", "verify/statement_checks.py", "verify/recompute.py", "trust/opening.py"):
        source = (ROOT / "certify" / name).read_text()
        for comment in re.findall(r"# (\d[^\n]*)$", source, re.M):
            marked |= {int(n) for n in re.findall(r"\b\d+\b", comment)}
        for said in re.findall(r"[Ss]teps? (\d+(?: to \d+)?)", source):
            marked |= set(_range(said))
    assert marked == set(STEP_ROWS)


def _range(said: str) -> list[int]:
    first, _, last = said.partition(" to ")
    return list(range(int(first), int(last or first) + 1))


def test_the_levels_on_the_page_are_those_of_the_code() -> None:
    from certify.verify.report import LEVELS

    text = (DOCS / "verification.md").read_text()
    assert " < ".join(f"`{level}`" for level in LEVELS) in text


# Schemas
@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    found = measured(tmp_path_factory.mktemp("centre"), nodes=3, devices=2, profile="smoke")
    found.certify()
    return found


def payload(content: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.b64decode(json.loads(content)["payload"]))
    return value


def documents(centre: Measured) -> dict[str, dict[str, Any]]:
    """Return the payloads of a chain run, by kind."""
    from certify.statement.baseline import sign_baseline

    inventory = centre.folder / "inventory.yaml"
    inventory.write_text(
        "centre_id: gz-test\ntaken_at: 2026-01-01T00:00:00.000000Z\n"
        "devices: [{uuid: null, serial: s-1, die_id: null}]\n"
    )
    signed = centre.folder / "baseline.dsse.json"
    if not signed.exists():
        sign_baseline(inventory, centre.key, None, signed)
    return {
        "node-record": payload(centre.record(0).read_bytes()),
        "campaign": payload(centre.campaign.read_bytes()),
        "capacity-statement": payload((centre.folder / "out" / "statement.dsse.json").read_bytes()),
        "baseline": payload(signed.read_bytes()),
    }


def validator(name: str) -> Any:
    schema = json.loads((DOCS / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_schemas_are_schemas(name: str) -> None:
    assert validator(name).schema["title"] == f"{name} ({DOCUMENTS[name].predicate_type})"


def test_documents_of_a_run_fit_their_schemas_and_no_other(centre: Measured) -> None:
    found = documents(centre)
    for name, value in found.items():
        validator(name).validate(value)
        for other in DOCUMENTS:
            if other != name:
                assert not validator(other).is_valid(value), (name, other)


BENT: list[Callable[[dict[str, Any]], object]] = [
    lambda p: p.update(extra=1),
    lambda p: p.pop("rules"),
    lambda p: p.update(node_id="UPPER"),
    lambda p: p.update(node_id="newline\n"),
    lambda p: p["measurements"][0].update(m=0),
    lambda p: p["measurements"][0].update(m=2**53),
    lambda p: p["measurements"][0].update(m=1.5),
    lambda p: p["measurements"][0]["subwindow_over_ns"][0].pop(),
    lambda p: p.update(started_at="2026-03-01T08:00:00Z"),
]


@pytest.mark.parametrize("number", range(len(BENT)))
def test_a_bent_record_does_not_fit(centre: Measured, number: int) -> None:
    value = documents(centre)["node-record"]
    BENT[number](value["predicate"])
    assert not validator("node-record").is_valid(value)


# The script that shares no code with petaseal
def test_the_script_imports_the_standard_library_and_cryptography_only() -> None:
    names = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert names - sys.stdlib_module_names == {"cryptography"}


def script(key: Path, statement: Path, records: Path) -> subprocess.CompletedProcess[str]:
    """Run the script as a stranger does: in an empty folder, without petaseal on the path."""
    command = [sys.executable, "-I", str(SCRIPT), str(key), str(statement), str(records)]
    return subprocess.run(command, capture_output=True, text=True, cwd=key.parent)


def test_the_script_accepts_what_is_true(centre: Measured) -> None:
    out = centre.folder / "out"
    done = script(centre.public_key, out / "statement.dsse.json", out / "records.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    statement = payload((out / "statement.dsse.json").read_bytes())["predicate"]
    assert str(statement["classes"][0]["counted"]["certified_mflop_s"]) in done.stdout
    assert statement["records_root"] in done.stdout


def resealed(centre: Measured, change: Callable[[dict[str, Any]], object]) -> bytes:
    value = payload((centre.folder / "out" / "statement.dsse.json").read_bytes())
    change(value["predicate"])
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return dsse.seal(text, PAYLOAD_TYPE, [load_private(centre.key)])


def one_higher(place: dict[str, Any], name: str) -> None:
    place[name] += 1


def dsse_like(text: bytes) -> bytes:
    """Return an envelope of a payload, signed by nobody."""
    signatures = [{"keyid": "0" * 64, "sig": base64.b64encode(bytes(64)).decode()}]
    value = {"payload": base64.b64encode(text).decode(), "payloadType": PAYLOAD_TYPE, "signatures": signatures}
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "certified": lambda p: one_higher(p["pools"][0]["counted"], "certified_mflop_s"),
    "sustained": lambda p: one_higher(p["pools"][0]["counted"], "sustained_mflop_s"),
    "upper": lambda p: one_higher(p["pools"][0]["counted"], "upper_mflop_s"),
    "devices": lambda p: one_higher(p["pools"][0]["counted"], "devices"),
    "records": lambda p: one_higher(p, "records"),
    "root": lambda p: p.update(records_root="ab" * 32),
    "another figure": lambda p: p["pools"][0]["counted"].update(p["shown"][0]["shown"]),
    "choice": lambda p: p["pools"][0].update(choice="tuned"),
    "class": lambda p: one_higher(p["classes"][0]["counted"], "certified_mflop_s"),
    "class of no pool": lambda p: p["classes"].append({**p["classes"][0], "pool_class": "general"}),
    "no records": lambda p: p.update(records=0),
    "no pools": lambda p: p.update(pools=[]),
    "pools that are no list": lambda p: p.update(pools=None),
    "counted twice": lambda p: p["pools"].append(p["pools"][0]),
    "bookkeeping": lambda p: one_higher(p["bookkeeping"], "certified_mflop_s"),
    "bookkeeping of what is nominal": lambda p: one_higher(p["bookkeeping"], "nominal_mflop_s"),
    "the share of intelligent compute": lambda p: p["bookkeeping"].update(intelligent_share_ppm=1),
    "a class's untested devices": lambda p: one_higher(p["classes"][0]["untested"], "devices"),
    "a class's devices with a witness": lambda p: one_higher(p["classes"][0]["with_witness"], "devices"),
    "what a class had before": lambda p: one_higher(p["classes"][0]["existing"], "certified_mflop_s"),
    "a class's steps": lambda p: one_higher(p["classes"][0]["steps"][0], "certified_mflop_s"),
    "a pool's steps": lambda p: one_higher(p["pools"][0]["steps"][0], "devices"),
    "a class of another workload": lambda p: p["classes"][0].update(precision="bf16"),
    "a class that is left out": lambda p: p["classes"].clear(),
    "devices that nobody found": lambda p: one_higher(p["pools"][0], "devices_found"),
    "nodes without a record": lambda p: one_higher(p["pools"][0], "nodes_recorded"),
}


def test_the_script_says_what_it_does_not_check_and_prints_no_control_character(
    centre: Measured, tmp_path: Path
) -> None:
    name = "\x1b[2J\u202e\x00main"

    def renamed(predicate: dict[str, Any]) -> None:
        for place in (*predicate["pools"], *predicate["centre"]["pools"], *predicate["campaign"]["nodes"]):
            place["pool"] = name

    file = tmp_path / "statement.dsse.json"
    file.write_bytes(resealed(centre, renamed))
    done = script(centre.public_key, file, centre.folder / "out" / "records.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(line.startswith("NOT CHECKED: ") for line in done.stdout.splitlines()) == 8
    assert "verdicts" in done.stdout
    assert done.stdout.replace("\n", "").isprintable()
    assert r"\u001b[2J\u202e\u0000main" in done.stdout

    def lying(predicate: dict[str, Any]) -> None:
        renamed(predicate)
        one_higher(predicate["pools"][0]["counted"], "certified_mflop_s")

    file.write_bytes(resealed(centre, lying))
    done = script(centre.public_key, file, centre.folder / "out" / "records.jsonl")
    assert done.returncode == 1
    assert done.stderr.rstrip("\n").isprintable()


@pytest.mark.parametrize("lie", LIES)
def test_the_script_refuses_a_signed_lie(centre: Measured, tmp_path: Path, lie: str) -> None:
    file = tmp_path / "statement.dsse.json"
    file.write_bytes(resealed(centre, LIES[lie]))
    done = script(centre.public_key, file, centre.folder / "out" / "records.jsonl")
    assert done.returncode == 1
    assert done.stderr.startswith("REFUSED: ")


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "brackets": b"[" * 100_000,
    "a payload of brackets": dsse_like(b"[" * 100_000),
    "a payload that is no object": dsse_like(b"[]"),
    "NaN": dsse_like(b'{"predicate":NaN}'),
    "a number of 5,000 digits": dsse_like(b'{"predicate":' + b"9" * 5000 + b"}"),
    "a type that is no text": b'{"payload":"e30=","payloadType":1,"signatures":[]}',
    "signatures that are no list": b'{"payload":"e30=","payloadType":"x","signatures":1}',
    "lone surrogate": dsse_like(b'{"predicate":"\\ud800"}'),
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("victim", ["statement", "records"])
def test_the_script_refuses_what_is_malformed(centre: Measured, tmp_path: Path, victim: str, case: str) -> None:
    out, file = centre.folder / "out", tmp_path / "malformed"
    file.write_bytes(MALFORMED[case])
    files = (file, out / "records.jsonl") if victim == "statement" else (out / "statement.dsse.json", file)
    done = script(centre.public_key, *files)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("REFUSED: ")
    assert len(done.stderr.splitlines()) == 1


Predicate = dict[str, Any]
RECORD_LIES: dict[str, Callable[[Predicate], object]] = {
    "no time": lambda r: r["measurements"][0].update(subwindow_min_ns=[0, 0], subwindow_over_ns=[[0] * 30] * 2),
    "a figure twice": lambda r: r["measurements"].append(r["measurements"][0]),
    "tuned and fixed swapped": lambda r: [
        m.update(choice="tuned" if m["choice"] == "fixed" else "fixed") for m in r["measurements"]
    ],
    "tuned as fixed": lambda r: [m.update(choice="fixed") for m in r["measurements"]],
    "measurements that are no list": lambda r: r.update(measurements=7),
    "a rate that is text": lambda r: r["measurements"][0].update(sustained_mflop_s=["1", "1"]),
}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A centre that was measured in both choices of shape, with its statement."""
    found = measured(tmp_path_factory.mktemp("tuned"), nodes=2, profile="standard", precisions=("fp16",))
    found.certify()
    return found


@pytest.mark.parametrize("lie", RECORD_LIES)
def test_the_script_refuses_a_record_that_its_node_signed(tuned: Measured, tmp_path: Path, lie: str) -> None:
    """The liar holds the node's key and the operator's, and seals all again; only the figures cannot be made good."""
    from certify.documents.merkle import record_root
    from certify.keys.signers import spki_text
    from tests.certify.signed import new_key as fresh

    lines = (tuned.folder / "out" / "records.jsonl").read_bytes().splitlines(keepends=True)
    key, values = fresh(), [payload(line) for line in lines]
    values[0]["predicate"]["signer_spki"] = spki_text(key.public)
    RECORD_LIES[lie](values[0]["predicate"])
    text = json.dumps(values[0], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    lines[0] = dsse.seal(text, PAYLOAD_TYPE, [key])
    payloads = [dsse.parse_envelope(line, CAPS.record_bytes).payload for line in lines]
    order = sorted(range(len(lines)), key=lambda i: hashlib.sha256(payloads[i]).hexdigest())
    root = record_root(hashlib.sha256(payloads[i]).hexdigest() for i in order)
    statement = payload((tuned.folder / "out" / "statement.dsse.json").read_bytes())
    statement["predicate"]["records_root"] = root
    statement["subject"][0]["digest"]["rfc6962-sha256"] = root
    text = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    (tmp_path / "statement").write_bytes(dsse.seal(text, PAYLOAD_TYPE, [load_private(tuned.key)]))
    (tmp_path / "records").write_bytes(b"".join(lines[i] for i in order))
    done = script(tuned.public_key, tmp_path / "statement", tmp_path / "records")
    assert done.returncode == 1
    assert done.stderr.startswith("REFUSED: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_script_refuses_another_x_i_whose_record_is_sealed_again(centre: Measured, tmp_path: Path) -> None:
    import msgspec

    from certify.documents.kinds import make_document, parse_payload
    from certify.keys.signers import spki_text
    from tests.certify.signed import new_key as fresh

    lines = (centre.folder / "out" / "records.jsonl").read_bytes().splitlines(keepends=True)
    opened = parse_payload("node-record", dsse.parse_envelope(lines[0], CAPS.record_bytes).payload)
    key, m = fresh(), opened.predicate.measurements[0]
    over = ((m.subwindow_over_ns[0][0] + 1, *m.subwindow_over_ns[0][1:]), *m.subwindow_over_ns[1:])
    measurements = (msgspec.structs.replace(m, subwindow_over_ns=over), *opened.predicate.measurements[1:])
    record = msgspec.structs.replace(opened.predicate, signer_spki=spki_text(key.public), measurements=measurements)
    lines[0] = dsse.seal(make_document("node-record", record, opened.subject_digest), PAYLOAD_TYPE, [key])
    (tmp_path / "records.jsonl").write_bytes(b"".join(lines))
    done = script(centre.public_key, centre.folder / "out" / "statement.dsse.json", tmp_path / "records.jsonl")
    assert done.returncode == 1
    assert done.stderr.startswith("REFUSED: ")


@pytest.mark.parametrize("how", ["dropped", "doubled", "swapped", "edited"])
def test_the_script_refuses_other_records(centre: Measured, tmp_path: Path, how: str) -> None:
    lines = (centre.folder / "out" / "records.jsonl").read_bytes().splitlines(keepends=True)
    changed = {
        "dropped": lines[1:],
        "doubled": [lines[0], *lines],
        "swapped": [lines[1], lines[0], *lines[2:]],
        "edited": [lines[0][:40] + (b"A" if lines[0][40:41] != b"A" else b"B") + lines[0][41:], *lines[1:]],
    }[how]
    (tmp_path / "records.jsonl").write_bytes(b"".join(changed))
    done = script(centre.public_key, centre.folder / "out" / "statement.dsse.json", tmp_path / "records.jsonl")
    assert done.returncode == 1
    assert "OK" not in done.stdout


def test_the_script_refuses_another_key(centre: Measured, tmp_path: Path) -> None:
    new_key(tmp_path / "other.pem", None)
    out = centre.folder / "out"
    done = script(public_path(tmp_path / "other.pem"), out / "statement.dsse.json", out / "records.jsonl")
    assert done.returncode == 1
    assert done.stdout == ""
