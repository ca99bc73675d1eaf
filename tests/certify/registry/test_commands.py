"""``petaseal registry`` as a platform engineer, a centre's operator and a node give it."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from bench.record import digest
from certify.commands.registry.registry_admin import serve
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.registry.base.registry import load_place
from certify.registry.service import serve as server
from certify.registry.service.init import open_store
from certify.statement.package import pack
from tests.bad_input.command import Answer, petaseal, started
from tests.certify.measured import Measured, node_name
from tests.certify.registry.laid import CENTRE, OTHER, Laid, lay_registry, witness
from tests.certify.registry.serving import new_token, serving


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("PETASEAL_TOKEN", raising=False)


def good(*args: object) -> Any:
    """Return what a command that succeeds tells machines."""
    answer = petaseal("registry", *args, "--json")
    assert (answer.status, answer.err) == (0, ""), answer
    return json.loads(answer.out)


class Running(NamedTuple):
    """A served registry, and files with tokens."""

    laid: Laid
    url: str
    operator: Path
    platform: Path

    def ask(self, command: str, *args: object, by: str | None = None) -> tuple[object, ...]:
        token = () if by is None else ("--token-file", getattr(self, by))
        return "registry", command, *args, "--url", self.url, *token

    def good(self, command: str, *args: object, by: str | None = None) -> Any:
        return good(*self.ask(command, *args, by=by)[1:])

    def bad(self, command: str, *args: object, by: str | None = None) -> Answer:
        answer = petaseal(*self.ask(command, *args, by=by))
        assert answer.status in (1, 2), answer
        return answer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, keys: Path, empty_file: Path) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("cli")
    laid = lay_registry(folder / "registry", keys)
    shutil.copyfile(empty_file, laid.root / empty_file.name)
    files = folder / "operator.token", folder / "platform.token"
    files[0].write_text(new_token(laid.root) + "\n")
    files[1].write_text(new_token(laid.root, "platform") + "\n")
    with serving(laid.root) as url:
        yield Running(laid, url, *files)


@pytest.fixture
def statement(tmp_path: Path, centre: Measured) -> Path:
    """A copy of a centre's statement, beside which receipts can lie."""
    return Path(shutil.copytree(centre.folder / "out", tmp_path / "statement"))


def payload(file: Path) -> bytes:
    return parse_envelope(file.read_bytes(), 2**26).payload


def receipt(file: Path) -> tuple[str, str | None]:
    opened = parse_payload("receipt", payload(file))
    return opened.predicate.decision, opened.predicate.code


# --- who runs one -----------------------------------------------------------------------------------------------------


def init_words(place: Laid, root: Path, *more: object, key: str = "registry") -> tuple[object, ...]:
    return "init", root, "--key", place.file(key), "--trust", place.trust, *more


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Laid:
    """Somebody else's registry, for its trust root and keys."""
    return lay_registry(tmp_path_factory.mktemp("laid") / "registry", keys)


def test_a_registry_is_made(laid: Laid, tmp_path: Path) -> None:
    root, fingerprint = tmp_path / "new", ("--fingerprint", laid.anchor.fingerprint)
    made = good(*init_words(laid, root, *fingerprint, "--name-zh", '"甲": #', "--simulated"))
    assert made["keyid"] == laid.keyid("registry")
    place = load_place(root)
    assert (place.settings.name.zh, place.settings.accept_simulated) == ('"甲": #', True)
    assert place.path(place.settings.trust).samefile(laid.trust)
    assert stat.S_IMODE((root / "registry.yaml").stat().st_mode) == 0o600
    assert "0.2.0" not in (root / "registry.yaml").read_text()
    from certify.registry.base.registry import open_registry

    registry = open_registry(root)  # it remembers its trust root, which may be followed by the next version
    assert registry.trust().root is not None
    registry.close()
    assert petaseal("registry", *init_words(laid, root, *fingerprint)).code == "output-exists"


def test_settings_say_what_every_setting_is(laid: Laid, tmp_path: Path) -> None:
    good(*init_words(laid, tmp_path / "new", "--fingerprint", laid.anchor.fingerprint))
    from certify.registry.base.registry import Limits, Settings

    text = (tmp_path / "new" / "registry.yaml").read_text()
    told = {line.split(":")[0].strip() for line in text.splitlines() if not line.startswith("#") and ":" in line}
    assert told == {*Settings.__struct_fields__, *Limits.__struct_fields__} - {"passphrase_file"}
    place = load_place(tmp_path / "new")
    assert place.settings.limits == Limits()


@pytest.mark.parametrize(
    ("key", "more", "code"),
    [
        ("operator", ("--fingerprint", "right"), "key-not-trusted"),
        ("registry", (), "trust-root-unpinned"),
        ("registry", ("--fingerprint", "ab" * 32), "trust-root-fingerprint"),
        ("registry", ("--fingerprint", "ab"), "usage"),
        ("registry", ("--fingerprint", "right", "--database", "mysql://x"), "settings-invalid"),
        (
            "registry",
            ("--fingerprint", "right", "--database", "postgresql+psycopg://127.0.0.1:1/x"),
            "database-unavailable",
        ),
        ("nobody", ("--fingerprint", "right"), "file-missing"),
    ],
)
def test_a_registry_is_not_made(laid: Laid, tmp_path: Path, key: str, more: tuple[str, ...], code: str) -> None:
    given = [laid.anchor.fingerprint if text == "right" else text for text in more]
    answer = petaseal("registry", *init_words(laid, tmp_path / "new", *given, key=key))
    assert answer.code == code
    assert not (tmp_path / "new" / "registry.yaml").exists()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_tokens(place: Laid, tmp_path: Path) -> None:
    file = tmp_path / "park.token"
    options = ("--name", "Park 1", "--scope", "operator", "--centre", CENTRE)
    made = good("token", "new", place.root, *options, "--out", file)
    secret = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret.startswith("ptr_")
    assert secret not in json.dumps(made)
    assert petaseal("registry", "token", "new", place.root, *options, "--out", file).code == "output-exists"
    shown = good("token", "new", place.root, "--name", "P", "--scope", "platform")
    assert shown["secret"].startswith("ptr_")
    rotated = good("token", "rotate", place.root, made["id"], "--days", 3)
    good("token", "revoke", place.root, shown["id"])
    listed = petaseal("registry", "token", "list", place.root)
    assert not any(text in listed.out for text in (secret, shown["secret"], rotated["secret"]))
    states = {row["id"]: row["state"] for row in good("token", "list", place.root)["tokens"]}
    assert states == {str(made["id"]): "revoked", str(shown["id"]): "revoked", str(rotated["id"]): "good"}
    assert petaseal("registry", "token", "new", place.root, "--name", "x", "--scope", "operator").code == "token-centre"
    assert petaseal("registry", "token", "new", place.root, "--name", "x", "--scope", "all").code == "usage"
    assert petaseal("registry", "token", "revoke", place.root, 99).code == "token-unknown"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_backup_is_restored_and_checked(place: Laid, tmp_path: Path) -> None:
    good("token", "new", place.root, "--name", "P", "--scope", "platform")
    assert good("migrate", place.root)["revision"]
    kept = good("backup", place.root, "--out", tmp_path / "backup")
    assert kept["manifest"]["rows"]["tokens"] == 1
    good("restore", tmp_path / "backup", tmp_path / "again")
    store = open_store(tmp_path / "again")
    store.close()
    shutil.copyfile(place.root / "registry.pem", tmp_path / "again" / "registry.pem")
    (tmp_path / "again" / "registry.pem").chmod(0o600)
    assert good("check", tmp_path / "again")["ok"] is True


@pytest.mark.parametrize("command", [("serve",), ("migrate",), ("token", "list"), ("check",)])
def test_there_is_no_registry(command: tuple[str, ...], tmp_path: Path) -> None:
    assert petaseal("registry", *command, tmp_path).code == "file-missing"


def test_tls(keys: Path, tmp_path: Path, empty_file: Path) -> None:
    laid = lay_registry(tmp_path / "registry", keys)
    shutil.copyfile(empty_file, laid.root / empty_file.name)
    pair = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    files = ["-out", str(pair[0]), "-keyout", str(pair[1])]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    with serving(laid.root, "--tls-cert", str(pair[0]), "--tls-key", str(pair[1])) as url:
        assert url.startswith("https://")
        assert good("status", "--url", url, "--ca", pair[0])["service"]["api"] == "v1"
        assert petaseal("registry", "status", "--url", url).code == "registry-not-trusted"
    assert petaseal("registry", "serve", laid.root, "--tls-key", pair[1]).code == "usage"


# --- who talks to one -------------------------------------------------------------------------------------------------


def test_witness_documents_that_are_not_sent_are_named(running: Running, statement: Path) -> None:
    for number in range(10):
        (statement / f"witness-{number}.dsse.json").write_bytes(b"no document")
    answer = petaseal(*running.ask("push", statement, by="operator"))
    assert answer.status == 1  # the first of them is sent, and refused
    for number in range(10):
        of_another = witness(running.laid, "ab" * 32, version=f"0.2.{number}")
        (statement / f"witness-{number}.dsse.json").write_bytes(of_another)
    answer = petaseal(*running.ask("push", statement, by="operator"))
    assert answer.status == 0, answer.err
    assert "NOT SENT: 2 witness document(s) beyond the first 8 by name: witness-8.dsse.json" in answer.out
    pushed = running.good("push", statement, by="operator")
    assert [one["not_sent"] != [] for one in pushed["decisions"]] == [False] * 8 + [True, False]
    assert "[witnesses-cut]" in pushed["decisions"][8]["not_sent"][0]


def test_a_statement_goes_there_and_back(running: Running, statement: Path, tmp_path: Path) -> None:
    pushed = running.good("push", statement, by="operator")
    assert pushed["accepted"] is True
    assert [one["kind"] for one in pushed["decisions"]] == ["capacity-statement", "records"]
    assert pushed["decisions"][1]["level"] == "recomputed"
    assert receipt(statement / "receipt.dsse.json") == ("accepted", None)
    sha256 = pushed["decisions"][0]["payload_sha256"]

    fetched = tmp_path / "fetched"
    pulled = running.good("pull", "--statement", sha256, "--out", fetched, by="operator")
    names = ["statement.dsse.json", "receipt.dsse.json", "receipt-records.dsse.json", "records.jsonl"]
    assert [Path(file).name for file in pulled["files"]] == names
    levels = [parse_payload("receipt", payload(fetched / name)).predicate.level for name in names[1:3]]
    assert levels == ["trusted", "recomputed"]
    for name in ("statement.dsse.json", "records.jsonl"):
        assert (fetched / name).read_bytes() == (statement / name).read_bytes()
    trust = ("--trust", running.laid.trust, "--fingerprint", running.laid.anchor.fingerprint)
    checked = petaseal("verify", fetched / "statement.dsse.json", *trust, "--accept-simulated", "--json")
    assert checked.status == 0, checked.err
    assert running.bad("pull", "--statement", sha256, "--out", fetched).code == "output-exists"
    public = running.good("pull", "--statement", sha256, "--out", tmp_path / "public")
    assert [Path(file).name for file in public["files"]] == names[:3]
    assert "token-missing" in public["not_fetched"][0]

    again = petaseal(*running.ask("push", pack(statement, tmp_path / "x.tar.gz").path, by="operator"))
    assert again.status == 0, again.err
    assert "nothing new was stored" in again.out
    assert receipt(tmp_path / "x.receipt.dsse.json") == ("accepted", None)


def test_what_is_refused_is_said_and_kept(
    running: Running, centre: Measured, other_centre: Measured, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(other_centre.folder / "out", tmp_path / "other"))
    shutil.copyfile(centre.folder / "out" / "records.jsonl", folder / "records.jsonl")
    answer = running.bad("push", folder, by="platform")
    assert answer.status == 1
    assert answer.out.startswith("ACCEPTED capacity-statement statement.dsse.json at ")
    assert "REFUSED records records.jsonl at " in answer.out
    assert receipt(folder / "refused.receipt-records.dsse.json") == ("refused", answer.code)
    assert receipt(folder / "receipt.dsse.json") == ("accepted", None)
    again = running.bad("push", folder / "records.jsonl", by="platform")
    assert again.code == answer.code


def test_a_campaign_without_a_shared_folder(running: Running, centre: Measured, tmp_path: Path) -> None:
    drawn = running.good("challenge", "--centre", CENTRE, by="operator")
    assert len(bytes.fromhex(drawn["challenge"])) == 32
    folder = tmp_path / "campaign"
    folder.mkdir()
    shutil.copyfile(centre.campaign, folder / "campaign.dsse.json")
    (folder / "ab").mkdir()
    for where in (folder, folder / "ab"):
        shutil.copy(centre.record(0), where)
    pushed = running.good("push", folder, by="operator")
    assert [one["kind"] for one in pushed["decisions"]] == ["campaign", "node-record"]
    campaign_sha256 = digest(parse_payload("campaign", payload(centre.campaign)).predicate)
    for unchanged in (0, 1):
        pulled = running.good("pull", "--campaign", campaign_sha256, "--out", tmp_path / "posted", by="operator")
        assert pulled["unchanged"] == unchanged
    (file,) = (tmp_path / "posted").iterdir()
    assert (file.name, file.read_bytes()) == (centre.record(0).name, centre.record(0).read_bytes())


def test_the_feed(running: Running, statement: Path, tmp_path: Path) -> None:
    running.good("push", statement, by="operator")
    running.good("pull", "--feed", "--out", tmp_path / "feed")
    found = json.loads((tmp_path / "feed" / "capacity.json").read_text())
    assert CENTRE in {item["centre_id"] for item in found["items"]}
    assert CENTRE in (tmp_path / "feed" / "capacity.csv").read_text()
    process = started(*running.ask("pull", "--feed", "--follow"))
    try:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert line["centres"] is None
        assert line["items"] == found["items"]
    finally:
        process.kill()
        process.communicate()


def test_nodes_and_what_they_are_called(running: Running, statement: Path, tmp_path: Path) -> None:
    running.good("push", statement, by="operator")
    names = tmp_path / "names.csv"
    names.write_text("node_id,alias\ngpu-00000,gpu[001]\ngone,old\n")
    named = running.good("alias", names, "--centre", CENTRE, by="operator")
    assert (len(named["aliases"]), named["unknown"]) == (2, ["gone"])
    names.write_text("node_id,alias\ngone,\n")
    running.good("alias", names, "--centre", CENTRE, "--update", by="operator")
    assert running.good("alias", "--centre", CENTRE, by="operator")["unknown"] == []
    assert running.bad("alias", names, "--centre", CENTRE).code == "token-missing"
    running.good("pull", "--nodes", "--out", tmp_path / "nodes", by="operator")
    (node,) = json.loads((tmp_path / "nodes" / "nodes.json").read_text())["items"]
    assert (node["centre_id"], node["node_id"], node["alias"]) == (CENTRE, "gpu-00000", "gpu[001]")
    assert "gpu[001]" in (tmp_path / "nodes" / "nodes.csv").read_text()
    process = started(*running.ask("pull", "--nodes", "--follow", by="operator"))
    try:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert (line["centres"], [one["alias"] for one in line["items"]]) == (None, ["gpu[001]"])
    finally:
        process.kill()
        process.communicate()


def test_what_is_there_is_shown(running: Running, statement: Path) -> None:
    running.good("push", statement, by="operator")
    whole = petaseal(*running.ask("status"))
    assert (whole.status, whole.err) == (0, "")
    assert "测试算力登记平台" in whole.out
    assert running.good("status")["service"]["registry_keyid"] == running.laid.keyid("registry")
    one = petaseal(*running.ask("status", "--centre", CENTRE))
    assert "main (simulated)" in one.out
    assert running.good("status", "--centre", CENTRE)["centre"]["summary"]["centre_id"] == CENTRE
    assert running.bad("status", "--centre", "nowhere").code == "centre-unknown"


def test_a_pool_is_managed(running: Running, statement: Path) -> None:
    running.good("push", statement, by="operator")
    pool = ("--centre", CENTRE, "--project", f"P-{CENTRE}", "--pool", "main", "--reason", "contract")
    assert running.good("act", "register", *pool, "--external-id", "cn=1", by="platform")["act"] == "register"
    assert running.bad("act", "register", *pool, by="operator").code == "token-scope"
    assert running.bad("act", "sell", *pool, by="platform").code == "usage"
    running.good("act", "deregister", *pool, by="platform")


def write_listing(file: Path, centre: Measured, serial: str | None = None) -> None:
    """Write what ``petaseal devices --json`` prints on the centre's first node."""
    record = parse_payload("node-record", payload(centre.record(0))).predicate
    rows = []
    for device in record.devices:
        import msgspec

        row = {**msgspec.to_builtins(device), "model": msgspec.to_builtins(record.models[device.model])}
        rows.append({**row, "nominal_mflop_s": {}, "serial": serial or device.serial})
    file.write_text(json.dumps({"devices": rows, "problems": []}))


def test_heartbeats(running: Running, statement: Path, centre: Measured, tmp_path: Path) -> None:
    running.good("push", statement, by="operator")
    listing = tmp_path / "devices.json"
    write_listing(listing, centre)
    node = ("--centre", CENTRE, "--node", node_name(0), "--devices", listing)
    key = ("--key", running.laid.file("node"))
    assert running.good("heartbeat", *node, *key)["online"] is True
    write_listing(listing, centre, "165400009999")
    answer = running.bad("heartbeat", *node, *key)
    assert (answer.status, answer.code) == (1, "devices-differ")
    assert running.bad("heartbeat", *node).code == "signer-mismatch"  # this node's own key
    fakes = ("--centre", CENTRE, "--node", node_name(0), "--device", "fake:1")
    assert running.bad("heartbeat", *fakes, *key).code == "devices-differ"
    process = started(*running.ask("heartbeat", *node, *key, "--every", 1, "--json"))
    try:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        assert first["nonce"] != second["nonce"]
    finally:
        process.kill()
        process.communicate()


def test_heartbeats_of_a_rack(running: Running, statement: Path, centre: Measured, tmp_path: Path) -> None:
    running.good("push", statement, by="operator")
    write_listing(tmp_path / "devices.json", centre)
    named = {"key": str(running.laid.file("node")), "devices": "devices.json"}
    rack = {"centre": CENTRE, "nodes": [{"node": node_name(0), **named}]}
    file = tmp_path / "rack.yaml"
    file.write_text(yaml.safe_dump(rack))
    (line,) = running.good("heartbeat", "--rack", file)["lines"]
    assert (line["node_id"], line["online"], line["code"]) == (node_name(0), True, None)
    # what is wrong with one is said of it alone
    file.write_text(yaml.safe_dump({**rack, "nodes": [*rack["nodes"], {"node": "nobody", **named}]}))
    answer = running.bad("heartbeat", "--rack", file)
    assert (answer.status, answer.code) == (1, "node-unknown")
    assert f"1 of 2 nodes of {CENTRE} on-line" in answer.out
    assert "nobody NOT ON-LINE [node-unknown]" in answer.out
    for options in ((), ("--rack", file, "--node", "a"), ("--rack", file, "--centre", CENTRE), ("--node", "a")):
        assert running.bad("heartbeat", *options).code == "usage"
    process = started(*running.ask("heartbeat", "--rack", file, "--every", 1, "--json"))
    try:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline())["lines"] for _ in range(2))
        assert first[0]["nonce"] != second[0]["nonce"]
        assert [line["code"] for line in second] == [None, "node-unknown"]
    finally:
        process.kill()
        process.communicate()


def test_a_list_of_the_revoked(running: Running, other_centre: Measured, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(other_centre.folder / "out", tmp_path / "other"))
    (sent,) = running.good("push", folder / "statement.dsse.json", by="platform")["decisions"]
    file = tmp_path / "revocations.json"
    file.write_bytes(running.laid.revocations(statements=(sent["payload_sha256"],)))
    assert running.good("revoke", file, by="platform")["accepted"] is True
    assert running.good("status", "--centre", OTHER)["centre"]["summary"]["state"] == "revoked"
    assert running.bad("revoke", other_centre.campaign, by="platform").code == "document-not-submitted"


# --- what is wrong with a question ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--out", "x"), "usage"),
        (("--feed", "--statement", "ab" * 32, "--out", "x"), "usage"),
        (("--statement", "ab", "--out", "x"), "usage"),
        (("--statement", "ab" * 32), "usage"),
        (("--statement", "ab" * 32, "--follow"), "usage"),
        (("--feed", "--follow", "--out", "x"), "usage"),
        (("--feed", "--nodes", "--out", "x"), "usage"),
    ],
)
def test_pull_of_nothing(arguments: tuple[str, ...], code: str) -> None:
    assert petaseal("registry", "pull", "--url", "http://127.0.0.1:1", *arguments).code == code


def test_tokens_come_from_a_file_or_the_environment(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert running.bad("challenge", "--centre", CENTRE).code == "token-missing"
    monkeypatch.setenv("PETASEAL_TOKEN", running.operator.read_text())
    assert running.good("challenge", "--centre", CENTRE)["centre_id"] == CENTRE
    wrong = tmp_path / "wrong.token"
    for text, code in (
        ("ptr_wrong", "token-invalid"),
        ("two words", "token-file-invalid"),
        ("\n", "token-file-invalid"),
    ):
        wrong.write_text(text)
        answer = petaseal("registry", "challenge", "--url", running.url, "--centre", CENTRE, "--token-file", wrong)
        assert answer.code == code
        assert text.strip() == "" or text not in answer.err + answer.out


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:1", "registry-unreachable"),
        ("http://registry.invalid", "registry-unreachable"),
        ("registry.example", "url-invalid"),
    ],
)
def test_nobody_is_there(url: str, code: str) -> None:
    answer = petaseal("registry", "status", "--url", url, "--timeout", 5)
    assert (answer.status, answer.code) == (2, code)


def test_nothing_to_submit(running: Running, tmp_path: Path, centre: Measured) -> None:
    assert running.bad("push", tmp_path, by="operator").code == "document-not-submitted"
    assert running.bad("push", running.laid.trust, by="operator").code == "document-not-submitted"
    shutil.copy(centre.folder / "out" / "records.jsonl", tmp_path)
    assert running.bad("push", tmp_path / "records.jsonl", by="operator").code == "file-missing"


def test_metrics_of_a_node(other_centre: Measured, tmp_path: Path) -> None:
    out = tmp_path / "node.prom"
    made = good("textfile", other_centre.folder / "out", "--node", node_name(100), "--out", out)
    assert made["figures"] == 1
    assert "petaseal_certified_flops{" in out.read_text()


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith("certify.registry.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    answer = petaseal("registry", "status", "--url", "http://127.0.0.1:1")
    assert answer.code == "missing-library"
    assert "petaseal[registry]" in answer.err


def test_the_command_and_the_server_have_one_default_port() -> None:
    ports = {signature(run).parameters["port"].default for run in (serve, server.run)}
    assert len(ports) == 1
