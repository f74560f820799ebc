"""Where a job can run that goes on without who asked for it: this machine, a Ray cluster, Kubernetes, Slurm."""
