"""The login node's side of SLURM: what is asked for, the line that asks, what became of it."""
