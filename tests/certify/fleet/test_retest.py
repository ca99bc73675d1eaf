"""A statement against today's machines: what is a trigger, what is a note, and what only looks like a change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bench.devices.base import LocalDevice, UnusableError
from bench.errors import InputError, RefusedError
from bench.record import Device, DeviceModel, NodeRecord
from bench.terminal.show import show_devices
from certify.commands.offline.retest import app, run
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.fleet.retest import NodeState, RetestDevice, changes, parse_listing, retest, state_of
from certify.keys.files import load_private
from certify.policy.reasons import effect_of
from certify.statement.outlook import foresee
from tests.certify import signed
from tests.certify.measured import Measured, measured, node_name, seal_record

KEY = signed.new_key()
GIB = 2**30


def model(**changes: Any) -> DeviceModel:
    """Return a card's model of which everything is known."""
    known = replace(
        signed.record(KEY).models[0],
        driver="550.54",
        firmware="96.00",
        library="/usr/lib/libnvidia-ml.so.1",
        library_sha256=signed.sha("library"),
        memory_bytes=141 * GIB,
    )
    return replace(known, **changes)


def part(index: int, trouble: str | None = None, *, of: DeviceModel | None = None, **changes: Any) -> RetestDevice:
    """Return a card of a node."""
    device = Device(
        device=f"cuda:{index}",
        model=0,
        uuid=f"GPU-aaaa-{index}",
        serial=f"16540{index}",
        die_id=None,
        pci_address=f"0000:{index + 1:02x}:00.0",
        parent=None,
        numa_node=None,
    )
    return RetestDevice(replace(device, **changes), of or model(), trouble)


def cut(index: int, of: int) -> RetestDevice:
    """Return a slice of a card."""
    return part(index, of=model(count_unit="slice"), uuid=f"MIG-bbbb-{index}", serial=None, parent=f"GPU-aaaa-{of}")


CPU = part(0, of=model(kind="cpu", count_unit="package"), device="cpu:0", uuid="c0ffee", serial=None, pci_address=None)
STRANGER = part(0, uuid="GPU-cccc-9", serial="99999")
TWO = (part(0), part(1))

Before = tuple[RetestDevice, ...]
CASES: dict[str, tuple[Before, Before, list[tuple[str, str]]]] = {
    "the same": (TWO, TWO, []),
    "the same in another order and under other names": (
        TWO,
        (part(1, device="cuda:0"), part(0, device="cuda:1")),
        [],
    ),
    "a uuid in another spelling": (TWO, (part(0, uuid="gpu_AAAA_0"), part(1)), []),
    "moved to another slot": (TWO, (part(0, pci_address="0000:7f:00.0"), part(1)), []),
    "driver": (TWO, (part(0, of=model(driver="560.35")), part(1)), [("driver-changed", "cuda:0")]),
    "firmware": (TWO, (part(0), part(1, of=model(firmware="97"))), [("firmware-changed", "cuda:1")]),
    "library": (TWO, (part(0, of=model(library_sha256=signed.sha("x"))), part(1)), [("library-changed", "cuda:0")]),
    "library elsewhere, the same bytes": (TWO, (part(0, of=model(library="/opt/libnvidia-ml.so.1")), part(1)), []),
    "memory": (TWO, (part(0, of=model(memory_bytes=80 * GIB)), part(1)), [("memory-changed", "cuda:0")]),
    "memory, a fiftieth less": (
        (part(0, of=model(memory_bytes=50 * GIB)),),
        (part(0, of=model(memory_bytes=49 * GIB)),),
        [("memory-changed", "cuda:0")],
    ),
    "memory, a little more is reserved": (TWO, (part(0, of=model(memory_bytes=140 * GIB)), part(1)), []),
    "driver unknown then": ((part(0, of=model(driver=None)),), (part(0),), []),
    "driver unknown today": ((part(0),), (part(0, of=model(driver=None)),), [("fact-unreadable", "cuda:0")]),
    "memory unknown today": ((part(0),), (part(0, of=model(memory_bytes=None)),), [("fact-unreadable", "cuda:0")]),
    "both fell silent": ((part(0, of=model(driver=None)),), (part(0, of=model(driver=None)),), []),
    "gone": (TWO, (part(0),), [("device-gone", "cuda:1")]),
    "all gone, and the CPU shows": (TWO, (CPU,), [("device-gone", "cuda:0"), ("device-gone", "cuda:1")]),
    "there and unusable": (TWO, (part(0), part(1, "driver-mismatch")), [("device-gone", "cuda:1")]),
    "replaced in its slot": (TWO, (STRANGER, part(1)), [("device-replaced", "cuda:0")]),
    "replaced under its name": (
        (part(0, pci_address=None),),
        (part(0, uuid="GPU-cccc-9", serial="99999", pci_address=None),),
        [("device-replaced", "cuda:0")],
    ),
    "gone, and another in another slot": (
        (part(0),),
        (part(0, uuid="GPU-cccc-9", serial="99999", pci_address="0000:7f:00.0"),),
        [("device-gone", "cuda:0"), ("device-new", "cuda:0")],
    ),
    "new": (TWO, (*TWO, part(2)), [("device-new", "cuda:2")]),
    "one card under the uuid of one and the serial number of the other": (
        TWO,
        (part(0, serial="165401"),),
        [("device-replaced", "cuda:0"), ("device-gone", "cuda:1")],
    ),
    "identities exchanged": (
        TWO,
        (part(0, serial="165401"), part(1, serial="165400")),
        [("device-replaced", "cuda:0"), ("device-replaced", "cuda:1")],
    ),
    "another serial number under its uuid": (TWO, (part(0, serial="99999"), part(1)), [("device-replaced", "cuda:0")]),
    "a serial number that is not told today": (TWO, (part(0, serial=None), part(1)), []),
    "two cards of one uuid": (
        (part(0),),
        (part(0), part(0, device="cuda:7", serial=None)),
        [("device-new", "cuda:7")],
    ),
    "two strangers of one name": (
        TWO,
        (part(1), STRANGER, part(0, uuid="GPU-dddd-8", serial="88888", pci_address="0000:7f:00.0")),
        [("device-replaced", "cuda:0"), ("device-new", "cuda:0")],
    ),
    "one stranger in the place of two": (
        (part(0), part(1, pci_address="0000:01:00.0")),
        (STRANGER,),
        [("device-replaced", "cuda:0"), ("device-gone", "cuda:1")],
    ),
    "a new CPU beside a measured one": (
        (CPU,),
        (CPU, part(1, of=model(kind="cpu"), device="cpu:1")),
        [("device-new", "cpu:1")],
    ),
    "cut into slices": ((part(0),), (cut(0, 0), cut(1, 0)), [("partition-changed", "cuda:0")]),
    "slices made whole": (
        (cut(0, 0), cut(1, 0)),
        (part(0),),
        [("partition-changed", "cuda:0"), ("partition-changed", "cuda:1")],
    ),
    "slices cut anew": ((cut(0, 0),), (cut(5, 0), cut(6, 0)), [("partition-changed", "cuda:0")]),
    "slices of another card": ((part(0), cut(1, 1)), (part(0), cut(1, 1), cut(2, 1)), [("device-new", "cuda:2")]),
    "another unit": ((part(0),), (part(0, of=model(count_unit="die")),), [("partition-changed", "cuda:0")]),
    "no identity at all": (
        (part(0, uuid=None, serial=None),),
        (part(0, uuid=None, serial=None, pci_address=None),),
        [],
    ),
}


@pytest.mark.parametrize(("before", "now", "expected"), CASES.values(), ids=CASES.keys())
def test_changes(before: Before, now: Before, expected: list[tuple[str, str]]) -> None:
    found = list(changes(NodeState("n", before), NodeState("n", now)))
    assert [(change.code, change.device) for change in found] == expected
    assert all(change.is_trigger == (change.code != "fact-unreadable") for change in found)
    assert all(change.before != change.after for change in found)


def test_every_code_has_a_case_and_an_effect() -> None:
    codes = {code for *_, expected in CASES.values() for code, _ in expected} | {"kernel-changed"}
    assert len(codes) == 10
    assert {code for code in codes if effect_of(code) == "note"} == {"kernel-changed", "fact-unreadable"}
    assert {effect_of(code) for code in codes} == {"note", "refuse"}


def test_another_kernel_is_a_note() -> None:
    (found,) = changes(NodeState("n", TWO, "6.1.0"), NodeState("n", TWO, "6.8.0"))
    assert (found.code, found.is_trigger) == ("kernel-changed", False)
    assert list(changes(NodeState("n", TWO, "6.1.0"), NodeState("n", TWO))) == []  # petaseal devices does not tell it


def test_devices_of_no_pool_may_change() -> None:
    def counted(node_id: str, device: str) -> bool:
        return (node_id, device) == ("n", "cuda:0")

    now = NodeState("n", (part(0), part(1, of=model(driver="1")), part(2)))
    assert list(changes(NodeState("n", TWO), now, counted)) == []
    assert [c.code for c in changes(NodeState("n", TWO), NodeState("n", ()), counted)] == ["device-gone"]


def test_a_thousand_parts_of_one_whole() -> None:
    before = NodeState("n", tuple(cut(i, 0) for i in range(1000)))
    now = NodeState("n", tuple(cut(i, 0) for i in range(1000, 2000)))
    assert len(list(changes(before, now))) == 1000


# Nodes
def test_nodes_without_a_file_are_not_checked() -> None:
    before = [NodeState(f"n{i:02d}", TWO) for i in range(30)]
    found = retest(before, {"n00": NodeState("n00", TWO), "other": NodeState("other", TWO)})
    assert (found.compared, found.needed, len(found.missing)) == (1, False, 29)
    lines = found.lines()
    assert lines[0].startswith("STILL AS MEASURED: 1 node")
    assert "NOT CHECKED: node n01: nothing of today was given" in lines
    assert any(line.startswith("NOT CHECKED: 9 further") for line in lines)
    assert any(line.startswith("NOT CHECKED: node other") for line in lines)
    assert found.as_json()["nodes_not_checked"] == list(found.missing)


def test_nothing_that_fits_is_wrong_input() -> None:
    with pytest.raises(InputError) as refused:
        retest([NodeState("n", TWO)], {"m": NodeState("m", TWO)})
    assert refused.value.code == "node-unknown"


def test_a_record_of_today_is_newer() -> None:
    old, new = "2026-03-01T08:20:00.000000Z", "2026-03-01T08:20:00.000001Z"
    assert not retest([NodeState("n", TWO, None, old)], {"n": NodeState("n", TWO, None, new)}).needed
    with pytest.raises(InputError) as refused:
        retest([NodeState("n", TWO, None, new)], {"n": NodeState("n", TWO, None, new)})
    assert refused.value.code == "previous-not-earlier"


def test_what_is_printed_is_one_line_each() -> None:
    hostile = part(0, of=model(driver="5\n60\x1b[2J"))
    lines = retest([NodeState("n", TWO)], {"n": NodeState("n", (hostile, part(1)))}).lines()
    assert lines[0].startswith("MUST BE TESTED ANEW: 1 of 1 node")
    assert "1 driver-changed" in lines[0]
    assert all(line.isprintable() for line in lines)


# Files
def printed(
    record: NodeRecord,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[LocalDevice]], list[LocalDevice]] = list,
) -> bytes:
    """Return what ``petaseal devices --json`` prints on the node of a record, after a change of the node."""
    found = [LocalDevice(record.models[device.model], device) for device in record.devices]
    show_devices(change(found), [], foresee((), None), True)
    return capsys.readouterr().out.encode()


def upgraded(found: list[LocalDevice]) -> list[LocalDevice]:
    return [LocalDevice(replace(one.model, driver="999.99"), one.device) for one in found]


@dataclass(frozen=True)
class Today:
    """A certified centre and what its nodes print today."""

    centre: Measured
    folder: Path

    @property
    def statement(self) -> Path:
        return self.centre.folder / "out"

    def record(self, index: int) -> NodeRecord:
        envelope = parse_envelope(self.centre.record(index).read_bytes(), 2**22)
        found: NodeRecord = parse_payload("node-record", envelope.payload).predicate
        return found

    def put(self, index: int, content: bytes) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{node_name(index)}.json").write_bytes(content)


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Return a certified centre of two nodes, whose drivers are known."""

    def known(index: int, record: NodeRecord) -> NodeRecord:
        return replace(record, models=tuple(replace(m, driver="550.54") for m in record.models))

    found = measured(tmp_path_factory.mktemp("centre"), nodes=2, profile="smoke", precisions=("fp16",), change=known)
    found.certify()
    return found


@pytest.fixture
def today(centre: Measured, tmp_path: Path) -> Today:
    return Today(centre, tmp_path / "today")


def test_as_measured(today: Today, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(2):
        today.put(index, printed(today.record(index), capsys))
    found = run(today.statement, [today.folder])
    assert (found.compared, found.changes, found.missing) == (2, (), ())
    found = run(today.centre.records, [today.folder / f"{node_name(0)}.json", today.folder / f"{node_name(1)}.json"])
    assert (found.compared, found.changes) == (2, ())
    assert any("there is no statement" in what for what in found.not_checked)


def test_a_folder_of_records_beside_its_statement(today: Today, tmp_path: Path) -> None:
    """Records of a folder have no order; that of their file names need not be that of the statement."""
    lines = (today.statement / "records.jsonl").read_bytes().splitlines(True)
    for name, line in zip("ba", lines, strict=True):
        (tmp_path / f"{name}.record.dsse.json").write_bytes(line)
    shutil.copyfile(today.statement / "statement.dsse.json", tmp_path / "statement.dsse.json")
    with pytest.raises(InputError) as refused:
        run(tmp_path, [today.statement])
    assert refused.value.code == "previous-not-earlier"  # the records were accepted, and are not newer


def test_devices_in_no_pool_are_not_the_statements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pools = [{"pool": "main", "class": "intelligent", "nodes": "all", "devices": ["fake:1"]}]

    def known(index: int, record: NodeRecord) -> NodeRecord:
        return replace(record, models=tuple(replace(m, driver="550.54") for m in record.models))

    centre = measured(tmp_path, nodes=1, profile="smoke", precisions=("fp16",), change=known, pools=pools)
    centre.certify()
    today = Today(centre, tmp_path / "today")
    today.put(0, printed(today.record(0), capsys, upgraded))
    assert [c.device for c in run(today.statement, [today.folder]).changes] == ["fake:1"]


def test_an_upgrade_on_one_node(today: Today, capsys: pytest.CaptureFixture[str]) -> None:
    today.put(0, printed(today.record(0), capsys))
    today.put(1, printed(today.record(1), capsys, upgraded))
    found = run(today.statement, [today.folder])
    assert found.needed
    assert [(c.code, c.node_id, c.before, c.after) for c in found.changes] == [
        ("driver-changed", node_name(1), "550.54", "999.99")
    ] * 2


def test_unusable_devices_are_read_from_what_is_printed(today: Today, capsys: pytest.CaptureFixture[str]) -> None:
    record = today.record(0)
    found = [LocalDevice(record.models[device.model], device) for device in record.devices]
    show_devices(found[:1], [UnusableError(InputError("driver-mismatch", "is"), found[1:])], foresee((), None), True)
    today.put(0, capsys.readouterr().out.encode())
    result = run(today.statement, [today.folder])
    assert [c.code for c in result.changes] == ["device-gone"]
    assert "driver-mismatch" in result.changes[0].after
    assert result.missing == (node_name(1),)


def test_newer_records(today: Today, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    record = today.record(0)
    again = replace(
        record,
        ended_at="2027-01-01T00:00:00.000000Z",
        environment=replace(record.environment, kernel="9.9.9"),
        models=tuple(replace(m, firmware="2") for m in record.models),
    )
    file = newer / today.centre.record(0).name
    key = load_private(today.centre.key)
    again = replace(again, signer_spki=signed.record(key).signer_spki)
    file.write_bytes(seal_record(again, key, b"samples"))
    for given in (newer, file):
        found = run(today.statement, [given])
        assert {c.code for c in found.changes} <= {"firmware-changed", "kernel-changed"}
        assert "kernel-changed" in {c.code for c in found.changes}
    with pytest.raises(InputError) as refused:
        run(today.statement, [today.statement])
    assert refused.value.code == "previous-not-earlier"


def test_a_node_twice(today: Today, capsys: pytest.CaptureFixture[str]) -> None:
    today.put(0, printed(today.record(0), capsys))
    with pytest.raises(RefusedError) as refused:
        run(today.statement, [today.folder, today.folder])
    assert refused.value.code == "node-twice"


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"devices": [{}], "problems": []}',
        b'{"devices": [], "problems": [], "more": 1}',
        b"[" * 100_000,
        b'{"devices": [], "problems": [{"code": 1, "text": "", "devices": []}]}',
    ],
    ids=["empty", "list", "utf-16", "a device of nothing", "an unknown field", "deep", "a code that is a number"],
)
def test_files_that_are_none(today: Today, content: bytes) -> None:
    today.put(0, content)
    with pytest.raises(InputError) as refused:
        run(today.statement, [today.folder])
    assert refused.value.code == "devices-file-invalid"
    assert str(refused.value).isprintable()


def test_a_device_that_is_listed_twice(today: Today, capsys: pytest.CaptureFixture[str]) -> None:
    record = today.record(0)
    found = [LocalDevice(record.models[device.model], device) for device in record.devices]
    for usable, broken in (([*found, found[0]], []), (found, [UnusableError(InputError("x", "is"), found[1:])])):
        show_devices(usable, broken, foresee((), None), True)
        today.put(0, capsys.readouterr().out.encode())
        with pytest.raises(InputError) as refused:
            run(today.statement, [today.folder])
        assert (refused.value.code, "2 times" in str(refused.value)) == ("devices-file-invalid", True)


def test_no_devices_is_all_gone() -> None:
    state = parse_listing("n", b'{"devices": [], "problems": []}')
    assert [c.code for c in changes(NodeState("n", TWO), state)] == ["device-gone"] * 2


def test_wrong_folders(today: Today, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases: list[tuple[Path, Path, str]] = [
        (tmp_path / "none", today.statement, "records-not-folder"),
        (tmp_path / "empty", today.statement, "no-records"),
        (today.statement, tmp_path / "empty", "devices-file-invalid"),
        (today.statement, tmp_path / "none.json", "file-missing"),
    ]
    for folder, given, code in cases:
        with pytest.raises(InputError) as refused:
            run(folder, [given])
        assert refused.value.code == code


def test_records_that_are_not_the_statements(today: Today, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "statement.dsse.json").write_bytes((today.statement / "statement.dsse.json").read_bytes())
    (other / "records.jsonl").write_bytes((today.statement / "records.jsonl").read_bytes().splitlines(True)[0])
    with pytest.raises(RefusedError) as refused:
        run(other, [today.statement])
    assert refused.value.code == "records-root"


def test_the_command_exits_by_the_answer(today: Today, capsys: pytest.CaptureFixture[str]) -> None:
    for change, status in ((list, 0), (upgraded, 1)):
        today.put(0, printed(today.record(0), capsys, change))
        for form in ((), ("--json",)):
            with pytest.raises(SystemExit) as ended:
                app([str(today.statement), "--devices", str(today.folder), *form])
            assert (ended.value.code or 0) == status
            out = capsys.readouterr().out
            if form:
                assert json.loads(out)["retest_needed"] == bool(status)
            else:
                assert out.startswith("MUST BE TESTED ANEW" if status else "STILL AS MEASURED")


def test_a_record_and_what_is_printed_are_one_state(today: Today, capsys: pytest.CaptureFixture[str]) -> None:
    record = today.record(0)
    state = parse_listing(record.node_id, printed(record, capsys))
    assert [msgspec.to_builtins(one.model) for one in state.parts] == [
        msgspec.to_builtins(one.model) for one in state_of(record).parts
    ]
