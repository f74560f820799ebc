"""Drawing all images of the sample stage into one file, with their card and two pictures."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion.drawing import Drawn, Frames
from diffusion.models.saved import SavedModel
from pipelines.cluster.parallel import Mapper, serial_map
from pipelines.errors import DataError, PipelineError
from pipelines.measure.chunks import chunks, watched
from pipelines.measure.committed import Committed
from pipelines.measure.drawing import Drawing, draw_fitting
from pipelines.measure.fitting import BatchSize, Fitted

Images = NDArray[np.uint8]

SAMPLES = "samples.npy"
CARD = "samples.json"
GRID = "grid.png"
STRIP = "strip.png"


@dataclass(frozen=True)
class SamplesCard:
    """How the samples were drawn. Equal cards mean equal samples, on the same kind of device."""

    count: int
    shape: tuple[int, int, int]
    """(C, H, W) of one image."""
    levels: int
    """Pixels are in 0..levels-1."""
    classes: int | None
    """With labels, image i is of class i modulo their number, unless there is one label for all."""
    label: int | None
    """The class of all images."""
    guidance: str
    guidance_scale: float | None
    guidance_interval: tuple[float, float] | None
    classifier_digest: str | None
    """Of the classifier that guided."""
    sampler: str
    options: dict[str, float | int | str]
    """Of the sampler."""
    steps: int
    """Times visited."""
    spacing: str
    calls: int | None
    """Network calls per image; None where the sampler chose as it went."""
    clip_x0: bool
    weights: str
    batch_size: int
    """Images per network call; where the memory had no room for so many, the fewest that were drawn together."""
    compiled: bool
    seed: int
    device: str
    model_digest: str


@dataclass(frozen=True)
class Samples:
    """The samples as the next stage finds them."""

    images: Images
    """uint8 (N, C, H, W) in 0..levels-1, a memory map."""
    card: SamplesCard


@dataclass(frozen=True)
class Speed:
    """How long the drawing took."""

    images: int
    """Drawn by this process's workers; the others were there from an attempt before."""
    seconds: float
    calls: int
    """Network calls per image, the most of any batch."""

    @property
    def images_per_second(self) -> float | None:
        """None if all were there."""
        return self.images / self.seconds if self.images else None


def draw_samples(
    folder: Path, drawing: Drawing, mapper: Mapper = serial_map, committed: Committed | None = None
) -> Speed:
    """Write samples.npy (uint8 (N, C, H, W) in 0..levels-1), samples.json, grid.png and strip.png to `folder`.

    Memory does not depend on the number of images: batch by batch they go to a memory-mapped file.

    Args:
        committed: where finished batches are kept, and found by the next attempt.

    Raises:
        CheckpointError: the model is missing, damaged or replaced, or a batch cannot be kept.
        ParamsError: the parameters do not fit the model.
        TrainingError: an image became non-finite.
        PipelineError: the disk has no room for the images, or the memory none for a single one.
    """
    from pipelines.report.pictures import reverse_strip, sample_grid

    drawing.check()
    saved, how = drawing.model.on_cpu(), drawing.how
    images = _room_for(folder / SAMPLES, (how.count, *saved.shape))
    batch_size = BatchSize("sample.batch_size", how.batch_size)
    frames, speed = _draw_into(images, drawing, mapper, batch_size, committed)
    images.flush()
    batch_size.tell()
    card = replace(card_of(drawing, saved), batch_size=batch_size.used)
    (folder / CARD).write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
    sample_grid(images, saved.levels, folder / GRID)
    reverse_strip(np.stack(frames.images), frames.times, saved.levels, folder / STRIP)
    return speed


def card_of(drawing: Drawing, saved: SavedModel) -> SamplesCard:
    """The card of the samples that this drawing gives."""
    how, recipe = drawing.how, drawing.recipe
    return SamplesCard(
        count=how.count,
        shape=saved.shape,
        levels=saved.levels,
        classes=drawing.classes,
        label=how.label,
        guidance=how.guidance,
        guidance_scale=None if how.guidance == "none" else how.guidance_scale,
        guidance_interval=None if how.guidance == "none" else how.guidance_interval,
        classifier_digest=drawing.classifier.digest if drawing.classifier else None,
        sampler=how.sampler,
        options=dict(recipe.options),
        steps=len(recipe.times(saved.schedule)),
        spacing=how.spacing,
        calls=recipe.calls(saved.schedule),
        clip_x0=how.clip_x0,
        weights=how.weights,
        batch_size=how.batch_size,
        compiled=how.compile,
        seed=drawing.seed,
        device=drawing.model.device,
        model_digest=drawing.model.digest,
    )


def read_samples(folder: Path) -> Samples:
    """Open what `draw_samples` wrote.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        content = json.loads((folder / CARD).read_text(encoding="utf-8"))
        interval = content["guidance_interval"]
        tuples = {"shape": tuple(content["shape"]), "guidance_interval": interval and tuple(interval)}
        card = SamplesCard(**{**content, **tuples})
        images = np.load(folder / SAMPLES, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"no samples: {error.filename} is missing; run `dvc repro sample`") from None
    except (ValueError, TypeError, KeyError, EOFError) as error:
        raise DataError(f"{folder} is damaged or of another version ({error}); {_REMEDY}") from error
    if images.dtype != np.uint8 or images.shape != (card.count, *card.shape):
        found = f"{images.dtype} {images.shape}"
        raise DataError(f"{folder / SAMPLES} holds {found}, not the images that {CARD} describes; {_REMEDY}")
    return Samples(images, card)


_REMEDY = "run `dvc repro --force sample`"


def _room_for(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """A new memory-mapped file with its blocks on the disk: writing to a map that has none kills the process."""
    try:
        images: np.memmap[Any, np.dtype[np.uint8]] = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.uint8, shape=shape
        )
        if hasattr(os, "posix_fallocate"):  # not on macOS
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise PipelineError(
            f"{shape[0]} samples need {np.prod(shape) / 1e6:.0f} MB in {path.parent.parent}: {error.strerror}; "
            "free some space, or lower sample.count"
        ) from error
    return images


def _draw_into(
    images: Images, drawing: Drawing, mapper: Mapper, batch_size: BatchSize, committed: Committed | None
) -> tuple[Frames, Speed]:
    """Bring every batch into its place; the reverse process of the first images."""
    frames: dict[int, Frames] = {}
    calls = 0

    def place(ids: range, done: Fitted[Drawn]) -> None:
        nonlocal calls
        drawn = batch_size.result(done)
        images[ids.start : ids.stop] = drawn.images
        frames[ids.start] = drawn.frames
        calls = max(calls, drawn.calls)

    missing = []
    for ids in chunks(len(images), drawing.how.batch_size):
        if committed and (done := committed.read(ids)):
            place(ids, done)
        else:
            missing.append(ids)
    sizes = [len(ids) for ids in missing]
    if there := len(images) - sum(sizes):
        print(f"{there} of {len(images)} images were drawn before", flush=True)
    began = time.perf_counter()
    for k, done in watched("sampling", mapper, partial(draw_fitting, drawing), missing, sizes, start=there):
        if committed:
            committed.commit(missing[k], done)
        place(missing[k], done)
    shown = Frames.joined([frames[first] for first in sorted(frames)])
    return shown, Speed(sum(sizes), time.perf_counter() - began, calls)
