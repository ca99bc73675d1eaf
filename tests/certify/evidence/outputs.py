"""Outputs of other tools, written in their forms from numbers of our own: every number follows from the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

EPS = 2.0**-53
LINE = "-" * 80
DOUBLE = "=" * 80
LABELS = "T/V                N    NB     P     Q               Time                 Gflops"
PER_GPU = "T/V                N    NB     P     Q         Time          Gflops (   per GPU)"
RESIDUAL = "||Ax-b||_oo/(eps*(||A||_oo*||x||_oo+||b||_oo)*N)="
DOTS = " . . . . . . . . . . . . . . . . . ="


def rate(n: int, seconds: float) -> float:
    """Return the rate in GFLOP/s that HPL prints."""
    return (2 / 3 * n**3 + 3 / 2 * n**2) / seconds / 1e9


@dataclass(frozen=True)
class Row:
    """One run of HPL. Times are those of its clock, in seconds of the day."""

    n: int = 30000
    seconds: float = 41.5
    residual: float = 2.4e-3
    start: str | None = "Tue May 12 09:00:00 2026"
    end: str | None = "Tue May 12 09:00:41 2026"
    verdict: str = "PASSED"
    variant: str = "WR11C2R4"
    nb: int = 192
    p: int = 2
    q: int = 4


def hpl_row(row: Row, rate_form: str = "19.4e", residual_form: str = "16.8e") -> list[str]:
    """Return the lines of one run as HPL 2.3 prints them."""
    shape = f"{row.variant}{row.n:{20 - len(row.variant)}d} {row.nb:5d} {row.p:5d} {row.q:5d}"
    lines = [DOUBLE, LABELS, LINE]
    lines.append(f"{shape} {row.seconds:18.2f}    {rate(row.n, row.seconds):{rate_form}}")
    if row.start:
        lines += [f"HPL_pdgesv() start time {row.start}", "", f"HPL_pdgesv() end time   {row.end}", ""]
    return [*lines, LINE, f"{RESIDUAL}{row.residual:{residual_form}} ...... {row.verdict}"]


def head(
    rows: Sequence[Row], version: str = "2.3  --  High-Performance Linpack benchmark  --   December 2, 2018"
) -> list[str]:
    """Return the header with the lists of parameters."""

    def listed(name: str, values: Sequence[int]) -> str:
        parts = [values[at : at + 8] for at in range(0, len(values), 8)]
        return f"{name:7}:" + "\n        ".join("".join(f"{value:8d} " for value in part) for part in parts)

    return [
        DOUBLE,
        f"HPLinpack {version}",
        "Written by A. Petitet and R. Clint Whaley,  Innovative Computing Laboratory, UTK",
        DOUBLE,
        "",
        "N      : The order of the coefficient matrix A.",
        "The following parameter values will be used:",
        "",
        *(listed(name, list(dict.fromkeys(values))) for name, values in shape_lists(rows)),
        "BCAST  :  1ringM ",
        "",
        "- The following scaled residual check will be computed:",
        "      ||Ax-b||_oo / ( eps * ( || x ||_oo * || A ||_oo + || b ||_oo ) * N )",
        "- The relative machine precision (eps) is taken to be               1.110223e-16",
        "- Computational tests pass if scaled residuals are less than                16.0",
        "",
    ]


def shape_lists(rows: Sequence[Row]) -> list[tuple[str, list[int]]]:
    """Return the values of N, NB, P and Q of some runs."""
    return [(name, [getattr(row, name.lower()) for row in rows]) for name in ("N", "NB", "P", "Q")]


def tail(rows: Sequence[Row]) -> list[str]:
    """Return what HPL counts at its end."""
    good = sum(row.verdict == "PASSED" for row in rows)
    return [
        DOUBLE,
        "",
        f"Finished {len(rows):6d} tests with the following results:",
        f"         {good:6d} tests completed and passed residual checks,",
        f"         {len(rows) - good:6d} tests completed and failed residual checks,",
        "              0 tests skipped because of illegal input values.",
        LINE,
        "",
        "End of Tests.",
        DOUBLE,
    ]


def text(lines: Sequence[str]) -> bytes:
    """Return lines as the content of a file."""
    return ("\n".join(lines) + "\n").encode()


def hpl(*rows: Row) -> bytes:
    """Return a whole output of HPL 2.3."""
    rows = rows or (Row(),)
    return text([*head(rows), *(line for row in rows for line in hpl_row(row)), *tail(rows)])


def norms(row: Row, decimals: int = 16) -> list[str]:
    """Return norms that give the residual of a run."""
    a, x, b = 7421.5, 4.25, 0.4999
    error = row.residual * EPS * (a * x + b) * row.n
    names = (("Ax-b", error), ("A", a), ("x", x), ("b", b))
    return [f"||{name}||_oo{DOTS} {value:.{decimals}f}" for name, value in names]


def nvidia(*rows: Row, version: str = "25.9.0") -> bytes:
    """Return an output of HPL-NVIDIA: a rate for each device, norms below PASSED too."""
    lines = [DOUBLE, f"HPL-NVIDIA {version}  -- NVIDIA accelerated HPL benchmark -- NVIDIA"]
    lines += head(rows, "2.1  --  High-Performance Linpack benchmark  --   October 26, 2012")
    for row in rows:
        whole = rate(row.n, row.seconds)
        shape = f"WC0 {row.n:16d} {row.nb:5d} {row.p:5d} {row.q:5d}"
        lines += [" Prog= 2.41%\tN_left= 262144\tTime= 2.20\tiGF= 134000.00\tGF_per= 16687.50", DOUBLE, PER_GPU, LINE]
        lines += [f"{shape} {row.seconds:12.2f} {whole:15.3e} ({whole / row.p / row.q:10.3e})"]
        if row.start:
            lines += [f"HPL_pdgesv() start time {row.start}", f"HPL_pdgesv() end time   {row.end}"]
        lines += ["n7:4071:4071 [3] NCCL INFO comm 0x55a1 rank 3 nranks 8 cudaDev 3 busId 5d000 - Destroy COMPLETE"]
        lines += [LINE, f"{RESIDUAL}{row.residual:15.12f} ...... {row.verdict}", *norms(row)]
    return text([*lines, *tail(rows)])


def mxp(sloppy: int = 2, n: int = 120000, whole: float = 3.2e5, residual: float = 4.1e-4) -> bytes:
    """Return a result of HPL-MxP-NVIDIA on 2 x 4 devices."""
    a, x, b = 1.21e5, 7.7e-6, 0.9999
    error = residual * 2e-16 * (a * x + b) * n
    dots = " . . . . . . . . . . . . . . . . .          ="
    return text(
        [
            "HPL-MxP-NVIDIA 25.9.0  -- NVIDIA accelerated HPL-MxP benchmark -- NVIDIA",
            " ****** HPL MxP Result    ****** ",
            f"    EPS           {dots}    2.000000E-16",
            f"    Threshold     {dots}    1.600000E+01",
            f"  ||Ax-b||_oo     {dots}    {error:.6E}",
            f"  ||A   ||_oo     {dots}    {a:.6E}",
            f"  ||x   ||_oo     {dots}    {x:.6E}",
            f"  ||b   ||_oo     {dots}    {b:.6E}",
            f"  ||Ax-b||_oo / (EPS * (||A||_oo * ||x||_oo + ||b||_oo) * N) =    {residual:.6E} ...... PASSED",
            f"    N = {n}, NB = 2048, NPROW = 2, NPCOL = 4, SLOPPY-TYPE = {sloppy}",
            f"       GFLOPS = {whole:.4e}, per GPU = {whole / 8:10.2f}",
            f"    LU GFLOPS = {2.5 * whole:.4e}, per GPU = {2.5 * whole / 8:10.2f}",
            " ****** HPL MxP Result    ****** ",
        ]
    )


def hpcg(seconds: float = 1861.4, valid: str = "VALID", rating: float | None = None, check: str = "PASSED") -> bytes:
    """Return a report of HPCG 3.1."""
    flop, best = 3.4567e15, 3.4567e15 / seconds / 1e9
    total = best * 0.98
    last = f"VALID with a GFLOP/s rating of={rating or total:g}" if valid == "VALID" else "=INVALID."
    return text(
        [
            "HPCG-Benchmark",
            "version=3.1",
            "Release date=March 28, 2019",
            "Machine Summary=",
            "Machine Summary::Distributed Processes=8",
            "Linear System Information=",
            "Linear System Information::Number of Equations=8998912",
            "Spectral Convergence Tests::Result=PASSED",
            f"Departure from Symmetry |x'Ay-y'Ax|/(2*||x||*||A||*||y||)/epsilon::Result={check}",
            f"Benchmark Time Summary::Total={seconds:g}",
            f"Floating Point Operations Summary::Total={flop:g}",
            f"GFLOP/s Summary::Raw Total={best:g}",
            f"GFLOP/s Summary::Total with convergence overhead={best:g}",
            f"GFLOP/s Summary::Total with convergence and optimization phase overhead={total:g}",
            f"Final Summary::HPCG result is{' ' if valid == 'VALID' else ''}{last}",
            f"Final Summary::HPCG 2.4 rating for historical reasons is={best:g}",
        ]
    )


def hpcc(seconds: float = 0.00731, n: int = 800, success: int = 1, processes: int = 2) -> bytes:
    """Return the parts of an output of HPCC around its section of HPL, of a run that took this long."""
    row = Row(n=n, seconds=seconds, start=None, nb=64, p=1, q=2)
    a, x, b = 198.5, 22.25, 0.49947
    return text(
        [
            "This is the DARPA/DOE HPC Challenge Benchmark version 1.5.0 October 2012",
            "Current time (1778572800) is Tue May 12 16:00:00 2026",
            *head([row], "2.0  --  High-Performance Linpack benchmark  --   September 10, 2008"),
            "Finished    5 tests, with the following results:",
            "    5 tests completed and passed residual checks.",
            "Current time (1778572804) is Tue May 12 16:00:04 2026",
            "Begin of HPL section.",
            *head([row], "2.0  --  High-Performance Linpack benchmark  --   September 10, 2008"),
            *hpl_row(row, "18.3e", "16.7f"),
            *tail([row]),
            "Current time (1778572805) is Tue May 12 16:00:05 2026",
            "End of HPL section.",
            "Begin of Summary section.",
            f"Success={success}",
            f"CommWorldProcs={processes}",
            f"HPL_Tflops={rate(n, seconds) / 1000:g}",
            f"HPL_time={seconds:g}",
            f"HPL_RnormI={row.residual * EPS * (a * x + b) * n:g}",
            f"HPL_AnormI={a:g}",
            f"HPL_XnormI={x:g}",
            f"HPL_BnormI={b:g}",
            f"HPL_N={n}",
            "HPL_NB=64",
            "HPL_nprow=1",
            "HPL_npcol=2",
            "StarDGEMM_Gflops=31.5",
            "End of Summary section.",
            "End of HPC Challenge tests.",
        ]
    )


def nccl(
    ranks: int = 8,
    sizes: Sequence[tuple[int, float]] = ((2**20, 61.0), (2**30, 5890.0)),
    wrong: str = "0",
) -> bytes:
    """Return the table of an all-reduce of nccl-tests 2.17; in place takes 1 % less."""
    lines = [
        "# nccl-tests version 2.17.6 nccl-headers=22703 nccl-library=22703",
        "# Collective test starting: all_reduce_perf",
        "# nThread 1 nGpus 1 minBytes 8 maxBytes 1073741824 step: 2(factor) warmup iters: 5 iters: 20 agg iters: 1",
        "#",
        "# Using devices",
        *(
            f"#  Rank {rank:2d} Group  0 Pid {700 + rank:6d} on n{rank} device 0 [0000:04:00] X"
            for rank in range(ranks)
        ),
        "#",
        "#                                                out-of-place                       in-place          ",
        f"#       size         count      type   redop    root {2 * '    time   algbw   busbw #wrong'}",
        f"#        (B)    (elements)                           {2 * '    (us)  (GB/s)  (GB/s)       '}",
    ]
    buses = []
    for size, time in sizes:
        cells = [f"{size:12d}  {size // 4:12d}     float     sum      -1"]
        for microseconds in (time, time * 0.99):
            algorithm = size / microseconds / 1000
            buses.append(algorithm * 2 * (ranks - 1) / ranks)
            cells.append(f"{microseconds:7.2f}  {algorithm:6.2f}  {buses[-1]:6.2f}  {wrong:>5}")
        lines.append("  ".join(cells))
    average = sum(buses) / len(buses)
    return text(
        [
            *lines,
            "# Out of bounds values : 0 OK",
            f"# Avg bus bandwidth    : {average:g} ",
            "#",
            "# Collective test concluded: all_reduce_perf",
        ]
    )


def nccl_json(ranks: int = 8, program: str = "./build/all_reduce_perf", **members: object) -> bytes:
    """Return the JSON of the same all-reduce as `nccl` prints, by default."""

    def place(size: int, time: float) -> dict[str, object]:
        algorithm = size / time / 1000
        bus = algorithm * 2 * (ranks - 1) / ranks
        return {"time": round(time, 6), "alg_bw": round(algorithm, 6), "bus_bw": round(bus, 6), "nwrong": 0.0}

    rows = [
        {"size": size, "count": size // 4, "type": "float", "redop": "sum", "root": "    -1",
         "out_of_place": place(size, time), "in_place": place(size, time * 0.99), "actual_iterations": 20}
        for size, time in ((2**20, 61.0), (2**30, 5890.0))
    ]  # fmt: skip
    buses = [row[name]["bus_bw"] for row in rows for name in ("out_of_place", "in_place")]  # type: ignore[index]
    made = {
        "version": 3, "start_time": "2026-05-12 09:00:00", "args": [program, "-b", "1M"], "env": ["HOME=/root"],
        "nccl_version": 22703,
        "config": {"nthreads": 1, "ngpus": 1, "devices": [{"rank": rank} for rank in range(ranks)]},
        "results": rows, "out_of_bounds": {"count": 0, "okay": "true"},
        "average_bus_bandwidth": {"bandwidth": round(sum(buses) / len(buses), 6), "okay": "unchecked"},
    }  # fmt: skip
    return json.dumps({**made, **members}).encode()


def hccl(check: str = "success") -> bytes:
    """Return the table of an all-reduce of hccl_test."""
    rows = [(size, time, size / time / 1000) for size, time in ((8192, 41.25), (2**28, 3111.5))]
    return text(
        [
            "+ mpirun -n 8 ./bin/all_reduce_test -b 8K -e 256M -d fp32 -o sum -p 8",
            "the minbytes is 8192, maxbytes is 268435456, iters is 20, warmup_iters is 5",
            "data_size(Bytes): |   aveg_time(us): | alg_bandwidth(GB/s): | check_result:",
            *(f"{size:<17d} | {time:^14.2f} | {algorithm:^20.5f} | {check}" for size, time, algorithm in rows),
        ]
    )
