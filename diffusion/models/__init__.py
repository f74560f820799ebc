"""The networks and the average of their weights. Model files are in `diffusion.models.saved`."""

from diffusion.models.ema import EMA
from diffusion.models.unet import UNet

__all__ = ["EMA", "UNet"]
