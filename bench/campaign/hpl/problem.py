"""The problem of an HPL run: N from memory, P x Q from ranks, NB by library. Pure."""

from __future__ import annotations

from math import isqrt
from typing import Literal, NamedTuple, get_args

from bench.errors import InputError
from bench.units import launch_sixths

Library = Literal["openblas", "mkl", "nvidia", "rocm"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
# Blocking factors that the libraries' own guides begin with: panels that keep their GEMM at its rate.
NB: dict[Library, int] = {"openblas": 192, "mkl": 384, "nvidia": 1024, "rocm": 512}
ITEM_BYTES = 8
MOST_RANKS = 2**20


class HplProblem(NamedTuple):
    """What HPL solves: a system of order `n` in blocks of `nb`, over a grid of `p` x `q` ranks."""

    n: int
    nb: int
    p: int
    q: int

    @property
    def matrix_bytes(self) -> int:
        """Memory of the matrix over all ranks, bytes."""
        return ITEM_BYTES * self.n * self.n

    @property
    def work_flop(self) -> int:
        """The work that HPL counts, 2/3 N^3 + 3/2 N^2, FLOP, rounded down."""
        return launch_sixths("solve", self.n, self.n, self.n) // 6


def grid_of(ranks: int) -> tuple[int, int]:
    """Return P and Q with P x Q = ranks, as square as can be and P <= Q: HPL's columns cost less than its rows.

    Raises:
        InputError: `hpl-ranks-invalid`.
    """
    if not 1 <= ranks <= MOST_RANKS:
        raise InputError("hpl-ranks-invalid", f"there are {ranks:,} ranks; HPL takes from 1 to {MOST_RANKS:,}")
    p = next(p for p in range(isqrt(ranks), 0, -1) if ranks % p == 0)
    return p, ranks // p


def problem_of(memory_bytes: int, share_ppm: int, ranks: int, nb: int) -> HplProblem:
    """Return the largest problem whose matrix takes at most a share of the memory of all ranks, N a multiple of NB.

    Args:
        memory_bytes: of all nodes together, as much of each as the smallest has.
        share_ppm: of it that the matrix may take; the rest is for panels, MPI and the system.
        ranks: of all nodes together.
        nb: blocking factor.

    Raises:
        InputError: `hpl-ranks-invalid`, or `hpl-memory-too-small`: not one block for each row and column of the grid.
    """
    p, q = grid_of(ranks)
    n = isqrt(memory_bytes * share_ppm // 10**6 // ITEM_BYTES) // nb * nb
    if n < nb * q:
        what = f"{memory_bytes / 1e9:,.1f} GB hold no matrix with a block of {nb} for each of {p} x {q} ranks"
        raise InputError("hpl-memory-too-small", what, fix="take fewer ranks, a smaller --nb, or more nodes")
    return HplProblem(n, nb, p, q)
