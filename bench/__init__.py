"""How a figure is measured: devices, run rules, statistics, node records.

This room measures and records facts; it never judges what may be claimed (that is ``certify``).
It may import ``kernels``; nothing in ``kernels`` may import it.
"""

VERSION, RELEASED = "0.2.0", "2026-11-29"  # the day (UTC): a clock that is before it is wrong
