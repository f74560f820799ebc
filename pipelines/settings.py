"""infra/cluster.yaml and environment variables: where and how wide the pipeline runs. Nothing here changes a result.

Each setting can be given as an environment variable, `PIPELINES__SECTION__KEY` (for example PIPELINES__RAY__WORKERS=2),
which wins over the file. RAY_ADDRESS and MLFLOW_TRACKING_URI mean what they mean elsewhere and win over both.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from pipelines.configuration import bad_values, read_yaml
from pipelines.errors import ParamsError
from pipelines.project import state, workspace

_PREFIX = "PIPELINES__"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


Workers = Annotated[int, Field(ge=1)]
StageName = Literal["prepare", "reference", "train", "classifier", "sample", "evaluate"]
_SECRET = re.compile("KEY|TOKEN(?!IZ)|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class RaySettings(Section):
    """The workers."""

    address: str | None = None
    """Of a running cluster (`host:6379`, `ray://host:10001`, or `http://host:8265` for stages as jobs); null: start Ray
    on this machine for the stage."""
    insecure: bool = False
    """Join a cluster on another machine without a token. Whoever reaches such a cluster can run commands on it."""
    workers: Workers | tuple[Workers, Workers] | Literal["auto"] = "auto"
    """Training workers; `auto`: a power of two that fits the machine's cores (or GPUs) and the virtual shards; two
    numbers: as many as the cluster has at the time, from the first to the second."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """Cores reserved for each worker. Each uses one thread, because the number of threads changes bits."""
    gpus_per_worker: float = Field(default=0, ge=0)
    """GPUs for each worker. Below 1 several share one, and their messages take the slower way through the host."""
    loaders_per_worker: int = Field(default=0, ge=0)
    """Processes beside each training worker that read its images and draw its noise ahead; 0: it does so itself. They
    can pay only where a virtual shard takes longer to make than the 1 to 2 ms that handing it over costs (digits take
    0.5 ms). Each uses up to one core, which cpus_per_worker does not count, and about 200 MB."""
    max_failures: int = Field(default=3, ge=0)
    """How often in a row, without a new checkpoint in between, workers that die are replaced before the stage fails.
    Run the stage again to go on all the same."""
    same_step_failures: int = Field(default=3, ge=2)
    """Workers that die so often in a row in the same step are not replaced: the step would fail again."""
    start_timeout_s: float = Field(default=300, gt=0)
    """How long to wait for the workers, with a message every 30 s on what is missing."""
    collective_timeout_s: float = Field(default=300, gt=0)
    """How long a worker waits for the others within one step."""
    hang_timeout_s: float = Field(default=120, gt=2)
    """A worker that tells nothing for so long, or is stuck in one place, is named, ended and replaced. Must be longer
    than the slowest checkpoint takes to save, than the first step where a GPU prepares its kernels, and twice as long
    as loaders take to start (seconds for each, where they are more than the cores)."""
    grace_s: float = Field(default=60, gt=0)
    """How long a training that is asked to stop (SIGTERM, Ctrl-C) may take to end its step and save."""
    object_store_mb: int = Field(default=256, ge=80)
    """Memory of a Ray started by the stage for objects in transit."""

    @model_validator(mode="after")
    def _range_in_order(self) -> RaySettings:
        if isinstance(self.workers, tuple) and self.workers[0] > self.workers[1]:
            raise ValueError(f"workers must be given as [least, most], got {list(self.workers)}")
        return self

    @property
    def loader_patience_s(self) -> float:
        """How long a worker waits for one shard from its loaders: they are named before it counts as hanging itself,
        and before the other workers give it up."""
        return min(self.collective_timeout_s, self.hang_timeout_s) / 2

    @property
    def least_workers(self) -> int:
        """The smallest number of workers."""
        return 1 if self.workers == "auto" else self.workers[0] if isinstance(self.workers, tuple) else self.workers

    @property
    def most_workers(self) -> int | None:
        """The largest number of workers; None where it depends on the machine."""
        return None if self.workers == "auto" else self.workers[1] if isinstance(self.workers, tuple) else self.workers


class StorageSettings(Section):
    """Where run folders with checkpoints are kept, and what the workers of a cluster read."""

    uri: str | None = None
    """A folder that all workers see, or s3://bucket/prefix; null: `.state` of this project, whose folder the workers of
    a cluster must see then."""


class CheckpointSettings(Section):
    """How often training saves, and how much it keeps."""

    every_steps: int = Field(default=250, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(default=2, ge=2)
    """Newest checkpoints to keep, besides the final state of each finished length."""
    on_error: Literal["stop", "continue"] = "stop"
    """Where a checkpoint cannot be saved (a full disk): stop, or go on training and try again at the next. The last one
    must be saved either way."""


class TrackingSettings(Section):
    """The MLflow server."""

    uri: str | None = None
    """`http://host:5000`, `sqlite:////path/mlflow.db`; null: SQLite in `.state/mlflow` of this project."""
    timeout_s: float = Field(default=10, gt=0)
    """Of one request. MLflow's own default of 120 s and 7 retries blocks for minutes when the server is away."""
    retries: int = Field(default=2, ge=0)
    """Of one request."""
    send: bool = True
    """false: leave all that stages track in the spool, for `python -m pipelines.sync`."""


class WeightsSettings(Section):
    """Where the weights of networks that were trained elsewhere are. Each is compared with a SHA-256 before it is used,
    and must be where nobody else may write. Paths are absolute or relative to the project."""

    inception: Path | None = None
    """`inception-2015-12-05.pt` for reference.extractor `inception`; null: downloaded once into the cache."""
    clip: Path | None = None
    """`ViT-B-32.pt` for reference.extractor `clip`; null: downloaded once into the cache."""
    cache: Path | None = None
    """Folder for downloaded ones; null: `.state/weights` of this project."""


class JobSettings(Section):
    """Stages as jobs that run elsewhere, and go on without the command that started them."""

    backend: Literal["local", "ray", "kuberay", "slurm"] | None = None
    """What runs them; null: the cluster's job server where ray.address is http://.., else stages run here. `local` is
    this machine, apart from the terminal."""
    stages: tuple[StageName, ...] = ("reference", "train", "sample", "evaluate")
    """Which stages; the others run where `dvc repro` does."""
    on_interrupt: Literal["detach", "cancel"] = "detach"
    """What Ctrl-C does to the job: it goes on, and the same command comes back to it; or it saves and stops."""
    stalled_after_min: float = Field(default=30, gt=0)
    """A job that counts no further step or image for so many minutes is ended as failed."""
    attempts: int = Field(default=3, ge=1)
    """How often in a row a job is started whose machines died. It goes on from the newest checkpoint."""
    environment: Literal["image", "lock"] = "image"
    """For ray: what the cluster's machines have installed, which must be requirements.lock too; or that lock, which
    each of them installs first where it has not. That is 6 GB and some minutes; where Ray itself runs in a virtual
    environment, Ray copies all of that first, which takes as long again."""
    pass_on: tuple[EnvName, ...] = ()
    """Names of environment variables to set there as here. Everybody on the cluster can read them: no secrets."""
    overlay: Path = Path("infra/kuberay/overlays/prod/stage")
    """For kuberay: the kustomization with the RayJob that each stage becomes."""
    sbatch: tuple[str, ...] = ()
    """For slurm: options of sbatch, for example `--nodes=4`."""

    @field_validator("pass_on")
    @classmethod
    def _no_secrets(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        secret = [name for name in names if _SECRET.search(name)]
        if secret:
            raise ValueError(
                f"{', '.join(secret)} would be readable for everybody on the cluster, as a part of the job; give it to "
                "the cluster itself (infra/README.md)"
            )
        return names


class Settings(BaseSettings):
    """All of infra/cluster.yaml, with environment variables on top."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    ray: RaySettings = RaySettings()
    storage: StorageSettings = StorageSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    tracking: TrackingSettings = TrackingSettings()
    weights: WeightsSettings = WeightsSettings()
    jobs: JobSettings = JobSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment variables win over the file."""
        return env_settings, init_settings


def load_settings() -> Settings:
    """Read infra/cluster.yaml (a missing file means defaults) and the environment.

    Raises:
        ParamsError: as for params.yaml.
    """
    path = workspace() / "infra" / "cluster.yaml"
    content = read_yaml(path) if path.exists() else {}
    known = {name.upper() for name in Settings.model_fields}
    for variable in os.environ:
        section = variable.removeprefix(_PREFIX).split("__")[0]
        if variable.startswith(_PREFIX) and section.upper() not in known:
            content[variable] = os.environ[variable]  # reported as an unknown key
    try:
        return _with_common_names(Settings(**content))
    except ValidationError as error:
        raise bad_values(Settings, error, path) from None
    except SettingsError as error:
        remedy = "a whole section is given as JSON, one key as in PIPELINES__RAY__WORKERS=2"
        raise ParamsError(f"environment: {error}; {remedy}") from None


def _with_common_names(settings: Settings) -> Settings:
    """The settings with the addresses that Ray's and MLflow's own environment variables name."""
    changed: dict[str, Section] = {}
    if address := os.environ.get("RAY_ADDRESS"):
        changed["ray"] = settings.ray.model_copy(update={"address": address})
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        changed["tracking"] = settings.tracking.model_copy(update={"uri": uri})
    return settings.model_copy(update=changed)


def tracking_uri(settings: Settings) -> str:
    """The MLflow tracking URI; the embedded SQLite store's folder is made when it is the one."""
    if settings.tracking.uri:
        return settings.tracking.uri
    folder = state() / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"
