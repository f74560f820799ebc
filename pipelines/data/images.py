"""One encoded image to the pixels that are stored: (C, side, side), 0..255.

What is decided here, in this order, because it changes every result:

- Orientation: an EXIF or TIFF orientation is applied. A damaged EXIF block is taken for none, as browsers do.
- Animations and multi-page files: the first frame.
- 16-bit grey is scaled by 255 / 65535 and rounded. Of 16-bit colour Pillow keeps the high byte. 32-bit integers and
  floating point are refused, because no value of theirs is known to be white.
- Transparency is composited on white. Palette, CMYK, YCbCr and bilevel images are converted without colour profiles.
- Grey is ITU-R 601 luma: (299 R + 587 G + 114 B) / 1000.
- Size: the centred square of the shorter side is resampled by Lanczos with a radius of 3 output pixels (antialiased:
  the filter grows with the reduction). Smaller images are enlarged by the same filter.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipelines.data.sources import Picture, Shape, Unreadable

_SUFFIX_LIST = ".jpg .jpeg .jpe .jfif .png .apng .bmp .dib .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .jp2 .avif"
SUFFIXES = frozenset(_SUFFIX_LIST.split())
"""Of files that are taken for images."""

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What Pillow may read. Its other formats start programs (PostScript), or take almost any bytes for an image (TGA)."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what undoes it (EXIF 2.32, tag 274)."""


def decode(content: bytes, shape: Shape) -> Picture:
    """Decode the bytes of an image file and bring it to `shape`, with C = 1 (grey) or 3 (RGB) and H = W.

    Raises:
        Unreadable: not an image, damaged, too large, or of pixels without a defined white.
    """
    channels, side, _ = shape
    image = _load(content)
    opaque = _to_mode(_to_8_bits(image), "L" if channels == 1 else "RGB")
    square = _square(_turn(opaque, _orientation(image)), side)
    pixels = np.asarray(square).reshape(side, side, channels).transpose(2, 0, 1)
    return Picture(np.ascontiguousarray(pixels), image.width, image.height, image.mode)


def _load(content: bytes) -> Image.Image:
    """The first frame, decoded."""
    if not content:
        raise Unreadable("empty file (0 bytes)")
    try:
        image = Image.open(BytesIO(content), formats=_FORMATS)
        _refuse_bomb(image.width, image.height)
        image.load()
    except UnidentifiedImageError:
        raise Unreadable(f"not an image (known: {', '.join(_FORMATS)})") from None
    except Unreadable:
        raise
    except Exception as error:  # whatever a decoder stumbles over: Pillow's raise ten different kinds
        raise Unreadable(f"damaged: {error or type(error).__name__}") from None
    return image


def _refuse_bomb(width: int, height: int) -> None:
    """Stop before the pixels are decoded. Pillow itself refuses at twice its limit and warns in between."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit and width * height > limit:
        raise Unreadable(f"{width}x{height} pixels, Pillow's limit is {limit}: it may be a decompression bomb")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey; every other usable mode has 8 bits or fewer already."""
    wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("I", "F") and not wide:
        raise Unreadable(f"pixels of mode {image.mode} (32 bits) have no defined white: convert to 8 or 16 bits")
    if not wide:
        return image
    if image.format == "TIFF":
        _refuse_odd_tiff(image)
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 = 257 * 255


def _refuse_odd_tiff(image: Image.Image) -> None:
    """Pillow gives 12-bit values and white-is-zero values as they are stored, which would come out dark or inverted."""
    tags = getattr(image, "tag_v2", {})
    bits, photometric = tags.get(258, (16,)), tags.get(262, 1)
    if tuple(bits) != (16,) or photometric != 1:
        raise Unreadable(f"TIFF of {bits[0]} bits, photometric {photometric}: convert to 8 or 16 bits with black as 0")


def _orientation(image: Image.Image) -> int:
    """1..8 as in EXIF; 1 is upright. Pillow applies a TIFF's own when it loads the pixels."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Opaque L or RGB."""
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert(mode)
    except ValueError as error:
        raise Unreadable(f"pixels of mode {image.mode} cannot be converted: {error}") from None


def _square(image: Image.Image, side: int) -> Image.Image:
    """Resize so that the shorter side is `side` and crop the centre, in one resampling.

    The crop begins at a whole pixel, so that an image whose shorter side is `side` already is cropped and not blurred.
    """
    shorter = min(image.size)
    left, top = (image.width - shorter) // 2, (image.height - shorter) // 2
    box = (left, top, left + shorter, top + shorter)
    return image.crop(box) if shorter == side else image.resize((side, side), Image.Resampling.LANCZOS, box)
