"""Where a job can run that goes on without the process that asked for it: this machine, a Ray cluster, Kubernetes, Slurm."""
