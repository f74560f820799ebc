"""The diffusion process: schedule, forward, posterior, reverse, bound. Formulas follow Ho, Jain & Abbeel 2020."""

from diffusion.process.bins import TimeBins, log_snr_bins
from diffusion.process.bound import BoundTerms, Measure, bound, prior_kl
from diffusion.process.decoder import Decoder, DiscretizedGaussian, FirstStep, GaussianDensity, NormalizedLevels
from diffusion.process.estimate import estimate_bound
from diffusion.process.estimated import Estimated, EstimatedBound, EstimatedTerms
from diffusion.process.first_time import FirstTimes, bound_by_first_time, first_variance
from diffusion.process.forward import q_marginal, q_sample, q_step
from diffusion.process.gaussian import Gaussian, gaussian_kl, gaussian_log_density
from diffusion.process.levels import to_levels, to_unit
from diffusion.process.objective import simple_loss
from diffusion.process.parameterization import (
    Target,
    check_target,
    eps_error_scale,
    eps_to_score,
    eps_to_v,
    eps_to_x_0,
    score_to_eps,
    target_of,
    to_eps,
    to_x_0,
    v_to_eps,
    v_to_x_0,
    x_0_to_eps,
    x_0_to_v,
)
from diffusion.process.posterior import q_posterior
from diffusion.process.reverse import (
    Variance,
    learned_variance,
    p_reverse,
    predict_x_0,
    reverse_variance,
    split_output,
    without_variance,
)
from diffusion.process.schedule import NoiseSchedule
from diffusion.process.step_term import bound_weight, step_kl
from diffusion.process.weighting import P2, SNR, BoundWeight, MinSNR, Plain, Weighting

__all__ = [
    "P2",
    "SNR",
    "BoundTerms",
    "BoundWeight",
    "Decoder",
    "DiscretizedGaussian",
    "Estimated",
    "EstimatedBound",
    "EstimatedTerms",
    "FirstStep",
    "FirstTimes",
    "Gaussian",
    "GaussianDensity",
    "Measure",
    "MinSNR",
    "NoiseSchedule",
    "NormalizedLevels",
    "Plain",
    "Target",
    "TimeBins",
    "Variance",
    "Weighting",
    "bound",
    "bound_by_first_time",
    "bound_weight",
    "check_target",
    "eps_error_scale",
    "eps_to_score",
    "eps_to_v",
    "eps_to_x_0",
    "estimate_bound",
    "first_variance",
    "gaussian_kl",
    "gaussian_log_density",
    "learned_variance",
    "log_snr_bins",
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
    "split_output",
    "step_kl",
    "target_of",
    "to_eps",
    "to_levels",
    "to_unit",
    "to_x_0",
    "v_to_eps",
    "v_to_x_0",
    "without_variance",
    "x_0_to_eps",
    "x_0_to_v",
]
