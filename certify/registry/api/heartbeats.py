"""What is asked and answered for the heartbeats of many nodes at once: one line for each, good or refused."""

from __future__ import annotations

from bench.record import Count, Name, Text, UtcTime
from certify.registry.api.common import ApiModel, ApiRequest

BATCH_NODES = 64  # nodes of one request: a rack


class NoncesAsk(ApiRequest, frozen=True, kw_only=True):
    """Ask for the nonces of up to 64 nodes of one centre."""

    centre_id: Name
    node_ids: tuple[Name, ...]


class NonceLine(ApiModel, frozen=True, kw_only=True):
    """What the next heartbeat of a node must carry; where there is none, `code` and `detail` name the reason."""

    centre_id: Name
    node_id: Name
    nonce: str | None
    code: str | None = None
    detail: Text | None = None


class Nonces(ApiModel, frozen=True, kw_only=True):
    """The nonces of several nodes, in the order in which they were asked for."""

    lines: tuple[NonceLine, ...]


class BeatLine(ApiModel, frozen=True, kw_only=True):
    """The answer to one envelope of a batch. A refused one changed nothing, and `code` and `detail` name the reason."""

    line: Count  # of the batch, from 1 on
    accepted: bool
    centre_id: Name | None  # null: no document could be read from it
    node_id: Name | None
    online: bool = False  # an accepted one may be off-line: its devices are not those that were certified
    code: str | None = None
    detail: Text | None = None
    seen_at: UtcTime | None = None
    nonce: str | None = None  # for the next one; of a refused one where only its nonce was wrong
    stale_at: UtcTime | None = None


class BeatLines(ApiModel, frozen=True, kw_only=True):
    """The answers to a batch, one for each envelope and in its order."""

    lines: tuple[BeatLine, ...]
