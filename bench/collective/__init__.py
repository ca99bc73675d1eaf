"""The network's share of compute: how the devices of a campaign meet, reduce together, and are checked.

Worker processes do all of it (`bench.collective.part`), after their figures have been handed over (docs/network.md).
"""
