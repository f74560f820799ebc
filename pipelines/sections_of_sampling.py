"""The sections of drawing images, and of the classifier that may guide it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipelines.sections import Section


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


class SampleParams(Section):
    """How images are drawn."""

    count: int = Field(ge=1)
    """Number of images."""
    sampler: Literal[
        "ancestral",
        "ddim",
        "dpm_solver",
        "euler",
        "euler_maruyama",
        "heun",
        "predictor_corrector",
        "probability_flow",
        "unipc",
    ] = "ancestral"
    """`ancestral`: Ho et al. 2020, algorithm 2. `ddim`: Song, Meng & Ermon 2021. `dpm_solver`: DPM-Solver++, Lu et al.
    2022. `unipc`: Zhao et al. 2023. `euler`, `heun`: Karras et al. 2022. `euler_maruyama`, `predictor_corrector`,
    `probability_flow` (an adaptive solver): Song et al. 2021."""
    steps: int | None = Field(default=None, ge=1)
    """Times visited; null: all T. A network call for each, but for `heun` and `predictor_corrector`, which make two,
    and `probability_flow`, which makes as many as it needs between neighbouring times (null: between T and 1)."""
    spacing: Literal["trailing", "leading", "linspaced", "karras"] = "trailing"
    """How the times are chosen when there are fewer than T. `karras`: Karras et al. 2022, eq. 5."""
    eta: float = Field(default=0.0, ge=0.0, le=1.0)
    """For `ddim`: 0 is deterministic, 1 adds the noise of the ancestral sampler."""
    variance: Literal["small", "large", "learned"] = "small"
    """For `ancestral`, and as predictor in `predictor_corrector`: beta_tilde_t, beta_t, or between the two as a network
    with model.learned_variance says."""
    order: Literal[1, 2, 3] | None = None
    """For `dpm_solver` (null: 2) and `unipc` (null: 3)."""
    tolerance: float = Field(default=1e-5, gt=0.0)
    """For `probability_flow`: relative and absolute."""
    snr: float = Field(default=0.16, gt=0.0)
    """For `predictor_corrector`: the ratio of signal to noise of a Langevin step."""
    corrections: int = Field(default=1, ge=0)
    """For `predictor_corrector`: Langevin steps after each step."""
    label: int | None = Field(default=None, ge=0)
    """The class of all images, by its number among the names of the sub-folders in order; null: the classes take turns,
    image i is of class i modulo their number."""
    guidance: Literal["none", "classifier_free", "classifier"] = "none"
    """`classifier_free`: away from what the network says when it is not told the class (Ho & Salimans 2022); it needs
    model.class_conditional and train.label_dropout. `classifier`: along the gradient of the classifier of noised images
    (Dhariwal & Nichol 2021); it needs classifier.steps, and labels but no network that is told them."""
    guidance_scale: float = Field(default=1.0, ge=0.0)
    """How strong: w of eps_hat = (1 + w) eps(x_t, y) - w eps(x_t), or s of s grad log p(y | x_t); 0: not at all."""
    guidance_interval: tuple[float, float] | None = Field(default=None, strict=False)
    """The first and the last of the times t, the smaller first, at which there is guidance; null: all."""
    clip_x0: bool = True
    """Clip the predicted image to [-1, 1] at each step."""
    weights: Literal["ema", "raw"] = "ema"
    """The average of the weights, or the weights themselves."""
    batch_size: int = Field(default=128, ge=1)
    """Images per network call; fixed, because it changes the kernels' rounding."""
    compile: bool = False
    """Compile the network, which takes each worker a minute before its first images and changes the rounding."""

    @model_validator(mode="after")
    def _interval_in_order(self) -> SampleParams:
        if self.guidance_interval and not 0 <= self.guidance_interval[0] <= self.guidance_interval[1]:
            raise ValueError(
                f"guidance_interval must go from the smaller to the larger time, got {list(self.guidance_interval)}"
            )
        return self

    @model_validator(mode="after")
    def _karras_has_steps(self) -> SampleParams:
        if self.spacing == "karras" and self.steps is None:
            raise ValueError("spacing karras needs a number of steps, and steps is null")
        return self
