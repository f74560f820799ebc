"""Moving pictures hold every frame, in order, in pixels that are whole multiples of the images'."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.report.animation import animate

FRAMES = [np.full((6, 1, 8, 8), level, np.uint8) for level in (0, 8, 16)]
"""Black, grey, white."""


def test_gif(tmp_path: Path) -> None:
    animate(FRAMES, 17, 3, tmp_path / "way.gif")
    with Image.open(tmp_path / "way.gif") as gif:
        means = []
        for k in range(gif.n_frames):
            gif.seek(k)
            page = np.asarray(gif.convert("L"), dtype=float)
            means.append(page[10, 10])
        assert gif.info["loop"] == 0
        side = (1024 // 24) * 8
        assert gif.size == (3 * side + 2 * 2, 2 * side + 2)
    assert means[:3] == [0, 128, 255]
    assert set(means[3:]) <= {255}


def test_mp4(tmp_path: Path) -> None:
    import av

    animate(FRAMES, 17, 3, tmp_path / "way.mp4")
    with av.open(str(tmp_path / "way.mp4")) as video:
        pages = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
    assert len(pages) == 3 + 18
    assert [int(page[10, 10]) for page in pages[:3]] == pytest.approx([0, 128, 255], abs=4)
    assert pages[0].shape[0] % 2 == pages[0].shape[1] % 2 == 0


def test_colours(tmp_path: Path) -> None:
    red = np.zeros((1, 3, 8, 8), np.uint8)
    red[:, 0] = 255
    animate([red, red], 256, 1, tmp_path / "way.gif")
    with Image.open(tmp_path / "way.gif") as gif:
        assert gif.convert("RGB").getpixel((5, 5)) == (255, 0, 0)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.gif or \.mp4, got way\.avi"):
        animate(FRAMES, 17, 3, tmp_path / "way.avi")
