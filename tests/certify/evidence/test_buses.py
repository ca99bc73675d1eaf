"""nccl-tests, printed and as JSON, and hccl_test: sizes with their bandwidths, each checked as ranges."""

from __future__ import annotations

import pytest

from bench.errors import InputError
from certify.documents.evidence import BusRun
from certify.evidence.output import ReaderOptions
from tests.certify.evidence.outputs import hccl, nccl, nccl_json
from tests.certify.evidence.reader import edited, read

NCCL = nccl()


def nccl_codes(content: bytes, options: ReaderOptions = ReaderOptions()) -> list[tuple[str, ...]]:  # noqa: B008
    """Return the codes of each size."""
    return [run.codes for run in read(content, "nccl-tests", options).buses]


def test_both_columns_of_each_size_are_read() -> None:
    output = read(NCCL, "nccl-tests")
    assert (output.tool, output.kind, output.codes) == ("nccl-tests 2.17.6", "nccl-tests", ())
    first, second, *_ = output.buses
    assert first == BusRun(
        collective="all-reduce", size_bytes=2**20, ranks=8, elapsed_ns=61_000, algorithm_mb_s=17_190,
        bus_mb_s=30_080, wrong=0, in_place=False, codes=(),
    )  # fmt: skip
    assert (second.in_place, second.algorithm_mb_s, len(output.buses)) == (True, 17_360, 4)


def test_the_json_says_the_same_with_more_digits() -> None:
    printed, exact = read(NCCL, "nccl-tests").buses, read(nccl_json(), "nccl-tests").buses
    assert [run.codes for run in exact] == [()] * 4
    for one, other in zip(printed, exact, strict=True):
        assert (one.collective, one.size_bytes, one.ranks, one.in_place) == (
            (other.collective, other.size_bytes, other.ranks, other.in_place)
        )
        assert abs(one.bus_mb_s - other.bus_mb_s) <= 10  # type: ignore[operator]


EDITS = {  # what was done -> the content, and the code of the first size
    "a bus bandwidth": (edited(NCCL, " 30.08 ", " 90.08 "), "bus-rate-differs"),
    "an algorithm bandwidth": (edited(NCCL, " 17.19 ", " 27.19 "), "bus-rate-differs"),
    "fewer ranks": (edited(NCCL, "#  Rank  7 ", "#  Runk  7 "), "bus-rate-differs"),
    "wrong values": (nccl(wrong="5"), "bus-wrong-values"),
    "wrong values hidden": (edited(NCCL, ": 0 OK", ": 3 FAILED"), "bus-wrong-values"),
    "the average": (edited(NCCL, "Avg bus bandwidth    : ", "Avg bus bandwidth    : 9"), "bus-average-differs"),
    "a row taken out": (b"".join(line for line in NCCL.splitlines(True) if not line.startswith(b"  1073741824")),
                        "bus-average-differs"),
    "a cell gone": (edited(NCCL, " 17.19 ", " "), "bus-row-unreadable"),
    "a negative time": (edited(NCCL, "  61.00", " -61.00"), "bus-row-unreadable"),
    "not checked": (nccl(wrong="N/A"), "bus-not-checked"),
    "JSON: a bandwidth": (edited(nccl_json(), '"alg_bw": 17.', '"alg_bw": 27.'), "bus-rate-differs"),
    "JSON: wrong values": (edited(nccl_json(), '"nwrong": 0.0', '"nwrong": 2.0'), "bus-wrong-values"),
    "JSON: no number": (edited(nccl_json(), '"nwrong": 0.0', '"nwrong": "nan"'), "bus-wrong-values"),
    "JSON: out of bounds": (nccl_json(out_of_bounds={"count": 1, "okay": "false"}), "bus-wrong-values"),
    "JSON: the average": (nccl_json(average_bus_bandwidth={"bandwidth": 999.0}), "bus-average-differs"),
    "JSON: not checked": (edited(nccl_json(), '"nwrong": 0.0', '"nwrong": null'), "bus-not-checked"),
    "JSON: another program": (nccl_json(program="./bench"), "bus-factor-unknown"),
    "hccl: failed": (hccl("failed"), "bus-wrong-values"),
    "hccl: not checked": (hccl("NULL"), "bus-not-checked"),
    "hccl: a bandwidth": (edited(hccl(), "0.19859", "0.29859"), "bus-rate-differs"),
    "hccl: a time": (edited(hccl(), "41.25", "slow "), "bus-row-unreadable"),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_size_bears_a_code(what: str) -> None:
    content, code = EDITS[what]
    output = read(content, "hccl-test" if what.startswith("hccl") else "nccl-tests")
    assert code in output.buses[0].codes


@pytest.mark.parametrize("size", range(10_000_000, 2_000_000_000, 199_999_992))
def test_honest_sizes_agree_whatever_the_digits(size: int) -> None:
    assert nccl_codes(nccl(sizes=[(size, 0.37 + size / 50_000), (8, 7.04)])) == [()] * 4


def test_older_headers_name_the_collective_below_or_nowhere() -> None:
    old = b"".join(line for line in NCCL.splitlines(True) if b"starting" not in line and b"version" not in line)
    assert nccl_codes(old) == [()] * 4
    unnamed = b"".join(line for line in old.splitlines(True) if b"concluded" not in line)
    assert {code for codes in nccl_codes(unnamed) for code in codes} == {"bus-factor-unknown"}
    assert nccl_codes(unnamed, ReaderOptions(collective="all-reduce")) == [()] * 4
    command = b"$ mpirun -np 8 ./build/all_reduce_perf -b 1M -e 1G\n"
    assert nccl_codes(command + unnamed) == [()] * 4
    cpu = NCCL.replace(b"    time ", b" cputime ")
    assert nccl_codes(cpu) == [()] * 4


def test_extra_labels_stand_between() -> None:
    """Per-iteration columns of 2.19, and a time of day at the end of each row."""
    lines = []
    for line in NCCL.decode().splitlines():
        cells = line.split()
        if "#wrong" in line:
            extra = " i_min i_max i_p99 i_cv%"
            line = f"{' '.join(cells[:10])}{extra} {' '.join(cells[10:])}{extra} timestamp"
        elif line.lstrip()[:1].isdigit():
            line = " ".join([*cells[:9], "1 2 3 4", *cells[9:], "1 2 3 4 2026-05-12 09:00:00"])
        lines.append(line)
    assert read("\n".join(lines).encode(), "nccl-tests").buses == read(NCCL, "nccl-tests").buses


def test_several_tables_and_foreign_lines() -> None:
    other = NCCL.replace(b"all_reduce_perf", b"reduce_scatter_perf").replace(b" 0 OK", b" 1 FAILED")
    noisy = b"2026-05-12 09:00:00 start\nn7:1:1 [0] NCCL INFO x\n12 nodes are up\n" + NCCL + b"0 0 float sum\n" + other
    buses = read(noisy, "nccl-tests").buses
    assert [run.collective for run in buses] == ["all-reduce"] * 4 + ["reduce-scatter"] * 4
    assert [run.codes for run in buses[:4]] == [()] * 4
    assert all("bus-wrong-values" in run.codes and "bus-rate-differs" in run.codes for run in buses[4:])


@pytest.mark.parametrize(
    ("collective", "factor"),
    [("all-reduce", 1.75), ("all-gather", 0.875), ("reduce-scatter", 0.875), ("all-to-all", 0.875), ("broadcast", 1)],
)
def test_hccls_bus_is_made_of_its_algorithms(collective: str, factor: float) -> None:
    bare = edited(hccl(), "all_reduce_test", "test")
    (_, run) = read(bare, "hccl-test", ReaderOptions(collective=collective, ranks=8)).buses
    assert (run.algorithm_mb_s, run.wrong, run.codes) == (86_272, 0, ())
    assert run.bus_mb_s == int(86_272.22 * factor)
    (_, unknown) = read(bare, "hccl-test").buses
    assert (unknown.collective, unknown.bus_mb_s, unknown.codes) == ("unknown", None, ("bus-factor-unknown",))


def test_hccl_rounds_a_size_up_to_one_value_a_rank() -> None:
    size, ranks, time = 1000, 60, 12.5
    algorithm = -(-size // 4 // ranks) * ranks * 4 / time / 1000  # of 5 floats a rank
    row = f"{size:<17d} | {time:^14.2f} | {algorithm:^20.5f} | success\n"
    head = b"data_size(Bytes): | aveg_time(us): | alg_bandwidth(GB/s): | check_result:\n"
    for count, codes in ((60, ()), (None, ()), (1, ("bus-rate-differs",))):
        options = ReaderOptions(collective="all-gather", ranks=count)
        assert read(head + row.encode(), "hccl-test", options).buses[0].codes == codes


def test_hccls_labels_in_another_order() -> None:
    lines = []
    for line in hccl().decode().splitlines():
        cells = line.split("|")
        lines.append(" | ".join(reversed(cells)) if len(cells) == 4 else line)
    turned = "\n".join(lines).replace("aveg_time", "avg_time").encode()
    assert read(turned, "hccl-test") == read(hccl(), "hccl-test")
    for lone in (
        "rank id 3, check result failed\n8192  ",
        "local rank_id 3, check result failed, 8192 | 1 | 2 | failed\n8192  ",
    ):
        assert read(edited(hccl(), "8192  ", lone), "hccl-test").buses[0].codes == ("bus-wrong-values",)
    late = edited(hccl(), "268435456  ", "rank id 3, check result failed\n268435456  ")
    assert all(run.wrong == 1 for run in read(late, "hccl-test").buses)  # whose it is cannot be told
    counted = edited(hccl("failed"), "8192  ", "total err is 77\n8192  ")
    assert [run.wrong for run in read(counted, "hccl-test").buses] == [77, 1]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"{}",
        b"{" * 100_000,
        nccl_json()[:-40],
        nccl_json(version=99),
        nccl_json(results=[{"size": "x"}]),
        b'{"a":' * 9999,
    ],
)
def test_a_json_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="evidence-json-invalid"):
        read(content, "nccl-tests")
