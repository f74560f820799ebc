"""The network in whose features images are compared: small enough for any data set, made without any download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.models.saved import content_digest
from diffusion.training.random import generator
from pipelines.errors import DataError
from pipelines.settings import Settings

LARGEST_SIDE = 64
"""Larger images are averaged down to this side before the first convolution."""

_WIDTHS = (32, 64, 128)
_LAST_SIDE = 4


@dataclass(frozen=True)
class Design:
    """The numbers that define the network."""

    channels: int
    """Of the images: 1 or 3."""
    side: int
    """Of the images in pixels."""
    features: int
    classes: int | None
    """Labels that it tells apart; None for a network that is not trained."""


class Extractor(nn.Module):
    """Images as clean-fid hands them out, float (N, C, H, W) in 0..255, to features (N, d).

    Convolutions halve the side down to 4; one linear layer makes the features, and a second one the scores of the
    labels where there are any. The features are taken before their activation, so that none is constant.
    """

    batch_size: ClassVar[int] = 256
    worth_workers: ClassVar[int] = 20_000
    worth_a_gpu: ClassVar[bool] = False

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        side, width = min(design.side, LARGEST_SIDE), _WIDTHS[0]
        layers: list[nn.Module] = [nn.Conv2d(design.channels, width, 3, padding=1), nn.SiLU()]
        while side > _LAST_SIDE:
            wider = min(2 * width, _WIDTHS[-1])
            layers += [nn.Conv2d(width, wider, 3, stride=2, padding=1), nn.SiLU()]
            side, width = -(-side // 2), wider
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.to_features = nn.Linear(width * side**2, design.features)
        self.to_scores = nn.Linear(design.features, design.classes) if design.classes else None

    def forward(self, images: Tensor) -> Tensor:
        """The features. Grey images in three equal channels, as clean-fid reads them from files, are grey images."""
        x = images.float() / 127.5 - 1
        if x.shape[1] != self.design.channels:
            x = x.mean(dim=1, keepdim=True) if self.design.channels == 1 else x.expand(-1, self.design.channels, -1, -1)
        if max(x.shape[-2:]) > LARGEST_SIDE:
            x = F.adaptive_avg_pool2d(x, LARGEST_SIDE)
        features: Tensor = self.to_features(self.body(x))
        return features

    def scores(self, images: Tensor) -> Tensor:
        """(N, classes): how strongly each label is favoured, before the softmax."""
        assert self.to_scores is not None, "this network knows no labels"
        scores: Tensor = self.to_scores(F.silu(self(images)))
        return scores

    def from_levels(self, images: NDArray[np.uint8], levels: int) -> Tensor:
        """(n, C, H, W), what `forward` takes for images in 0..levels-1.

        Raises:
            DataError: they are of another size than those that the network was made for.
        """
        self._check_size(*images.shape[2:])
        return to_255(torch.from_numpy(images.copy()), levels)

    def from_pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """(n, 3, H, W), the same for pictures (H, W, 3) from files.

        Raises:
            DataError: one is of another size than the images that the network was made for.
        """
        for picture in pictures:
            self._check_size(*picture.shape[:2])
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()

    def _check_size(self, height: int, width: int) -> None:
        side = self.design.side
        if (height, width) != (side, side):
            raise DataError(f"an image has {width}x{height} pixels, and this extractor takes {side}x{side}")

    def on(self, device: str) -> Any:
        """The network there."""
        return self.to(device)

    def shared(self, settings: Settings) -> Extractor:
        """It travels with its weights."""
        return self

    @property
    def features(self) -> int:
        """Their number."""
        return self.design.features

    @property
    def resize(self) -> str:
        """What is done to the size of the images, for the card."""
        return f"area to {LARGEST_SIDE}x{LARGEST_SIDE}" if self.design.side > LARGEST_SIDE else "none"

    @property
    def digest(self) -> str:
        """Content digest of the weights."""
        return content_digest(self.state_dict())


def random_extractor(design: Design, seed: int) -> Extractor:
    """A network whose weights are a function of the seed: He et al. 2015, which keeps the scale from layer to layer."""
    extractor = Extractor(design)
    g = generator(seed, "reference-weights", device="cpu")
    for parameter in extractor.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, generator=g)
        else:
            nn.init.zeros_(parameter)
    return extractor.eval().requires_grad_(False)


def extractor_from(design: Design, weights: Mapping[str, Tensor]) -> Extractor:
    """The network with these weights.

    Raises:
        ValueError: they do not fit the design.
    """
    extractor = Extractor(design)
    wanted = {name: tuple(value.shape) for name, value in extractor.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in weights.items()}
    if got != wanted:
        raise ValueError(f"the extractor's weights do not fit its design: got {got}, wanted {wanted}")
    extractor.load_state_dict(dict(weights))
    return extractor.eval().requires_grad_(False)


def to_255(images: Tensor, levels: int) -> Tensor:
    """Grey levels 0..levels-1 as float 0..255, the scale that extractors take; not rounded."""
    return images.float() * (255.0 / (levels - 1))
