"""The bound of the validation split for every time at which the decoder could take over.

The first time is chosen on validation images so that the test split stays unseen: the lowest of many numbers is a
little too low on the images that it was chosen on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion.evaluation import Spread
from diffusion.process import NoiseSchedule, to_unit
from diffusion.process.first_time import FirstTimes, bound_by_first_time
from diffusion.training.random import normal_per_image
from pipelines.build import build_decoder
from pipelines.cluster.parallel import Mapper, serial_map
from pipelines.data.dataset import ImageSplit, open_split
from pipelines.errors import DataError, TrainingError
from pipelines.measure.bound import (
    IMAGES_PER_TASK,
    PARAMETER,
    DataImages,
    Measuring,
    fitting,
    labels_of,
    predictor,
    read_part,
)
from pipelines.measure.chunks import chunks, watched
from pipelines.measure.evaluating import check_fit
from pipelines.measure.first_time_choice import smoothed
from pipelines.measure.fitting import BatchSize

if TYPE_CHECKING:
    import pandas as pd

_KEPT = 10_000_000
"""Bounds, one for each image and first time, that are kept: 80 MB."""


@dataclass(frozen=True, eq=False)
class FirstTimeBits:
    """The bound of N images for F first times, in bits/dim."""

    first_times: NDArray[np.int64]
    """(F,), increasing."""
    L_T: NDArray[np.float64]
    """(N,)."""
    L_t_sum: Spread
    """Over the N images, one quantity for each first time."""
    L_0: Spread
    """Likewise, smoothed over neighbouring first times."""
    measured: Spread
    """Likewise: the bound as the evaluate stage would measure it, with L_0 as it is."""
    total: NDArray[np.float64]
    """(N, F): the bound with the smoothed L_0; kept for each image, as differences are taken image by image."""

    @classmethod
    def joined(cls, parts: Sequence[FirstTimeBits]) -> FirstTimeBits:
        """Of all chunks, in their order."""
        return cls(
            first_times=parts[0].first_times,
            L_T=np.concatenate([part.L_T for part in parts]),
            L_t_sum=Spread.pooled(part.L_t_sum for part in parts),
            L_0=Spread.pooled(part.L_0 for part in parts),
            measured=Spread.pooled(part.measured for part in parts),
            total=np.concatenate([part.total for part in parts]),
        )

    def curve(self) -> pd.DataFrame:
        """One row per first time: means over the images in bits/dim.

        Columns `first_time`, `L_T`, `L_t_sum`, `L_0`, `total`, `total_se` (its standard error), `difference` (to the
        lowest total), `difference_se` and `measured`. The standard error of a difference is taken image by image, so
        that what makes an image hard at every first time cancels. All but `measured` are with the smoothed L_0.
        """
        import pandas as pd

        total = Spread.of(self.total)
        difference = Spread.of(self.total - self.total[:, [total.mean.argmin()]])
        return pd.DataFrame(
            {
                "first_time": self.first_times,
                "L_T": self.L_T.mean(),
                "L_t_sum": self.L_t_sum.mean,
                "L_0": self.L_0.mean,
                "total": total.mean,
                "total_se": total.standard_error,
                "difference": difference.mean,
                "difference_se": difference.standard_error,
                "measured": self.measured.mean,
            }
        )


def validation_images(folder: Path, measuring: Measuring) -> ImageSplit:
    """The validation split of the images prepared in `folder`.

    Raises:
        DataError: it has fewer than two images, or other images than the model is of.
    """
    split = open_split(folder, "val")
    if len(split) < 2:
        raise DataError(
            f"the first time is chosen on the validation split, which has {len(split)} images and needs two or more: "
            "set prepare.val_fraction (0.1, say) and run `dvc repro`"
        )
    check_fit(measuring.model.on_cpu(), split)
    return split


def candidates(T: int, count: int, now: int) -> list[int]:
    """The first times to measure for `count` images: all of 1..T, or so many of them, geometrically, as can be kept.

    `now`, the one in use, is always among them.
    """
    kept = max(_KEPT // count, 2)
    return list(range(1, T + 1)) if T <= kept else sorted({*geometric(T, kept - 1), min(now, T)})


def geometric(T: int, count: int) -> list[int]:
    """At most `count` whole numbers from 1 to T, both among them, each about the same factor above the last."""
    return sorted({round(t) for t in np.geomspace(1, T, count)})


def first_times_of_split(
    measuring: Measuring, split: ImageSplit, count: int, mapper: Mapper = serial_map
) -> FirstTimeBits:
    """The bound of the first `count` images of the split for the `candidates`; the noise is that of `bound_of_split`.

    Raises:
        TrainingError: the network's prediction is not finite.
        PipelineError: the memory has no room for a single image.
    """
    first_times = candidates(measuring.model.on_cpu().schedule.T, count, measuring.how.first_time)
    parts = chunks(count, min(IMAGES_PER_TASK, measuring.how.batch_size))
    items = (read_part(split, part) for part in parts)
    task = partial(fitting, partial(measure_first_times, first_times), FirstTimeBits.joined, measuring)
    results = watched("bound by first time", mapper, task, items, [len(part) for part in parts])
    batch_size = BatchSize(PARAMETER, measuring.how.batch_size)
    bits = FirstTimeBits.joined([batch_size.result(done) for _, done in results])
    batch_size.tell()
    return bits


def measure_first_times(first_times: Sequence[int], measuring: Measuring, images: DataImages) -> FirstTimeBits:
    """Every time visited once for each image, with the noise of `measure_bound`.

    Raises:
        TrainingError: the network's prediction is not finite; the message names the time.
    """
    saved, how = measuring.model.open(), measuring.how
    x_0 = to_unit(torch.from_numpy(images.pixels.copy()), saved.levels).to(measuring.model.device)
    try:
        with torch.inference_mode():
            terms = bound_by_first_time(
                predictor(saved, how.variance),
                saved.schedule,
                x_0,
                noise=lambda t, shape: normal_per_image(measuring.seed, "bound", images.ids, t, shape[1:]),
                decoder=build_decoder(how.decoder, saved.levels),
                variance=how.variance,
                clip_x0=how.clip_x0,
                y=labels_of(saved, images),
                target=saved.predicts,
                chunk=how.batch_size,
            )
    except ValueError as error:
        between = f"{images.ids[0][:12]}.. and {images.ids[-1][:12]}.."
        raise TrainingError(f"the bound of the images between {between}: {error}") from error
    return _kept(terms, saved.schedule, np.array(first_times))


def _kept(terms: FirstTimes, s: NoiseSchedule, first_times: NDArray[np.int64]) -> FirstTimeBits:
    """What is kept of a chunk; L_0 is smoothed over all times, whichever of them are."""
    L_T, L_t_sum, L_0 = (value.cpu().numpy() for value in (terms.L_T, terms.L_t_sum, terms.L_0))
    smooth, kept = smoothed(L_0, s.log_snr[1:].numpy()), first_times - 1
    without = L_T[:, None] + L_t_sum
    return FirstTimeBits(
        first_times=first_times,
        L_T=L_T,
        L_t_sum=Spread.of(L_t_sum[:, kept]),
        L_0=Spread.of(smooth[:, kept]),
        measured=Spread.of((without + L_0)[:, kept]),
        total=(without + smooth)[:, kept],
    )
