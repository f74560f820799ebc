"""What a model is worth: bits per dimension, Fréchet and kernel distance, precision and recall, and a yardstick."""

from diffusion.evaluation.bits_per_dim import BitsPerDim, BoundEstimates
from diffusion.evaluation.difference import Difference, paired, unpaired, welch
from diffusion.evaluation.frechet import check_full_rank, frechet_distance
from diffusion.evaluation.frechet_at_infinity import frechet_at_infinity
from diffusion.evaluation.frechet_interval import FrechetInterval, frechet_interval
from diffusion.evaluation.histogram import PixelHistograms
from diffusion.evaluation.kid import kid
from diffusion.evaluation.moments import Moments
from diffusion.evaluation.precision_recall import PrecisionRecall, precision_recall
from diffusion.evaluation.statistics import Estimate, Measured, Spread

__all__ = [
    "BitsPerDim",
    "BoundEstimates",
    "Difference",
    "Estimate",
    "FrechetInterval",
    "Measured",
    "Moments",
    "PixelHistograms",
    "PrecisionRecall",
    "Spread",
    "check_full_rank",
    "frechet_at_infinity",
    "frechet_distance",
    "frechet_interval",
    "kid",
    "paired",
    "precision_recall",
    "unpaired",
    "welch",
]
