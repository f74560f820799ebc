"""Features of images, computed chunk by chunk by clean-fid's function for any extractor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.cluster.parallel import Mapper, on_ray, serial_map
from pipelines.measure.chunks import chunks, watched
from pipelines.measure.model import device_of
from pipelines.measure.pictures import PictureFile, read_picture
from pipelines.settings import Settings

Levels = NDArray[np.uint8]
"""(n, C, H, W) in 0..levels-1: images as the prepare and sample stages leave them."""
Picture = NDArray[np.uint8]
"""(H, W, 3) in 0..255: an image as clean-fid reads it from a file."""
Features = NDArray[np.float32]
"""(n, d)."""
Chunk = Levels | Sequence[str] | Sequence[PictureFile]
"""Images, or the paths of picture files, which the tasks read, or the files' content."""

_PER_TASK = 256


class Network(Protocol):
    """What makes features of images: small enough to travel with every task."""

    batch_size: ClassVar[int]
    """Images per call."""
    worth_workers: ClassVar[int]
    """Images from which on it pays to start workers, each of which imports torch and clean-fid for seconds."""
    worth_a_gpu: ClassVar[bool]

    def from_levels(self, images: Levels, levels: int) -> Tensor:
        """(n, C, H, W), float in 0..255: what the network takes for these images."""

    def from_pictures(self, pictures: Sequence[Picture]) -> Tensor:
        """The same for pictures from files.

        Raises:
            DataError: they have a size that it does not take.
        """

    def on(self, device: str) -> Callable[[Tensor], Tensor]:
        """The network there, to be called on what the two above give."""

    def shared(self, settings: Settings) -> Network:
        """The same for tasks on all machines of the cluster.

        Raises:
            DataError, StoreError: its weights cannot be put where they have them from.
        """


@dataclass(frozen=True)
class Extraction:
    """All that an image's features depend on, besides the image."""

    network: Network
    levels: int
    """Of the images: 0..levels-1."""
    device: str


@dataclass(frozen=True)
class Workers:
    """What computes features."""

    network: Network
    """As the workers have it."""
    mapper: Mapper = serial_map
    device: str = "cpu"
    far: bool = False
    """Whether they may be on machines that do not see this one's files."""

    def extraction(self, levels: int) -> Extraction:
        """For images in 0..levels-1."""
        return Extraction(self.network, levels, self.device)

    def carried(self, chunk: Chunk) -> Chunk:
        """The chunk as it is sent to them: pictures with their content, where they are far."""
        if not self.far or isinstance(chunk, np.ndarray):
            return chunk
        return [PictureFile.read(each) if isinstance(each, str) else each for each in chunk]


WorkersFor = Callable[[Network, int], Workers]
"""What computes the features of so many images in this network."""


def this_process(network: Network, total: int) -> Workers:
    """For tests and small sets."""
    return Workers(network)


def by_size(settings: Settings) -> WorkersFor:
    """Workers for many images, this process for few; the result is the same on one kind of device."""

    def workers_for(network: Network, total: int) -> Workers:
        device = device_of(settings) if network.worth_a_gpu else "cpu"
        if total < network.worth_workers and device == "cpu":
            return Workers(network)
        return Workers(network.shared(settings), on_ray(settings), device, far=settings.ray.address is not None)

    return workers_for


def features_of(extraction: Extraction, images: Chunk) -> Features:
    """(n, d): the features of images in 0..levels-1, or of picture files.

    On a GPU to be called by a mapper, which sees to it that convolutions are in float32.
    """
    from cleanfid.fid import get_batch_features

    device = torch.device(extraction.device)
    model: Any = extraction.network.on(extraction.device)
    parts = chunks(len(images), extraction.network.batch_size)
    batches = (_input(extraction, images[part.start : part.stop]) for part in parts)
    features = [get_batch_features(batch, model, device) for batch in batches]
    return np.concatenate(features).astype(np.float32, copy=False)


def _input(extraction: Extraction, images: Chunk) -> Tensor:
    if isinstance(images, np.ndarray):
        return extraction.network.from_levels(images, extraction.levels)
    return extraction.network.from_pictures([read_picture(path) for path in images])


def extracted(extraction: Extraction, total: int, read: Callable[[range], Chunk], mapper: Mapper) -> Iterator[Features]:
    """The features of `total` images, which `read` gives chunk by chunk, in their order."""
    parts = chunks(total, _PER_TASK)
    task, images = partial(features_of, extraction), (read(part) for part in parts)
    for _, features in watched("features", mapper, task, images, [len(part) for part in parts]):
        yield features
