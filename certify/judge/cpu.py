"""R12 for processors (L7): the most that cores of an instruction set can do. Pure functions, in exact integers.

Processors have no row of silicon in the ratings, and a record may report any clock: what bounds them is how many
products their instruction set forms in one clock. The table has the upper value of each set over the families that
have it (one vector unit or two); whoever reports no set, or one that the table does not name, is judged by the widest.
"""

from __future__ import annotations

from bench.record import Precision
from bench.record.node import Method

# FP64 FLOP of one core in one clock: vector units x lanes x 2 (a multiply-add). Sources: the vendors' optimisation
# guides. Two units of 256 bits from Intel Haswell and AMD Zen 2 on, in Arm Neoverse V1 and Loongson LA464; four of 128
# bits in Arm Neoverse V2; two of 512 bits in Intel Xeon Scalable, AMD Zen 5 and Fujitsu A64FX.
FP64_FLOP_PER_CLOCK = {
    "sse2": 16,
    "avx": 16,
    "avx2": 16,
    "avx512": 32,
    "neon": 16,
    "sve128": 16,
    "sve256": 16,
    "sve512": 32,
    "lsx": 16,
    "lasx": 16,
}
WIDEST_FP64_FLOP_PER_CLOCK = 128  # matrix extensions (Arm SME, Intel AMX), and whatever the table does not name
NATIVE_16_BIT_FLOP_PER_CLOCK = 1_024  # Intel AMX: 16 x 16 x 32 multiply-adds every 16 clocks
HIGHEST_CLOCK_MHZ = 6_200  # of any processor sold (Intel Core i9-14900KS)
MOST_CORES = 2_048  # of one node: sixteen sockets of 128 cores
SLACK = (105, 100)  # boards may run the clock reference a little above its nominal value


def most_mflop_s(
    precision: Precision, method: Method, instruction_set: str | None, cores: int | None, max_clock_mhz: int | None
) -> int:
    """Return the rate that processors cannot exceed, 5 % of slack included, MFLOP/s.

    Args:
        precision: of the operands.
        method: `upcast` where they were computed in FP32.
        instruction_set: the widest that the processors have; None where it was not reported.
        cores: physical cores (logical ones, where siblings are not known); None is judged as one.
        max_clock_mhz: the highest that was reported; None, 0 and all above `HIGHEST_CLOCK_MHZ` is judged as that.
    """
    clock_mhz = min(max_clock_mhz or HIGHEST_CLOCK_MHZ, HIGHEST_CLOCK_MHZ)
    flop_per_clock = flop_per_clock_per_core(precision, method, instruction_set) * min(cores or 1, MOST_CORES)
    return flop_per_clock * clock_mhz * SLACK[0] // SLACK[1]  # FLOP x MHz is MFLOP/s


def flop_per_clock_per_core(precision: Precision, method: Method, instruction_set: str | None) -> int:
    """Return how many FLOP a core does in one clock at most: FP32 twice FP64, and 16-bit operands up-cast as FP32."""
    if precision in ("fp16", "bf16") and method == "native":
        return NATIVE_16_BIT_FLOP_PER_CLOCK
    fp64 = FP64_FLOP_PER_CLOCK.get(instruction_set or "", WIDEST_FP64_FLOP_PER_CLOCK)
    return fp64 if precision == "fp64" else 2 * fp64
