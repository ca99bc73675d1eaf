"""The heartbeats of a rack: many nodes, each with its own key, and one request for all of them.

What goes wrong with one node (no fresh list of its devices, an unknown name, another key) keeps none of the others
from being heard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta
from msgspec.structs import replace

from bench.errors import InputError, PetasealError
from bench.record import Device, Document, Name, Text, parse_yaml, read_given
from bench.units import utc_text
from certify.documents.caps import CAPS
from certify.fleet.retest import parse_listing
from certify.keys.loading import load_signing_key
from certify.keys.signers import PrivateKey
from certify.registry.api.common import Nonce
from certify.registry.api.heartbeats import BATCH_NODES, BeatLine
from certify.registry.client.client import RegistryClient
from certify.registry.client.heartbeat import KeepsBeating, make_heartbeat

RACK_BYTES = 2**22
RACK_NODES = 16_384


class RackEntry(Document, frozen=True, kw_only=True):
    """A node of a rack file. Paths are relative to the file's folder."""

    node: Name  # its name in the records
    key: Text  # file of the key that signed its record
    devices: Text  # file that `petaseal devices --json` writes on the node, anew before each heartbeat


class RackFile(Document, frozen=True, kw_only=True):
    """Nodes of one centre for which one process sends heartbeats."""

    centre: Name
    nodes: Annotated[tuple[RackEntry, ...], Meta(min_length=1, max_length=RACK_NODES)]

    def __post_init__(self) -> None:
        names = [entry.node for entry in self.nodes]
        if len(set(names)) != len(names):
            raise ValueError("a node stands in it twice")


class RackNode(NamedTuple):
    """A node for which heartbeats are sent."""

    node_id: str
    key: PrivateKey
    devices: Callable[[], Sequence[Device]]  # as they are now


def read_rack(
    file: Path, passphrase_file: Path | None, max_age_s: float, clock_s: Callable[[], float] = time.time
) -> tuple[str, list[RackNode]]:
    """Return the centre and the nodes of a rack file.

    Args:
        file: YAML (`RackFile`).
        passphrase_file: of all its keys.
        max_age_s: age of a list of devices from which on it says nothing of now, s.
        clock_s: UTC, s.

    Raises:
        InputError: `config-invalid`, or a code of a key that cannot be loaded.
    """
    rack = parse_yaml(read_given(file, RACK_BYTES), RackFile, file)
    folder = file.absolute().parent

    def listed(entry: RackEntry) -> list[Device]:
        path = folder / entry.devices
        content = read_given(path, CAPS.record_bytes)
        try:
            age_s = clock_s() - path.stat().st_mtime
        except OSError as error:  # taken away a moment ago: one node's trouble, and not the rack's
            raise InputError("file-missing", f"is gone ({error.strerror})", where=path) from None
        # A node that died leaves its last list behind: nobody may be kept on-line by a file.
        if age_s > max_age_s:
            what = f"was written {age_s:.0f} s ago, longer than {max_age_s:.0f} s"
            fix = "let the node write it anew with: petaseal devices --json"
            raise InputError("devices-file-old", what, where=path, fix=fix)
        return [part.device for part in parse_listing(entry.node, content, path).parts if part.trouble is None]

    keys: dict[str, PrivateKey] = {}  # of one file for several nodes: where one machine measured them
    for entry in rack.nodes:
        if entry.key not in keys:
            keys[entry.key] = load_signing_key(folder / entry.key, passphrase_file)
    return rack.centre, [RackNode(e.node, keys[e.key], lambda e=e: listed(e)) for e in rack.nodes]  # type: ignore[misc]


class RackHeart(KeepsBeating[tuple[BeatLine, ...]]):
    """Keeps the nodes of a rack on-line; each answer holds the nonces of the next heartbeats.

    Args:
        registry: that they are sent to.
        centre_id: of the nodes.
        nodes: any number; each request takes 64 of them.
        clock_ns: UTC, ns.
    """

    def __init__(
        self,
        registry: RegistryClient,
        centre_id: str,
        nodes: Sequence[RackNode],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._registry, self._centre_id, self._clock_ns = registry, centre_id, clock_ns
        self._nodes = list(nodes)
        self._nonces: dict[str, str] = {}

    def beat(self) -> tuple[BeatLine, ...]:
        """Send a heartbeat of each node; return what became of each, in the order of the nodes.

        Raises:
            RefusedError: the registry refuses a whole request.
            InputError: it cannot be reached.
        """
        return tuple(
            line
            for begin in range(0, len(self._nodes), BATCH_NODES)
            for line in self._beat_some(begin, self._nodes[begin : begin + BATCH_NODES])
        )

    def _beat_some(self, begin: int, nodes: Sequence[RackNode]) -> list[BeatLine]:
        lines: dict[str, BeatLine] = {}
        present: dict[str, tuple[RackNode, Sequence[Device]]] = {}
        for node in nodes:
            try:
                present[node.node_id] = node, node.devices()
            except PetasealError as error:
                lines[node.node_id] = self._unsent(node.node_id, error.code, str(error))
        if new := [node_id for node_id in present if node_id not in self._nonces]:
            for one in self._registry.nonces(self._centre_id, new).lines:
                if one.nonce is None:
                    del present[one.node_id]
                    lines[one.node_id] = self._unsent(one.node_id, one.code or "node-unknown", one.detail)
                else:
                    self._nonces[one.node_id] = one.nonce
        lines |= self._send(present)
        # Its answer to the heartbeat before was lost, or the registry was restored: the line bears the nonce due.
        late = [node_id for node_id, line in lines.items() if line.code == "nonce-differs" and line.nonce]
        lines |= self._send({node_id: present[node_id] for node_id in late})
        for node_id, line in lines.items():
            # one that the registry no longer knows asks anew: its next statement may bring it back
            if line.nonce is None:
                self._nonces.pop(node_id, None)
        # numbered as the whole round, in which a reader finds a node again
        return [replace(lines[node.node_id], line=number) for number, node in enumerate(nodes, begin + 1)]

    def _send(self, present: dict[str, tuple[RackNode, Sequence[Device]]]) -> dict[str, BeatLine]:
        if not present:
            return {}
        now, centre_id = utc_text(self._clock_ns()), self._centre_id
        envelopes = [
            make_heartbeat(
                Nonce(centre_id=centre_id, node_id=node_id, nonce=self._nonces[node_id]), devices, node.key, now
            )
            for node_id, (node, devices) in present.items()
        ]
        answer = self._registry.beat_many(envelopes).lines
        if len(answer) != len(envelopes):
            what = f"answers {len(envelopes)} heartbeats with {len(answer)} lines"
            raise InputError("registry-answer-invalid", what)
        lines = dict(zip(present, answer, strict=True))
        self._nonces |= {node_id: line.nonce for node_id, line in lines.items() if line.nonce}
        return lines

    def _unsent(self, node_id: str, code: str, detail: str | None) -> BeatLine:
        return BeatLine(line=0, accepted=False, centre_id=self._centre_id, node_id=node_id, code=code, detail=detail)
