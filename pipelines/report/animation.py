"""Moving pictures: GIF by Pillow, MP4 by PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.report.pictures.tiles import Bytes, from_levels, in_rows

FORMATS = (".gif", ".mp4")

_FRAMES_PER_S = 12
_HOLD_S = 1.5
"""For which the last frame stays."""
_SIDE = 1024
"""Pixels of the longer side, about."""
_GAP = 2


def animate(frames: Sequence[NDArray[np.uint8]], levels: int, columns: int, path: Path) -> None:
    """Write frame after frame as one moving picture, the last of them held for a moment.

    Args:
        frames: each (n, C, H, W) in 0..levels-1, laid out in rows of `columns` images.
        path: its ending says the format, .gif or .mp4.

    Raises:
        ValueError: another ending.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"a moving picture is written to {' or '.join(FORMATS)}, got {path.name}")
    pages = [_page(from_levels(frame, levels), columns) for frame in frames]
    pages += [pages[-1]] * round(_HOLD_S * _FRAMES_PER_S)
    (_gif if path.suffix.lower() == ".gif" else _mp4)(pages, path)


def _page(images: Bytes, columns: int) -> Bytes:
    """(n, H, W, 3) as one picture with thin white lines between the images, its pixels whole multiples of theirs."""
    rows = in_rows(images, columns)
    k = max(1, _SIDE // (max(rows.shape[0], columns) * max(images.shape[1:3])))
    padded = np.pad(rows.repeat(k, 2).repeat(k, 3), [(0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)], constant_values=255)
    r, c, h, w, _ = padded.shape
    page: Bytes = padded.transpose(0, 2, 1, 3, 4).reshape(r * h, c * w, 3)
    return page[: r * h - _GAP, : c * w - _GAP]


def _gif(pages: Sequence[Bytes], path: Path) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=rest, duration=1000 // _FRAMES_PER_S, loop=0)


def _mp4(pages: Sequence[Bytes], path: Path) -> None:
    import av

    height, width = (side + side % 2 for side in pages[0].shape[:2])  # the codec wants even sides
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(_FRAMES_PER_S), options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for page in pages:
            even = np.pad(page, [(0, height - page.shape[0]), (0, width - page.shape[1]), (0, 0)], mode="edge")
            for packet in stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
