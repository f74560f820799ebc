"""The sections of the two classifiers: the one in whose features samples are compared, the one that guides sampling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.sections import Section


class ReferenceParams(Section):
    """The features in which samples are compared with data."""

    extractor: Literal["auto", "classifier", "random"] = "auto"
    """`classifier`: a small one trained on the labels. `random`: fixed random convolutions. `auto`: the first if there
    are labels, else the second."""
    features: int = Field(default=64, ge=2, le=2048)
    """Number of features."""
    steps: int = Field(default=400, ge=1)
    """Training steps of the classifier."""


class ClassifierParams(Section):
    """The classifier of noised images by which sampling is guided, on the way down of a U-Net of its own."""

    steps: int = Field(default=0, ge=0)
    """Training steps, for sample.guidance `classifier`; 0: there is none."""
    batch_size: int = Field(default=128, ge=1)
    """Images per step."""
    learning_rate: float = Field(default=2e-3, gt=0.0, le=1.0)
    """Of AdamW; it falls to zero."""
    weight_decay: float = Field(default=0.05, ge=0.0)
    """Of AdamW."""
    channels: int = Field(default=32, ge=8)
    """Channels at full resolution."""
    channel_multipliers: tuple[int, ...] = Field(default=(1, 2), min_length=1, strict=False)
    """One entry per resolution, from full downwards, each half the side of the one before."""
    blocks: int = Field(default=1, ge=1)
    """Residual blocks per resolution."""
    attention_resolutions: tuple[int, ...] = Field(default=(), strict=False)
    """Sides of the feature maps that get self-attention besides the middle's."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Dropout inside the residual blocks."""
