"""Sweeps: trials, and the engines that run them: local processes, Ray, SLURM."""
