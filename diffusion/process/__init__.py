"""The diffusion process: schedule, forward, posterior, reverse, bound. Formulas follow Ho, Jain & Abbeel 2020."""

from diffusion.process.bound import BoundTerms, bound, prior_kl
from diffusion.process.decoder import Decoder, DiscretizedGaussian, FirstStep, GaussianDensity, NormalizedLevels
from diffusion.process.forward import q_marginal, q_sample, q_step
from diffusion.process.gaussian import Gaussian, gaussian_kl, gaussian_log_density
from diffusion.process.levels import to_levels, to_unit
from diffusion.process.objective import simple_loss
from diffusion.process.parameterization import (
    eps_to_score,
    eps_to_v,
    eps_to_x_0,
    score_to_eps,
    v_to_eps,
    v_to_x_0,
    x_0_to_eps,
    x_0_to_v,
)
from diffusion.process.posterior import q_posterior
from diffusion.process.reverse import Variance, p_reverse, predict_x_0, reverse_variance
from diffusion.process.schedule import NoiseSchedule

__all__ = [
    "BoundTerms",
    "Decoder",
    "DiscretizedGaussian",
    "FirstStep",
    "Gaussian",
    "GaussianDensity",
    "NoiseSchedule",
    "NormalizedLevels",
    "Variance",
    "bound",
    "eps_to_score",
    "eps_to_v",
    "eps_to_x_0",
    "gaussian_kl",
    "gaussian_log_density",
    "p_reverse",
    "predict_x_0",
    "prior_kl",
    "q_marginal",
    "q_posterior",
    "q_sample",
    "q_step",
    "reverse_variance",
    "score_to_eps",
    "simple_loss",
    "to_levels",
    "to_unit",
    "v_to_eps",
    "v_to_x_0",
    "x_0_to_eps",
    "x_0_to_v",
]
