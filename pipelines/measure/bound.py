"""The exact bound of a split's images, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion.evaluation import BitsPerDim
from diffusion.models.saved import SavedModel
from diffusion.process import bound, log_snr_bins, to_unit, without_variance
from diffusion.process.bound import Model
from diffusion.training.random import normal_per_image
from pipelines.build import build_decoder
from pipelines.cluster.parallel import Mapper, serial_map
from pipelines.data.dataset import ImageSplit
from pipelines.errors import TrainingError
from pipelines.measure.chunks import chunks, watched
from pipelines.measure.fitting import BatchSize, Fitted, Work, fitted
from pipelines.measure.model import ModelRef
from pipelines.sections import EvaluateParams

BINS = 16
"""Bins of equal width in log SNR in which the terms are summed up."""
IMAGES_PER_TASK = 32
"""Few enough to share the work out evenly; the rows of a network call are filled up with further times."""
PARAMETER = "evaluate.batch_size"

Bits = TypeVar("Bits")


@dataclass(frozen=True)
class Measuring:
    """All that the bound of an image depends on, besides the image."""

    model: ModelRef
    how: EvaluateParams
    seed: int


@dataclass(frozen=True, eq=False)
class DataImages:
    """Some images of a split."""

    pixels: NDArray[np.uint8]
    """(n, C, H, W) in 0..levels-1."""
    ids: list[str]
    """What the noise of each image depends on."""
    labels: NDArray[np.int64] | None
    """(n,)."""

    def parts(self, size: int) -> list[DataImages]:
        """Neighbouring images, at most `size` together."""
        rows = [slice(part.start, part.stop) for part in chunks(len(self.ids), size)]
        return [DataImages(self.pixels[r], self.ids[r], None if self.labels is None else self.labels[r]) for r in rows]


def bound_of_split(
    measuring: Measuring,
    split: ImageSplit,
    count: int,
    mapper: Mapper = serial_map,
    batch_size: BatchSize | None = None,
) -> BitsPerDim:
    """The exact bound of the first `count` images of the split.

    Args:
        batch_size: notes which one was used, where the memory has no room for `measuring.how.batch_size`.

    Raises:
        TrainingError: the network's prediction is not finite.
        PipelineError: the memory has no room for a single image.
    """
    batch_size = batch_size or BatchSize(PARAMETER, measuring.how.batch_size)
    parts = chunks(count, min(IMAGES_PER_TASK, measuring.how.batch_size))
    items = (read_part(split, part) for part in parts)
    sizes = [len(part) for part in parts]
    results = watched("bound", mapper, partial(fitting, measure_bound, BitsPerDim.joined, measuring), items, sizes)
    bits = BitsPerDim.joined([batch_size.result(done) for _, done in results])
    batch_size.tell()
    return bits


def fitting(
    measure: Callable[[Measuring, DataImages], Bits],
    join: Callable[[list[Bits]], Bits],
    measuring: Measuring,
    images: DataImages,
) -> Fitted[Bits]:
    """The task: `measure` these images, with as many image-time pairs per network call as the memory has room for.

    Raises:
        PipelineError: it has no room for a single one.
    """

    def in_batches(size: int) -> Bits:
        smaller = replace(measuring, how=measuring.how.model_copy(update={"batch_size": size}))
        found = [measure(smaller, part) for part in images.parts(size)]
        return found[0] if len(found) == 1 else join(found)

    work = Work("the bound", PARAMETER, images.pixels.shape[1:], measuring.model.device)
    return fitted(in_batches, measuring.how.batch_size, work)


def measure_bound(measuring: Measuring, images: DataImages) -> BitsPerDim:
    """Every time visited once for each image, with noise that depends on (seed, image, t) alone.

    Raises:
        TrainingError: the network's prediction is not finite; the message names the time.
    """
    saved, how = measuring.model.open(), measuring.how
    times = times_of(how, saved.schedule.T)
    x_0 = to_unit(torch.from_numpy(images.pixels.copy()), saved.levels).to(measuring.model.device)
    try:
        with torch.inference_mode():
            terms = bound(
                predictor(saved, how.variance),
                saved.schedule,
                x_0,
                noise=lambda t, shape: normal_per_image(measuring.seed, "bound", images.ids, t, shape[1:]),
                decoder=build_decoder(how.decoder, saved.levels),
                variance=how.variance,
                clip_x0=how.clip_x0,
                times=times,
                y=labels_of(saved, images),
                target=saved.predicts,
                chunk=how.batch_size,
            )
    except ValueError as error:
        between = f"{images.ids[0][:12]}.. and {images.ids[-1][:12]}.."
        raise TrainingError(f"the bound of the images between {between}: {error}") from error
    return BitsPerDim.of(terms, log_snr_bins(saved.schedule.respaced(times), BINS))


def predictor(saved: SavedModel, variance: str) -> Model:
    """The network, without its variance where a fixed one is measured."""
    return without_variance(saved.net) if saved.learned_variance and variance != "learned" else saved.net


def times_of(how: EvaluateParams, T: int) -> list[int]:
    """The times of the process that is measured, decreasing: T down to the first time."""
    return list(range(T, how.first_time - 1, -1))


def read_part(split: ImageSplit, part: range) -> DataImages:
    labels = None if split.labels is None else split.labels[part.start : part.stop]
    return DataImages(split.read(np.array(part)), split.ids[part.start : part.stop], labels)


def labels_of(saved: SavedModel, images: DataImages) -> torch.Tensor | None:
    """What a network that is conditional on classes is told."""
    if not saved.classes:
        return None
    if images.labels is None:
        raise ValueError("the model wants labels, and these images have none")
    return torch.from_numpy(images.labels.copy())
