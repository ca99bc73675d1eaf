"""The OpenAPI document: names, examples and bodies of all operations, and a client that a generator makes of it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from certify.registry.base.registry import Registry, open_registry
from certify.registry.service import examples
from certify.registry.service.app import create_app
from certify.registry.service.openapi import KINDS, TAGS
from tests.certify.measured import Measured
from tests.certify.registry.laid import CENTRE, Laid, lay_registry
from tests.certify.registry.listening import new_token, served
from tests.certify.registry.within import Within

OPERATIONS = {  # names stay: generated clients call them
    "acknowledge_alarm": "POST /v1/alarms/{number}/acknowledgement",
    "change_aliases": "PATCH /v1/centres/{centre_id}/aliases",
    "check_health": "GET /healthz",
    "check_readiness": "GET /readyz",
    "draw_challenge": "POST /v1/challenges",
    "get_campaign_records": "GET /v1/campaigns/{sha256}/records",
    "get_capacity": "GET /v1/capacity",
    "get_centre": "GET /v1/centres/{centre_id}",
    "get_city": "GET /v1/cities/{policy}",
    "get_city_trend": "GET /v1/cities/{policy}/trend",
    "get_device": "GET /v1/devices/{device}",
    "get_envelope": "GET /v1/statements/{sha256}/envelope",
    "get_lifecycle": "GET /v1/lifecycle",
    "get_metrics": "GET /metrics",
    "get_nonce": "GET /v1/nodes/{centre_id}/{node_id}/nonce",
    "get_nonces": "POST /v1/nonces",
    "get_receipt": "GET /v1/statements/{sha256}/receipt",
    "get_records": "GET /v1/statements/{sha256}/records",
    "get_service": "GET /v1",
    "get_statement": "GET /v1/statements/{sha256}",
    "list_alarm_groups": "GET /v1/alarm-groups",
    "list_alarms": "GET /v1/alarms",
    "list_aliases": "GET /v1/centres/{centre_id}/aliases",
    "list_attempts": "GET /v1/attempts",
    "list_audit_lines": "GET /v1/audit",
    "list_centres": "GET /v1/centres",
    "list_cities": "GET /v1/cities",
    "list_decisions": "GET /v1/decisions",
    "list_identifiers": "GET /v1/identifiers/{scheme}/{value}",
    "list_nodes": "GET /v1/nodes",
    "list_reached": "GET /v1/reached",
    "list_statement_nodes": "GET /v1/statements/{sha256}/nodes",
    "list_statements": "GET /v1/statements",
    "perform_act": "POST /v1/acts",
    "replace_aliases": "PUT /v1/centres/{centre_id}/aliases",
    "send_heartbeat": "POST /v1/heartbeats",
    "send_heartbeats": "POST /v1/heartbeats/batch",
    "submit_baseline": "POST /v1/baselines",
    "submit_campaign": "POST /v1/campaigns",
    "submit_record": "POST /v1/campaigns/{sha256}/records",
    "submit_records": "PUT /v1/statements/{sha256}/records",
    "submit_revocations": "POST /v1/revocations",
    "submit_statement": "POST /v1/statements",
    "submit_witness": "POST /v1/witnesses",
}
PROBLEM = "application/problem+json"


@pytest.fixture
def database() -> str:
    """The document is the same on both."""
    return "sqlite"


def document_of(registry: Registry) -> dict[str, Any]:
    document: dict[str, Any] = Within(create_app(registry)).get("/v1/openapi.json").json()
    return document


def operations_of(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    paths = document["paths"]
    return [(f"{verb.upper()} {path}", one) for path, verbs in paths.items() for verb, one in verbs.items()]


def resolved(document: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Return a response, followed to where it stands."""
    if "$ref" not in answer:
        return answer
    found: dict[str, Any] = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return found


def contents_of(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return where each content stands, its media type and the content, bodies and answers alike."""
    found = []
    for where, operation in operations_of(document):
        parts = {status: resolved(document, one) for status, one in operation["responses"].items()}
        if "requestBody" in operation:
            parts["body"] = operation["requestBody"]
        for name, part in parts.items():
            found += [(f"{where} {name}", kind, one) for kind, one in part.get("content", {}).items()]
    return found


def faults_of(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    validator = Draft202012Validator({**schema, "components": document["components"]})
    return [fault.message for fault in validator.iter_errors(value)]


def test_operations_have_names_that_stay(registry: Registry) -> None:
    operations = operations_of(document_of(registry))
    assert {one["operationId"]: where for where, one in operations} == OPERATIONS
    assert len(operations) == len(OPERATIONS)
    verbs = "acknowledge|change|check|draw|get|list|perform|replace|send|submit"
    for where, one in operations:
        assert re.fullmatch(rf"({verbs})(_[a-z]+)+", one["operationId"]), where
        assert one["summary"]
        assert not one["summary"].endswith("."), where
        assert one["tags"], where
        assert set(one["tags"]) <= set(TAGS), where


def test_every_body_and_answer_has_an_example_that_its_schema_allows(registry: Registry) -> None:
    document = document_of(registry)
    contents = contents_of(document)
    assert len(contents) > 300
    for where, kind, content in contents:
        assert "example" in content, (where, kind)
        assert faults_of(document, content["schema"], content["example"]) == [], (where, kind)


def test_examples_are_of_the_types_that_routes_read_and_write() -> None:
    for kind in KINDS:
        msgspec.convert(examples.example(kind), kind)


def test_every_operation_names_its_body_its_token_and_its_errors(registry: Registry) -> None:
    document = document_of(registry)
    for where, operation in operations_of(document):
        takes_body = where.split()[0] in ("POST", "PUT", "PATCH")
        assert ("requestBody" in operation) == takes_body, where
        if takes_body:
            assert operation["requestBody"]["required"]
            assert " as application/" in operation["requestBody"]["description"], where
        wanted = {"429", "500", "503", "default"}
        wanted |= {"413", "415", "422"} if takes_body else set()
        wanted |= {"401", "403"} if "security" in operation else set()
        wanted |= {"404"} if "{" in where else set()
        responses = operation["responses"]
        assert wanted <= set(responses), where
        for status, one in responses.items():
            if status in wanted - ({"503"} if where == "GET /readyz" or where == "GET /healthz" else set()):
                content = resolved(document, one)["content"]
                assert content[PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}, (where, status)


def test_every_parameter_has_a_description_and_an_example_that_its_schema_allows(registry: Registry) -> None:
    document = document_of(registry)
    for where, operation in operations_of(document):
        for one in operation.get("parameters", ()):
            assert " " in one["description"] or one["name"] in one["description"], (where, one["name"])
            if "`next`" in one["description"]:  # of a list: only the registry itself makes a cursor
                continue
            assert "example" in one, (where, one["name"])
            assert faults_of(document, one["schema"], one["example"]) == [], (where, one)


def test_a_registry_that_is_not_public_asks_for_a_token_in_its_document(tmp_path: Path, keys: Path) -> None:
    from tests.certify.registry.conftest import _make_tables

    place: Laid = lay_registry(tmp_path / "closed", keys, public_read=False)
    _make_tables(f"sqlite:///{place.root / 'registry.db'}", tmp_path / "objects")
    registry = open_registry(place.root)
    try:
        document = document_of(registry)
    finally:
        registry.close()
    (feed,) = [one for where, one in operations_of(document) if where == "GET /v1/capacity"]
    assert feed["security"] == [{"token": []}]
    assert {"401", "403"} <= set(feed["responses"])


@pytest.mark.long
@pytest.mark.skipif(sys.version_info < (3, 11), reason="the generator needs Python 3.11")
def test_a_generated_client_submits_a_statement_with_records_and_reads_the_feed(
    tmp_path: Path, place: Laid, centre: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = new_token(place.root, "operator", CENTRE)[1]
    with served(place.root) as service:
        with service.client() as reading:
            (tmp_path / "openapi.json").write_bytes(reading.get("/v1/openapi.json").content)
        made = generated(tmp_path)
        assert (made.returncode, made.stderr) == (0, "")
        assert made.stdout.splitlines() == ["Generating registry_client"]
        monkeypatch.syspath_prepend(str(tmp_path))

        def operation(name: str) -> Any:
            return importlib.import_module(f"registry_client.api.{name}")

        package, types = importlib.import_module("registry_client"), importlib.import_module("registry_client.types")
        models = importlib.import_module("registry_client.models")
        out = centre.folder / "out"
        with package.AuthenticatedClient(service.url, secret) as client:
            envelope = models.Envelope.from_dict(json.loads((out / "statement.dsse.json").read_bytes()))
            decided = operation("submit.submit_statement").sync(client=client, body=envelope)
            assert isinstance(decided, models.Decided), decided
            body = types.File(BytesIO((out / "records.jsonl").read_bytes()))
            recomputed = operation("submit.submit_records").sync(decided.payload_sha256, client=client, body=body)
            assert (recomputed.decision, recomputed.level) == ("accepted", "recomputed")
            again = operation("submit.submit_statement").sync(client=client, body=envelope)
            assert again.repeated
            returned = operation("read.get_records").sync(decided.payload_sha256, client=client)
            assert returned.payload.read() == (out / "records.jsonl").read_bytes()
            assert operation("read.get_envelope").sync(decided.payload_sha256, client=client) == envelope
            refused = operation("read.get_statement").sync("0" * 64, client=client)
            assert (type(refused), refused.code) == (models.Problem, "statement-unknown")
        with package.Client(service.url) as client:
            feed = operation("read.get_capacity").sync(client=client, state="certified")
    assert {pool.centre_id for pool in feed.items} == {CENTRE}
    assert all(pool.certified_mflop_s > 0 and pool.models[0].memory_bytes for pool in feed.items)


def generated(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the generator as its command does, on a document in a folder."""
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none"]
    # it formats what it makes with ruff, which lies in the same environment
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        [*command, "--output-path", "registry_client"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
