"""What torch_npu says of the device that it computes on: which die, which cache and cores; and how it is started."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from bench.devices.base import StackFacts
from bench.devices.opened_vendor import OpenedVendor
from bench.devices.vendors.ascend import Ascend
from bench.devices.vendors.ascend_chips import names_another
from bench.errors import DeviceError
from bench.versions import stack_versions
from tests.bench.vendors.tools import opened_at

DIE = "2A51C0F4 20E110 9C8A0234 5B190A40 43820091"
SAME = "2a51c0f4-0020-e110-9c8a-02345b190a40"
OTHER = "2a51c0f4-0020-e115-9c8a-02345b190a40"


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return torch_npu's part of torch as it can be scripted: what it was told, and what it says of its device."""
    torch = pytest.importorskip("torch")
    modes: list[bool] = []
    module = SimpleNamespace(
        modes=modes,
        properties=SimpleNamespace(uuid=SAME, L2_cache_size=192 * 2**20, cube_core_num=24, multi_processor_count=48),
        set_compile_mode=lambda *, jit_compile: modes.append(jit_compile),
        is_jit_compile_false=lambda: modes[-1:] == [False],
    )
    module.get_device_properties = lambda index: module.properties
    monkeypatch.setattr(torch, "npu", module, raising=False)
    monkeypatch.setitem(sys.modules, "torch_npu", ModuleType("torch_npu"))
    return module


def opened(die_id: str | None = DIE) -> OpenedVendor:
    """Return an Ascend device of a die id, opened."""
    one = opened_at("npu", "0000:c0:00.0")
    one._device = replace(one._device, die_id=die_id)
    return one


def test_operators_are_not_compiled_on_the_way(npu: SimpleNamespace) -> None:
    assert opened().kernel().name == "gemm-torch"
    assert npu.modes == [False]
    assert stack_versions()["torch_npu.jit_compile"] == "off"
    npu.modes.append(True)
    assert stack_versions()["torch_npu.jit_compile"] == "on"
    del npu.set_compile_mode, npu.is_jit_compile_false
    assert opened().kernel().name == "gemm-torch"  # an older one has no such mode
    assert "torch_npu.jit_compile" not in stack_versions()


@pytest.mark.parametrize(
    ("uuid", "die_id"), [(SAME, DIE), (OTHER, None), ("0" * 32, DIE), (None, DIE), ("x" * 32, DIE)]
)
def test_a_uuid_that_names_no_other_die_is_no_trouble(
    uuid: str | None, die_id: str | None, npu: SimpleNamespace
) -> None:
    npu.properties.uuid = uuid
    assert opened(die_id).kernel().name == "gemm-torch"


def test_a_uuid_that_names_another_die_is_another_device(npu: SimpleNamespace) -> None:
    npu.properties.uuid = OTHER
    with pytest.raises(DeviceError, match=f"the uuid {OTHER}, the one that was found is the die {DIE}") as error:
        opened().kernel()
    assert error.value.code == "device-differs"


@pytest.mark.parametrize(
    ("uuid", "another"),
    [
        (SAME, False),
        (OTHER, True),
        ("f4c0512a10e120003402 8a9c400a195b", False),  # the words as they lie in memory
        ("f4c0512a15e120003402 8a9c400a195b", True),
        ("0020e1109c8a02345b190a4043820091", False),  # the last four words
        ("0020e1159c8a02345b190a4043820091", True),
        ("2a51c0f4 11111111 22222222 33333333", False),  # one word alone may be alike by chance
        ("00112233445566778899aabbccddeeff", False),
        ("0" * 32, False),
        ("", False),
    ],
)
def test_only_a_uuid_made_of_a_die_s_words_tells_dies_apart(uuid: str, another: bool) -> None:
    assert names_another(uuid, DIE) is another


def test_words_of_a_die_may_be_zero() -> None:
    die_id = "2A51C0F4 20E1109C 8A023459 0 0"
    assert not names_another("2a51c0f4-20e1-109c-8a02-345900000000", die_id)
    assert names_another("2a51c0f4-20e1-109c-8a02-345900000005", die_id)


@pytest.mark.parametrize("die_id", ["", "2A51C0F4", "0 0 0 0 0", "not hex at all 1"])
def test_a_die_id_of_another_form_tells_nothing(die_id: str) -> None:
    assert not names_another(OTHER, die_id)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, StackFacts(192 * 2**20, 24)),
        ({"L2_cache_size": 0}, StackFacts(None, 24)),
        ({"L2_cache_size": -1, "cube_core_num": "24"}, StackFacts(None, None)),
        ({"L2_cache_size": 2**64}, StackFacts(None, 24)),
    ],
)
def test_cache_and_cube_cores(changes: dict[str, Any], expected: StackFacts, npu: SimpleNamespace) -> None:
    vars(npu.properties).update(changes)
    assert opened().stack_facts() == expected


def test_a_torch_that_does_not_answer_reports_nothing(npu: SimpleNamespace) -> None:
    del npu.get_device_properties
    assert opened().stack_facts() == StackFacts()
    assert Ascend().another(opened()._device) is None
