"""R5's bounds in millionths of its unit, as docs/residuals.md derives them; ``certify`` holds the ones that count."""

from __future__ import annotations

from kernels.base import Precision, Residual

ROW_16_PPM = 3_500_000
RMS_16_GOOD_PPM = 650_000
RMS_16_REDUCED_PPM = 1_100_000
ROW_WIDE_PPM = 4_000_000
RMS_WIDE_PPM = 1_000_000


def verdict(precision: Precision, residual: Residual) -> str:
    """Return good, reduced-precision-reduction or void."""
    row, rms = residual
    if row is None or rms is None:
        return "void"
    if precision in ("fp32", "fp64"):
        return "good" if row <= ROW_WIDE_PPM and rms <= RMS_WIDE_PPM else "void"
    if row > ROW_16_PPM or rms > RMS_16_REDUCED_PPM:
        return "void"
    return "good" if rms <= RMS_16_GOOD_PPM else "reduced-precision-reduction"
