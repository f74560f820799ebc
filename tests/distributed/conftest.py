"""A run in small on the real digits: prepared once, a U-Net with dropout, flips on, 4 virtual shards of 4 images."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion.models.digest import content_digest
from pipelines.cluster.events import Event
from pipelines.cluster.job import Job, Place
from pipelines.cluster.loop import Loop
from pipelines.params import Params
from pipelines.prepare import prepare
from pipelines.runs.checkpoint import Checkpoint, checkpoint_at
from pipelines.runs.local import LocalStore
from pipelines.runs.store import Store

PARAMS: dict[str, Any] = {
    "seed": 3,
    "data": {"source": "digits"},
    "process": {"schedule": "log_snr", "T": 20},
    "model": {"channels": 8, "channel_multipliers": [1, 2], "blocks": 1, "dropout": 0.2},
    "train": {
        "steps": 10,
        "batch_size": 16,
        "virtual_shards": 4,
        "learning_rate": 0.01,
        "warmup_steps": 3,
        "weight_decay": 0.01,
        "ema_decay": 0.9,
        "horizontal_flip": True,
        "log_every": 4,
        "val_every": 5,
        "val_images": 9,
        "val_calls": 3,
    },
    "sample": {"count": 80},
    "register": {"name": "test"},
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(Params.model_validate(PARAMS), folder)
    return folder


class Killed(Exception):
    """Stands for kill -9: nothing is done after it."""


class Lab:
    """Makes jobs of one data set, runs them, and says what came out."""

    def __init__(self, prepared: Path, folder: Path) -> None:
        self.prepared = prepared
        self.folder = folder

    def job(
        self, run: str | Store = "run", *, every_steps: int = 3, model: dict[str, Any] | None = None, **train: Any
    ) -> Job:
        """A job with its run in folder `run`, or there; keyword arguments replace values of the sections."""
        values = copy.deepcopy(PARAMS)
        values["train"] |= train
        values["model"] |= model or {}
        params = Params.model_validate(values)
        place = LocalStore(self.folder / run) if isinstance(run, str) else run
        return Job(params, self.prepared, place, "0123456789abcdef", every_steps=every_steps, keep=2)

    place = Place(0, 1, torch.device("cpu"))
    """Of the only worker."""

    def loop(self, job: Job, events: list[Event] | None = None) -> Loop:
        """The loop in this process, as its only worker, which tells `events`."""
        heard: list[Event] = [] if events is None else events
        return Loop(job, self.place, heard.append)

    def run(self, job: Job) -> list[Event]:
        """Run that loop; what it told."""
        events: list[Event] = []
        self.loop(job, events).run()
        return events

    def kill_at(self, job: Job, step: int) -> None:
        """Run a loop that dies right after update number `step`, before anything that is due then."""
        loop = self.loop(job)
        after_step = loop._after_step

        def dying(done: int, heard: Any) -> None:
            if done == step:
                raise Killed
            after_step(done, heard)

        loop._after_step = dying  # type: ignore[method-assign]
        with pytest.raises(Killed):
            loop.run()

    def final(self, job: Job) -> Checkpoint:
        """The final checkpoint of the job's length."""
        checkpoint = checkpoint_at(job.run, job.params.train.steps)
        assert checkpoint is not None
        assert checkpoint.final
        return checkpoint

    def digest(self, job: Job) -> str:
        """Over weights, average, optimiser and history at the end."""
        checkpoint = self.final(job)
        groups = {group: checkpoint.load(group) for group in ("weights", "ema", "optimizer", "history")}
        return content_digest({f"{group}/{name}": t for group, named in groups.items() for name, t in named.items()})


@pytest.fixture
def lab(prepared: Path, tmp_path: Path) -> Lab:
    return Lab(prepared, tmp_path)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As in a worker: the number of threads changes bits."""
    torch.set_num_threads(1)
