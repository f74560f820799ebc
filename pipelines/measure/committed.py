"""Batches that a sampling job has drawn, kept until all are there: a killed job goes on from them.

Each is committed as a checkpoint of training is (`runs/commit.py`), in the same places: whole and verified or not
there.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import torch

from diffusion.drawing import Drawn, Frames
from pipelines.cluster.record import platform_of
from pipelines.errors import CheckpointError, StoreError
from pipelines.measure.drawing import Drawing
from pipelines.measure.fitting import Fitted
from pipelines.project import workspace
from pipelines.runs.digest import digest
from pipelines.runs.manifest import read_file, verify
from pipelines.runs.source import source_digest
from pipelines.runs.store import Store

_IMAGES, _FRAMES = "images.npy", "frames.npy"


def job_key(drawing: Drawing) -> str:
    """The name of the job: equal for those that draw the same images, with the same code on the same kind of machine.

    On a GPU that is not known here: the workers are taken to have equal ones.
    """
    core, own = workspace() / "diffusion", workspace() / "pipelines" / "measure"
    device = drawing.model.device
    code = [
        *(core / part for part in ("drawing", "models", "process", "samplers")),
        core / "training" / "random.py",
        *(own / name for name in ("compiled.py", "drawing.py", "fitting.py", "committed.py")),
        own.parent / "cluster" / "parallel.py",
    ]
    parts = {
        "how": drawing.how.model_dump(mode="json"),
        "seed": drawing.seed,
        "model": drawing.model.digest,
        "classifier": drawing.classifier.digest if drawing.classifier else None,
        "device": platform_of(torch.device(device)).kind if device == "cpu" else device,
        "versions": [torch.__version__, np.__version__, scipy.__version__],
        "source": source_digest(code),
    }
    return f"sample-{digest(parts)[:16]}"


@dataclass(frozen=True)
class Committed:
    """The finished batches of one job."""

    store: Store

    def begin(self) -> None:
        """Make the job's place if need be, and remove what killed processes left unfinished.

        Raises:
            CheckpointError: it cannot be written.
        """
        self.store.begin(_PREFIX)

    def read(self, ids: range) -> Fitted[Drawn] | None:
        """A batch; None where it is not there or damaged, so that it must be drawn.

        Raises:
            StoreError: the store does not answer.
        """
        name = name_of(ids)
        try:
            manifest = verify(self.store, name)
            arrays = {
                file: np.load(io.BytesIO(read_file(self.store, name, file, entry)), allow_pickle=False)
                for file, entry in manifest.files.items()
            }
        except StoreError:
            raise
        except CheckpointError:
            return None
        facts = manifest.facts
        frames = Frames(facts["times"], list(arrays[_FRAMES])) if facts["times"] else Frames()
        return Fitted(Drawn(arrays[_IMAGES], frames, facts["calls"]), facts["smaller"])

    def commit(self, ids: range, fitted: Fitted[Drawn]) -> None:
        """Keep a batch.

        Raises:
            CheckpointError: it cannot be written; those before are as they were.
        """
        drawn, name = fitted.result, name_of(ids)
        arrays = {_IMAGES: drawn.images}
        if drawn.frames.times:
            arrays[_FRAMES] = np.stack(drawn.frames.images)
        facts: dict[str, Any] = {"times": drawn.frames.times, "calls": drawn.calls, "smaller": fitted.smaller}
        self.store.commit(name, [(file, _npy(array)) for file, array in arrays.items()], facts)

    def remove(self) -> None:
        """Remove all batches, once their images are somewhere else."""
        for name in self.store.names():
            if name.startswith(_PREFIX):
                self.store.remove(name)


_PREFIX = "images-"


def name_of(ids: range) -> str:
    """`images-0000128-0000256`."""
    return f"{_PREFIX}{ids.start:07}-{ids.stop:07}"


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()
