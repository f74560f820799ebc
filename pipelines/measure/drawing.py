"""Drawing images: the task of the sample stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion.models.saved import SavedModel
from diffusion.process import to_levels
from diffusion.samplers import DDIM, Ancestral, Sampler, leading, linspaced, sample, trailing
from diffusion.training.random import normal_per_image
from pipelines.errors import TrainingError
from pipelines.measure.chunks import chunks
from pipelines.measure.fitting import Fitted, Work, fitted
from pipelines.measure.model import ModelRef
from pipelines.sections import SampleParams

Images = NDArray[np.uint8]

IMAGES_SHOWN = 8
"""Images whose way out of the noise is kept."""
MOMENTS_SHOWN = 10
"""Moments of it, besides the noise it begins with."""

_SPACINGS: dict[str, Callable[[int, int], list[int]]] = {
    "trailing": trailing,
    "leading": leading,
    "linspaced": linspaced,
}


@dataclass(frozen=True)
class Drawing:
    """All that an image depends on, besides its number."""

    model: ModelRef
    how: SampleParams
    seed: int


@dataclass(frozen=True)
class Frames:
    """Some moments of the reverse process."""

    times: list[int] = field(default_factory=list)
    """The times shown, from T down to 0."""
    images: list[Images] = field(default_factory=list)
    """For each of them x_t of the first images, uint8 (n, C, H, W) in 0..levels-1."""

    @classmethod
    def joined(cls, parts: Sequence[Frames]) -> Frames:
        """Of neighbouring batches; those that keep none are left out."""
        kept = [part for part in parts if part.times]
        if not kept:
            return cls()
        return cls(kept[0].times, [np.concatenate(moment) for moment in zip(*(p.images for p in kept), strict=True)])


@dataclass(frozen=True, eq=False)
class Drawn:
    """One batch."""

    images: Images
    """uint8 (n, C, H, W) in 0..levels-1."""
    frames: Frames
    """Of those among the first IMAGES_SHOWN; empty where there are none."""

    @classmethod
    def joined(cls, parts: Sequence[Drawn]) -> Drawn:
        """Of neighbouring batches."""
        return cls(np.concatenate([part.images for part in parts]), Frames.joined([part.frames for part in parts]))


def draw_fitting(drawing: Drawing, ids: range) -> Fitted[Drawn]:
    """The task: `draw` in one batch, or in as many smaller ones as the memory wants.

    Raises:
        TrainingError: an image became non-finite.
        PipelineError: the memory has no room for a single image.
    """

    def in_batches(size: int) -> Drawn:
        return Drawn.joined([draw(drawing, ids[part.start : part.stop]) for part in chunks(len(ids), size)])

    work = Work("sampling", "sample.batch_size", drawing.model.on_cpu().shape, drawing.model.device)
    return fitted(in_batches, len(ids), work)


def draw(drawing: Drawing, ids: range) -> Drawn:
    """Draw the images with these numbers.

    Image i starts from noise, and is given noise at each step, that depend on (seed, i) alone; with labels, its class
    is i modulo their number. What batch it is in changes no more than the rounding of the kernels.

    Raises:
        TrainingError: an image became non-finite; the message names it, the time and the sampler.
    """
    saved = drawing.model.open()
    steps = times_of(drawing.how, saved.schedule.T)
    frames = _Recorder(steps, saved, IMAGES_SHOWN - ids.start) if ids.start < IMAGES_SHOWN else None
    x_T = normal_per_image(drawing.seed, "sample-x_T", ids, 0, saved.shape).to(drawing.model.device)
    if frames:
        frames.keep(steps[0], x_T)
    try:
        x_0 = sample(
            _with_labels(saved, torch.tensor(ids, device=x_T.device)),
            saved.schedule,
            x_T,
            sampler_of(drawing.how),
            times=steps,
            noise=lambda k, shape: normal_per_image(drawing.seed, "sample", ids, k, shape[1:]),
            clip_x0=drawing.how.clip_x0,
            target=saved.predicts,
            on_step=frames.on_step if frames else None,
        )
    except ValueError as error:
        raise TrainingError(
            f"sampling images {ids.start} to {ids.stop - 1} with {drawing.how.sampler}: {error}. "
            "Train longer or with a lower learning rate, or set sample.clip_x0 to true"
        ) from error
    return Drawn(to_levels(x_0, saved.levels).cpu().numpy(), frames.kept if frames else Frames())


def sampler_of(how: SampleParams) -> Sampler:
    """The sampler that the parameters name."""
    match how.sampler:
        case "ancestral":
            return Ancestral(how.variance)
        case "ddim":
            return DDIM(how.eta)


def times_of(how: SampleParams, T: int) -> list[int]:
    """The times it visits, decreasing; all of T..1 where `steps` is null."""
    return _SPACINGS[how.spacing](T, how.steps) if how.steps else list(range(T, 0, -1))


def _with_labels(saved: SavedModel, ids: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return partial(saved.net, y=ids % saved.classes) if saved.classes else saved.net


class _Recorder:
    """Keeps x_t of the first `n` images at moments spread evenly over the steps, the last one included."""

    def __init__(self, steps: Sequence[int], saved: SavedModel, n: int) -> None:
        count = min(MOMENTS_SHOWN, len(steps))
        self.shown = {round((j + 1) * len(steps) / count) - 1 for j in range(count)}
        self.levels = saved.levels
        self.n = n
        self.kept = Frames()

    def on_step(self, k: int, reached: float, x: Tensor, x_0_hat: Tensor) -> None:
        if k in self.shown:
            self.keep(int(reached), x)

    def keep(self, t: int, x: Tensor) -> None:
        self.kept.times.append(t)
        self.kept.images.append(to_levels(x[: self.n], self.levels).cpu().numpy())
