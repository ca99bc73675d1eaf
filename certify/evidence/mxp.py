"""The result that HPL-MxP-NVIDIA prints: a mixed-precision rate, which is never one of native FP64."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from certify.documents.evidence import SolveRun
from certify.evidence.linpack import NORM, RESIDUAL
from certify.evidence.linpack_checks import residual_codes
from certify.evidence.numbers import Printed, printed, scaled, whole_number

_BANNER = re.compile(r"\*{3,}\s*HPL[ -]MxP Result\s*\*{3,}")
_HEADER = re.compile(r"(HPL-MxP-NVIDIA)\s+v?([0-9][0-9.]{0,20})")
_SHAPE = re.compile(r"\b(N|NB|NPROW|NPCOL|SLOPPY-TYPE)\s*=\s*([^\s,]+(?:,[0-9]{3}\b)*)")
_RATE = re.compile(r"^(LU )?GFLOPS\s*=\s*(\S+?),\s+per GPU\s*=\s*(\S+)")
_MOST_EPS = Fraction(1, 2**52) * Fraction(1001, 1000)  # a greater one would make any residual small
_BELOW_16_BITS = ("1", "FP8")  # SLOPPY-TYPE
_16_BITS = ("2", "FP16", "BF16")


@dataclass
class MxpRun:
    """One result between two banners, as printed."""

    shape: dict[str, str] = field(default_factory=dict)
    norms: dict[str, Printed] = field(default_factory=dict)
    eps: Printed | None = None
    residual: str | None = None
    verdict: str | None = None
    rates: dict[str, tuple[Printed | None, Printed | None]] = field(default_factory=dict)  # whole and per device


class MxpReader:
    """Reads the results line by line."""

    def __init__(self, most_runs: int) -> None:
        self.runs: list[MxpRun] = []
        self.tool = "HPL-MxP-NVIDIA"
        self._most = most_runs
        self._open: MxpRun | None = None

    @property
    def is_full(self) -> bool:
        """Whether there are more results than a document holds."""
        return len(self.runs) > self._most

    @property
    def is_inside(self) -> bool:
        """Whether the last line stands between two banners."""
        return self._open is not None

    def feed(self, line: str) -> None:
        """Read one line."""
        if "MxP" in line and _BANNER.search(line):
            self._banner()
        elif "MxP" in line and (match := _HEADER.search(line)):
            self.tool = f"{match[1]} {match[2]}"
        elif self._open is None:
            return
        elif "||" in line:
            self._norm(self._open, "".join(line.split()).lower())
        elif match := _RATE.match(line.strip()):
            self._open.rates.setdefault("lu" if match[1] else "whole", (printed(match[2]), printed(match[3])))
        elif "EPS" in line and "=" in line:
            self._open.eps = printed(line.rpartition("=")[2].strip())
        elif "NPROW" in line:
            self._open.shape.update({name: value[:32] for name, value in _SHAPE.findall(line)})

    def _banner(self) -> None:
        if self._open is not None and self._open.rates:
            self._open = None  # the banner stands above a result and below it
            return
        self._open = MxpRun()
        if not self.is_full:
            self.runs.append(self._open)

    @staticmethod
    def _norm(run: MxpRun, squashed: str) -> None:
        if match := RESIDUAL.search(squashed):
            run.residual, run.verdict = match[1], match[2]
        elif (match := NORM.search(squashed)) and (value := printed(match[2])) is not None:
            run.norms.setdefault(match[1], value)


def mxp_run(run: MxpRun) -> SolveRun:
    """Return a result as documents hold it, with the codes of what was checked."""
    n, nb, p, q = (whole_number(run.shape.get(name, "")) for name in ("N", "NB", "NPROW", "NPCOL"))
    rate, _ = run.rates.get("whole", (None, None))
    residual = printed(run.residual) if run.residual else None
    codes = [*_checked(run, n, p, q), "hpl-time-not-printed", "solve-times-unknown"]
    return SolveRun(
        n=n,
        nb=nb,
        p=p,
        q=q,
        elapsed_ms=None,
        rate_mflop_s=(scaled(rate.value, 1000) if rate else None) or 0,
        residual_ppm=scaled(residual.value, 10**6) if residual else None,
        started_at=None,
        ended_at=None,
        codes=tuple(dict.fromkeys(codes)),
    )


def _checked(run: MxpRun, n: int | None, p: int | None, q: int | None) -> Iterator[str]:
    rate, per_device = run.rates.get("whole", (None, None))
    if rate is None or not scaled(rate.value, 1000) or n is None or p is None or q is None:
        yield "hpl-row-unreadable"
    else:
        lu, per_lu = run.rates.get("lu", (None, None))
        ranks = p * q
        agrees = (
            per_device is None or per_device.meets(rate.low / ranks, rate.high / ranks),
            lu is None or per_lu is None or per_lu.meets(lu.low / ranks, lu.high / ranks),
            lu is None or lu.high >= rate.low,  # the factorisation is a part of the whole time
        )
        if not all(agrees):
            yield "hpl-rate-differs"
    sloppy = run.shape.get("SLOPPY-TYPE", "").upper()
    if sloppy in _BELOW_16_BITS:
        yield "hpl-mxp-below-16-bits"
    elif sloppy not in _16_BITS:
        yield "hpl-mxp-precision-unknown"
    # the tool's own EPS: it prints 2.0E-16 and computes with it
    eps = run.eps.value if run.eps is not None and 0 < run.eps.value <= _MOST_EPS else None
    yield from residual_codes(run, eps, n)
