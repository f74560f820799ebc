"""Errors that a person can act on. A stage prints their message on one or a few lines and exits with its status, 1
where nothing else is said.

The core package `diffusion` raises `ValueError` for bad arguments; the pipelines raise these.

    PipelineError
    ├── ParamsError       params.yaml or infra/cluster.yaml
    ├── DataError         images, prepared shards, manifests, what is in a depot
    ├── CheckpointError   a run's folder, its checkpoints, a model file
    │   └── StoreError    the place of the checkpoints, or the depot, does not answer: nothing is known of them
    ├── RunLocked         another process is working on the same run
    ├── TrainingError     non-finite loss, workers that do not come back
    ├── Interrupted       asked to stop, state saved; exit status 75
    ├── JobFailed         a stage that ran elsewhere; with its exit status
    └── TrackingError     the MLflow server or registry
"""


class PipelineError(Exception):
    """Base of all errors that carry a message for the user: what was found, what was wanted, the remedy."""

    exit_status = 1
    """Of the command that ends with it."""


class ParamsError(PipelineError):
    """A parameter or setting is unknown, missing, mistyped or out of range."""


class DataError(PipelineError):
    """The images or the prepared data cannot be used."""


class CheckpointError(PipelineError):
    """A checkpoint or model file is damaged or belongs to something else."""


class StoreError(CheckpointError):
    """The store of a run's checkpoints, or a depot, cannot be reached or refuses. It says nothing of what is there."""


class RunLocked(PipelineError):
    """Another live process holds the run."""


class TrainingError(PipelineError):
    """Training cannot go on."""


class Interrupted(PipelineError):
    """Training was asked to stop (SIGTERM, Ctrl-C) and can go on later from where it stopped."""

    exit_status = 75
    """EX_TEMPFAIL of sysexits.h: run the same command again."""


class JobFailed(PipelineError):
    """A stage that ran elsewhere failed there, or its machines died."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class TrackingError(PipelineError):
    """The tracking server or the model registry refused or did not answer."""


def first_line(error: BaseException) -> str:
    """Kind and first line of an error that may go on for pages."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
