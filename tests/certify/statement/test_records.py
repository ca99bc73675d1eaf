"""Record sets at the rim: parallel or not, cut anywhere, and everything that is no record."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.errors import PetasealError
from bench.record import Measurement, NodeRecord, encode
from bench.units import utc_ns
from certify import workers
from certify.documents.caps import CAPS
from certify.policy.policies import load_policy
from certify.statement import records
from certify.statement.records import chunks_of, envelopes
from certify.trust.opening import Verifier
from tests.certify.measured import Measured, measured

NODES = 5


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    found = measured(tmp_path_factory.mktemp("centre"), nodes=NODES, devices=1, profile="smoke", precisions=("fp16",))
    found.certify()
    return found


@pytest.fixture
def listed(centre: Measured, tmp_path: Path) -> Path:
    """Return a copy of the record list, to be changed."""
    return Path(shutil.copy(centre.folder / "out" / "records.jsonl", tmp_path / "records.jsonl"))


def code(centre: Measured, source: Path) -> str | None:
    """Return the code that a record set is refused with by ``verify``, whichever way."""
    try:
        report = centre.verify(records=source)
    except PetasealError as error:
        return error.code
    return report.refusal.code if report.refusal else None


def all_of(source: Path) -> list[bytes]:
    shares, _ = chunks_of(source)
    return [content for share in shares for _, content in envelopes(source, share)]


def test_every_line_is_read_once_wherever_the_list_is_cut(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut falls on every byte around the ends of lines, and on every byte of a short list."""
    lines = [b"%d" % i * (i % 7 + 1) + b"\n" for i in range(40)]
    for last in (lines[-1], lines[-1].rstrip()):
        whole = [*lines[:-1], last]
        listed.write_bytes(b"".join(whole))
        for size in range(1, len(b"".join(whole)) + 2):
            monkeypatch.setattr(records, "CHUNK_BYTES", size)
            assert all_of(listed) == whole, size


def test_a_real_list_cut_at_every_byte_of_a_line_end(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = listed.read_bytes()
    lines = content.splitlines(keepends=True)
    first = len(lines[0])
    for size in (*range(first - 3, first + 4), 1_000, 4_096, len(content) - 1, len(content), len(content) + 1):
        monkeypatch.setattr(records, "CHUNK_BYTES", size)
        assert all_of(listed) == lines


@pytest.mark.parametrize("source", ["folder", "list"])
def test_parallel_and_serial_give_the_same_statement(
    centre: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    place = centre.records if source == "folder" else centre.folder / "out" / "records.jsonl"
    serial = records.examine(examiner(centre, place))
    monkeypatch.setattr(records, "CHUNK_FILES", 2)
    monkeypatch.setattr(records, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(records, "PARALLEL_FROM_BYTES", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    told: list[int] = []
    parallel = records.examine(examiner(centre, place), told.append)
    assert parallel == serial
    assert told[-1] == NODES
    assert told == sorted(told)
    assert len(told) > 1


def examiner(centre: Measured, source: Path) -> records.Examiner:
    """Return the examiner that ``certify`` and ``verify`` use."""
    from bench.units import utc_text
    from certify.keys import files as keys
    from certify.trust.trusted_set import TrustedSet
    from tests.certify.judged import basis_of
    from tests.certify.measured import BEGIN_NS
    from tests.certify.measured import test_campaign as campaign_of

    profile = records_profile()
    campaign = campaign_of(profile, ("fp16",), NODES)
    trust = TrustedSet.single(keys.load_public(centre.public_key))
    return records.Examiner(source, basis_of(campaign, profile).scope, Verifier(trust, utc_text(BEGIN_NS + 10**15)))


def records_profile() -> Any:
    from bench.profile import load_profile

    return load_profile("smoke")


def mixed(index: int, record: NodeRecord) -> NodeRecord:
    """Return a node's record: as it is; with a void figure; with a hold; with one that is accepted; of one precision.

    Of each measurement of a precision, fixed or tuned, the first device is changed.
    """

    def changed(one: Measurement) -> Measurement:
        rest = len(one.device) - 1
        if index == 1:
            return replace(one, row_error_ppm=(None, *one.row_error_ppm[1:]))
        if index == 2:
            return replace(one, warmup_ns=(0, *one.warmup_ns[1:]))
        return replace(one, power_counter_mw=(1, *[None] * rest)) if index == 3 else one

    kept = [one for one in record.measurements if index != 4 or one.precision == "fp16"]
    return replace(record, measurements=tuple(map(changed, kept)))


@pytest.mark.parametrize("how", ["serial", "parallel"])
def test_what_is_collected_by_node_adds_up_to_the_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    pools = [
        {"pool": "main", "class": "intelligent", "nodes": "all", "devices": ["fake:0", "fake:1"]},
        {"pool": "hpc", "class": "supercomputing", "nodes": "all", "devices": ["fake:2"]},
    ]
    policy = msgspec.to_builtins(load_policy("guangzhou-2000p")) | {"policy": "mine", "accept": ["energy-disagrees"]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(policy, allow_unicode=True))
    given: dict[str, Any] = {"policies": (str(tmp_path / "mine.yaml"),)}
    place = measured(tmp_path, NODES, 4, "standard", ("fp16", "fp64"), mixed, pools=pools)
    made = place.certify(**given).statement
    if how == "parallel":
        monkeypatch.setattr(records, "PARALLEL_FROM_BYTES", 0)
        monkeypatch.setattr(records, "CHUNK_BYTES", 10_000)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    seen: list[records.RecordSummary] = []
    report = place.verify(collect=seen.append, **given)
    assert report.refusal is None
    assert report.level == "recomputed"
    assert {one.node_id for one in seen} == {f"gpu-{index:05d}" for index in range(NODES)}
    assert all(len(one.devices) == 4 for one in seen)
    by_node = {one.node_id: dict(one.sums) for one in seen}
    for line in made.pools:
        parts = [sums[line.pool].counted for sums in by_node.values()]
        assert len(parts) == line.nodes_recorded == NODES
        assert sum(part.devices for part in parts) == line.counted.devices < line.devices_found
        assert sum(part.without_rating for part in parts) == line.counted.devices_without_rating
        for name in ("certified_mflop_s", "sustained_mflop_s", "upper_mflop_s", "nominal_mflop_s"):
            assert sum(getattr(part, name) for part in parts) == getattr(line.counted, name)
    assert made.pools[0].counted.on_accepted_hold_mflop_s > 0
    counted = {node: (sums["main"].counted.devices, sums["hpc"].counted.devices) for node, sums in by_node.items()}
    assert counted == {
        "gpu-00000": (2, 1),
        "gpu-00001": (1, 1),  # void
        "gpu-00002": (1, 1),  # held
        "gpu-00003": (2, 1),  # accepted
        "gpu-00004": (2, 0),  # not measured in what the other pool counts
    }
    assert made.shown  # tuned shapes: measured, and in no sum
    at_ns = utc_ns(report.at)
    assert place.verify(at_ns=at_ns, **given).as_json() == report.as_json()  # and who asks learns nothing else


@pytest.mark.parametrize("how", ["serial", "parallel"])
def test_a_bad_record_among_good_ones_is_found_either_way(
    centre: Measured, listed: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    lines = listed.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"A", b"B", 1)
    listed.write_bytes(b"".join(lines))
    if how == "parallel":
        monkeypatch.setattr(records, "PARALLEL_FROM_BYTES", 0)
        monkeypatch.setattr(records, "CHUNK_BYTES", 10_000)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    with pytest.raises(PetasealError) as refused:
        records.examine(examiner(centre, listed))
    assert refused.value.code in ("signature-invalid", "not-canonical", "json-invalid", "schema-invalid")
    assert f"byte {sum(map(len, lines[:3]))}" in str(refused.value)


def test_the_statement_does_not_depend_on_how_its_records_were_read(
    centre: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = centre.certify(tmp_path / "1").statement
    monkeypatch.setattr(records, "PARALLEL_FROM_BYTES", 0)
    monkeypatch.setattr(records, "CHUNK_FILES", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    second = centre.certify(tmp_path / "2").statement
    assert encode([first.pools, first.findings, first.not_counted, first.verdicts, first.records_root]) == encode(
        [second.pools, second.findings, second.not_counted, second.verdicts, second.records_root]
    )
    assert (tmp_path / "1" / "records.jsonl").read_bytes() == (tmp_path / "2" / "records.jsonl").read_bytes()


LISTS: dict[str, tuple[Any, str | None]] = {
    "as it is": (lambda content: content, None),
    "without the last newline": (lambda content: content[:-1], None),
    "blank line at the end": (lambda content: content + b"\n", "json-invalid"),
    "blank line at the beginning": (lambda content: b"\n" + content, "json-invalid"),
    "blank line between": (lambda content: content.replace(b"\n", b"\n\n", 1), "json-invalid"),
    "CRLF": (lambda content: content.replace(b"\n", b"\r\n"), "not-canonical"),
    "a space at the end of a line": (lambda content: content.replace(b"\n", b" \n", 1), "not-canonical"),
    "byte order mark": (lambda content: b"\xef\xbb\xbf" + content, "json-invalid"),
    "two records in one line": (lambda content: content.replace(b"\n", b"", 1), "json-invalid"),
    "cut in a line": (lambda content: content[:-100], "json-invalid"),
    "binary": (lambda content: bytes(range(256)) * 10, "json-invalid"),
    "brackets": (lambda content: b"[" * 100_000, "json-invalid"),
    "empty": (lambda content: b"", "no-records"),
}


@pytest.mark.parametrize("how", LISTS)
def test_a_list_is_exactly_one_record_a_line(centre: Measured, listed: Path, how: str) -> None:
    change, expected = LISTS[how]
    listed.write_bytes(change(listed.read_bytes()))
    assert code(centre, listed) == expected


def test_a_line_beyond_the_cap(centre: Measured, listed: Path) -> None:
    with listed.open("ab") as file:
        file.write(b"A" * (CAPS.record_bytes + 1))
    assert code(centre, listed) == "document-too-large"


def folder_with(centre: Measured, tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    shutil.copytree(centre.records, folder)
    return folder


def name_of(index: int) -> str:
    return f"gpu-{index:05d}.record.dsse.json"


def test_links_are_not_followed(centre: Measured, tmp_path: Path, listed: Path) -> None:
    folder = folder_with(centre, tmp_path)
    (folder / name_of(0)).rename(tmp_path / "elsewhere")
    (folder / name_of(0)).symlink_to(tmp_path / "elsewhere")
    assert code(centre, folder) == "not-regular-file"
    link = tmp_path / "link.jsonl"
    link.symlink_to(listed)
    assert code(centre, link) == "not-regular-file"


def test_a_fifo_is_refused_without_waiting(centre: Measured, tmp_path: Path) -> None:
    folder = folder_with(centre, tmp_path)
    (folder / name_of(0)).unlink()
    os.mkfifo(folder / name_of(0))
    assert code(centre, folder) == "not-regular-file"
    os.mkfifo(tmp_path / "fifo")
    assert code(centre, tmp_path / "fifo") == "not-regular-file"


def test_no_records(centre: Measured, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert code(centre, tmp_path / "empty") == "no-records"
    (tmp_path / "empty" / "notes.txt").write_text("x")
    (tmp_path / "empty" / f".{name_of(0)}").write_text("hidden: half-written by somebody")
    assert code(centre, tmp_path / "empty") == "no-records"
    assert code(centre, tmp_path / "nowhere") == "file-missing"


def test_a_file_named_after_another_node(centre: Measured, tmp_path: Path) -> None:
    folder = folder_with(centre, tmp_path)
    (folder / name_of(0)).rename(folder / "stranger.record.dsse.json")
    assert code(centre, folder) == "file-name-differs"


def test_two_records_of_one_node_cannot_lie_in_one_folder_but_in_a_list(centre: Measured, listed: Path) -> None:
    lines = listed.read_bytes().splitlines(keepends=True)
    listed.write_bytes(b"".join([lines[0], *lines]))
    assert code(centre, listed) == "node-twice"


def test_more_records_than_the_cap(centre: Measured, listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    monkeypatch.setattr(records, "CAPS", dataclasses.replace(CAPS, records=NODES))
    assert code(centre, listed) is None
    assert code(centre, centre.records) is None
    monkeypatch.setattr(records, "CAPS", dataclasses.replace(CAPS, records=NODES - 1))
    assert code(centre, listed) == "records-too-many"
    assert code(centre, centre.records) == "records-too-many"


def test_a_lost_worker_is_one_sentence(centre: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures.process import BrokenProcessPool

    class Broken:
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...
        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *args: object) -> None: ...
        def map(self, *args: Any) -> Any:
            raise BrokenProcessPool

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Broken)
    monkeypatch.setattr(records, "PARALLEL_FROM_BYTES", 0)
    monkeypatch.setattr(records, "CHUNK_FILES", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert code(centre, centre.records) == "worker-lost"
