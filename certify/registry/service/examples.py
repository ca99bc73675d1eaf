"""Examples for the OpenAPI document: one function makes them from the types that answers are written from.

A field's value comes from one table by the field's name where the value there fits the field's type, and else from the
type alone. So a new field has an example at once, and no example can differ from its type.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from msgspec import inspect

from certify.documents.kinds import PAYLOAD_TYPE, STATEMENT_TYPE
from certify.registry.api.reached import Reached, Trend
from certify.registry.state.city.listed_csv import reached_csv, trend_csv
from certify.registry.state.feeds.sheets import csv_of

_AT = "2027-03-01T08:00:00.000000Z"
_LATER = "2027-08-28T08:00:00.000000Z"
_SHA256 = "3f1c0a5e9b7d42684c1e8f70a2b95d3e6f41c87b0d9a2e5f36b8c4d1e7f09a25"
_SIGNATURE = base64.b64encode(bytes(range(64))).decode()
_MFLOP_S = 286_720_000_000  # 1024 devices of 280 TFLOPS each
# Name of a field or parameter -> values of which the first that fits is used; `Type.field` goes before `field`.
VALUES: dict[str, tuple[Any, ...]] = {
    "accepted": (True,),
    "accumulate": ("fp32",),
    "acknowledged": (True,),
    "act": ("manage",),
    "action": ("acknowledge",),
    "alarms": (0,),
    "alias": ("cn-0007",),
    "Alarm.code": ("device-claimed-twice",),
    "AlarmGroup.code": ("device-claimed-twice",),
    "attempts": (1,),
    "AuditLine.outcome": ("done",),
    "AuditLine.target": ("/v1/alarms/7/acknowledgement",),
    "basis": ("certified",),
    "by": ("centres",),
    "campaign_id": ("gz-nansha-2027-03",),
    "centre": ("gz-nansha",),
    "centre_id": ("gz-nansha",),
    "certified_mflop_s": (_MFLOP_S,),
    "certified_pflops": ("286.720000",),
    "centres": (3,),
    "challenge": ("9c0d1f6a2b7e4835a1c9d0e7f2b64853",),
    "challenge_source": ("registry",),
    "choice": ("fixed",),
    "city": ("CN-440100",),
    "class": ("intelligent",),
    "clause": ("4.1",),
    "clause_text": ("intelligent compute of at least 100 EFLOPS",),
    "code": (None, "device-claimed-twice", "expired"),
    "condition": ("intelligent-total",),
    "count_unit": ("card",),
    "decision": ("accepted",),
    "detail": (None, "the token is of another centre"),
    "device": ("GPU-5f2b7c1e-93a4-4d0e-8b61-0c7f9e2ad135",),
    "devices": (1024,),
    "devices_per_node": (8,),
    "devices_per_node_most": (8,),
    "district": ("Nansha",),
    "en": ("Nansha Intelligent Computing Centre",),
    "ended_at": (None,),
    "ended_code": (None,),
    "expires_at": (_LATER,),
    "format": ("json",),
    "grade": ("certification",),
    "id": (7, "GPU-5f2b7c1e-93a4-4d0e-8b61-0c7f9e2ad135"),
    "instance": ("0e6b2d4f7a9c4c1d",),
    "issued_by": ("Guangdong computing power service",),
    "jurisdiction": ("CN-440113",),
    "kind": ("statement",),
    "level": ("recomputed",),
    "limit": (50,),
    "line": (1,),
    "memory_bytes": (68_719_476_736,),
    "memory_bytes_most": (68_719_476_736,),
    "model": ("Ascend 910B3",),
    "ModelLine.nodes": (128,),
    "next": ("WyIyMDI3LTAzLTAxIiw3XQ",),
    "Missing.code": ("expired",),
    "Missing.examples": (["gz-nansha"],),
    "node_id": ("node-0007",),
    "node_ids": (["node-0007", "node-0008"],),
    "nodes": (128,),
    "nodes_online": (128,),
    "nominal_mflop_s": (327_680_000_000,),
    "nominal_pflops": ("327.680000",),
    "nonce": ("q8Zt1v0cQe2WmX5d",),
    "notes": ([],),
    "number": (7,),
    "online": (True,),
    "operator": ("Guangzhou Computing Ltd", ">="),
    "operators": (3,),
    "outcome": ("done",),
    "place": ("node-0007/npu:0",),
    "policy": ("guangzhou-2027",),
    "pool": ("main",),
    "pool_class": ("intelligent",),
    "PoolCapacity.external_ids": (["suanli:CN-44-0007"],),
    "precision": ("fp16",),
    "Problem.code": ("token-centre-differs",),
    "Problem.title": ("The token is of another centre.",),
    "project": ("phase-2",),
    "project_id": ("phase-2",),
    "public_read": (True,),
    "q": ("Nansha",),
    "reason": (None, "entered in the register by decision 2027-14"),
    "receipt": (None,),
    "records": (128,),
    "registry_spki": (base64.b64encode(bytes(range(44))).decode(),),
    "request_id": ("0e6b2d4f7a9c4c1d",),
    "schedulable_mflop_s": (_MFLOP_S,),
    "schedulable_pflops": ("286.720000",),
    "scheme": ("suanli",),
    "sequence": (2,),
    "sha256": (_SHA256,),
    "since": (_AT,),
    "source": ("platform",),
    "stale_after_s": (300,),
    "state": ("schedulable", "good"),
    "status": (403, "ok"),
    "step": ("measured",),
    "superseded_by": (None,),
    "sustained_mflop_s": (270_336_000_000,),
    "sustained_pflops": ("270.336000",),
    "target": (100,),
    "target_unit": ("EFLOPS",),
    "tier": ("city",),
    "token": (3, "platform"),
    "token_id": (3,),
    "trust_id": ("cn-gz",),
    "trust_root": (f"cn-gz version 4, {_SHA256}",),
    "type": ("urn:petaseal:reason:token-centre-differs",),
    "title": ({"zh": "智能算力总规模", "en": "Intelligent compute in total"},),
    "unknown": ([],),
    "until": ("2027-04-01T08:00:00.000000Z",),
    "valid_until": (_LATER,),
    "value": ("CN-44-0007",),
    "vendor": ("Huawei",),
    "verdict": ("met",),
    "version": (4, "0.2.0"),
    "warn_days": (None,),
    "which": ("first",),
    "zh": ("南沙智算中心",),
}
_MEMBERS = {"checks": ("database", "ok"), "links": ("page", f"/en/statements/{_SHA256}"), "tiers": ("city", 3)}
_BY_PATTERN = {"[0-9a-f]{64}": _SHA256, "[0-9]{4}-[0-9]{2}": _AT, "[a-z0-9][a-z0-9._-]": "gz-nansha"}


def example(kind: Any) -> Any:
    """Return an example of a type of the API, as plain JSON values."""
    return _value(inspect.type_info(kind), "", "")


def csv_example(kind: Any) -> str:
    """Return the CSV of a list's example, as its route writes it."""
    value = msgspec.convert(example(kind), kind)
    if isinstance(value, Trend):
        return trend_csv(value).decode()
    if isinstance(value, tuple) and isinstance(value[0], Reached):
        return reached_csv(value).decode()
    return csv_of(type(value.items[0]), value.items).decode()


def envelope_example(document: str) -> dict[str, Any]:
    """Return an envelope of a kind of document, whose predicate is shortened."""
    payload = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": document, "digest": {"sha256": _SHA256}}],
        "predicateType": f"urn:petaseal:{document}/v0.2",
        "predicate": {"centre_id": "gz-nansha"},
    }
    return {
        "payload": base64.b64encode(msgspec.json.encode(payload)).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": _SHA256, "sig": _SIGNATURE}],
    }


def lines_example(document: str) -> str:
    """Return JSON lines with one envelope."""
    return msgspec.json.encode(envelope_example(document)).decode() + "\n"


def _value(kind: inspect.Type, owner: str, name: str) -> Any:
    for candidate in (*VALUES.get(f"{owner}.{name}", ()), *VALUES.get(name, ())):
        if _fits(kind, candidate):
            return candidate
    match kind:
        case inspect.Metadata():
            return _value(kind.type, owner, name)
        case inspect.UnionType():
            return _value(next(one for one in kind.types if not isinstance(one, inspect.NoneType)), owner, name)
        case inspect.StructType():
            return {field.encode_name: _value(field.type, kind.cls.__name__, field.name) for field in kind.fields}
        case inspect.VarTupleType() | inspect.ListType():
            return [_value(kind.item_type, owner, name)]
        case inspect.DictType():
            member, value = _MEMBERS[name]
            return {member: value}
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.BoolType():
            return False
        case inspect.IntType():
            return max(kind.ge or 0, 0)
        case inspect.StrType():
            pattern = kind.pattern or ""
            return next((value for part, value in _BY_PATTERN.items() if part in pattern), name.replace("_", " "))
    raise AssertionError(f"no example of {kind}")  # a type that no answer has yet


def _fits(kind: inspect.Type, value: Any) -> bool:
    """Return whether a value of the table is one of a type, as far as their JSON types and literals say."""
    match kind:
        case inspect.Metadata():
            return _fits(kind.type, value)
        case inspect.UnionType():
            return any(_fits(one, value) for one in kind.types)
        case inspect.LiteralType():
            return value in kind.values
        case inspect.VarTupleType() | inspect.ListType():
            return isinstance(value, list)
        case inspect.StructType():
            return isinstance(value, dict)
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.StrType():
            return isinstance(value, str)
    return False
