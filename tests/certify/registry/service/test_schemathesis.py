"""The whole API as its OpenAPI document describes it, and as it does not: no request makes it fail, and every answer
is one that the document knows. In process, on a registry that holds a statement with its records.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import booleans, just, sampled_from
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from certify.registry.base import tokens
from certify.registry.base.registry import open_registry
from certify.registry.base.tokens import Token
from certify.registry.intake import campaigns, ingest
from certify.registry.service.app import create_app
from tests.certify.measured import Measured
from tests.certify.registry.laid import CENTRE, Laid, lay_registry
from tests.certify.registry.listening import new_token, served
from tests.certify.registry.service.test_openapi import OPERATIONS

EXAMPLES = (1, pytest.param(6, marks=pytest.mark.long))  # of each route and mode
MUCH = 10**9
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
# Of what the registry holds: an address made at random would answer 404 and never show what an answer is.
KNOWN: dict[str, Any] = {"centre_id": CENTRE, "policy": "guangzhou-2027"}
SECRETS: list[str | None] = [None]  # nobody's, and of the tokens that `api` makes


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, keys: Any, centre: Measured) -> Iterator[Any]:
    """The API of a registry that holds something."""
    limits = {"requests_per_minute": MUCH, "burst": MUCH, "submissions_per_hour": MUCH, "upload_bytes": 2**20}
    place = lay_registry(tmp_path_factory.mktemp("api") / "registry", keys, limits=limits)
    registry = open_registry(place.root)
    with registry.store.writing() as connection:
        made: list[tuple[Token, str]] = [
            tokens.create_token(connection, "operator", "operator", CENTRE, registry.now, 1),
            tokens.create_token(connection, "platform", "platform", None, registry.now, 1),
        ]
    SECRETS[1:] = [secret for _, secret in made]
    operator = made[0][0]
    out = centre.folder / "out"
    stored = ingest.submit_statement(registry, (out / "statement.dsse.json").read_bytes(), operator)
    assert stored.payload_sha256 is not None
    KNOWN["sha256"] = stored.payload_sha256
    with registry.store.objects.staging() as staged:
        staged.write((out / "records.jsonl").read_bytes())
        staged.close()
        assert ingest.submit_records(registry, stored.payload_sha256, staged, operator).decision == "accepted"
    campaigns.draw_challenge(registry, CENTRE, operator)
    yield schemathesis.openapi.from_asgi("/v1/openapi.json", create_app(registry))
    registry.close()


@pytest.mark.long
@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("examples", EXAMPLES)
def test_no_request_makes_it_fail(api: Any, mode: GenerationMode, examples: int) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    assert {operation.definition.raw["operationId"] for operation in operations} == set(OPERATIONS)
    for operation in operations:

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=operation.as_strategy(generation_mode=mode),
            secret=sampled_from(SECRETS),
            known=booleans() if examples > 1 else just(True),
        )
        def ask(case: Any, secret: str | None, known: bool) -> None:
            if known and mode is GenerationMode.POSITIVE:
                case.path_parameters = {name: KNOWN.get(name, made) for name, made in case.path_parameters.items()}
            headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
            case.call_and_validate(headers=headers, checks=CHECKS)

        with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():  # nothing to get wrong
            ask()


@pytest.mark.long
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_its_own_command_finds_nothing_in_any_phase(place: Laid, tmp_path: Path) -> None:
    settings_of_many = place.root / "registry.yaml"
    limits = f"limits: {{requests_per_minute: {MUCH}, burst: {MUCH}, submissions_per_hour: {MUCH}}}\n"
    settings_of_many.write_text(settings_of_many.read_text() + limits)
    secret = new_token(place.root, "platform")[1]
    with served(place.root) as service:
        # a document is accepted for its signature and a cursor for who made it: what only fits the schema is refused
        left_out = ["--exclude-checks", "positive_data_acceptance"]
        command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{service.url}/v1/openapi.json"]
        bounds = ["--max-examples", "3", "--seed", "1", "--no-color", "-H", f"Authorization: Bearer {secret}"]
        made = subprocess.run(
            [*command, *left_out, *bounds],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert made.returncode == 0, made.stdout[-5000:]
        assert f"Tested: {len(OPERATIONS)}" in made.stdout
