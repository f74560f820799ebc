"""The sections of params.yaml, field by field, each with its range. `params.py` puts them together."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

GROUPS = 20
"""Of images, each left out once for the infinite-sample value of a Fréchet distance."""


DIMENSIONS = {"inception": 2048, "clip": 512}
"""Numbers of features of the networks that were trained elsewhere."""


def fewest_images(features: int) -> int:
    """Images that all measures of a set need: the covariance is not singular, also without one of the groups."""
    return max(GROUPS, -(-(features + 1) * GROUPS // (GROUPS - 1)))


class Section(BaseModel):
    """A part of params.yaml: no unknown keys, no coercion between types, no change after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class DataParams(Section):
    """Which raw images."""

    source: Literal["digits", "folder"]
    """`digits`: scikit-learn's 1,797 handwritten digits (8x8, 17 grey levels). `folder`: any folder of images."""
    path: str = "data"
    """For `folder`: the folder, relative to the project or absolute; sub-folders are class labels."""


class PrepareParams(Section):
    """How raw images become uint8 shards."""

    image_size: int | None = Field(default=None, ge=4, le=1024)
    """Side of the square images; the shorter side is resized to it, then the centre is cropped. null: keep (digits)."""
    channels: Literal[1, 3] = 1
    """1: grey. 3: RGB."""
    val_fraction: float = Field(default=0.1, ge=0.0, le=0.5)
    """Share of the images, drawn by content hash, that watches training."""
    test_fraction: float = Field(default=0.2, gt=0.0, le=0.5)
    """Share of the images, drawn by content hash, that the evaluation is measured on."""
    bad_images: Literal["fail", "skip"] = "fail"
    """What to do with files that cannot be read as images: stop and list them all, or leave them out and list them."""
    max_bad_fraction: float = Field(default=0.01, ge=0.0, lt=1.0)
    """With `skip`: stop all the same if more than this share of the files is bad."""
    shard_size: int = Field(default=4096, ge=1)
    """Images per shard file."""


class ProcessParams(Section):
    """The forward process: T steps of noise."""

    schedule: Literal["linear", "cosine", "log_snr"]
    """`linear`: beta_t from beta_1 to beta_T (Ho et al. 2020). `cosine`: Nichol & Dhariwal 2021. `log_snr`: log SNR
    linear in t between two ends."""
    T: int = Field(ge=4, le=100_000)
    """Number of steps, more than train.val_calls."""
    beta_1: float = Field(default=1e-4, gt=0.0, lt=1.0)
    """For `linear`: the first variance."""
    beta_T: float = Field(default=0.02, gt=0.0, lt=1.0)
    """For `linear`: the last variance."""
    rescale: bool = True
    """For `linear` at T other than 1000: beta_1 and beta_T are those of 1000 steps, and T steps go through the same
    process (log alpha_bar is interpolated). false: they are the first and last of the T steps themselves."""
    zero_terminal_snr: bool = False
    """Rescale the schedule so that x_T is noise alone (Lin et al. 2024); needs model.predicts v or x_0."""
    log_snr_max: float = Field(default=7.0, ge=-20.0, le=20.0)
    """For `log_snr`: log SNR at t = 1."""
    log_snr_min: float = Field(default=-7.0, ge=-20.0, le=20.0)
    """For `log_snr`: log SNR at t = T."""

    @model_validator(mode="after")
    def _ends_in_order(self) -> ProcessParams:
        if self.log_snr_min >= self.log_snr_max:
            raise ValueError(f"log_snr_min ({self.log_snr_min}) must be below log_snr_max ({self.log_snr_max})")
        if self.beta_1 > self.beta_T:
            raise ValueError(f"beta_1 ({self.beta_1}) must not be above beta_T ({self.beta_T})")
        return self


class ModelParams(Section):
    """The network that predicts the noise."""

    kind: Literal["unet"] = "unet"
    """`unet`: the U-Net of Ho et al. 2020."""
    channels: int = Field(ge=8)
    """Channels at full resolution."""
    channel_multipliers: tuple[int, ...] = Field(min_length=1, strict=False)
    """One entry per resolution, from full downwards, each half the side of the one before."""
    blocks: int = Field(default=2, ge=1)
    """Residual blocks per resolution on the way down (one more on the way up)."""
    attention_resolutions: tuple[int, ...] = Field(default=(), strict=False)
    """Sides of the feature maps that get self-attention, for example [16]."""
    attention_heads: int = Field(default=1, ge=1)
    """Heads of the self-attention."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout inside the residual blocks."""
    class_conditional: bool = False
    """Give the network the image's label."""
    predicts: Literal["eps", "x_0", "v"] = "eps"
    """What the network predicts: the noise, the image, or v (Salimans & Ho 2022). The bound is measured alike."""
    learned_variance: bool = False
    """Whether the network also says where the variance of each pixel lies between the two fixed ones (Nichol & Dhariwal
    2021, eq. 15); trained by the objectives `bound` and `hybrid`."""
    fourier_features: tuple[int, ...] = Field(default=(), strict=False)
    """Exponents n of the waves sin(2^n pi x), cos(2^n pi x) that the network sees beside the image (Kingma et al.
    2021): [3, 4] for 17 grey levels, [7, 8] for 256."""


class TrainParams(Section):
    """How the network is trained."""

    objective: Literal["simple", "bound", "hybrid"] = "simple"
    """`simple`: the squared error, weighted by `weighting` (Ho et al. 2020, eq. 14). `bound`: the variational bound.
    `hybrid`: the first plus `hybrid_weight` times the second in bits/dim (Nichol & Dhariwal 2021, eq. 16)."""
    hybrid_weight: float = Field(default=1e-3, gt=0.0)
    """For `hybrid`: what the bound counts."""
    weighting: Literal["none", "snr", "min_snr", "p2", "bound"] = "none"
    """For `simple` and `hybrid`: how the squared error counts at each time. `none`: 1, on what the network predicts.
    `snr`: SNR, on x_0. `min_snr`: min(SNR, gamma), on x_0 (Hang et al. 2023). `p2`: 1 / (1 + SNR)^gamma, on eps (Choi
    et al. 2022). `bound`: as in the bound (Ho et al. 2020, eq. 12)."""
    weighting_gamma: float | None = Field(default=None, gt=0.0)
    """gamma of `min_snr` (null: 5) or `p2` (null: 1)."""
    times: Literal["uniform", "stratified", "importance"] = "uniform"
    """How the time of each image is drawn. `uniform`: alone. `stratified`: spread evenly over a batch. `importance`:
    those with large losses more often, and their losses count less (Nichol & Dhariwal 2021, section 3.3)."""
    decoder: Literal["discretized_gaussian", "normalized_levels", "gaussian"] = "discretized_gaussian"
    """Of L_0 in the objective and in the bounds that are shown while training; see evaluate.decoder."""
    steps: int = Field(ge=1)
    """Optimiser steps. Not part of the run's key while the learning rate is constant: raising it continues."""
    batch_size: int = Field(ge=1)
    """Images per step over all workers."""
    virtual_shards: int = Field(default=8, ge=1)
    """Fixed parts of each batch, a power of two: the unit of randomness, and the largest number of workers."""
    microbatch: int | None = Field(default=None, ge=1)
    """Images per forward pass within a shard; null: the whole shard."""
    reduction: Literal["strict", "fast"] = "strict"
    """`strict`: the same bits on any number of workers. `fast`: DDP with overlap, equal up to rounding."""
    learning_rate: float = Field(gt=0.0, le=1.0)
    """Of AdamW, after warm-up."""
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` decays to zero at the last step, so that `steps` becomes part of the run's key."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Of AdamW."""
    clip_norm: float | None = Field(default=1.0, gt=0.0)
    """Largest norm of the whole gradient; null: no clipping."""
    stop_after_bad_steps: int = Field(default=1, ge=1)
    """Training stops after so many steps in a row whose loss or gradient is not finite. Their updates are left out."""
    ema_decay: float = Field(default=0.9999, ge=0.0, lt=1.0)
    """Of the average of the weights, after its warm-up."""
    horizontal_flip: bool = False
    """Mirror each training image with probability 1/2."""
    label_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """With model.class_conditional: the share of training images whose class the network is not told, so that it learns
    to do without and can be guided (Ho & Salimans 2022). 0.1 to 0.2 is usual. The bounds always tell it."""
    log_every: int = Field(default=10, ge=1)
    """Steps between points of the loss curve and of the running bound."""
    val_every: int = Field(default=500, ge=1)
    """Steps between validation bounds."""
    val_images: int = Field(default=128, ge=2)
    """Images of the validation split used for it; with fewer than two there is none."""
    val_calls: int = Field(default=51, ge=3)
    """Network calls for each of them, an odd number below T: the bound is estimated from these, without bias."""

    @model_validator(mode="after")
    def _shards_fit(self) -> TrainParams:
        V = self.virtual_shards
        if V & (V - 1):
            raise ValueError(f"virtual_shards must be a power of two, got {V}")
        if self.batch_size % V:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of virtual_shards ({V})")
        if self.val_calls % 2 == 0:
            raise ValueError(f"val_calls must be odd, one for L_0 and the rest in two halves, got {self.val_calls}")
        if self.microbatch and (self.batch_size // V) % self.microbatch:
            raise ValueError(
                f"microbatch ({self.microbatch}) must divide a shard, which has batch_size / virtual_shards = "
                f"{self.batch_size // V} images"
            )
        return self

    @model_validator(mode="after")
    def _gamma_has_a_use(self) -> TrainParams:
        if self.weighting_gamma is not None and self.weighting not in ("min_snr", "p2"):
            raise ValueError(f"weighting_gamma is of min_snr and p2, and weighting is {self.weighting}: set it to null")
        if self.objective == "bound" and self.weighting != "none":
            raise ValueError(f"objective bound has its own weighting: set weighting to none, not {self.weighting}")
        return self


class ReferenceParams(Section):
    """The features in which samples are compared with data."""

    extractor: Literal["dataset", "classifier", "random", "inception", "clip"] = "dataset"
    """`inception`: FID, of Heusel et al. 2017; for photographs, and 10,000 samples or more. `clip`: ViT-B/32. Both have
    weights from elsewhere (infra/cluster.yaml says where). `classifier`: a small one trained on the labels. `random`:
    fixed random convolutions. `dataset`: a classifier if there are labels, else random."""
    features: int = Field(default=64, ge=2, le=2048)
    """Number of features of `classifier` and `random`; `inception` has 2,048, `clip` 512."""
    steps: int = Field(default=400, ge=1)
    """Training steps of the classifier."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the weights of an extractor that is made here, and of the order in which it sees the images. Another number
    than the seed of all else, so that models of other seeds are measured with the same network."""

    @property
    def dimension(self) -> int:
        """The number of features."""
        return DIMENSIONS.get(self.extractor, self.features)


class EvaluateParams(Section):
    """How the model is measured."""

    variance: Literal["small", "large", "learned"] = "small"
    """Variance of the reverse process in the bound: beta_tilde_t, beta_t, or between the two as a network with
    model.learned_variance says."""
    decoder: Literal["discretized_gaussian", "normalized_levels", "gaussian"] = "discretized_gaussian"
    """Reconstruction term L_0. `discretized_gaussian`: Ho et al. 2020, eq. 13. `normalized_levels`: Kingma et al. 2021.
    `gaussian`: a density, for continuous data and as a check."""
    first_time: int = Field(default=1, ge=1)
    """The time at which the decoder takes over: L_0 is its loss there, and the terms below it are left out."""
    clip_x0: bool = True
    """Clip the predicted image to [-1, 1] in the bound."""
    weights: Literal["ema", "raw"] = "ema"
    """The average of the weights, or the weights themselves."""
    images: int | None = Field(default=None, ge=2)
    """Images of the test split that the bound is measured on; null: all."""
    batch_size: int = Field(default=128, ge=1)
    """Image-time pairs per network call; fixed, because it changes the kernels' rounding."""


class GateParams(Section):
    """What a version must show to become champion. Of the relative demands, each is a test against the champion."""

    bound: Literal["better", "not_worse", "off"] = "better"
    """The bound on the test images, compared image by image with the champion's."""
    min_gain: float = Field(default=0.0, ge=0.0)
    """With bound `better`: by more than so many bits/dim."""
    distance: Literal["better", "not_worse", "off"] = "not_worse"
    """The Fréchet distance of the samples, with the errors of both."""
    level: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Of the two-sided tests: with 0.95, one in forty equal models counts as better, and as many as worse."""
    min_samples: int = Field(default=1, ge=1)
    """Samples that the distance was measured with."""
    min_speed: float | None = Field(default=None, gt=0)
    """Images per second that the sample stage drew, wherever it ran."""


class RegisterParams(Section):
    """The entry in the model registry and the gate of the alias `champion`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}$")
    """Name of the registered model; its versions are compared with one another."""
    gate: GateParams = GateParams()
