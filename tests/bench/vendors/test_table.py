"""Every vendor of the table is tried, every sample is used, and what tools tell is matched by the ratings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.devices import DEVICES
from bench.devices.base import LocalDevice
from bench.devices.source import with_parts
from bench.devices.tools.tool import VendorTool
from bench.devices.vendor import VendorBackend
from bench.devices.vendors.ascend import Ascend
from bench.record.identities import identifier, unshared_identities
from certify.judge.identities import identity_codes
from certify.policy.ratings import installed_ratings
from tests.bench.vendors.tools import (
    ASCEND_310P,
    ASCEND_910C,
    ASCEND_950,
    SAMPLES,
    VENDORS,
    Vendor,
    backend_of,
    sample,
    script,
    source_of,
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
    used |= set(ASCEND_950.values()) | set(ASCEND_310P.values())
    used |= {"rocm-smi-list-mi250x.json", "rocm-smi-watch-mi250x-second.json", "kfd-mi300x.txt", "README.md"}
    assert used == {path.name for path in SAMPLES.iterdir()}
    sources = sample("README.md")
    for name in used - {"README.md"}:
        assert any(name.startswith(f"{tool}") and f"`{tool}" in sources for tool in STEMS), name


STEMS = ("rocm-smi-", "kfd-", "hy-smi-", "npu-smi-", "cnmon-", "mthreads-gmi-", "mx-smi", "ixsmi-", "xpu-smi-")


def test_a_tool_without_a_readable_file_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "tool", "echo hello")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tool = VendorTool.find(("absent", "tool"))
    assert tool.run() == "hello\n"
    assert len(tool.sha256 or "") == 64
    monkeypatch.setattr(Path, "read_bytes", lambda path: (_ for _ in ()).throw(PermissionError("no")))
    assert VendorTool.find(("tool",)).sha256 is None


@pytest.mark.parametrize(
    "printed", [r"\xef\xbb\xbf0, a GPU", r"\x1b[0m\x1b[1;32m0\x1b[0m, a GPU", r"0, a \x00GPU\x00\x00"]
)
def test_what_a_terminal_would_not_show_is_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    """A mark before the first row would hide the first device of the node."""
    script(tmp_path / "tool", f"/usr/bin/printf '{printed}'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert VendorTool.find(("tool",)).run() == "0, a GPU"


def test_identities_are_comparable() -> None:
    found: list[LocalDevice] = []
    for kind in VENDORS:
        backend, source = backend_of(kind), source_of(kind, texts(VENDORS[kind].answers))
        found += [
            backend._local_device(source, i, source.complete(row), ())
            for i, row in enumerate(with_parts(source.devices()))
        ]
    keys = [key for f in found for key in unshared_identities(f.device).values()]
    assert len(keys) == len(set(keys))
    assert all(identifier(f.device.parent) for f in found if f.model.count_unit == "die")
    assert not [f for f in found if identity_codes(f.device, f.model)]  # nothing that a vendor's tool reports is void
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
def test_what_a_tool_tells_is_matched_by_the_ratings(kind: str, node: Callable[[Vendor], VendorBackend]) -> None:
    for model, *_ in node(VENDORS[kind]).find(None):
        rating = installed_ratings().match(model.vendor, model.model, model.memory_bytes, model.count_unit)
        assert rating is not None
        assert rating.accelerator == RATED[kind]
        assert (rating.part == "die") == (model.count_unit == "die")
