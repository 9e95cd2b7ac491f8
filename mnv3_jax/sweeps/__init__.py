"""Many runs: trials, and the engines that run them: processes of this machine, Ray, SLURM."""
