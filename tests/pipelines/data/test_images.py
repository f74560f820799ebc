"""Decoding: every kind of file a person may have, against pixel values known in closed form."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pipelines.data.images import decode
from pipelines.data.sources import Unreadable

GREY, RGB = (1, 8, 8), (3, 8, 8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def constant(mode: str, colour, size=(8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def halves(width: int, height: int) -> Image.Image:
    """Grey: the left half 0, the right half 255."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, width // 2 :] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("image", "rgb"),
    [
        (constant("L", 200), (200, 200, 200)),
        (constant("RGB", (10, 20, 30)), (10, 20, 30)),
        (constant("RGBA", (10, 20, 30, 255)), (10, 20, 30)),
        (constant("RGBA", (10, 20, 30, 0)), (255, 255, 255)),  # transparency is composited on white
        (constant("LA", (0, 0)), (255, 255, 255)),
        (constant("1", 1), (255, 255, 255)),
        (constant("RGB", (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE), (10, 20, 30)),
        (Image.fromarray(np.full((8, 8), 65535, np.uint16)), (255, 255, 255)),  # 16 bits, scaled and not cut
        (Image.fromarray(np.full((8, 8), 257 * 100, np.uint16)), (100, 100, 100)),
        (Image.fromarray(np.full((8, 8), 257 * 100 + 129, np.uint16)), (101, 101, 101)),  # and rounded
    ],
    ids=["L", "RGB", "opaque", "transparent", "LA", "bilevel", "palette", "16-bit white", "16-bit", "16-bit rounded"],
)
def test_pixels_of_every_mode(image, rgb):
    pixels = decode(encoded(image), RGB).pixels
    assert pixels.dtype == np.uint8
    assert pixels.shape == RGB
    assert [int(c.max()) for c in pixels] == [int(c.min()) for c in pixels] == list(rgb)


def test_cmyk_and_jpeg():
    pixels = decode(encoded(constant("CMYK", (0, 0, 0, 0)), "JPEG"), RGB).pixels
    assert pixels.min() >= 253  # no ink is white, up to the codec's rounding


def test_grey_is_luma():
    assert decode(encoded(constant("RGB", (255, 0, 0))), GREY).pixels[0, 0, 0] == 76  # 0.299 * 255 = 76.2
    assert decode(encoded(constant("RGB", (0, 255, 0))), GREY).pixels[0, 0, 0] == 150  # 0.587 * 255 = 149.7


def test_the_first_frame_of_an_animation():
    frames = [constant("L", value) for value in (40, 200)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(content, GREY).pixels.tolist() == np.full(GREY, 40).tolist()


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: shown after a quarter turn clockwise
    pixels = decode(encoded(halves(64, 64), "PNG", exif=exif.tobytes()), GREY).pixels[0]
    assert pixels[0].max() < 30  # the dark left half has become the upper one
    assert pixels[-1].min() > 225


def test_the_centre_is_cropped_after_resizing_the_shorter_side():
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 99
    assert decode(encoded(Image.fromarray(wide)), GREY).pixels.tolist() == np.full(GREY, 99).tolist()


def test_reduction_is_antialiased():
    fine = np.zeros((64, 64), np.uint8)
    fine[:, ::2] = 255  # one-pixel stripes: an aliased reduction would give 0 or 255
    assert np.abs(decode(encoded(Image.fromarray(fine)), GREY).pixels.astype(int) - 128).max() <= 12


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not an image at all", "not an image"),
        (encoded(halves(64, 64))[:-40], "damaged"),
        (encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), "no defined white"),
    ],
    ids=["empty", "text", "truncated", "float"],
)
def test_what_cannot_be_used_says_why(content, reason):
    with pytest.raises(Unreadable, match=reason):
        decode(content, GREY)


def test_a_decompression_bomb_is_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Unreadable, match="bomb"):
        decode(encoded(halves(64, 64)), GREY)
