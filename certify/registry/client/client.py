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
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from bench.errors import PetasealError, RefusedError
from bench.record import replacing
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.registry.api import common, views
from certify.registry.api.cities import City, Lifecycle
from certify.registry.api.reached import Reached, Trend
from certify.registry.client.feed import Changes, Feed
from certify.registry.client.nodes import NodeCalls
from certify.registry.client.oversight import OversightCalls
from certify.registry.client.presence import DSSE, JSONL, PresenceClient
from certify.registry.client.transport import (
    TransportRequest,
    content_of,
    decided_of_refusal,
    feed_filters,
    gzip_of,
    path_part,
)

DECIDING_S = 900.0  # a statement of ten thousand nodes is verified before the answer


class RegistryClient(PresenceClient, OversightCalls, NodeCalls):
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

    def __enter__(self) -> RegistryClient:
        return self

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
        return self._send("POST", "/challenges", common.ChallengeAsk(centre_id=centre_id), common.Drawn)

    def act(self, ask: common.ActAsk) -> common.ActDone:
        """Register or manage a pool, or end that."""
        return self._send("POST", "/acts", ask, common.ActDone)

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
        **devices: str | None,
    ) -> Iterator[views.StatementSummary]:
        """Yield statements, newest first; `devices` filters further, by jurisdiction, vendor and model."""
        filters = {"centre": centre, "project": project, "class": pool_class, "district": district}
        more = {"state": state, "level": level, **devices}
        return self._pages("/statements", views.StatementSummary, {**filters, **more})

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

    def receipt(self, payload_sha256: str, which: common.WhichReceipt = "first") -> bytes:
        """Return the first receipt that it was accepted, which dates it, or that of the highest level."""
        return self._bytes(f"/statements/{path_part(payload_sha256)}/receipt", {"which": which})

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
        **devices: str | None,
    ) -> Iterator[views.CentreSummary]:
        """Yield centres; `devices` filters further, by jurisdiction, vendor and model."""
        filters = {"q": q, "district": district, "class": pool_class, "state": state, **devices}
        return self._pages("/centres", views.CentreSummary, filters)

    def centre(self, centre_id: str) -> views.CentreDetail:
        """Return one centre, with its pools now."""
        return self._get(f"/centres/{path_part(centre_id)}", views.CentreDetail)

    def capacity(self, since: str | None = None, **filters: str | None) -> views.CapacityFeed:
        """Return the feed.

        Args:
            since: `next` of an earlier answer: only what changed after it, in writing or by time.
            filters: centre, district, pool_class, precision, state, jurisdiction, vendor, model.
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

    def lifecycle(self) -> Lifecycle:
        """Return the sums of capacity by life-cycle state."""
        return self._get("/lifecycle", Lifecycle)

    def cities(self) -> tuple[City, ...]:
        """Return the roll-up of every policy."""
        return self._get("/cities", tuple[City, ...])

    def city(self, policy: str) -> City:
        """Return the roll-up of one policy."""
        return self._get(f"/cities/{path_part(policy)}", City)

    def trend(self, policy: str) -> Trend:
        """Return how a city's sums became what they are."""
        return self._get(f"/cities/{path_part(policy)}/trend", Trend)

    def reached(self) -> tuple[Reached, ...]:
        """Return who reached the value of each policy for single centres."""
        return self._get("/reached", tuple[Reached, ...])

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
