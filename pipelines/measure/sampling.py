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

from diffusion.models.saved import SavedModel
from pipelines.cluster.parallel import Mapper, serial_map
from pipelines.errors import DataError, PipelineError
from pipelines.measure.chunks import chunks, watched
from pipelines.measure.drawing import Drawing, Frames, Images, draw_fitting, times_of
from pipelines.measure.fitting import BatchSize

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
    """With labels, image i is of class i modulo their number."""
    sampler: str
    steps: int
    """Network calls per image."""
    spacing: str
    eta: float | None
    """Of `ddim`."""
    variance: str | None
    """Of `ancestral`."""
    clip_x0: bool
    weights: str
    batch_size: int
    """Images per network call; where the memory had no room for so many, the fewest that were drawn together."""
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

    seconds: float
    images_per_second: float


def draw_samples(folder: Path, drawing: Drawing, mapper: Mapper = serial_map) -> Speed:
    """Write samples.npy (uint8 (N, C, H, W) in 0..levels-1), samples.json, grid.png and strip.png to `folder`.

    Memory does not depend on the number of images: batch by batch they go to a memory-mapped file.

    Raises:
        CheckpointError: the model is missing, damaged or replaced.
        TrainingError: an image became non-finite.
        PipelineError: the disk has no room for the images, or the memory none for a single one.
    """
    from pipelines.report.pictures import reverse_strip, sample_grid

    saved, how = drawing.model.on_cpu(), drawing.how
    shape = (how.count, *saved.shape)
    images = _room_for(folder / SAMPLES, shape)
    batch_size = BatchSize("sample.batch_size", how.batch_size)
    began = time.perf_counter()
    frames = _draw_into(images, drawing, mapper, batch_size)
    seconds = time.perf_counter() - began
    images.flush()
    batch_size.tell()
    card = replace(card_of(drawing, saved), batch_size=batch_size.used)
    (folder / CARD).write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
    sample_grid(images, saved.levels, folder / GRID)
    reverse_strip(np.stack(frames.images), frames.times, saved.levels, folder / STRIP)
    return Speed(seconds, how.count / seconds)


def card_of(drawing: Drawing, saved: SavedModel) -> SamplesCard:
    """The card of the samples that this drawing gives."""
    how = drawing.how
    return SamplesCard(
        count=how.count,
        shape=saved.shape,
        levels=saved.levels,
        classes=saved.classes,
        sampler=how.sampler,
        steps=len(times_of(how, saved.schedule.T)),
        spacing=how.spacing,
        eta=how.eta if how.sampler == "ddim" else None,
        variance=how.variance if how.sampler == "ancestral" else None,
        clip_x0=how.clip_x0,
        weights=how.weights,
        batch_size=how.batch_size,
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
        card = SamplesCard(**{**content, "shape": tuple(content["shape"])})
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


def _draw_into(images: Images, drawing: Drawing, mapper: Mapper, batch_size: BatchSize) -> Frames:
    """Draw every batch into its place; the reverse process of the first images."""
    batches, frames = chunks(len(images), drawing.how.batch_size), list[Frames]()
    sizes = [len(batch) for batch in batches]
    for k, done in watched("sampling", mapper, partial(draw_fitting, drawing), batches, sizes):
        drawn = batch_size.result(done)
        images[batches[k].start : batches[k].stop] = drawn.images
        if drawn.frames.times:
            frames.append(drawn.frames)
    return Frames.joined(frames)
