"""params.yaml as frozen, strict models: every number that changes a result, and nothing else.

`load_params()` reads the file as DVC does (YAML 1.2) and checks all of it before any work starts; a bad value raises
`ParamsError` naming the key, the value, what is allowed and the nearest known key. `python -m pipelines.params` checks
the file from the command line; with `--schema` it prints the JSON schema that editors use for completion.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.configuration import bad_values, read_yaml
from pipelines.project import workspace


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
    T: int = Field(ge=1, le=100_000)
    """Number of steps."""
    beta_1: float = Field(default=1e-4, gt=0.0, lt=1.0)
    """For `linear`: the first variance, at T = 1000."""
    beta_T: float = Field(default=0.02, gt=0.0, lt=1.0)
    """For `linear`: the last variance, at T = 1000."""
    rescale: bool = True
    """For `linear` at T other than 1000: multiply the betas by 1000 / T, so that the process stays the same."""
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


class TrainParams(Section):
    """How the network is trained."""

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
    ema_decay: float = Field(default=0.9999, ge=0.0, lt=1.0)
    """Of the average of the weights, after its warm-up."""
    horizontal_flip: bool = False
    """Mirror each training image with probability 1/2."""
    log_every: int = Field(default=10, ge=1)
    """Steps between points of the loss curve."""
    val_every: int = Field(default=500, ge=1)
    """Steps between validation bounds."""
    val_images: int = Field(default=128, ge=1)
    """Images of the validation split used for it."""
    val_times: int = Field(default=50, ge=2)
    """Number of times of the respaced process whose bound is measured."""

    @model_validator(mode="after")
    def _shards_fit(self) -> TrainParams:
        V = self.virtual_shards
        if V & (V - 1):
            raise ValueError(f"virtual_shards must be a power of two, got {V}")
        if self.batch_size % V:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of virtual_shards ({V})")
        if self.microbatch and (self.batch_size // V) % self.microbatch:
            raise ValueError(
                f"microbatch ({self.microbatch}) must divide a shard, which has batch_size / virtual_shards = "
                f"{self.batch_size // V} images"
            )
        return self


class ReferenceParams(Section):
    """The features in which samples are compared with data."""

    extractor: Literal["auto", "classifier", "random"] = "auto"
    """`classifier`: a small one trained on the labels. `random`: fixed random convolutions. `auto`: the first if there
    are labels, else the second."""
    features: int = Field(default=64, ge=2, le=2048)
    """Number of features."""
    steps: int = Field(default=400, ge=1)
    """Training steps of the classifier."""


class SampleParams(Section):
    """How images are drawn."""

    count: int = Field(ge=1)
    """Number of images."""
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    """`ancestral`: Ho et al. 2020, algorithm 2. `ddim`: Song, Meng & Ermon 2021."""
    steps: int | None = Field(default=None, ge=1)
    """Network calls per image; null: all T."""
    spacing: Literal["trailing", "leading", "linspaced"] = "trailing"
    """How the times are chosen when there are fewer than T."""
    eta: float = Field(default=0.0, ge=0.0, le=1.0)
    """For `ddim`: 0 is deterministic, 1 adds the noise of the ancestral sampler."""
    variance: Literal["small", "large"] = "small"
    """For `ancestral`: beta_tilde_t or beta_t."""
    clip_x0: bool = True
    """Clip the predicted image to [-1, 1] at each step."""
    weights: Literal["ema", "raw"] = "ema"
    """The average of the weights, or the weights themselves."""
    batch_size: int = Field(default=128, ge=1)
    """Images per network call; fixed, because it changes the kernels' rounding."""


class EvaluateParams(Section):
    """How the model is measured."""

    variance: Literal["small", "large"] = "small"
    """Variance of the reverse process in the bound: beta_tilde_t or beta_t."""
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


class RegisterParams(Section):
    """The entry in the model registry and the gate of the alias `champion`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}$")
    """Name of the registered model; its versions are compared with one another."""
    min_gain: float = Field(default=0.0, ge=0.0)
    """A version becomes champion if its bound is lower than the champion's by more than this many bits/dim."""


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(ge=0, lt=2**63)
    """Everything random is a function of this number and a position."""
    data: DataParams
    prepare: PrepareParams = PrepareParams()
    reference: ReferenceParams = ReferenceParams()
    process: ProcessParams
    model: ModelParams
    train: TrainParams
    sample: SampleParams
    evaluate: EvaluateParams = EvaluateParams()
    register_: RegisterParams = Field(alias="register")

    @model_validator(mode="after")
    def _times_exist(self) -> Params:
        T = self.process.T
        for key, value in (
            ("sample.steps", self.sample.steps),
            ("evaluate.first_time", self.evaluate.first_time),
            ("train.val_times", self.train.val_times),
        ):
            if value is not None and value > T:
                raise ValueError(f"{key} ({value}) must not exceed process.T ({T})")
        return self

    @model_validator(mode="after")
    def _enough_samples(self) -> Params:
        count, features = self.sample.count, self.reference.features
        if count <= features:
            raise ValueError(
                f"sample.count ({count}) must exceed reference.features ({features}), "
                "or the covariance of the samples is singular"
            )
        return self


def load_params(path: Path | None = None) -> Params:
    """Read and check params.yaml (of the workspace, unless `path` names another file).

    Raises:
        ParamsError: the file is missing, is not YAML, or a value is unknown, missing, mistyped or out of range; the
            message lists every problem.
    """
    path = path or workspace() / "params.yaml"
    try:
        return Params.model_validate(read_yaml(path))
    except ValidationError as error:
        raise bad_values(Params, error, path) from None


def json_schema() -> str:
    """The JSON schema of params.yaml, as kept in params.schema.json."""
    return json.dumps(Params.model_json_schema(by_alias=True), indent=2) + "\n"


def main() -> None:
    """Check params.yaml, or print its JSON schema."""
    parser = argparse.ArgumentParser("python -m pipelines.params", description=main.__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="another file than the project's params.yaml")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema that params.schema.json holds")
    asked = parser.parse_args()
    if asked.schema:
        print(json_schema(), end="")
        return
    params = load_params(asked.file)
    process = params.process
    print(f"params are valid: {params.data.source}, {process.schedule} T={process.T}, {params.train.steps} steps")


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
