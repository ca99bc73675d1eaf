"""Collecting: nothing is counted twice or lost, whatever became of the files.

Faults are injected at random and the result is compared with an oracle of a few dictionaries, which knows what was laid
out and nothing of how it is read.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import NodeRecord, digest, encode
from bench.record.folder import CLOSING, SHARDS, Folder, shard_of
from certify.campaign.candidates import SAMPLES_SUFFIX
from certify.campaign.collect import Collected, collect
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, RECORD_SUFFIX, make_document
from certify.keys.files import load_private
from certify.keys.signers import PrivateKey, load_scheme, spki_text
from certify.statement.attendance import FILE, Attendance, read_absences
from tests.bad_input.command import contents
from tests.bad_input.crash import NOT_REACHED, crashing
from tests.certify.campaign.laid_campaign import (
    AT,
    COUNTED,
    DEVICES,
    Laid,
    campaign_of,
    edit_json,
    envelope_of,
    lay,
    node_key,
    record_of,
    roster_of,
    sealed,
    sealed_by_another,
    simulated,
)
from tests.certify.measured import DAY, node_name, test_closing

MOST = 8

# --- what may lie in a file ---


@dataclass(frozen=True)
class Content:
    """The bytes of a record file, and what the oracle must know of them."""

    data: bytes
    owner: int | None = None  # node index; None where no honest reader could take it as a record of this campaign
    devices: frozenset[str] = frozenset()
    parents: frozenset[str] = frozenset()  # devices that parts in it belong to
    counts: tuple[int, ...] = ()  # MFLOP/s of each device that counts


def uuid_of(index: int, place: int = 0) -> str:
    """Return a device of a node."""
    device = record_of(index, MOST).devices[place]
    assert device.uuid is not None
    return device.uuid


def figures_of(index: int) -> tuple[int, ...]:
    (measurement,) = simulated(index).record.measurements
    assert str(measurement.workload) == COUNTED
    return tuple(figure.certified_mflop_s for figure in measurement.figures())


def first_device(record: NodeRecord, **changes: Any) -> NodeRecord:
    """Return a record whose first device differs."""
    first, *rest = record.devices
    return replace(record, devices=(replace(first, **changes), *rest))


@cache
def good(index: int, nodes: int) -> Content:
    uuids = frozenset(uuid_of(index, place) for place in range(DEVICES))
    return Content(envelope_of(index, nodes), index, uuids, counts=figures_of(index))


@cache
def another(index: int, nodes: int) -> Content:
    """A second valid record of the same node."""
    record = record_of(index, nodes)
    own = good(index, nodes)
    other = replace(record, environment=replace(record.environment, kernel="another"))
    return Content(sealed(other, index), index, own.devices, counts=own.counts)


@cache
def with_device_of(index: int, other: int, nodes: int) -> Content:
    """A node that says it has another node's device."""
    own = good(index, nodes)
    record = first_device(record_of(index, nodes), uuid=uuid_of(other))
    return Content(sealed(record, index), index, own.devices - {uuid_of(index)} | {uuid_of(other)}, counts=own.counts)


@cache
def slice_of(index: int, other: int, nodes: int) -> Content:
    """A node whose first device says it is a part of another node's; a whole card that says so counts 0 anyway."""
    own = good(index, nodes)
    record = first_device(record_of(index, nodes), parent=uuid_of(other))
    return Content(sealed(record, index), index, own.devices, frozenset({uuid_of(other)}), own.counts[1:])


SPOILED: dict[str, Callable[[NodeRecord], NodeRecord]] = {
    "campaign": lambda r: replace(r, campaign_sha256="0" * 64),
    "campaign's name": lambda r: replace(r, campaign_id="another"),
    "start": lambda r: replace(r, starts_at=f"{DAY}T08:01:01.000000Z"),
    "profile": lambda r: replace(r, profile_sha256="0" * 64),
    "rules": lambda r: replace(r, rules="petaseal-rules/9.9"),
    "pool": lambda r: replace(r, pool="other"),
    "device twice": lambda r: replace(r, devices=tuple(replace(d, uuid=r.devices[0].uuid) for d in r.devices)),
    "place twice": lambda r: replace(r, devices=tuple(replace(d, pci_address="0000:01:00.0") for d in r.devices)),
    "slice beside its whole": lambda r: first_device(r, parent=r.devices[1].uuid),
}


@cache
def spoiled(index: int, nodes: int, how: str) -> Content:
    """A record that is signed as it should be, and belongs elsewhere or contradicts itself."""
    return Content(sealed(SPOILED[how](record_of(index, nodes)), index))


def broken(index: int, nodes: int, how: str, at: int) -> Content:
    """A record whose bytes were changed."""
    data = envelope_of(index, nodes)
    if how == "empty":
        return Content(b"")
    if how == "truncated":
        return Content(data[: 1 + at % (len(data) - 1)])
    if how == "resigned":
        return Content(sealed_by_another(data))
    field_name = b'"payload":"' if how == "payload" else b'"sig":"'
    first = data.index(field_name) + len(field_name)
    place = first + at % (data.index(b'"', first) - first - 2)
    new = b"A" if data[place : place + 1] != b"A" else b"B"
    return Content(data[:place] + new + data[place + 1 :])


# --- what lies where, before it is written ---


@dataclass
class World:
    """The model of a campaign's folder: what the oracle looks at, and what is then written."""

    nodes: int
    shared: dict[tuple[str, str], Content | str] = field(default_factory=dict)  # shard, name -> content or kind
    posted: dict[str, Content] = field(default_factory=dict)
    samples: dict[tuple[str, str], bytes] = field(default_factory=dict)  # shard ("" for posted), name
    status: dict[int, tuple[str, bool] | bytes] = field(default_factory=dict)  # state and ready, or damaged bytes
    lost: set[int] = field(default_factory=set)
    stale: bool = False

    def home(self, index: int) -> tuple[str, str]:
        return shard_of(node_name(index)), node_name(index)

    def elsewhere(self, index: int) -> tuple[str, str]:
        shard, name = self.home(index)
        return f"{(int(shard, 16) + 1) % SHARDS:02x}", name

    def write(self, laid: Laid, operator: Content | None = None) -> None:
        """Write everything anew."""
        root = laid.folder.root
        for name in ("records", "nodes"):
            shutil.rmtree(root / name, ignore_errors=True)
        posted = root.parent / "posted"
        shutil.rmtree(posted, ignore_errors=True)
        (posted / "deep").mkdir(parents=True)
        for (shard, name), content in self.shared.items():
            path = root / "records" / shard / f"{name}{RECORD_SUFFIX}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_as(path, content)
        for name, content in self.posted.items():
            (posted / "deep" / f"{name}{RECORD_SUFFIX}").write_bytes(content.data)
        for (shard, name), data in self.samples.items():
            folder = root / "records" / shard if shard else posted / "deep"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}{SAMPLES_SUFFIX}").write_bytes(data)
        for index, told in self.status.items():
            if isinstance(told, bytes):
                path = laid.folder.status_file(node_name(index))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(told)
            else:
                laid.tell(index, told[0], ready=told[1])
        laid.lose(*sorted(self.lost))
        if self.stale:
            for name in (".collected.new", ".collected.old"):
                (root / name).mkdir(exist_ok=True)
                (root / name / "left").write_bytes(b"left")
            shard, name = self.home(0)
            (root / "records" / shard).mkdir(parents=True, exist_ok=True)
            (root / "records" / shard / f".{name}{RECORD_SUFFIX}").write_bytes(good(0, self.nodes).data)
            (root / "records" / shard / f".{name}{RECORD_SUFFIX}.x.tmp").write_bytes(b"half")
            (root / "records" / "file").write_bytes(b"no shard")


def write_as(path: Path, content: Content | str) -> None:
    """Write a content, or something that is no file where one is expected."""
    if isinstance(content, Content):
        path.write_bytes(content.data)
    elif content == "fifo":
        os.mkfifo(path)
    elif content == "folder":
        path.mkdir()
    else:
        path.symlink_to(Path(content))


# --- faults: each changes the model; a and b are nodes, k any number ---

Fault = Callable[[World, int, int, int], None]
STATES = ("arrived", "preparing", "ready", "measuring", "concluding", "done", "checked", "failed", "aborted")


def at_home(content: Callable[[int, int, int, int], Content]) -> Fault:
    def fault(world: World, a: int, b: int, k: int) -> None:
        world.shared[world.home(a)] = content(a, b, world.nodes, k)

    return fault


def missing(world: World, a: int, b: int, k: int) -> None:
    world.shared.pop(world.home(a), None)


def renamed(world: World, a: int, b: int, k: int) -> None:
    if (content := world.shared.pop(world.home(a), None)) is not None:
        world.shared[world.home(b)] = content


def wrong_shard(world: World, a: int, b: int, k: int) -> None:
    if (content := world.shared.pop(world.home(a), None)) is not None:
        world.shared[world.elsewhere(a)] = content
    if (samples := world.samples.pop(world.home(a), None)) is not None:
        world.samples[world.elsewhere(a)] = samples


def two_shards(world: World, a: int, b: int, k: int) -> None:
    if (content := world.shared.get(world.home(a))) is not None and not isinstance(content, str):
        world.shared[world.elsewhere(a)] = content


def posted_too(world: World, a: int, b: int, k: int) -> None:
    name = node_name(a) if k % 2 else f"upload-{k}"
    world.posted[name] = good(a, world.nodes)
    if k % 3:
        world.samples["", name] = simulated(a).samples


def posted_another(world: World, a: int, b: int, k: int) -> None:
    world.posted[f"upload-{k}"] = another(a, world.nodes)


def posted_broken(world: World, a: int, b: int, k: int) -> None:
    world.posted[node_name(a)] = broken(a, world.nodes, ("payload", "sig", "empty", "truncated")[k % 4], k)


def no_file(world: World, a: int, b: int, k: int) -> None:
    elsewhere = Path(tempfile.gettempdir()) / "petaseal-nowhere"
    world.shared[world.home(a)] = ("fifo", "folder", str(elsewhere))[k % 3]


def stranger(world: World, a: int, b: int, k: int) -> None:
    name = f"gpu-9999{k % 3}"
    record = replace(record_of(a, world.nodes), node_id=name)
    world.shared[shard_of(name), name] = Content(sealed(record, a))


def samples_missing(world: World, a: int, b: int, k: int) -> None:
    world.samples.pop(world.home(a), None)


def samples_altered(world: World, a: int, b: int, k: int) -> None:
    world.samples[world.home(a)] = simulated(a).samples[:-1] if k % 2 else b"x"


def status(world: World, a: int, b: int, k: int) -> None:
    world.status[a] = STATES[k % len(STATES)], k % 2 == 0


def status_damaged(world: World, a: int, b: int, k: int) -> None:
    told = msgspec.json.encode({"node_id": node_name((a + 1) % world.nodes), "state": "done", "at": AT})
    world.status[a] = (b"", b"{", told, b'{"node_id":')[k % 4]


def lost(world: World, a: int, b: int, k: int) -> None:
    world.lost.add(a)


def stale(world: World, a: int, b: int, k: int) -> None:
    world.stale = True


FAULTS: dict[str, Fault] = {
    "missing": missing,
    "payload": at_home(lambda a, b, n, k: broken(a, n, "payload", k)),
    "signature": at_home(lambda a, b, n, k: broken(a, n, "sig", k)),
    "truncated": at_home(lambda a, b, n, k: broken(a, n, "truncated", k)),
    "empty": at_home(lambda a, b, n, k: broken(a, n, "empty", k)),
    "resigned": at_home(lambda a, b, n, k: broken(a, n, "resigned", k)),
    "another's": at_home(lambda a, b, n, k: good(b, n)),
    "another record": at_home(lambda a, b, n, k: another(a, n)),
    "spoiled": at_home(lambda a, b, n, k: spoiled(a, n, sorted(SPOILED)[k % len(SPOILED)])),
    "another's device": at_home(lambda a, b, n, k: with_device_of(a, b, n) if a != b else good(a, n)),
    "slice": at_home(lambda a, b, n, k: slice_of(a, b, n) if a != b else good(a, n)),
    "renamed": renamed,
    "wrong shard": wrong_shard,
    "two shards": two_shards,
    "posted too": posted_too,
    "posted another": posted_another,
    "posted broken": posted_broken,
    "no file": no_file,
    "stranger": stranger,
    "samples missing": samples_missing,
    "samples altered": samples_altered,
    "status": status,
    "status damaged": status_damaged,
    "lost": lost,
    "stale": stale,
}

# --- the oracle ---


@dataclass
class Answer:
    """What must come of a world."""

    kept: dict[int, Content]
    codes: dict[int, str]  # of each other node
    refused: int  # files that are whole and belong here are not refused
    audited: set[int]  # nodes whose samples are there


def oracle(world: World) -> Answer:
    """Say which nodes count and why the others do not, by trying everything with everything."""
    files = [(shard, name, content) for (shard, name), content in world.shared.items()]
    files += [("", name, content) for name, content in world.posted.items()]
    named = {node_name(i): i for i in range(world.nodes)}
    refused: list[int | None] = []
    valid: list[tuple[int, Content, bool]] = []
    for shard, name, content in files:
        if isinstance(content, Content) and content.owner is not None and (not shard or named[name] == content.owner):
            beside = world.samples.get((shard, name)) == simulated(content.owner).samples
            valid.append((content.owner, content, beside))
        else:
            refused.append(named.get(name))
    variants = {i: {content.data for owner, content, _ in valid if owner == i} for i in range(world.nodes)}
    alone = {owner: content for owner, content, _ in valid if len(variants[owner]) == 1}
    for owner, found in variants.items():
        refused += [owner] * len(found) if len(found) > 1 else []
    clashing = {
        node
        for (a, one), (b, two) in combinations(alone.items(), 2)
        if (one.devices | one.parents) & (two.devices | two.parents)
        for node in (a, b)
    }
    refused += clashing
    kept = {i: content for i, content in alone.items() if i not in clashing}
    codes = {i: code_of(i, world, refused) for i in range(world.nodes) if i not in kept}
    return Answer(kept, codes, len(refused), {owner for owner, _, beside in valid if beside and owner in kept})


def code_of(index: int, world: World, refused: list[int | None]) -> str:
    told = world.status.get(index)
    if index in refused:
        return "record-refused"
    if told is None or isinstance(told, bytes) or told[0] == "checked":
        return "node-missing"
    state, ready = told
    if state == "aborted":
        return "node-aborted"
    if state == "done":
        return "node-missing"
    if state == "failed":
        return "node-failed" if ready else "node-not-ready"
    if ready or index in world.lost:
        return "node-lost"
    return "node-not-ready"


# --- the property ---


@cache
def template(nodes: int) -> Path:
    place = Path(tempfile.mkdtemp(prefix="petaseal-collect-"))
    lay(place, nodes, measured=False)
    return place


@contextmanager
def laid_out(nodes: int) -> Iterator[Laid]:
    """Yield a fresh copy of a campaign's folder without records."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(template(nodes), name, dirs_exist_ok=True)
        yield Laid(Folder(Path(name) / "campaign"), Path(name) / "operator.pem", nodes)


def whole(nodes: int) -> World:
    """Return a world in which every node did its part."""
    world = World(nodes)
    for i in range(nodes):
        world.shared[world.home(i)] = good(i, nodes)
        world.samples[world.home(i)] = simulated(i).samples
        world.status[i] = ("done", True)
    return world


def collected(laid: Laid) -> Collected:
    return collect(laid.folder, (laid.folder.root.parent / "posted",))


def check(world: World, laid: Laid) -> None:
    """Collect, certify and verify, and compare each with the oracle."""
    shutil.rmtree(laid.folder.collected, ignore_errors=True)  # what was collected of another world
    world.write(laid)
    expected = oracle(world)
    result = collected(laid)
    assert {a.node_id: a.code for a in result.absent} == {node_name(i): c for i, c in expected.codes.items()}
    assert (result.collected, result.expected) == (len(expected.kept), world.nodes)
    assert len(result.refused) == expected.refused
    assert result.complete == (not expected.codes and not expected.refused)
    assert result.samples_missing == tuple(node_name(i) for i in sorted(expected.kept.keys() - expected.audited))
    there = contents(laid.folder.collected)
    names = {f"{node_name(i)}{RECORD_SUFFIX}": content.data for i, content in expected.kept.items()}
    names |= {f"{node_name(i)}{SAMPLES_SUFFIX}": simulated(i).samples for i in expected.audited}
    assert {name: data for name, data in there.items() if name not in (FILE, CLOSING)} == names
    assert collected(laid) == result  # and nothing of the first time is in the way
    assert contents(laid.folder.collected) == there
    assert not [path for path in laid.folder.root.iterdir() if path.name.startswith(".collected")]
    centre = laid.centre
    shutil.rmtree(centre.folder / "out", ignore_errors=True)
    if not expected.kept:
        with pytest.raises(InputError) as caught:
            centre.certify()
        assert caught.value.code == "no-records"
        return
    statement = centre.certify().statement
    (line,) = statement.classes
    counts = [count for content in expected.kept.values() for count in content.counts]
    assert (line.counted.devices, line.counted.certified_mflop_s) == (len(counts), sum(counts))
    said = {entry.node_id: entry.codes for entry in statement.not_counted if entry.device is None}
    assert said == {node_name(i): (code,) for i, code in expected.codes.items()}
    report = centre.verify(require=("recomputed",))
    assert (report.refusal, report.unmet) == (None, [])


FEW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
Faults = st.lists(
    st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(0, MOST - 1), st.integers(0, MOST - 1), st.integers(0, 999)),
    max_size=8,
)


def with_faults(nodes: int, faults: list[tuple[str, int, int, int]]) -> World:
    world = whole(nodes)
    for name, a, b, k in faults:
        FAULTS[name](world, a % nodes, b % nodes, k)
    return world


@pytest.mark.long
@FEW
@given(nodes=st.integers(2, MOST), faults=Faults)
def test_nothing_is_counted_twice_or_lost(nodes: int, faults: list[tuple[str, int, int, int]]) -> None:
    world = with_faults(nodes, faults)
    with laid_out(nodes) as laid:
        check(world, laid)
        late = [i for i in range(nodes) if world.home(i) not in world.shared]
        for i in late:  # more records arrive
            world.shared[world.home(i)] = good(i, nodes)
        if late:
            check(world, laid)


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_each_fault_alone(name: str) -> None:
    """The same for each fault, in each of its forms: the random search need not find them."""
    forms = {"spoiled": len(SPOILED), "status": 2 * len(STATES), "no file": 3, "posted too": 6, "status damaged": 4}
    with laid_out(3) as laid:
        for k in range(forms.get(name, 1)):
            world = with_faults(3, [(name, 1, 2, k)])
            check(world, laid)
            if name.startswith("status"):
                check(with_faults(3, [(name, 1, 2, k), ("missing", 1, 2, k)]), laid)


def test_the_undisturbed_campaign_counts_in_full() -> None:
    """What the oracle adds up is not nothing."""
    with laid_out(3) as laid:
        check(whole(3), laid)
        assert collected(laid).complete
        assert len({sum(figures_of(i)) for i in range(MOST)}) == MOST
        assert len({device.uuid for i in range(MOST) for device in record_of(i, MOST).devices}) == MOST * DEVICES


def test_a_record_signed_by_the_operator_is_refused_here_already(tmp_path: Path) -> None:
    """``certify`` refuses it, and with it the whole folder: one node must not stop the others."""
    laid = lay(tmp_path, 2)
    operator = load_private(laid.key)
    record = replace(record_of(1, 2), signer_spki=spki_text(operator.public))
    laid.record_file(1).write_bytes(sealed(record, 1, operator))
    result = collect(laid.folder)
    assert [(a.node_id, a.code) for a in result.absent] == [(node_name(1), "record-refused")]
    assert "role-not-allowed" in result.refused[0].why
    (line,) = laid.centre.certify().statement.pools
    assert line.nodes_recorded == 1
    laid.centre.verify(require=("recomputed",))


def test_a_record_that_somebody_replaced_under_a_key_of_his_own(tmp_path: Path) -> None:
    """The campaign names the nodes' keys: of two records of a node, the one under its key is the node's."""
    laid = lay(tmp_path, 2, measured=False)
    named = tuple(replace(node, keyid=node_key().public.keyid) for node in campaign_of(2).nodes)
    enrolled = replace(campaign_of(2), nodes=named)
    sha256 = digest(enrolled)
    laid.folder.campaign.write_bytes(
        dsse.seal(make_document("campaign", enrolled), PAYLOAD_TYPE, [load_private(laid.key)])
    )
    laid.folder.roster_file.write_bytes(encode(roster_of(enrolled)))
    laid.folder.closing_file.write_bytes(encode(test_closing(enrolled)))
    thief = load_scheme("ed25519").generate()

    def record(index: int, key: PrivateKey) -> bytes:
        own = replace(record_of(index, 2, key), campaign_sha256=sha256)
        return sealed(own, index, key)

    for index, key in ((0, node_key()), (1, thief)):
        laid.record_file(index).parent.mkdir(parents=True, exist_ok=True)
        laid.record_file(index).write_bytes(record(index, key))
    result = collect(laid.folder)
    assert (result.collected, result.enrolled) == (1, 1)
    assert [(a.node_id, a.code) for a in result.absent] == [(node_name(1), "record-refused")]
    assert "node-key-differs" in result.refused[0].why
    honest = tmp_path / "posted"
    honest.mkdir()
    (honest / laid.record_file(1).name).write_bytes(record(1, node_key()))
    result = collect(laid.folder, [honest])
    assert (result.collected, result.enrolled, len(result.refused)) == (2, 2, 1)


@pytest.mark.parametrize(
    ("state", "ready", "code", "detail"),
    [
        ("failed", True, "node-failed", "/shared: No space left on device [OSError]"),
        ("failed", False, "node-not-ready", "/shared: No space left on device [OSError]"),
        ("aborted", True, "node-aborted", "/shared: No space left on device [OSError]"),
        ("measuring", True, "node-lost", "last heard of at "),
        ("done", True, "node-missing", "was done at "),
    ],
)
def test_only_a_node_that_fell_silent_is_lost(tmp_path: Path, state: str, ready: bool, code: str, detail: str) -> None:
    """What a node said of itself stands beside its code, whoever took it as lost."""
    laid = lay(tmp_path, 2)
    laid.record_file(1).unlink()
    laid.tell(1, state, ready=ready, message="/shared: No space left on device [OSError]")
    laid.lose(1)
    collected = collect(laid.folder)
    (absence,) = collected.absent
    assert absence.code == code
    assert str(absence.detail).startswith(detail)
    assert any(f"{code} ({detail}" in line for line in collected.lines())
    assert read_absences(laid.folder.collected, campaign_of(2)) == {node_name(1): code}


# --- killed while it writes ---


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.long)])
def test_killed_at_every_write_it_leaves_the_earlier_collection_or_the_new_one(tmp_path: Path, every: int) -> None:
    laid = lay(tmp_path, 3)
    arrived = {path: path.read_bytes() for path in (laid.record_file(2), laid.samples_file(2))}
    for path in arrived:
        path.unlink()
    assert not collect(laid.folder).complete
    earlier = contents(laid.folder.collected)
    saved = tmp_path / "saved"
    shutil.copytree(laid.folder.root, saved)
    for path, data in arrived.items():
        path.write_bytes(data)
    assert collect(laid.folder).complete
    new = contents(laid.folder.collected)
    between = 0
    with crashing() as crash:
        for step in range(0, 200, every):
            shutil.rmtree(laid.folder.root)
            shutil.copytree(saved, laid.folder.root)
            for path, data in arrived.items():
                path.write_bytes(data)
            answer = crash("SIGKILL", step, "campaign", "collect", laid.folder.root)
            if answer.status == NOT_REACHED:
                break
            assert answer.status == -signal.SIGKILL
            if laid.folder.collected.exists():
                assert contents(laid.folder.collected) in (earlier, new)
            else:  # between two renames: both are whole, and neither bears the name
                between += 1
                assert contents(laid.folder.root / ".collected.old") == earlier
                assert contents(laid.folder.root / ".collected.new") == new
                answer = crash("SIGKILL", 2, "campaign", "collect", laid.folder.root)  # and killed soon again
                assert answer.status == -signal.SIGKILL
                assert contents(laid.folder.collected) == earlier
            assert collect(laid.folder).complete
            assert contents(laid.folder.collected) == new
        else:
            raise AssertionError("the command never ended")
    assert step > 8
    assert between <= 1


# --- what stops all of it ---


def test_what_must_be_there(tmp_path: Path) -> None:
    laid = lay(tmp_path, 2, started=False)
    with pytest.raises(InputError) as caught:
        collect(laid.folder)
    assert caught.value.code == "campaign-not-started"
    with pytest.raises(InputError) as caught:
        collect(Folder(tmp_path))
    assert caught.value.code == "campaign-folder-invalid"


def test_a_roster_of_other_nodes_or_of_another_campaign(tmp_path: Path) -> None:
    laid = lay(tmp_path, 2)
    roster = laid.folder.roster()
    edit_json(laid.folder.roster_file, nodes=msgspec.to_builtins(roster.nodes[:1]))
    with pytest.raises(RefusedError) as caught:
        collect(laid.folder)
    assert caught.value.code == "campaign-differs"
    edit_json(laid.folder.roster_file, nodes=msgspec.to_builtins(roster.nodes), campaign_sha256="0" * 64)
    with pytest.raises(RefusedError) as caught:
        collect(laid.folder)
    assert caught.value.code == "campaign-differs"
    assert not laid.folder.collected.exists()


def test_posted_folders_must_be_folders(tmp_path: Path) -> None:
    laid = lay(tmp_path, 2)
    for wrong in (tmp_path / "nowhere", laid.key):
        with pytest.raises(InputError) as caught:
            collect(laid.folder, (wrong,))
        assert caught.value.code == "records-not-folder"


# --- why a node is absent ---


@pytest.mark.parametrize("message", ["", "x" * 5000, "two\nlines \x1b[31m\u202e", "显存不足"])
def test_what_a_node_says_never_spoils_the_statement(tmp_path: Path, message: str) -> None:
    laid = lay(tmp_path, 2)
    laid.record_file(1).unlink()
    laid.tell(1, "failed", message=message)
    collect(laid.folder)
    assert read_absences(laid.folder.collected, campaign_of(2)) == {node_name(1): "node-not-ready"}
    statement = laid.centre.certify().statement
    assert [e.codes for e in statement.not_counted if e.device is None] == [("node-not-ready",)]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "attendance-invalid"),
        (b"[]", "attendance-invalid"),
        (b"", "file-empty"),
        (msgspec.json.encode({"campaign_sha256": "0" * 64, "absent": []}), "attendance-invalid"),
        (b'{"absent":[{"code":"it-was-me","detail":null,"node_id":"gpu-00001"}],', "absence-unknown"),
    ],
)
def test_a_bad_attendance(tmp_path: Path, content: bytes, code: str) -> None:
    laid = lay(tmp_path, 2)
    laid.record_file(1).unlink()
    collect(laid.folder)
    file = laid.folder.collected / FILE
    if code == "absence-unknown":
        content += b'"campaign_sha256":"' + msgspec.json.decode(file.read_bytes())["campaign_sha256"].encode() + b'"}'
    file.write_bytes(content)
    with pytest.raises((InputError, RefusedError)) as caught:
        laid.centre.certify()
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_the_worst_absence_is_named_first(tmp_path: Path) -> None:
    laid = lay(tmp_path, 4)
    for index in (1, 2, 3):
        laid.record_file(index).unlink()
    laid.tell(2, "failed", message="out of memory", ready=True)
    laid.tell(3, "aborted", message="ended from outside")
    said = [line.partition(": ")[2] for line in collect(laid.folder).lines() if line.startswith("absent ")]
    assert [text.partition(" ")[0] for text in said] == ["node-failed", "node-aborted", "node-missing"]


def test_the_attendance_is_what_was_found(tmp_path: Path) -> None:
    laid = lay(tmp_path, 3)
    laid.record_file(2).unlink()
    laid.record_file(1).write_bytes(b"{}")
    result = collect(laid.folder)
    written = msgspec.json.decode((laid.folder.collected / FILE).read_bytes(), type=Attendance)
    assert written.absent == result.absent
    assert [(a.node_id, a.code) for a in written.absent] == [
        (node_name(1), "record-refused"),
        (node_name(2), "node-missing"),
    ]
    assert result.lines()[0].startswith("2026-03: 1 of 3 records collected")
    assert any("n2" in line for line in result.lines())  # people know nodes by the engine's names


# --- a closing document that somebody else left ---


def foreign(laid: Laid) -> None:
    laid.folder.closing_file.write_bytes(encode(replace(test_closing(campaign_of(1)), campaign_sha256="ab" * 32)))


LEFT: dict[str, tuple[Callable[[Laid], object], str]] = {
    "of another campaign": (foreign, "closing-differs"),
    "a FIFO": (lambda laid: os.mkfifo(laid.folder.closing_file), "not-regular-file"),
    "a link": (lambda laid: laid.folder.closing_file.symlink_to("/dev/zero"), "not-regular-file"),
    "a hole of a terabyte": (lambda laid: os.truncate(laid.folder.closing_file, 10**12), "file-too-large"),
    "too many brackets": (lambda laid: laid.folder.closing_file.write_text("[" * 10**6), "json-invalid"),
}


@pytest.mark.parametrize("how", LEFT)
def test_a_closing_document_that_somebody_else_left_is_named_with_what_to_do(tmp_path: Path, how: str) -> None:
    laid = lay(tmp_path, 1)
    leave, expected = LEFT[how]
    if "of" not in how:
        laid.folder.closing_file.unlink()
    leave(laid)
    with pytest.raises(PetasealError, match="remove it, and no clock was compared") as caught:
        collect(laid.folder)
    assert (caught.value.code, caught.value.where) == (expected, str(laid.folder.closing_file))
    laid.folder.closing_file.unlink()
    assert collect(laid.folder).collected == 1
    found = {finding.code for finding in laid.centre.certify().statement.findings}
    assert {"clock-not-compared", "clock-differs"} & found == {"clock-not-compared"}
