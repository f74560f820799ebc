"""Where a job can run that outlives the process that asked for it: this machine, a Ray cluster, Kubernetes, Slurm."""
