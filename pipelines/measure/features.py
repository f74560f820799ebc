"""Moments of features, taken over chunks of images by clean-fid's function for custom extractors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion.evaluation import Moments
from pipelines.cluster.parallel import Mapper, on_ray, serial_map
from pipelines.measure.chunks import chunks
from pipelines.measure.extractor import Extractor, to_255
from pipelines.settings import Settings

Images = NDArray[np.uint8]

_PER_TASK = 256
_WORTH_WORKERS = 20_000
"""Images from which on it pays to start workers, each of which imports clean-fid for five seconds."""


@dataclass(frozen=True)
class Extraction:
    """All that an image's features depend on, besides the image."""

    extractor: Extractor
    levels: int
    """Of the images: 0..levels-1 is scaled to 0..255."""
    device: str


def features_of(extraction: Extraction, images: Images) -> NDArray[np.float32]:
    """(n, d): the features of images (n, C, H, W) in 0..levels-1."""
    from cleanfid.fid import get_batch_features

    device = torch.device(extraction.device)
    batch = to_255(torch.from_numpy(images.copy()), extraction.levels)
    features: NDArray[np.float32] = get_batch_features(batch, extraction.extractor.to(device), device)
    return features


def moments_of(
    extraction: Extraction, total: int, read: Callable[[range], Images], mapper: Mapper = serial_map
) -> Moments:
    """Mean and covariance of the features of `total` images, which `read` gives chunk by chunk."""
    images: Iterable[Images] = (read(chunk) for chunk in chunks(total, _PER_TASK))
    return Moments.pooled(moments for _, moments in mapper(_Task(extraction), images))


def mapper_for(total: int, settings: Settings) -> Mapper:
    """Workers for many images, this process for few; the result is the same."""
    return on_ray(settings) if total >= _WORTH_WORKERS else serial_map


@dataclass(frozen=True)
class _Task:
    extraction: Extraction

    def __call__(self, images: Images) -> Moments:
        return Moments.of(features_of(self.extraction, images))
