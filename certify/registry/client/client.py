"""A typed client of the registry's API: what goes in and comes out is `certify.registry.api`.

    with RegistryClient("https://registry.example", token=secret) as registry:
        for change in registry.follow(every_s=30):
            apply(change)

An answer that is no becomes a `RefusedError` with the registry's reason code; a submission that is refused is a
`Decided`, since the registry keeps it and signs a receipt for it.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import httpx
import msgspec

from bench.errors import PetasealError, RefusedError
from bench.record import replacing
from bench.record.fields import in_words
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.registry.api import common, views
from certify.registry.client.feed import Changes, Feed
from certify.registry.client.transport import (
    Transport,
    TransportRequest,
    TransportResponse,
    content_of,
    decided_of_refusal,
    feed_filters,
    given_params,
    gzip_of,
    path_part,
)

T = TypeVar("T")
DSSE = "application/vnd.petaseal.dsse+json"
JSONL = "application/jsonl"
DECIDING_S = 900.0  # a statement of ten thousand nodes is verified before the answer
PAGE = 200


class RegistryClient:
    """A registry, over HTTP.

    Args:
        url: where it is, such as https://registry.example.
        token: bearer token; None where reading is public.
        timeout_s: for connecting, and for an answer that needs no verification.
        ca: PEM file of the only authorities that may vouch for it; None: those of the system.
        attempts: how often a request that may be repeated is made, at most.
        transport: in place of the network, for tests.
        sleep: waits for so many seconds.

    Raises:
        InputError: `url-invalid`, `ca-invalid`, or `token-in-clear` (plain http to another machine).
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout_s: float = 30.0,
        ca: Path | None = None,
        attempts: int = 4,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = Transport(url, token, timeout_s, ca, attempts, transport, sleep)
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"RegistryClient({self._transport.url!r})"

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    # --- submitting ---------------------------------------------------------------------------------------------------

    def submit_statement(self, statement: bytes | Path) -> common.Decided:
        """Submit a statement's envelope. The same one is stored once, however often it is sent."""
        return self._submit("POST", "/statements", content_of(statement, CAPS.statement_bytes))

    def submit_records(self, payload_sha256: str, path: Path) -> common.Decided:
        """Submit the ``records.jsonl`` of a statement, packed as it is read."""
        read_bytes_of = partial(gzip_of, path)
        headers = {"content-type": JSONL, "content-encoding": "gzip"}
        return self._submit("PUT", f"/statements/{path_part(payload_sha256)}/records", read_bytes_of, headers)

    def submit_baseline(self, baseline: bytes | Path) -> common.Decided:
        """Submit a signed baseline inventory, before the statement that binds it."""
        return self._submit("POST", "/baselines", content_of(baseline, CAPS.baseline_bytes))

    def submit_witness(self, witness: bytes | Path) -> common.Decided:
        """Submit a witness's document, before its statement where a policy asks for one."""
        return self._submit("POST", "/witnesses", content_of(witness, CAPS.witness_bytes))

    def submit_campaign(self, campaign: bytes | Path) -> common.Decided:
        """Show a signed campaign, before its records."""
        return self._submit("POST", "/campaigns", content_of(campaign, CAPS.campaign_bytes))

    def submit_record(self, campaign_sha256: str, record: bytes | Path) -> common.Decided:
        """Post one node's record of a campaign, from a centre without a shared folder."""
        path = f"/campaigns/{path_part(campaign_sha256)}/records"
        return self._submit("POST", path, content_of(record, CAPS.record_bytes))

    def revoke(self, revocations: bytes | Path) -> common.Decided:
        """Submit a signed revocation list."""
        return self._submit("POST", "/revocations", content_of(revocations, CAPS.trust_bytes))

    def draw_challenge(self, centre_id: str) -> common.Drawn:
        """Draw a challenge for one campaign of a centre."""
        return self._post("/challenges", common.ChallengeAsk(centre_id=centre_id), common.Drawn)

    def act(self, ask: common.ActAsk) -> common.ActDone:
        """Register or manage a pool, or end that."""
        return self._post("/acts", ask, common.ActDone)

    def nonce(self, centre_id: str, node_id: str) -> common.Nonce:
        """Return what the node's next heartbeat must carry."""
        return self._get(f"/nodes/{path_part(centre_id)}/{path_part(node_id)}/nonce", common.Nonce)

    def beat(self, heartbeat: bytes) -> common.Beat:
        """Send a signed heartbeat; its nonce is good once, so that it is not sent again."""
        answer = self._transport.ask(
            TransportRequest("POST", "/heartbeats", headers={"content-type": DSSE}, body=heartbeat, repeatable=False)
        )
        return self._decoded(self._transport.check(answer), common.Beat)

    # --- reading ------------------------------------------------------------------------------------------------------

    def service(self) -> common.Service:
        """Return the registry's name, place, API version and key."""
        return self._get("", common.Service)

    def statement(self, payload_sha256: str) -> views.StatementDetail:
        """Return one statement, with what was decided of it."""
        return self._get(f"/statements/{path_part(payload_sha256)}", views.StatementDetail)

    def statements(
        self,
        centre: str | None = None,
        project: str | None = None,
        pool_class: str | None = None,
        district: str | None = None,
        state: str | None = None,
        level: str | None = None,
    ) -> Iterator[views.StatementSummary]:
        """Yield statements, newest first."""
        filters = {"centre": centre, "project": project, "class": pool_class, "district": district}
        return self._pages("/statements", views.StatementSummary, {**filters, "state": state, "level": level})

    def envelope(self, payload_sha256: str) -> bytes:
        """Return a statement as its operator signed it; whether it is trusted, ``petaseal verify`` says.

        Raises:
            RefusedError: `payload-differs`, the registry handed out another one.
        """
        content = self._bytes(f"/statements/{path_part(payload_sha256)}/envelope")
        envelope = parse_envelope(content, CAPS.statement_bytes, self._transport.url)
        # a registry, or a proxy before it, could hand out another statement that is validly signed
        if hashlib.sha256(envelope.payload).hexdigest() != payload_sha256:
            what = f"handed out another statement than {payload_sha256}"
            raise RefusedError("payload-differs", what, where=self._transport.url)
        return content

    def receipt(self, payload_sha256: str) -> bytes:
        """Return the first receipt that says the statement was accepted: the one that dates it."""
        return self._bytes(f"/statements/{path_part(payload_sha256)}/receipt")

    def records(self, payload_sha256: str, out: Path) -> int:
        """Write a statement's ``records.jsonl``, whole or not at all, and return its size in bytes."""
        with replacing(out, 0o600) as file:
            self._download(f"/statements/{path_part(payload_sha256)}/records", file)
            return file.tell()

    def nodes(self, payload_sha256: str) -> Iterator[views.NodeCapacity]:
        """Yield what each node contributes."""
        return self._pages(f"/statements/{path_part(payload_sha256)}/nodes", views.NodeCapacity, {})

    def centres(
        self,
        q: str | None = None,
        district: str | None = None,
        pool_class: str | None = None,
        state: str | None = None,
    ) -> Iterator[views.CentreSummary]:
        """Yield centres."""
        filters = {"q": q, "district": district, "class": pool_class, "state": state}
        return self._pages("/centres", views.CentreSummary, filters)

    def centre(self, centre_id: str) -> views.CentreDetail:
        """Return one centre, with its pools now."""
        return self._get(f"/centres/{path_part(centre_id)}", views.CentreDetail)

    def capacity(self, since: str | None = None, **filters: str | None) -> views.CapacityFeed:
        """Return the feed.

        Args:
            since: `next` of an earlier answer: only what changed after it, in writing or by time.
            filters: centre, district, pool_class, precision, state.
        """
        return self._get("/capacity", views.CapacityFeed, {"since": since, **feed_filters(filters)})

    def capacity_csv(self, since: str | None = None, **filters: str | None) -> str:
        """Return the feed as CSV (see `capacity`)."""
        params = {"since": since, "format": "csv", **feed_filters(filters)}
        return self._bytes("/capacity", params).decode()

    def follow(
        self,
        since: str | None = None,
        every_s: float = 10.0,
        report: Callable[[PetasealError], None] = lambda error: None,
        **filters: str | None,
    ) -> Iterator[Changes]:
        """Yield what changes, for ever; without `since` it begins with the whole feed.

        It goes on after a restart of the registry, and takes the whole feed anew where its cursor is not known there.

        Args:
            since: cursor that an earlier change bore.
            every_s: how often it asks.
            report: called with each failure that it outlives.
            filters: those of `capacity`.
        """
        feed = Feed(partial(self.capacity, **filters), since)
        return feed.follow(every_s, report, self._sleep)

    def lifecycle(self) -> views.Lifecycle:
        """Return the sums of capacity by life-cycle state."""
        return self._get("/lifecycle", views.Lifecycle)

    def cities(self) -> tuple[views.City, ...]:
        """Return the roll-up of every policy."""
        return self._get("/cities", tuple[views.City, ...])

    def city(self, policy: str) -> views.City:
        """Return the roll-up of one policy."""
        return self._get(f"/cities/{path_part(policy)}", views.City)

    def alarms(self, centre: str | None = None, code: str | None = None) -> Iterator[views.Alarm]:
        """Yield alarms, newest first."""
        return self._pages("/alarms", views.Alarm, {"centre": centre, "code": code})

    def decisions(
        self,
        decision: Literal["accepted", "refused"] | None = None,
        centre: str | None = None,
        kind: str | None = None,
    ) -> Iterator[views.Decision]:
        """Yield decisions, newest first."""
        return self._pages("/decisions", views.Decision, {"decision": decision, "centre": centre, "kind": kind})

    def attempts(self, centre: str | None = None) -> Iterator[views.AttemptLine]:
        """Yield measurements that were opened, submitted or not."""
        return self._pages("/attempts", views.AttemptLine, {"centre": centre})

    def campaign_records(self, campaign_sha256: str) -> Iterator[bytes]:
        """Yield the envelopes of the records that were posted of a campaign."""
        with tempfile.TemporaryFile() as file:
            self._download(f"/campaigns/{path_part(campaign_sha256)}/records", file)
            # an earlier attempt may have written a part of it
            file.seek(0)
            while line := file.readline(CAPS.record_bytes + 1):
                if len(line) > CAPS.record_bytes:
                    what = f"hands out a record of more than {CAPS.record_bytes} bytes"
                    raise RefusedError("document-too-large", what, where=self._transport.url)
                yield line

    def device(self, identity: str) -> views.DeviceHistory:
        """Return where a uuid, serial or die id was counted."""
        return self._get(f"/devices/{path_part(identity)}", views.DeviceHistory)

    def identifier(self, scheme: str, value: str) -> Iterator[views.ExternalIdentifier]:
        """Yield what bears an identifier that was issued elsewhere."""
        return self._pages(f"/identifiers/{path_part(scheme)}/{path_part(value)}", views.ExternalIdentifier, {})

    # --- how ----------------------------------------------------------------------------------------------------------

    def _read(self, path: str, params: Mapping[str, str | None] | None) -> TransportResponse:
        return self._transport.check(self._transport.ask(TransportRequest("GET", path, given_params(params))))

    def _get(self, path: str, kind: type[T], params: Mapping[str, str | None] | None = None) -> T:
        return self._decoded(self._read(path, params), kind)

    def _bytes(self, path: str, params: Mapping[str, str | None] | None = None) -> bytes:
        return self._read(path, params).content

    def _pages(self, path: str, kind: type[T], params: Mapping[str, str | None]) -> Iterator[T]:
        page_type: Any = common.Page[kind]  # type: ignore[valid-type]
        cursor: str | None = None
        while True:
            page = self._get(path, page_type, {**params, "limit": str(PAGE), "cursor": cursor})
            yield from page.items
            if page.next is None:
                return
            # keyset paging (not offsets): lines that come meanwhile move nothing
            cursor = page.next

    def _download(self, path: str, file: IO[bytes]) -> None:
        def emptied() -> IO[bytes]:
            file.seek(0)
            file.truncate()
            return file

        self._transport.check(self._transport.ask(TransportRequest("GET", path, into=emptied)))

    def _post(self, path: str, ask: common.ApiRequest, kind: type[T]) -> T:
        headers = {"content-type": "application/json"}
        body = msgspec.json.encode(ask)
        answer = self._transport.ask(TransportRequest("POST", path, headers=headers, body=body, repeatable=False))
        return self._decoded(self._transport.check(answer), kind)

    def _submit(
        self,
        method: str,
        path: str,
        body: bytes | Callable[[], Iterator[bytes]],
        headers: Mapping[str, str] | None = None,
    ) -> common.Decided:
        answer = self._transport.ask(
            TransportRequest(method, path, headers=headers or {"content-type": DSSE}, body=body, read_s=DECIDING_S)
        )
        problem = answer.problem
        # a refusal with a receipt was decided and stored: it is an answer, not a failure
        if answer.status == 422 and problem is not None and problem.receipt is not None:
            return decided_of_refusal(problem, problem.receipt)
        return self._decoded(self._transport.check(answer), common.Decided)

    def _decoded(self, answer: TransportResponse, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise self._transport.invalid(f"does not answer as a registry does ({in_words(error)})") from None
