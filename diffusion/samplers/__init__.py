"""Drawing images: one loop, small samplers, lists of times."""

from diffusion.samplers.ancestral import Ancestral
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.loop import Denoiser, Prediction, Sampler, Step, sample
from diffusion.samplers.times import leading, linspaced, trailing

__all__ = [
    "DDIM",
    "Ancestral",
    "Denoiser",
    "Prediction",
    "Sampler",
    "Step",
    "leading",
    "linspaced",
    "sample",
    "trailing",
]
