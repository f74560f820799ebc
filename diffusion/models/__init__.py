"""The networks and the average of their weights. Their files are in `saved` and `saved_classifier` beside this."""

from diffusion.models.classifier import Classifier
from diffusion.models.ema import EMA
from diffusion.models.unet import UNet

__all__ = ["EMA", "Classifier", "UNet"]
