"""Drawing images: one loop, small samplers, lists of times."""

from diffusion.samplers.ancestral import Ancestral
from diffusion.samplers.counted import Counted
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.dpm_solver import DPMSolver
from diffusion.samplers.euler import Euler
from diffusion.samplers.euler_maruyama import EulerMaruyama
from diffusion.samplers.guidance import ClassifierFree, ClassifierGuide
from diffusion.samplers.heun import Heun
from diffusion.samplers.invert import invert
from diffusion.samplers.loop import Denoiser, Evaluation, Prediction, Sampler, Step, sample
from diffusion.samplers.names import SAMPLERS, make_sampler, options_of
from diffusion.samplers.predictor_corrector import PredictorCorrector
from diffusion.samplers.probability_flow import ProbabilityFlow
from diffusion.samplers.times import karras, leading, linspaced, trailing
from diffusion.samplers.unipc import UniPC

__all__ = [
    "DDIM",
    "SAMPLERS",
    "Ancestral",
    "ClassifierFree",
    "ClassifierGuide",
    "Counted",
    "DPMSolver",
    "Denoiser",
    "Euler",
    "EulerMaruyama",
    "Evaluation",
    "Heun",
    "Prediction",
    "PredictorCorrector",
    "ProbabilityFlow",
    "Sampler",
    "Step",
    "UniPC",
    "invert",
    "karras",
    "leading",
    "linspaced",
    "make_sampler",
    "options_of",
    "sample",
    "trailing",
]
