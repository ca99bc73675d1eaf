"""Outputs of vendors' tools that are damaged, or of another form: refused in one sentence, or unknown."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.devices.source import ListedDevice
from bench.errors import DeviceError, InputError
from tests.bench.vendors.tools import ROCM_LIST, VENDORS, backend_of, source_of, texts


# Damaged outputs
def everything(kind: str, answers: dict[str, str]) -> None:
    """Do all that a back end does with its tool; whatever the outputs are, InputError is all that may come."""
    backend, source = backend_of(kind), source_of(kind, answers)
    try:
        rows = source.devices()
    except InputError:
        return
    for row in rows:
        try:
            filled = source.complete(row)
        except InputError:
            continue
        found = backend._local_device(source, 0, filled, ())
        assert all(value is None or 0 < len(value) <= 256 for value in (found.model.model, found.device.serial))
    for row in [*rows, *([] if rows else [ListedDevice(number=0, model="x", place=("0", "0"))])]:
        try:
            reading = source.readings([row]).get(row.number)
        except InputError:
            continue
        for value in () if isinstance(reading, DeviceError) else reading or ():
            assert value is None or (type(value) is int and value >= 0)


ANSWERS = {kind: texts(vendor.answers) for kind, vendor in VENDORS.items()}
CASES = [(kind, arguments) for kind, answers in ANSWERS.items() for arguments in answers]
DAMAGES: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "truncated": lambda text: text[: len(text) // 2],
    "cut in the middle of a line": lambda text: text[: len(text) * 2 // 3 + 1],
    "another language": lambda text: "".join("设备" if c.isalpha() else c for c in text),
    "no digits": lambda text: "".join("x" if c.isdigit() else c for c in text),
    "huge numbers": lambda text: "".join("9" * 40 if c.isdigit() else c for c in text),
    "no separators": lambda text: text.replace(":", " ").replace("|", " "),
    "upside down": lambda text: "\n".join(reversed(text.splitlines())),
    "controls": lambda text: text.replace(" ", "\x00\x1b"),
    "every number a list": lambda text: text.replace('"card0": {', '"card0": [{'),
    "an error": lambda text: "Failed to initialize: driver/library version mismatch\n",
    "json of another shape": lambda text: '{"card0": "x", "GPU": {"Index": 1}, "system": [1]}',
    "json of deep nesting": lambda text: '{"card0":' * 5000 + "1" + "}" * 5000,
    "garbage": lambda text: "\x00\xff : |,{" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("kind", "arguments"), CASES, ids=[f"{k} {a[:40]}" for k, a in CASES])
def test_a_damaged_output_is_refused_or_unknown(kind: str, arguments: str, damage: str) -> None:
    everything(kind, ANSWERS[kind] | {arguments: DAMAGES[damage](ANSWERS[kind][arguments])})


@pytest.mark.parametrize(("kind", "arguments"), CASES, ids=[f"{k} {a[:40]}" for k, a in CASES])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_lines_may_be_missing(kind: str, arguments: str, data: st.DataObject) -> None:
    lines = ANSWERS[kind][arguments].splitlines(keepends=True)
    gone = data.draw(st.sets(st.integers(0, len(lines) - 1)))
    cut = data.draw(st.integers(0, 30))
    kept = "".join(line for number, line in enumerate(lines) if number not in gone)
    everything(kind, ANSWERS[kind] | {arguments: kept[: len(kept) - cut]})


@pytest.mark.parametrize(
    ("kind", "arguments", "old", "new"),
    [
        ("npu", "info -m", "Chip Logic ID", "Chip Number"),
        ("maca", "", "Pwr:Usage/Cap", "Consumption"),
        ("mlu", "info", "Card ", "Board "),
        ("kunlun", "-q", "XPU 0", "GPU 0"),
        ("musa", "-q --json", '"GPU": [', '"Devices": ['),
        ("corex", next(iter(ANSWERS["corex"])), ", 4.3.0", ""),
        ("rocm", f"{ROCM_LIST} --json", '"card', '"gpu'),
        ("dcu", f"{ROCM_LIST} --json", "Card Series", "Product"),
    ],
)
def test_a_changed_heading_is_one_sentence(kind: str, arguments: str, old: str, new: str) -> None:
    text = ANSWERS[kind][arguments]
    assert old in text
    with pytest.raises(InputError, match="unknown form") as error:
        source_of(kind, ANSWERS[kind] | {arguments: text.replace(old, new)}).devices()
    assert error.value.code == "device-tool-unknown"
