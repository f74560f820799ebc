"""scheduler_config.json of diffusers and our process: its noise schedule, and what the network predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from diffusion.process import NoiseSchedule, Target

FILE = "scheduler_config.json"

_TARGETS = {"epsilon": Target.EPS, "v_prediction": Target.V, "sample": Target.X_0}
_WHEN_ABSENT: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
}
"""Of DDPMScheduler. What else its file has is about sampling, not about the process."""
_KINDS = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
"""Of one process, with the same fields."""


def schedule_of(config: Mapping[str, Any]) -> NoiseSchedule:
    """The process, in float64 throughout (theirs is computed in float32).

    Raises:
        ValueError: it is unknown here, or cannot be.
    """
    if (kind := config.get("_class_name")) not in _KINDS:
        raise _refused("_class_name", kind, f"one of {', '.join(_KINDS)}")
    c = _WHEN_ABSENT | dict(config)
    T, first, last = c["num_train_timesteps"], c["beta_start"], c["beta_end"]
    match c["beta_schedule"]:
        case _ if c["trained_betas"] is not None:
            s = _from_betas(c["trained_betas"], T)
        case "linear":
            s = NoiseSchedule.linear(T, first, last, rescale=False)
        case "scaled_linear":
            s = NoiseSchedule.from_betas(torch.linspace(first**0.5, last**0.5, T, dtype=torch.float64) ** 2)
        case "squaredcos_cap_v2":
            s = NoiseSchedule.cosine(T)
        case other:
            raise _refused("beta_schedule", other, "linear, scaled_linear or squaredcos_cap_v2, or trained_betas")
    return s.rescaled_to_zero_snr() if c["rescale_betas_zero_snr"] else s


def target_of(config: Mapping[str, Any], *, learned_variance: bool) -> Target:
    """What the network predicts.

    Raises:
        ValueError: it is unknown here, or the variance is not meant as ours.
    """
    c = _WHEN_ABSENT | dict(config)
    if c["prediction_type"] not in _TARGETS:
        raise _refused("prediction_type", c["prediction_type"], f"one of {', '.join(_TARGETS)}")
    if learned_variance and c["variance_type"] != "learned_range":
        raise _refused("variance_type", c["variance_type"], "learned_range, as twice the channels come out")
    return _TARGETS[c["prediction_type"]]


def config_of(s: NoiseSchedule, predicts: Target, *, learned_variance: bool) -> dict[str, Any]:
    """The config of a DDPMScheduler of this process, whose steps are those of our `Ancestral`.

    Raises:
        ValueError: a score is predicted.
    """
    names = {target: name for name, target in _TARGETS.items()}
    if predicts not in names:
        raise ValueError(f"DDPMScheduler cannot hold this model: it predicts {predicts}, wanted one of {list(names)}")
    return {
        "_class_name": "DDPMScheduler",
        **_WHEN_ABSENT,
        "num_train_timesteps": s.T,
        **_betas(s),
        "prediction_type": names[predicts],
        "variance_type": "learned_range" if learned_variance else "fixed_small",
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "timestep_spacing": "trailing",
    }


def _betas(s: NoiseSchedule) -> dict[str, Any]:
    """By its name where it has one, to the same bits here; else the list."""
    for named in (
        {"beta_schedule": "linear", "beta_start": float(s.beta[1]), "beta_end": float(s.beta[-1])},
        {"beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
    ):
        config = {"_class_name": "DDPMScheduler", "num_train_timesteps": s.T, **named}
        if not s.zero_snr and torch.equal(schedule_of(config).log_alpha_bar, s.log_alpha_bar):
            return named
    return {"trained_betas": s.beta[1:].tolist()}


def _from_betas(betas: list[float], T: int) -> NoiseSchedule:
    if len(betas) != T:
        raise _refused("trained_betas", f"{len(betas)} numbers", f"num_train_timesteps of them, {T}")
    if betas[-1] != 1:
        return NoiseSchedule.from_betas(betas)
    before = NoiseSchedule.from_betas(betas[:-1]).log_alpha_bar
    return NoiseSchedule.from_log_alpha_bar(torch.cat([before, before.new_tensor([-torch.inf])]))


def _refused(name: str, got: object, wanted: str) -> ValueError:
    return ValueError(f"{FILE}: {name} is {got!r}, wanted {wanted}")
