"""From the settings to what runs jobs."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from pipelines.backends.backend import Backend
from pipelines.cluster.token import refuse_without_token, shown
from pipelines.errors import ParamsError
from pipelines.project import state, workspace
from pipelines.settings import Settings

LOCK = "requirements.lock"


def backend_of(settings: Settings) -> Backend | None:
    """What the settings name; None where stages run in the process that DVC starts.

    Raises:
        ParamsError: the settings contradict each other, or the environment.
        TrainingError: Ray's job server is on another machine, and no token is set.
    """
    address = settings.ray.address or ""
    to_job_server = address.startswith(("http://", "https://"))
    kind = settings.jobs.backend or ("ray" if to_job_server else None)
    if to_job_server and kind != "ray":
        raise ParamsError(f"jobs.backend is {kind}, but ray.address is a job server: set one of them to null")
    if settings.jobs.environment == "lock" and kind != "ray":
        raise ParamsError(f"jobs.environment is lock, which only a Ray cluster's job server installs, not {kind}")
    match kind:
        case None:
            return None
        case "local":
            from pipelines.backends.local import Local

            return Local(state() / "jobs" / "local")
        case "ray":
            from pipelines.backends.ray_jobs import RayJobs

            if not to_job_server:
                raise ParamsError(
                    f"jobs.backend ray wants the cluster's job server in ray.address, http://HEAD:8265; got "
                    f"{shown(address) or 'null'}"
                )
            _refuse_detour(address)
            refuse_without_token(address, urlsplit(address).hostname or "", insecure=settings.ray.insecure)
            return RayJobs(address, workspace() / LOCK if settings.jobs.environment == "lock" else None)
        case "kuberay":
            from pipelines.backends.kuberay import KubeRay

            return KubeRay(settings.jobs.overlay)
        case "slurm":
            from pipelines.backends.slurm import Slurm

            return Slurm(state() / "jobs" / "slurm", settings.jobs.sbatch)


def _refuse_detour(address: str) -> None:
    """Ray's client would go where RAY_API_SERVER_ADDRESS leads, whatever address it is given."""
    other = os.environ.get("RAY_API_SERVER_ADDRESS")
    if other and other.rstrip("/") != address.rstrip("/"):
        raise ParamsError(
            f"ray.address (or RAY_ADDRESS) is {shown(address)}, but RAY_API_SERVER_ADDRESS, which wins in Ray, is "
            f"{shown(other)}: unset it"
        )
