"""Images of a model, by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion.drawing.frames import Frames, Recorder
from diffusion.drawing.recipe import Recipe
from diffusion.models.saved import SavedModel
from diffusion.models.saved_classifier import SavedClassifier
from diffusion.process import to_levels
from diffusion.samplers import Counted, sample
from diffusion.training.random import normal_per_image


@dataclass(frozen=True, eq=False)
class Drawn:
    """One batch."""

    images: NDArray[np.uint8]
    """(n, C, H, W) in 0..levels-1."""
    frames: Frames
    """Of its first images, as many as were asked for."""
    calls: int
    """Calls of the network."""

    @classmethod
    def joined(cls, parts: Sequence[Drawn]) -> Drawn:
        """Of neighbouring batches."""
        frames = Frames.joined([part.frames for part in parts])
        return cls(np.concatenate([part.images for part in parts]), frames, max(part.calls for part in parts))


def draw(
    saved: SavedModel,
    recipe: Recipe,
    seed: int,
    ids: Sequence[int],
    *,
    label: int | None = None,
    x_T: Tensor | None = None,
    classifier: SavedClassifier | None = None,
    shown: int = 0,
    moments: int = 10,
) -> Drawn:
    """Draw the images with these numbers.

    Image i starts from noise, and is given noise at each step, that depend on (seed, i) alone. What batch it is in
    changes no more than the rounding of the kernels (with `probability_flow`, its tolerance).

    Args:
        ids: the numbers; with `x_T` one may come more than once.
        label: the class of all images; None: image i is of class i modulo their number, if there are any.
        classifier: for a recipe that is guided by one; a model without classes then has the classifier's.
        x_T: (N, C, H, W), to start from; None: each image's own, `start_of`.
        shown: keep the way out of the noise of so many of the first of them.
        moments: so many moments of it, besides the noise.

    Raises:
        ValueError: recipe or label do not fit the model, or a prediction is not finite; the message names image and
            time.
    """
    device = next(saved.net.parameters()).device
    times = recipe.times(saved.schedule)
    x_T = (start_of(seed, ids, saved.shape) if x_T is None else x_T).to(device)
    recorder = Recorder(times, saved.levels, shown, moments) if shown else None
    if recorder:
        recorder.keep(times[0], x_T)
    guided = classifier if recipe.guidance.kind == "classifier" else None
    y = labels(saved.classes or (guided.classes if guided else None), ids, label, device)
    told, guide = recipe.guidance.applied(saved, y, guided)
    model = Counted(told)
    x_0 = sample(
        model,
        saved.schedule,
        x_T,
        recipe.make(),
        times=times,
        noise=lambda k, shape: normal_per_image(seed, "sample", ids, k, shape[1:]),
        clip_x0=recipe.clip_x0,
        target=saved.predicts,
        guide=guide,
        on_step=recorder.on_step if recorder else None,
    )
    return Drawn(to_levels(x_0, saved.levels).cpu().numpy(), recorder.kept if recorder else Frames(), model.calls)


def start_of(seed: int, ids: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The noise that images start from, (N, C, H, W), for a shape (C, H, W)."""
    return normal_per_image(seed, "sample-x_T", ids, 0, shape)


def labels(
    classes: int | None, ids: Sequence[int], label: int | None, device: torch.device | str = "cpu"
) -> Tensor | None:
    """The class of each image, LongTensor (N,), of so many; None if there are none.

    Raises:
        ValueError: there is no such class.
    """
    if classes is None:
        if label is not None:
            raise ValueError(f"class {label} was asked for, but the model was trained without classes")
        return None
    if label is not None and not 0 <= label < classes:
        raise ValueError(f"class {label} was asked for, but the model's classes are 0..{classes - 1}")
    return torch.tensor([i % classes if label is None else label for i in ids], device=device)
