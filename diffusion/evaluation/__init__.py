"""What a model is worth: bits per dimension with standard errors, the Fréchet distance, the histogram yardstick."""

from diffusion.evaluation.bits_per_dim import BitsPerDim, BoundEstimates
from diffusion.evaluation.frechet import check_full_rank, frechet_distance
from diffusion.evaluation.histogram import PixelHistograms
from diffusion.evaluation.moments import Moments
from diffusion.evaluation.statistics import Estimate, Spread

__all__ = [
    "BitsPerDim",
    "BoundEstimates",
    "Estimate",
    "Moments",
    "PixelHistograms",
    "Spread",
    "check_full_rank",
    "frechet_distance",
]
