"""How long Gloo's all-reduce takes over a network whose rate and delay are known, from how it works.

Gloo (``gloo/allreduce.cc``, ``gloo/transport/tcp/pair.cc``) reduces on a ring: a buffer is cut into n chunks of two
segments each, which go around once to be added up and once more to be handed out. A rank posts the receiving and the
sending of one segment together, has two of them in flight, and posts the next one once the one before the last was
received. A segment leaves only when the word of the receiver has come that it is ready for it: so each step of a chain
costs the delay twice. Nothing here is measured: rate, delay and what the headers take are the relay's.
"""

from __future__ import annotations

SEGMENT_BYTES = 2**20  # at most (`AllreduceOptions::maxSegmentSize`)


def reduction_s(reduced_bytes: int, ranks: int, rate_bytes_s: float, delay_s: float) -> float:
    """Return the time of one all-reduce, s, of ranks that begin it at once and each have an egress of their own.

    Args:
        reduced_bytes: that each rank contributes.
        ranks: on the ring.
        rate_bytes_s: of payload.
        delay_s: one way.
    """
    segments = 2 * ranks
    segment_bytes = reduced_bytes / segments
    assert segment_bytes <= SEGMENT_BYTES
    sends_s = segment_bytes / rate_bytes_s
    ended = 0.0
    for _ in ("reduce-scatter", "all-gather"):
        received = [ended, ended]  # the two segments before the first: nothing is waited for
        free = ended
        for _ in range(segments - 2):  # a rank has the last chunk of its own
            posted = max(received[-2], ended)
            free = max(posted + delay_s, free) + sends_s  # the word of the receiver comes first
            received.append(free + delay_s)
        ended = received[-1]
    return ended


def textbook_s(reduced_bytes: int, ranks: int, rate_bytes_s: float, delay_s: float) -> float:
    """Return the time by the usual formula: 2(n-1)/n of the bytes at the rate, and a delay for each of 2(n-1) steps."""
    steps = 2 * (ranks - 1)
    return steps * (reduced_bytes / ranks / rate_bytes_s + delay_s)
