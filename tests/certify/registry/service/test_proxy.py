"""A registry below a path of its host, behind Debian's nginx with TLS and the configuration that petaseal ships."""

from __future__ import annotations

import json
import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.registry.client.client import RegistryClient
from tests.bad_input.command import petaseal
from tests.certify.browsing import ARGUMENTS
from tests.certify.measured import Measured, node_name
from tests.certify.registry.laid import CENTRE, Laid, lay_registry
from tests.certify.registry.listening import Served, new_token, served
from tests.certify.registry.nginx import Front, fronted
from tests.certify.registry.web.test_browser import LEFT

ROOT = "/petaseal"


class City(NamedTuple):
    """A registry behind nginx, with files of tokens."""

    laid: Laid
    service: Served
    front: Front
    operator: Path
    platform: Path

    def good(self, command: str, *args: object, by: Path | None = None) -> Any:
        """Return what a command that succeeds says to machines."""
        token = () if by is None else ("--token-file", by)
        answer = petaseal("registry", command, *args, "--url", self.front.url, "--ca", self.front.ca, *token, "--json")
        assert (answer.status, answer.err) == (0, ""), answer
        return json.loads(answer.out)

    def client(self, **headers: str) -> httpx.Client:
        """Return a plain client."""
        context = ssl.create_default_context(cafile=self.front.ca)
        return httpx.Client(verify=context, headers=headers, trust_env=False, timeout=60)


@pytest.fixture(scope="module", params=["kept", "stripped"])
def city(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, keys: Path, empty_file: Path
) -> Iterator[City]:
    """The prefix stays on the way to the registry, as the shipped configuration has it, or nginx takes it off."""
    folder = tmp_path_factory.mktemp("city")
    laid = lay_registry(folder / "registry", keys)
    shutil.copyfile(empty_file, laid.root / empty_file.name)
    files = folder / "operator.token", folder / "platform.token"
    files[0].write_text(new_token(laid.root)[1])
    files[1].write_text(new_token(laid.root, "platform")[1])
    with (
        served(laid.root, root_path=f"{ROOT}/", trusted_proxies=["127.0.0.1"]) as service,
        fronted(folder / "nginx", service.port, strips=request.param == "stripped") as front,
    ):
        yield City(laid, service, front, *files)


@pytest.fixture
def statement(tmp_path: Path, centre: Measured, city: City, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a centre's statement, which was pushed."""
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))
    copy = Path(shutil.copytree(centre.folder / "out", tmp_path / "statement"))
    city.good("push", copy, by=city.operator)
    return copy


@pytest.mark.long
def test_every_command_works_below_a_path(city: City, statement: Path, centre: Measured, tmp_path: Path) -> None:
    (receipt,) = {file.name for file in statement.glob("receipt.dsse.json")}
    assert receipt
    sha256 = centre_sha256(statement)
    pool = ("--centre", CENTRE, "--project", f"P-{CENTRE}", "--pool", "main", "--reason", "contract")
    for act in ("register", "manage"):
        city.good("act", act, *pool, by=city.platform)
    record = parse_payload("node-record", parse_envelope(centre.record(0).read_bytes(), 2**26).payload).predicate
    rows = [
        {
            **msgspec.to_builtins(device),
            "model": msgspec.to_builtins(record.models[device.model]),
            "nominal_mflop_s": {},
        }
        for device in record.devices
    ]
    listing = tmp_path / "devices.json"
    listing.write_text(json.dumps({"devices": rows, "problems": []}))
    node = ("--centre", CENTRE, "--node", node_name(0), "--devices", listing, "--key", city.laid.file("node"))
    assert city.good("heartbeat", *node)["online"] is True
    assert city.good("status", "--centre", CENTRE)["centre"]["pools"]
    assert city.good("challenge", "--centre", CENTRE, by=city.operator)["challenge"]
    city.good("pull", "--statement", sha256, "--out", tmp_path / "pulled", by=city.operator)
    assert (tmp_path / "pulled" / "records.jsonl").read_bytes() == (statement / "records.jsonl").read_bytes()
    city.good("pull", "--feed", "--out", tmp_path / "feed")
    with RegistryClient(city.front.url, ca=city.front.ca) as client:
        changes = next(iter(client.follow(every_s=0.1)))
        assert {pool.centre_id for pool in changes.items} == {CENTRE}
        links = client.statement(sha256).links
    with city.client() as plain:
        origin = city.front.url.removesuffix(ROOT)
        for link in links.values():  # records, which are the operator's, are not among them
            assert link.startswith(f"{ROOT}/")
            assert plain.get(f"{origin}{link}").status_code == 200
        fed = plain.get(f"{city.front.url}/v1/capacity")
        following = fed.links["next"]["url"]
        assert following.startswith(f"{ROOT}/v1/capacity?")
        assert plain.get(f"{origin}{following}").status_code == 200
    with city.client(authorization=f"Bearer {city.platform.read_text()}") as platform:
        for path in ("/v1/nodes", "/v1/audit?format=csv&limit=1"):
            following = platform.get(f"{city.front.url}{path}").links["next"]["url"]
            assert following.startswith(f"{ROOT}{path.partition('?')[0]}?"), path
            assert platform.get(f"{origin}{following}").status_code == 200


def centre_sha256(folder: Path) -> str:
    """Return the digest of the payload of a folder's statement."""
    import hashlib

    envelope = parse_envelope((folder / "statement.dsse.json").read_bytes(), 2**26)
    return hashlib.sha256(envelope.payload).hexdigest()


def test_redirects_locations_and_the_api_s_description_bear_the_prefix(city: City, statement: Path) -> None:
    secret = city.operator.read_text()
    with city.client() as client:
        origin = city.front.url.removesuffix(ROOT)

        def leads(path: str, **headers: str) -> str:
            answer = client.get(f"{origin}{path}", headers=headers)
            assert answer.is_redirect, (path, answer)
            return answer.headers["location"].removeprefix(origin)

        assert leads(ROOT) == f"{ROOT}/"
        assert leads(f"{ROOT}/", **{"accept-language": "en"}) == f"{ROOT}/en/"
        assert leads(f"{ROOT}/zh") == f"{ROOT}/zh/"
        clear = client.get(f"http://localhost:{city.front.http}{ROOT}/zh/")
        assert (clear.status_code, clear.headers["location"]) == (308, f"https://localhost{ROOT}/zh/")
        assert client.get(f"{city.front.url}/v1/openapi.json").json()["servers"] == [{"url": ROOT}]
        envelope = (statement / "statement.dsse.json").read_bytes()
        bearer = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        again = client.post(f"{city.front.url}/v1/statements", content=envelope, headers=bearer)
        assert again.headers["location"] == f"{ROOT}/v1/statements/{again.json()['payload_sha256']}"
        assert client.get(f"{origin}{again.headers['location']}").status_code == 200
        assert again.headers["strict-transport-security"]
        # outside of the prefix nginx has nothing of the registry's
        assert "petaseal" not in client.get(f"{origin}/v1").text
        page = client.get(f"{city.front.url}/en/nothing-here")
        assert (page.status_code, f'href="{ROOT}/zh/nothing-here"' in page.text) == (404, True)
        assert client.get(f"{city.front.url}/v1/nothing-here").json()["code"] == "not-found"


def test_what_a_client_says_of_its_address_is_not_believed(city: City) -> None:
    lies = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "http", "x-forwarded-prefix": "/elsewhere"}
    with city.client(**lies) as client:
        answer = client.get(f"{city.front.url}/zh/")
    assert answer.status_code == 200
    assert "/elsewhere" not in answer.text
    assert answer.headers["strict-transport-security"]
    assert city.service.requests()[-1]["address"] == "127.0.0.1"


def test_a_large_body_in_chunks_goes_through_and_is_not_stored_on_the_way(city: City) -> None:
    bearer = {"authorization": f"Bearer {city.operator.read_text()}", "content-type": "application/json"}
    waiting = city.front.log.parent / "body"
    stored = []

    def pieces() -> Iterator[bytes]:
        yield b'{"payload": "'
        for _ in range(160):
            yield b"A" * 2**17
            stored.append(sum(file.stat().st_size for file in waiting.rglob("*") if file.is_file()))
        yield b'"}'

    with city.client(**bearer) as client:
        answer = client.post(f"{city.front.url}/v1/statements", content=pieces())
    # 20 MiB of base64 without a signature: read to its end, and refused by the registry
    assert (answer.status_code, answer.json()["code"]) == (422, "schema-invalid")
    assert max(stored) == 0


@pytest.mark.parametrize("city", ["kept"], indirect=True)
def test_the_pages_load_everything_below_the_path(city: City, statement: Path) -> None:
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing (Debian: chromium)")
        pytest.skip("chromium is missing")
    from playwright.sync_api import sync_playwright

    sha256, faults, seen = centre_sha256(statement), [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = browser.new_context(locale="en-GB", ignore_https_errors=True).new_page()
        page.on("console", lambda one: faults.append(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("requestfailed", lambda one: faults.append(one.url) if one.failure != LEFT else None)
        page.on("response", lambda answer: seen.append((answer.url, answer.status)))
        page.goto(f"{city.front.url}/")
        assert page.url == f"{city.front.url}/en/"
        page.get_by_role("link", name="Centres").first.click()
        page.wait_for_url(f"{city.front.url}/en/centres")
        page.locator(f"a[href='{ROOT}/en/centres/{CENTRE}']").first.click()
        page.wait_for_url(f"{city.front.url}/en/centres/{CENTRE}")
        page.locator("a.language").click()
        page.wait_for_url(f"{city.front.url}/zh/centres/{CENTRE}")
        page.goto(f"{city.front.url}/en/statements/{sha256}", wait_until="load")
        page.set_input_files("input[name=records]", statement / "records.jsonl")
        page.set_input_files("input[name=key-file]", city.laid.keys / "operator.pem.pub")
        page.locator("input[name=simulated]").check()
        page.get_by_role("button", name="Verify").click()
        page.locator(".answer.yes, .answer.no").wait_for()
        said = page.locator("#verify-answer").inner_text()
        assert "Merkle root" in said, said
        browser.close()
    assert faults == []
    loaded = {url.removeprefix(city.front.url) for url, status in seen if status < 400}
    assert {"/assets/site.css", "/assets/verify.mjs", "/assets/verifier.mjs", "/assets/table.mjs"} <= loaded
    assert [(url, status) for url, status in seen if status >= 400 or not url.startswith(f"{city.front.url}/")] == []
