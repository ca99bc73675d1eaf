"""One process for the nodes of a rack: it goes on whatever fails at one of them, and when the registry is back."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import Device
from bench.record.identities import device_keys
from bench.units import utc_text
from certify.judge.identities import devices_digest
from certify.registry.api.heartbeats import BATCH_NODES, BeatLine
from certify.registry.client.client import RegistryClient
from certify.registry.client.rack import RackHeart, RackNode, read_rack
from tests.certify.registry import rows
from tests.certify.registry.beating import DEVICES, Node, lay_nodes
from tests.certify.registry.laid import Laid
from tests.certify.registry.listening import opened
from tests.certify.registry.serving import serving

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
NODES = BATCH_NODES + 6  # two requests a round


def cards(node_id: str) -> tuple[Device, ...]:
    """Return the eight devices of a node."""
    return tuple(
        Device(
            device=f"cuda:{number}",
            model=0,
            uuid=f"GPU-{node_id}-{number}",
            serial=None,
            die_id=None,
            pci_address=None,
            parent=None,
            numa_node=None,
        )
        for number in range(DEVICES)
    )


@pytest.fixture
def nodes(place: Laid, monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """Nodes whose statement names the devices that they have."""
    monkeypatch.setattr(rows, "devices", lambda centre_id, node_id: devices_digest(map(device_keys, cards(node_id))))
    with opened(place.root) as registry:
        return lay_nodes(registry.store, 1, NODES, utc_text(time.time_ns()))


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    """What is closed when the test ends."""
    with contextlib.ExitStack() as stack:
        yield stack


Devices = Callable[[str], Sequence[Device]]


def heart_of(url: str, nodes: Sequence[Node], closing: contextlib.ExitStack, devices: Devices = cards) -> RackHeart:
    rack = [RackNode(node.node_id, node.key, partial(devices, node.node_id)) for node in nodes]
    client = closing.enter_context(RegistryClient(url, attempts=1, sleep=lambda _: None))
    return RackHeart(client, nodes[0].centre_id, rack)


def online(url: str) -> int:
    with RegistryClient(url) as client:
        return client.capacity().items[0].nodes_online


def codes(lines: Sequence[BeatLine]) -> set[str | None]:
    return {line.code for line in lines}


def test_a_rack_is_kept_on_line(place: Laid, nodes: list[Node], closing: contextlib.ExitStack) -> None:
    with serving(place.root) as url:
        heart = heart_of(url, nodes, closing)
        for _ in range(2):
            lines = heart.beat()
            assert [line.node_id for line in lines] == [node.node_id for node in nodes]
            assert [line.line for line in lines] == list(range(1, NODES + 1))
            assert all(line.accepted and line.online for line in lines)
        assert online(url) == NODES
        # a second process, such as one that was started again, takes the nonces: the first one goes on
        assert codes(heart_of(url, nodes, closing).beat()) == {None}
        assert codes(heart.beat()) == {None}


@SQLITE
def test_what_is_wrong_with_one_node_keeps_no_other_off(
    place: Laid, nodes: list[Node], closing: contextlib.ExitStack
) -> None:
    def devices(node_id: str) -> Sequence[Device]:
        if node_id == nodes[0].node_id:
            raise InputError("devices-file-old", "was written long ago")
        if node_id == nodes[1].node_id:
            return cards("another")
        return cards(node_id)

    stranger = Node(nodes[0].centre_id, "nobody", nodes[0].key)
    wrong_key = Node(nodes[2].centre_id, nodes[2].node_id, nodes[3].key)
    with serving(place.root) as url:
        heart = heart_of(url, [*nodes[:2], wrong_key, *nodes[3:], stranger], closing, devices)
        for _ in range(2):
            lines = heart.beat()
            assert [line.code for line in lines[:3]] == ["devices-file-old", "devices-differ", "signer-mismatch"]
            assert (lines[-1].node_id, lines[-1].code) == ("nobody", "node-unknown")
            assert codes(lines[3:-1]) == {None}
        assert online(url) == NODES - 3


@pytest.mark.long
@SQLITE
def test_a_rack_goes_on_when_the_registry_is_back(
    place: Laid, nodes: list[Node], closing: contextlib.ExitStack
) -> None:
    missed: list[PetasealError] = []
    with contextlib.ExitStack() as later:

        def wait(wait_s: float) -> None:
            if len(missed) == 2:
                later.enter_context(serving(place.root, port=port))

        with serving(place.root) as url:
            beats = heart_of(url, nodes, closing).keep_beating(1.0, wait, missed.append)
            assert codes(next(beats)) == {None}
        port = int(url.rpartition(":")[2])
        assert codes(next(beats)) == {None}
        assert [error.code for error in missed] == ["registry-unreachable"] * 2
        assert online(url) == NODES


@SQLITE
def test_a_request_that_is_refused_whole_ends_it(registry: Registry) -> None:
    class Refusing(RegistryClient):
        def nonces(self, centre_id: str, node_ids: Sequence[str]) -> object:  # type: ignore[override]
            raise RefusedError("not-found", "there is no such route")

    (node,) = lay_nodes(registry.store, 1, 1, registry.now)
    heart = RackHeart(Refusing("http://127.0.0.1:1"), node.centre_id, [RackNode(node.node_id, node.key, list)])
    with pytest.raises(RefusedError, match="no such route"):
        next(heart.keep_beating(1.0, lambda _: None))


# --- the file of a rack -----------------------------------------------------------------------------------------------

LISTING = b'{"devices":[],"problems":[]}'


def rack_file(folder: Path, keys: Path, text: str = "") -> Path:
    (folder / "devices.json").write_bytes(LISTING)
    file = folder / "rack.yaml"
    named = f"key: {keys / 'node.pem'}, devices: devices.json"
    text = text or f"centre: gz\nnodes:\n  - {{node: a, {named}}}\n  - {{node: b, {named}}}\n"
    file.write_text(text.replace("NAMED", named))
    return file


def test_a_rack_file(tmp_path: Path, keys: Path) -> None:
    centre_id, nodes = read_rack(rack_file(tmp_path, keys), None, 300)
    assert (centre_id, [node.node_id for node in nodes]) == ("gz", ["a", "b"])
    assert nodes[0].devices() == []
    # read again for each heartbeat, and only while the node itself goes on writing it
    os.utime(tmp_path / "devices.json", (time.time() - 400, time.time() - 400))
    with pytest.raises(InputError) as old:
        nodes[1].devices()
    assert old.value.code == "devices-file-old"
    assert "longer than 300 s" in str(old.value)
    assert read_rack(rack_file(tmp_path, keys), None, 500)[1][0].devices() == []
    (tmp_path / "devices.json").write_text("nothing")
    with pytest.raises(InputError) as none:
        nodes[0].devices()
    assert none.value.code == "devices-file-invalid"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("centre: gz\nnodes: []\n", "nodes"),
        ("centre: gz\nnodes:\n  - {node: a, NAMED}\n  - {node: a, NAMED}\n", "twice"),
        ("centre: gz\nnodes:\n  - {node: a, NAMED, more: 1}\n", "more"),
        ("nodes:\n  - {node: a, NAMED}\n", "centre"),
    ],
)
def test_a_rack_file_that_is_none(tmp_path: Path, keys: Path, text: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as error:
        read_rack(rack_file(tmp_path, keys, text), None, 300)
    assert error.value.code == "config-invalid"
