"""From a saved model to images: which sampler, which times, whose noise, which guidance."""

from diffusion.drawing.between import between
from diffusion.drawing.draw import Drawn, draw, start_of
from diffusion.drawing.frames import Frames
from diffusion.drawing.guidance import Guidance
from diffusion.drawing.recipe import Recipe

__all__ = ["Drawn", "Frames", "Guidance", "Recipe", "between", "draw", "start_of"]
