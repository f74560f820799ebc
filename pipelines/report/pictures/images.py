"""Pictures of images: the data, how noise destroys it, what the model draws, and how it gets there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.report.pictures.tiles import Table, columns_for, draw, from_levels, from_unit, in_rows

if TYPE_CHECKING:
    from diffusion.process import NoiseSchedule

_MOST = 128
"""Images that a grid shows."""


def data_picture(images: NDArray[np.uint8], levels: int, path: Path, titles: Sequence[str] | None = None) -> None:
    """Some images of the data, with their classes.

    Args:
        images: uint8 (n, C, H, W) in 0..levels-1.
        titles: one caption for each image.
    """
    n, C, H, W = images.shape
    subtitle = f"{min(n, _MOST)} images as the model sees them: {H}×{W} pixels, {_channels(C)}, {levels} levels"
    captions = [text if len(text) <= 12 else text[:11] + "…" for text in (titles or [])][:_MOST]
    _grid(images, levels, path, "The data", subtitle, captions)


def sample_grid(images: NDArray[np.uint8], levels: int, path: Path) -> None:
    """What the model draws: uint8 (n, C, H, W) in 0..levels-1, in the order given, not picked."""
    n = len(images)
    shown = f"The first {min(n, _MOST)} of {n} samples" if n > _MOST else f"{n} samples"
    _grid(images, levels, path, "Drawn by the model", f"{shown}, in order, none left out", [])


def noising_strip(schedule: NoiseSchedule, images: NDArray[np.uint8], levels: int, path: Path) -> None:
    """One path of the forward process for each image, at about ten of its times.

    Between two times that are shown, x_t is drawn from q(x_t | x_s) of the same schedule, so a row is a true path.

    Args:
        images: uint8 (n, C, H, W) in 0..levels-1; a handful.
    """
    times = sorted({round(t) for t in np.linspace(0, schedule.T, 11)})
    alpha_bar = np.asarray(schedule.alpha_bar, dtype=np.float64)
    x = images.astype(np.float64) * (2 / (levels - 1)) - 1
    rng = np.random.default_rng(0)
    frames = [x]
    for s, t in pairwise(times):
        kept = alpha_bar[t] / alpha_bar[s]
        x = np.sqrt(kept) * x + np.sqrt(1 - kept) * rng.standard_normal(x.shape)
        frames.append(x)
    table = Table(
        title="From data to noise",
        subtitle="The forward process. Below each time t: the share of the image, ᾱₜ, in the variance of what is seen",
        images=from_unit(np.stack(frames, axis=1)),
        columns=[f"t = {t}\n{_share(alpha_bar[t])}" for t in times],
    )
    draw(table, path)


def reverse_strip(frames: ArrayLike, times: Sequence[float], levels: int, path: Path) -> None:
    """How samples come out of noise.

    Args:
        frames: (k, n, C, H, W): k moments of n images; uint8 in 0..levels-1 or floating in [-1, 1].
        times: the k times, from T down to 0.
    """
    moments = np.asarray(frames)
    pixels = from_levels(moments, levels) if moments.dtype == np.uint8 else from_unit(moments)
    table = Table(
        title="From noise to samples",
        subtitle="The reverse process: each row is one image at falling times t",
        images=pixels.swapaxes(0, 1),
        columns=[f"t = {t:.4g}" for t in times],
    )
    draw(table, path)


def between_seeds(images: NDArray[np.uint8], seeds: tuple[int, int], levels: int, path: Path) -> None:
    """Images on their way from one seed to another: uint8 (n, places, C, H, W) in 0..levels-1."""
    table = Table(
        title="From one seed to another",
        subtitle=f"Each row is one image whose noise turns from seed {seeds[0]} (left) to seed {seeds[1]} (right)",
        images=from_levels(images, levels),
    )
    draw(table, path)


def _grid(images: NDArray[np.uint8], levels: int, path: Path, title: str, subtitle: str, captions: list[str]) -> None:
    shown = images[:_MOST]
    columns = columns_for(len(shown), max(shown.shape[-2:]))
    rows = in_rows(from_levels(shown, levels), columns)
    draw(Table(title, subtitle, rows, captions=captions, count=len(shown)), path)


def _channels(C: int) -> str:
    return "grey" if C == 1 else "RGB"


def _share(value: float) -> str:
    percent = 100 * value
    return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.2g}%"
