"""How a figure is measured: devices, run rules, statistics, node records.

This room measures and records facts; it never judges what may be claimed (that is ``certify``).
It may import ``kernels``; nothing in ``kernels`` may import it.
"""
