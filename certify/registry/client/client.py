"""A typed client of the registry's API: what goes in and comes out is `certify.registry.api`.

    with Registry("https://registry.example", token=secret) as registry:
        for change in registry.follow(every_s=30):
            apply(change)

An answer that is no becomes a `RefusedError` with the registry's reason code; a submission that is refused is a
`Decided`, since the registry keeps it and signs a receipt for it.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import read_bytes, replacing
from bench.record.fields import in_words
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.registry import api as types
from certify.registry.client.feed import Changes, Feed
from certify.registry.client.transport import Answer, Wire

T = TypeVar("T")
DSSE = "application/vnd.petaseal.dsse+json"
JSONL = "application/jsonl"
DECIDING_S = 900.0  # a statement of ten thousand nodes is verified before the answer
CHUNK = 2**18
PAGE = 200


class Registry:
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
        self._wire = Wire(url, token, timeout_s, ca, attempts, transport, sleep)
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"Registry({self._wire.url!r})"

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()

    # --- submitting ---------------------------------------------------------------------------------------------------

    def submit_statement(self, statement: bytes | Path) -> types.Decided:
        """Submit a statement's envelope. The same one is stored once, however often it is sent."""
        return self._submit("POST", "/statements", _content(statement, CAPS.statement_bytes))

    def submit_records(self, payload_sha256: str, path: Path) -> types.Decided:
        """Submit the ``records.jsonl`` of a statement, packed as it is read."""
        read_bytes_of = partial(_packed, path)
        headers = {"content-type": JSONL, "content-encoding": "gzip"}
        return self._submit("PUT", f"/statements/{_part(payload_sha256)}/records", read_bytes_of, headers)

    def submit_baseline(self, baseline: bytes | Path) -> types.Decided:
        """Submit a signed baseline inventory, before the statement that binds it."""
        return self._submit("POST", "/baselines", _content(baseline, CAPS.baseline_bytes))

    def submit_witness(self, witness: bytes | Path) -> types.Decided:
        """Submit a witness's document, before its statement where a policy asks for one."""
        return self._submit("POST", "/witnesses", _content(witness, CAPS.witness_bytes))

    def submit_campaign(self, campaign: bytes | Path) -> types.Decided:
        """Show a signed campaign, before its records."""
        return self._submit("POST", "/campaigns", _content(campaign, CAPS.campaign_bytes))

    def submit_record(self, campaign_sha256: str, record: bytes | Path) -> types.Decided:
        """Post one node's record of a campaign, from a centre without a shared folder."""
        path = f"/campaigns/{_part(campaign_sha256)}/records"
        return self._submit("POST", path, _content(record, CAPS.record_bytes))

    def revoke(self, revocations: bytes | Path) -> types.Decided:
        """Submit a signed revocation list."""
        return self._submit("POST", "/revocations", _content(revocations, CAPS.trust_bytes))

    def draw_challenge(self, centre_id: str) -> types.Drawn:
        """Draw a challenge for one campaign of a centre."""
        return self._post("/challenges", types.ChallengeAsk(centre_id=centre_id), types.Drawn)

    def act(self, ask: types.ActAsk) -> types.ActDone:
        """Register or manage a pool, or end that."""
        return self._post("/acts", ask, types.ActDone)

    def nonce(self, centre_id: str, node_id: str) -> types.Nonce:
        """Return what the node's next heartbeat must carry."""
        return self._get(f"/nodes/{_part(centre_id)}/{_part(node_id)}/nonce", types.Nonce)

    def beat(self, heartbeat: bytes) -> types.Beat:
        """Send a signed heartbeat; its nonce is good once, so that it is not sent again."""
        answer = self._wire.ask("POST", "/heartbeats", headers={"content-type": DSSE}, body=heartbeat, repeatable=False)
        return self._decoded(self._wire.check(answer), types.Beat)

    # --- reading ------------------------------------------------------------------------------------------------------

    def service(self) -> types.Service:
        """Return what this registry is."""
        return self._get("", types.Service)

    def statement(self, payload_sha256: str) -> types.StatementDetail:
        """Return one statement, with what was decided of it."""
        return self._get(f"/statements/{_part(payload_sha256)}", types.StatementDetail)

    def statements(
        self,
        centre: str | None = None,
        project: str | None = None,
        pool_class: str | None = None,
        district: str | None = None,
        state: str | None = None,
        level: str | None = None,
    ) -> Iterator[types.StatementSummary]:
        """Yield statements, newest first."""
        filters = {"centre": centre, "project": project, "class": pool_class, "district": district}
        return self._pages("/statements", types.StatementSummary, {**filters, "state": state, "level": level})

    def envelope(self, payload_sha256: str) -> bytes:
        """Return a statement as its operator signed it; whether it is trusted, ``petaseal verify`` says.

        Raises:
            RefusedError: `payload-differs`, the registry handed out another one.
        """
        content = self._bytes(f"/statements/{_part(payload_sha256)}/envelope")
        envelope = parse_envelope(content, CAPS.statement_bytes, self._wire.url)
        if hashlib.sha256(envelope.payload).hexdigest() != payload_sha256:
            what = f"handed out another statement than {payload_sha256}"
            raise RefusedError("payload-differs", what, where=self._wire.url)
        return content

    def receipt(self, payload_sha256: str) -> bytes:
        """Return the newest receipt that says the statement was accepted."""
        return self._bytes(f"/statements/{_part(payload_sha256)}/receipt")

    def records(self, payload_sha256: str, out: Path) -> int:
        """Write a statement's ``records.jsonl``, whole or not at all, and return its size in bytes."""
        with replacing(out, 0o600) as file:
            self._download(f"/statements/{_part(payload_sha256)}/records", file)
            return file.tell()

    def nodes(self, payload_sha256: str) -> Iterator[types.NodeCapacity]:
        """Yield what each node contributes."""
        return self._pages(f"/statements/{_part(payload_sha256)}/nodes", types.NodeCapacity, {})

    def centres(
        self,
        q: str | None = None,
        district: str | None = None,
        pool_class: str | None = None,
        state: str | None = None,
    ) -> Iterator[types.CentreSummary]:
        """Yield centres."""
        filters = {"q": q, "district": district, "class": pool_class, "state": state}
        return self._pages("/centres", types.CentreSummary, filters)

    def centre(self, centre_id: str) -> types.CentreDetail:
        """Return one centre, with its pools now."""
        return self._get(f"/centres/{_part(centre_id)}", types.CentreDetail)

    def capacity(self, since: str | None = None, **filters: str | None) -> types.Capacity:
        """Return the feed.

        Args:
            since: `next` of an earlier answer: only what changed after it, in writing or by time.
            filters: centre, district, pool_class, precision, state.
        """
        return self._get("/capacity", types.Capacity, {"since": since, **_filters(filters)})

    def capacity_csv(self, since: str | None = None, **filters: str | None) -> str:
        """Return the feed as CSV (see `capacity`)."""
        params = {"since": since, "format": "csv", **_filters(filters)}
        return self._bytes("/capacity", params).decode()

    def follow(
        self,
        since: str | None = None,
        every_s: float = 10.0,
        tell: Callable[[PetasealError], None] = lambda error: None,
        **filters: str | None,
    ) -> Iterator[Changes]:
        """Yield what changes, for ever; without `since` it begins with the whole feed.

        It goes on after a restart of the registry, and takes the whole feed anew where its cursor is not known there.

        Args:
            since: cursor that an earlier change bore.
            every_s: how often it asks.
            tell: called with each failure that it outlives.
            filters: those of `capacity`.
        """
        feed = Feed(partial(self.capacity, **filters), since)
        return feed.follow(every_s, tell, self._sleep)

    def lifecycle(self) -> types.Lifecycle:
        """Return the sums of all states."""
        return self._get("/lifecycle", types.Lifecycle)

    def cities(self) -> tuple[types.City, ...]:
        """Return the roll-up of every policy."""
        return self._get("/cities", tuple[types.City, ...])

    def city(self, policy: str) -> types.City:
        """Return the roll-up of one policy."""
        return self._get(f"/cities/{_part(policy)}", types.City)

    def alarms(self, centre: str | None = None, code: str | None = None) -> Iterator[types.Alarm]:
        """Yield alarms, newest first."""
        return self._pages("/alarms", types.Alarm, {"centre": centre, "code": code})

    def decisions(
        self,
        decision: Literal["accepted", "refused"] | None = None,
        centre: str | None = None,
        kind: str | None = None,
    ) -> Iterator[types.Decision]:
        """Yield decisions, newest first."""
        return self._pages("/decisions", types.Decision, {"decision": decision, "centre": centre, "kind": kind})

    def attempts(self, centre: str | None = None) -> Iterator[types.AttemptLine]:
        """Yield measurements that were opened, submitted or not."""
        return self._pages("/attempts", types.AttemptLine, {"centre": centre})

    def campaign_records(self, campaign_sha256: str) -> Iterator[bytes]:
        """Yield the envelopes of the records that were posted of a campaign."""
        with tempfile.TemporaryFile() as file:
            self._download(f"/campaigns/{_part(campaign_sha256)}/records", file)
            file.seek(0)
            while line := file.readline(CAPS.record_bytes + 1):
                if len(line) > CAPS.record_bytes:
                    what = f"hands out a record of more than {CAPS.record_bytes} bytes"
                    raise RefusedError("document-too-large", what, where=self._wire.url)
                yield line

    def device(self, identity: str) -> types.DeviceHistory:
        """Return where a uuid, serial or die id was counted."""
        return self._get(f"/devices/{_part(identity)}", types.DeviceHistory)

    def identifier(self, scheme: str, value: str) -> Iterator[types.ExternalIdentifier]:
        """Yield what bears an identifier that was issued elsewhere."""
        return self._pages(f"/identifiers/{_part(scheme)}/{_part(value)}", types.ExternalIdentifier, {})

    # --- how ----------------------------------------------------------------------------------------------------------

    def _get(self, path: str, kind: type[T], params: Mapping[str, str | None] | None = None) -> T:
        return self._decoded(self._wire.check(self._wire.ask("GET", path, _given(params))), kind)

    def _bytes(self, path: str, params: Mapping[str, str | None] | None = None) -> bytes:
        return self._wire.check(self._wire.ask("GET", path, _given(params))).content

    def _pages(self, path: str, kind: type[T], params: Mapping[str, str | None]) -> Iterator[T]:
        page_type: Any = types.Page[kind]  # type: ignore[valid-type]
        cursor: str | None = None
        while True:
            page = self._get(path, page_type, {**params, "limit": str(PAGE), "cursor": cursor})
            yield from page.items
            if page.next is None:
                return
            cursor = page.next

    def _download(self, path: str, file: IO[bytes]) -> None:
        def emptied() -> IO[bytes]:
            file.seek(0)
            file.truncate()
            return file

        self._wire.check(self._wire.ask("GET", path, into=emptied))

    def _post(self, path: str, ask: types.Ask, kind: type[T]) -> T:
        headers = {"content-type": "application/json"}
        body = msgspec.json.encode(ask)
        answer = self._wire.ask("POST", path, headers=headers, body=body, repeatable=False)
        return self._decoded(self._wire.check(answer), kind)

    def _submit(
        self,
        method: str,
        path: str,
        body: bytes | Callable[[], Iterator[bytes]],
        headers: Mapping[str, str] | None = None,
    ) -> types.Decided:
        answer = self._wire.ask(method, path, headers=headers or {"content-type": DSSE}, body=body, read_s=DECIDING_S)
        problem = answer.problem
        if answer.status == 422 and problem is not None and problem.receipt is not None:
            return _refused(problem, problem.receipt)
        return self._decoded(self._wire.check(answer), types.Decided)

    def _decoded(self, answer: Answer, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise self._wire.invalid(f"does not answer as a registry does ({in_words(error)})") from None


def _refused(problem: types.Problem, receipt: str) -> types.Decided:
    """Return the decision that a refusal and its receipt tell."""
    from certify.documents.kinds import parse_payload

    envelope = parse_envelope(base64.b64decode(receipt), CAPS.witness_bytes, "the receipt")
    opened = parse_payload("receipt", envelope.payload, "the receipt")
    return types.Decided(
        decision="refused",
        at=opened.predicate.received_at,
        code=problem.code,
        detail=problem.detail,
        level=opened.predicate.level,
        payload_sha256=opened.subject_digest,
        receipt=receipt,
    )


def _content(document: bytes | Path, most_bytes: int) -> bytes:
    return document if isinstance(document, bytes) else read_bytes(document, most_bytes)


def _packed(path: Path) -> Iterator[bytes]:
    """Yield a file as gzip, a piece at a time."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                if packed := packer.compress(piece):
                    yield packed
    except OSError as error:
        raise InputError("file-unreadable", f"cannot be read ({error.strerror})", where=path) from None
    yield packer.flush()


def _filters(filters: Mapping[str, str | None]) -> dict[str, str | None]:
    known = {"centre": "centre", "district": "district", "pool_class": "class", "precision": "precision"}
    known["state"] = "state"
    return {known[name]: value for name, value in filters.items()}


def _given(params: Mapping[str, str | None] | None) -> dict[str, str]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _part(text: str) -> str:
    """Return text as one part of a path."""
    return quote(text, safe="")
