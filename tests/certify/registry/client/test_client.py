"""The client against a registry that is really served, from a challenge to the feed and through a restart."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from msgspec.structs import replace

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import Device, digest
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.registry.api.common import ActAsk, IdentifierAsk
from certify.registry.client.client import RegistryClient
from certify.registry.client.heartbeat import Heart
from tests.certify.measured import Measured, node_name
from tests.certify.registry.laid import CENTRE, OTHER, Laid, lay_registry
from tests.certify.registry.serving import new_token, serving


class Running(NamedTuple):
    """A served registry, clients of it, and a statement that it took in."""

    laid: Laid
    url: str
    operator: RegistryClient
    platform: RegistryClient
    everybody: RegistryClient
    sha256: str


opened: list[RegistryClient] = []


def client(url: str, secret: str | None = None, **options: Any) -> RegistryClient:
    """Return a client that does not wait long, and is closed after its test."""
    opened.append(RegistryClient(url, secret, sleep=lambda wait_s: time.sleep(min(wait_s, 0.05)), **options))
    return opened[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    before = len(opened)  # those of `running` stay
    yield
    while len(opened) > before:
        opened.pop().close()


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, keys: Path, empty_file: Path, centre: Measured
) -> Iterator[Running]:
    laid = lay_registry(tmp_path_factory.mktemp("client") / "registry", keys)
    shutil.copyfile(empty_file, laid.root / empty_file.name)
    operator, platform = new_token(laid.root), new_token(laid.root, "platform")
    with (
        serving(laid.root) as url,
        client(url, operator) as operating,
        client(url, platform) as overseeing,
        client(url) as reading,
    ):
        yield Running(laid, url, operating, overseeing, reading, submitted(operating, centre))


def out_of(centre: Measured) -> Path:
    return centre.folder / "out"


def submitted(registry: RegistryClient, centre: Measured) -> str:
    """Submit a statement and its records, and return its payload digest."""
    decided = registry.submit_statement(out_of(centre) / "statement.dsse.json")
    assert (decided.decision, decided.code) == ("accepted", None), decided
    assert decided.payload_sha256 is not None
    records = registry.submit_records(decided.payload_sha256, out_of(centre) / "records.jsonl")
    assert (records.decision, records.level) == ("accepted", "recomputed"), records
    return decided.payload_sha256


def subject(receipt: bytes) -> tuple[str, str]:
    found = parse_payload("receipt", parse_envelope(receipt, 2**16).payload)
    return found.subject_digest, found.predicate.decision


def devices_of(centre: Measured, index: int) -> tuple[Device, ...]:
    payload = parse_envelope(centre.record(index).read_bytes(), 2**22).payload
    devices: tuple[Device, ...] = parse_payload("node-record", payload).predicate.devices
    return devices


def test_from_a_statement_to_the_feed(running: Running, centre: Measured, tmp_path: Path) -> None:
    sha256, everybody = running.sha256, running.everybody
    again = running.operator.submit_statement((out_of(centre) / "statement.dsse.json").read_bytes())
    assert (again.decision, again.repeated) == ("accepted", True)
    assert again.receipt is not None
    assert subject(base64.b64decode(again.receipt)) == (sha256, "accepted")

    service = everybody.service()
    assert (service.api, service.accepts_simulated) == ("v1", True)
    assert service.registry_keyid == running.laid.keyid("registry")
    assert everybody.envelope(sha256) == (out_of(centre) / "statement.dsse.json").read_bytes()
    assert subject(everybody.receipt(sha256)) == (sha256, "accepted")
    detail = everybody.statement(sha256)
    assert (detail.summary.payload_sha256, detail.summary.simulated) == (sha256, True)
    assert [one.payload_sha256 for one in everybody.statements(centre=CENTRE, pool_class="intelligent")] == [sha256]
    assert CENTRE in [one.centre_id for one in everybody.centres(q="test")]
    assert everybody.centre(CENTRE).summary.in_force == 1
    (line,) = everybody.capacity(centre=CENTRE, pool_class="intelligent").items
    assert (line.state, line.statement) == ("certified", sha256)
    assert sha256 in everybody.capacity_csv(centre=CENTRE)
    assert all(one.own.certified_mflop_s == 0 for one in everybody.lifecycle().lines)  # simulated: in no sum
    assert {city.policy for city in everybody.cities()} == {"guangzhou-2027", "wuhan-2025"}
    assert everybody.city("wuhan-2025").policy == "wuhan-2025"
    assert list(everybody.alarms(centre=CENTRE)) == []
    assert running.operator.records(sha256, tmp_path / "records.jsonl") > 0
    assert (tmp_path / "records.jsonl").read_bytes() == (out_of(centre) / "records.jsonl").read_bytes()
    assert [one.node_id for one in running.operator.nodes(sha256)] == [node_name(0)]
    assert {one.kind for one in running.platform.decisions(centre=CENTRE)} == {"statement", "records"}
    history = running.platform.device(str(devices_of(centre, 0)[0].uuid))
    assert history.counted_in == sha256


def test_what_is_not_ones_own(running: Running, other_centre: Measured, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        running.operator.submit_statement(out_of(other_centre) / "statement.dsse.json")
    assert refused.value.code == "token-centre-differs"
    for registry, code in ((running.everybody, "token-missing"), (client(running.url, "ptr_no"), "token-invalid")):
        with pytest.raises(RefusedError) as refused:
            registry.records(running.sha256, tmp_path / "records.jsonl")
        assert refused.value.code == code
    assert list(tmp_path.glob("*records*")) == []
    with pytest.raises(RefusedError) as refused:
        running.operator.statement("ab" * 32)
    assert refused.value.code == "statement-unknown"


def test_a_refusal_is_a_decision_with_a_receipt(running: Running, centre: Measured, other_centre: Measured) -> None:
    sha256 = running.platform.submit_statement(out_of(other_centre) / "statement.dsse.json").payload_sha256
    assert sha256 is not None
    refused = running.platform.submit_records(sha256, out_of(centre) / "records.jsonl")
    assert (refused.decision, refused.level, refused.payload_sha256) == ("refused", None, sha256)
    assert refused.code is not None
    assert refused.receipt is not None
    assert subject(base64.b64decode(refused.receipt)) == (sha256, "refused")
    with pytest.raises(RefusedError) as unreadable:
        running.operator.submit_statement(b'{"payload":"x"}')
    assert unreadable.value.code  # nothing could be named in a receipt


def test_records_that_cannot_be_read(running: Running, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        running.operator.submit_records(running.sha256, tmp_path / "missing.jsonl")
    assert refused.value.code == "file-unreadable"


def test_a_campaign_without_a_shared_folder(running: Running, centre: Measured) -> None:
    drawn = running.operator.draw_challenge(CENTRE)
    assert drawn.centre_id == CENTRE
    assert running.operator.submit_campaign(centre.campaign).decision == "accepted"
    payload = parse_envelope(centre.campaign.read_bytes(), 2**25).payload
    campaign_sha256 = digest(parse_payload("campaign", payload).predicate)
    assert list(running.operator.campaign_records(campaign_sha256)) == []
    posted = running.operator.submit_record(campaign_sha256, centre.record(0))
    assert (posted.decision, posted.repeated) == ("accepted", False)
    assert list(running.operator.campaign_records(campaign_sha256)) == [centre.record(0).read_bytes()]
    states = {one.challenge: (one.state, one.records) for one in running.platform.attempts(centre=CENTRE)}
    assert states[drawn.challenge] == ("open", 0)


def test_a_node_is_kept_on_line(running: Running, centre: Measured) -> None:
    ask = ActAsk(act="register", centre_id=CENTRE, project_id=f"P-{CENTRE}", pool="main", reason="contract")
    identifier = IdentifierAsk(scheme="cn-suanli", value="A-1", issued_by="somebody")
    assert running.platform.act(replace(ask, external_ids=(identifier,))).act == "register"
    assert running.platform.act(replace(ask, act="manage")).act == "manage"
    assert [one.pool for one in running.platform.identifier("cn-suanli", "A-1")] == ["main"]

    everybody, own = running.everybody, list(devices_of(centre, 0))
    heart = Heart(everybody, CENTRE, node_name(0), running.laid.key("node"), lambda: own)
    first, second = heart.beat(), heart.beat()
    assert (first.online, second.online) == (True, True)
    assert first.nonce != second.nonce
    Heart(everybody, CENTRE, node_name(0), running.laid.key("node"), lambda: own).beat()  # takes the nonce
    assert heart.beat().online
    assert everybody.capacity(centre=CENTRE).items[0].nodes_online == 1
    own[0] = replace(own[0], uuid="gpu-anotherone")
    changed = heart.beat()
    assert (changed.online, changed.code) == (False, "devices-differ")
    assert everybody.capacity(centre=CENTRE).items[0].nodes_online == 0
    for name in ("release", "deregister"):
        running.platform.act(replace(ask, act=name))
    assert everybody.capacity(centre=CENTRE).items[0].state == "certified"


def test_a_node_that_is_not_certified(running: Running, centre: Measured) -> None:
    own = devices_of(centre, 0)
    for node, person, code in ((node_name(0), "other-node", "centre-not-allowed"), ("nobody", "node", "node-unknown")):
        heart = Heart(running.everybody, CENTRE, node, running.laid.key(person), lambda: own)
        with pytest.raises(RefusedError) as refused:
            next(iter(heart.keep_beating(1.0)))
        assert refused.value.code == code


@pytest.mark.long
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_nodes_and_platforms_go_on_when_the_registry_is_back(
    place: Laid, centre: Measured, other_centre: Measured
) -> None:
    missed: list[PetasealError] = []
    platform = new_token(place.root, "platform")
    with contextlib.ExitStack() as later:

        def wait(wait_s: float) -> None:
            if len(missed) == 2:
                later.enter_context(serving(place.root, port=port))

        with serving(place.root) as url:
            following = client(url, attempts=1).follow(every_s=0.01, report=missed.append)
            first = next(following)
            assert (first.centres, first.items) == (None, ())
            sha256 = submitted(client(url, platform), centre)
            second = next(following)
            assert (second.centres, {item.statement for item in second.items}) == ((CENTRE,), {sha256})
            own = devices_of(centre, 0)
            heart = Heart(client(url, attempts=1), CENTRE, node_name(0), place.key("node"), lambda: own)
            beats = iter(heart.keep_beating(1.0, wait, missed.append))
            assert next(beats).online
        port = int(url.rpartition(":")[2])
        assert next(beats).online  # it was started again meanwhile
        assert [error.code for error in missed] == ["registry-unreachable"] * 2

        submitted(client(url, platform), other_centre)
        third = next(step for step in following if any(item.centre_id == OTHER for item in step.items))
        assert {item.pool for item in third.items} == {"main"}
        resumed = next(client(url).follow(since=second.cursor, every_s=0.01))
        assert resumed.centres is not None
        assert OTHER in resumed.centres
        anew = next(client(url).follow(since="of-another-registry", every_s=0.01))
        assert anew.centres is None
        assert {item.centre_id for item in anew.items} == {CENTRE, OTHER}


def test_a_statement_is_revoked(running: Running, other_centre: Measured) -> None:
    sha256 = submitted(running.platform, other_centre)
    listed = running.laid.revocations(statements=(sha256,))
    with pytest.raises(RefusedError) as refused:
        running.operator.revoke(listed)
    assert refused.value.code == "token-scope"
    assert running.platform.revoke(listed).decision == "accepted"
    summary = running.everybody.statement(sha256).summary
    assert (summary.state, summary.ended_code) == ("revoked", "statement-revoked")


def test_another_statement_than_was_asked_for(running: Running, centre: Measured) -> None:
    content = (out_of(centre) / "statement.dsse.json").read_bytes()
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=content))
    with pytest.raises(RefusedError) as refused:
        client(running.url, transport=transport).envelope(hashlib.sha256(b"another").hexdigest())
    assert refused.value.code == "payload-differs"
