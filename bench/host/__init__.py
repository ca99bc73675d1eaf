"""What this host lets its processes use: CPUs, the limits of control groups, memory, NUMA nodes.

Reads Linux's files below an injectable root and divides what is there among the workers; knows no device and no rule.
"""
