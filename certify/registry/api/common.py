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


class ApiModel(Struct, frozen=True, kw_only=True):
    """Base of every type here. Unknown fields are passed over: a later server may tell more."""


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
    public_read: bool
    stale_after_s: Count  # a node that was not heard of for so long is not schedulable


class Health(ApiModel, frozen=True, kw_only=True):
    """Whether the service answers, and what it waits for."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str]


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

    scheme: Text
    value: Text
    issued_by: Text | None = None


class ActAsk(ApiRequest, frozen=True, kw_only=True):
    """What the platform does with a pool."""

    act: Act
    centre_id: Name
    project_id: Text | None = None
    pool: Name
    reason: Text
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
