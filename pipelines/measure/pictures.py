"""Pictures from files as clean-fid reads them; those that it would read wrongly are refused."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.errors import DataError

SUFFIXES = frozenset({".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Those of clean-fid but for .npy; taken in any capitals, of which clean-fid knows .JPEG, .JPG and .PNG only."""
_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr")


@dataclass(frozen=True)
class PictureFile:
    """A picture's file on its way to another machine."""

    path: str
    """Where it came from."""
    content: bytes

    @classmethod
    def read(cls, path: str) -> PictureFile:
        """The file that is there now."""
        return cls(path, Path(path).read_bytes())


def read_picture(file: str | PictureFile) -> NDArray[np.uint8]:
    """(H, W, 3) in 0..255; grey is tripled.

    Raises:
        DataError: it cannot be read, has more than 8 bits, or is not opaque: clean-fid would cut the values off, or
            show the colours under the transparent parts.
    """
    path, source = (file, file) if isinstance(file, str) else (file.path, io.BytesIO(file.content))
    try:
        with Image.open(source) as image:
            image.load()
            problem = _problem(image)
            picture = np.array(image.convert("RGB"))
    except Exception as error:  # whatever a decoder stumbles over: Pillow's raise ten different kinds
        raise DataError(f"{path} cannot be read as an image: {error or type(error).__name__}") from error
    if problem:
        raise DataError(f"{path} {problem}; convert it, or compare prepared images (results/prepare/test)")
    return picture


def _problem(image: Image.Image) -> str | None:
    if image.mode not in _MODES:
        return f"has pixels of mode {image.mode}, more than 8 bits"
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        return "is transparent in places"
    return None
