"""A run of HPL or HPCC with the centre's own binary: its problem, its input file and its Slurm script.

The benchmark is not this harness's: what it prints is imported as evidence (docs/supercomputing.md).
"""
