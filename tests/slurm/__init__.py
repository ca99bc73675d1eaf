"""The Slurm launcher against a real, private Slurm on this machine."""
