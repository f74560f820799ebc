"""Many runs of the pipeline: which ones, each in a copy of the project, and what came out."""
