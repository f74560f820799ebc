"""What survives a process: run folders named by what they depend on, committed checkpoints, one owner at a time."""
