"""What all answers of the API share (states, pages, errors, the service), and what is sent and answered to that."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from msgspec import Meta, Struct

from bench.record import Count, Name, Sha256, Text, UtcTime
from certify.documents.kinds import Level
from certify.policy.centre import Bilingual

T = TypeVar("T")
State = Literal[
    "declared",  # signed by who may sign it; its records were not recomputed here: the centre's word
    "certified",  # recomputed here from its records
    "registered",  # and entered in the register by the platform
    "managed",  # and under the platform's management (纳管)
    "schedulable",  # and heard of a moment ago: what can be scheduled now
    "expired",
    "superseded",
    "revoked",
]
REACHED: tuple[State, ...] = ("declared", "certified", "registered", "managed", "schedulable")  # ascending
ENDED: tuple[State, ...] = ("expired", "superseded", "revoked")
Scope = Literal["operator", "platform", "reader", "metrics"]
TrustState = Literal[
    "good",  # the file holds the newest version, which has not expired
    "expiring",  # so it is, and it expires within 30 days
    "file-refused",  # the file is missing or refused; the version before it has not expired
    "in-grace",  # the newest version that was accepted has expired, for less than the grace
    "ended",  # and for longer: no heartbeat is taken, and nothing can be scheduled
    "none",  # no version was ever accepted here
]
TRUST_STATES: tuple[TrustState, ...] = ("good", "expiring", "file-refused", "in-grace", "ended", "none")
WARN_DAYS = (30, 7, 1)  # before an expiry, at which it is warned of
WhichReceipt = Literal["first", "highest"]  # of a statement: the one that dates it, or that of the highest level


class ApiModel(Struct, frozen=True, kw_only=True):
    """Base of every type here. Unknown fields are passed over: a later server may tell more."""


# What somebody writes for others to read on a page, in a table or on a terminal: something, on one line. SQLite would
# store a NUL and PostgreSQL not.
PlainText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=r"^[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$(?!\n)",
        description="one line of text that does not begin with a space",
    ),
]


class ApiRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is asked for: strict."""


class Rates(ApiModel, frozen=True, kw_only=True):
    """Sum over devices."""

    devices: Count = 0
    certified_mflop_s: Count = 0
    sustained_mflop_s: Count = 0
    nominal_mflop_s: Count = 0


class Page(ApiModel, Generic[T], frozen=True, kw_only=True):
    """A part of a list, newest first; `next` is the cursor of the part after it, null at the end."""

    items: tuple[T, ...]
    next: str | None


class Problem(ApiModel, frozen=True, kw_only=True):
    """RFC 9457. `code` is a reason code (``petaseal explain CODE``); `receipt` is there where a refusal was decided."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str  # id of the request, which the registry's log bears too
    receipt: str | None = None


class Service(ApiModel, frozen=True, kw_only=True):
    """What this registry is."""

    name: Bilingual
    version: str
    api: Literal["v1"]
    registry_keyid: Sha256  # signs its receipts
    registry_spki: str  # base64 DER
    trust_root: Text  # id, version and fingerprint of what it trusts
    accepts_simulated: bool
    rehearsal: bool = False  # simulated centres add up here, and they alone: it proves nothing
    public_read: bool
    stale_after_s: Count  # a node that was not heard of for so long is not schedulable
    trust: TrustStatus | None = None


class RevocationsStatus(ApiModel, frozen=True, kw_only=True):
    """The newest revocation list. What it revokes stays revoked after it has expired."""

    version: Count
    expires_at: UtcTime
    state: Literal["good", "expiring", "expired"]
    warn_days: Count | None  # the last of 30, 7 and 1 days before its expiry that has come; 0: it has expired


class TrustStatus(ApiModel, frozen=True, kw_only=True):
    """What a registry trusts at this moment, and why that is not what lies in its trust root's file, where it is not.

    New claims are taken in the states `good` and `expiring` only. Until `grace_until` heartbeats and revocation lists
    are judged by the last good version.
    """

    state: TrustState
    code: str | None  # why the file is not used; null where it is
    trust_id: str | None
    version: Count | None  # the newest that was accepted
    fingerprint: Sha256 | None
    last_good_since: UtcTime | None  # when that version was issued
    expires_at: UtcTime | None  # when it, or the root keys that signed it, expire
    grace_until: UtcTime | None
    warn_days: Count | None  # the last of 30, 7 and 1 days before its expiry that has come; 0: it has expired
    revocations: RevocationsStatus | None  # null: no list was ever accepted

    @property
    def serves(self) -> bool:
        """Whether heartbeats are taken, so that what is under management can be scheduled."""
        return self.state not in ("ended", "none")

    @property
    def named(self) -> str:
        """The trust root in words: id, version and fingerprint."""
        if self.trust_id is None:
            return "none was ever accepted"
        return f"{self.trust_id} version {self.version}, {self.fingerprint}"


class Health(ApiModel, frozen=True, kw_only=True):
    """Whether the service answers, and what it waits for.

    A trust root that is not good does not make the service unavailable before its grace is over: `checks` names the
    code, and `trust` says the rest.
    """

    status: Literal["ok", "unavailable"]
    checks: dict[str, str]
    trust: TrustStatus | None = None


Act = Literal["register", "deregister", "manage", "release"]


class Decided(ApiModel, frozen=True, kw_only=True):
    """The answer to a submission."""

    decision: Literal["accepted", "refused"]
    at: UtcTime  # of the decision; of the first one where the same was accepted before
    code: Name | None
    detail: str | None
    level: Level | None
    payload_sha256: Sha256 | None
    receipt: str | None  # base64 of the signed receipt (a DSSE envelope)
    repeated: bool = False  # nothing new was stored
    notes: tuple[str, ...] = ()


class ChallengeAsk(ApiRequest, frozen=True, kw_only=True):
    """Draw a challenge for a campaign."""

    centre_id: Name


class Drawn(ApiModel, frozen=True, kw_only=True):
    """A challenge: it opens one campaign of one centre, which is issued between these times."""

    challenge: str
    centre_id: Name
    issued_at: UtcTime
    expires_at: UtcTime


class Nonce(ApiModel, frozen=True, kw_only=True):
    """What the next heartbeat of a node must carry; good once."""

    centre_id: Name
    node_id: Name
    nonce: str


class Beat(ApiModel, frozen=True, kw_only=True):
    """The answer to a heartbeat."""

    centre_id: Name
    node_id: Name
    online: bool  # False: it was heard, and its devices are not those that were certified
    code: str | None
    seen_at: UtcTime
    nonce: str  # for the next one
    stale_at: UtcTime


class IdentifierAsk(ApiRequest, frozen=True, kw_only=True):
    """An identifier that was issued elsewhere."""

    scheme: PlainText
    value: PlainText
    issued_by: PlainText | None = None


class ActAsk(ApiRequest, frozen=True, kw_only=True):
    """What the platform does with a pool."""

    act: Act
    centre_id: Name
    project_id: Text | None = None
    pool: Name
    reason: PlainText
    external_ids: Annotated[tuple[IdentifierAsk, ...], Meta(max_length=16)] = ()


class ActDone(ApiModel, frozen=True, kw_only=True):
    """An act as it stands in the register."""

    id: Count
    at: UtcTime
    act: Act
    centre_id: Name
    project_id: Text | None
    pool: Name
    reason: Text
