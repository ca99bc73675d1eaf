"""Every vendor of the table is tried, every sample is used, and what tools tell is matched by the ratings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.devices import DEVICES
from bench.devices.amd import kfd_nodes
from bench.devices.ascend import Ascend
from bench.devices.base import Found
from bench.devices.smi import Tool
from bench.devices.smi_backend import SmiBackend
from bench.record.identities import own_identities
from bench.record.node import identifier
from certify.judge.rules import identity
from certify.policy.ratings import installed_ratings
from tests.bench.vendors.tools import (
    ASCEND_910C,
    SAMPLES,
    VENDORS,
    Vendor,
    backend_of,
    canned,
    sample,
    script,
    texts,
)


# Every row of the table
def test_every_vendor_of_the_table_is_tried_here() -> None:
    smi_kinds = {kind for kind in DEVICES if kind not in ("cpu", "cuda", "fake", "torch")}
    assert smi_kinds == set(VENDORS)
    for kind in smi_kinds:
        assert backend_of(kind).kind == kind
        assert backend_of(kind).node_clock() is None


def test_every_sample_is_used_and_has_its_source() -> None:
    used = {name for vendor in VENDORS.values() for name in vendor.answers.values()} | set(ASCEND_910C.values())
    used |= {"rocm-smi-list-mi250x.json", "rocm-smi-watch-mi250x-second.json", "kfd-mi300x.txt", "README.md"}
    assert used == {path.name for path in SAMPLES.iterdir()}
    sources = sample("README.md")
    for name in used - {"README.md"}:
        assert any(name.startswith(f"{tool}") and f"`{tool}" in sources for tool in STEMS), name


STEMS = ("rocm-smi-", "kfd-", "hy-smi-", "npu-smi-", "cnmon-", "mthreads-gmi-", "mx-smi", "ixsmi-", "xpu-smi-")


def test_units_and_clocks_of_a_damaged_topology(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/kfd/kfd/topology/nodes"
    for number, text in enumerate(["", "simd_count x\n", "simd_count 8\n", "\x00", "a b c\n", "simd_per_cu 0\n"]):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "properties").write_text(text)
    assert kfd_nodes(tmp_path) == {}


def test_a_tool_without_a_readable_file_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "tool", "echo hello")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tool = Tool.find(("absent", "tool"))
    assert tool.run() == "hello\n"
    assert len(tool.sha256 or "") == 64
    monkeypatch.setattr(Path, "read_bytes", lambda path: (_ for _ in ()).throw(PermissionError("no")))
    assert Tool.find(("tool",)).sha256 is None


def test_identities_are_comparable() -> None:
    found: list[Found] = []
    for kind in VENDORS:
        backend, tool = backend_of(kind), canned(texts(VENDORS[kind].answers))
        found += [backend._found(tool, i, backend.fill(tool, row)) for i, row in enumerate(backend.rows(tool))]
    keys = [key for f in found for key in own_identities(f.device).values()]
    assert len(keys) == len(set(keys))
    assert all(identifier(f.device.parent) for f in found if f.model.count_unit == "die")
    assert not [f for f in found if identity(f.device, f.model)]  # nothing that a vendor's tool reports is void
    assert Ascend.no_fp64


RATED = {
    "rocm": "amd-mi300x-192g",
    "dcu": "hygon-dcu-k100-ai",
    "npu": "huawei-ascend-910b3",
    "mlu": "cambricon-mlu370-x8",
    "musa": "mthreads-mtt-s4000",
    "maca": "metax-c500-pcie",
    "corex": "iluvatar-bi-v150",
    "kunlun": "kunlunxin-p800",
}


@pytest.mark.parametrize("kind", VENDORS)
def test_what_a_tool_tells_is_matched_by_the_ratings(kind: str, node: Callable[[Vendor], SmiBackend]) -> None:
    for model, _ in node(VENDORS[kind]).find(None):
        rating = installed_ratings().match(model.vendor, model.model, model.memory_bytes, model.count_unit)
        assert rating is not None
        assert rating.accelerator == RATED[kind]
        assert (rating.part == "die") == (model.count_unit == "die")
