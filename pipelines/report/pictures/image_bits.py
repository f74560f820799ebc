"""A picture of which images are cheap and which are dear under a finished model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.report.pictures.canvas import BLUE, HAIR, INK, PURPLE, QUIET, WIDTH_PX, page, signed
from pipelines.report.pictures.tiles import from_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Read = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Row numbers (k,), in any order -> their images in that order, uint8 (k, C, H, W)."""

_MARGIN, _GAP, _ROW = 30, 6, 8
"""Page pixels, and the most images of a row."""


def bits_per_image(
    bits: NDArray[np.float64],
    images: NDArray[np.uint8] | Read,
    levels: int,
    path: Path,
    uniform: float,
    histogram: float,
    *,
    density: bool = False,
) -> None:
    """The bound of each image: its histogram over images, and the cheapest and dearest images themselves.

    Args:
        bits: (N,) the total of each image, bits/dim; N >= 1.
        images: uint8 (N, C, H, W) in 0..levels-1, or a function that reads some of them; at most 16 are looked at.
        uniform: what an image costs if all levels are equally likely, bits/dim.
        histogram: what it costs under a histogram of levels for each pixel, bits/dim.
        density: whether all of these are densities, not probabilities of levels.
    """
    order = np.argsort(bits, kind="stable")
    n = min(len(bits), 2 * _ROW)
    cheap, dear = order[: (n + 1) // 2], order[::-1][: n // 2]
    chosen = np.concatenate([cheap, dear]).astype(np.int64)
    shown = from_levels(images(chosen) if callable(images) else images[chosen], levels)
    tiles = _scaled(shown, (WIDTH_PX - 2 * _MARGIN - (_ROW - 1) * _GAP) // _ROW)
    h, w = tiles.shape[1:3]
    rows = [(cheap, tiles[: len(cheap)], "cheapest"), (dear, tiles[len(cheap) :], "dearest")]
    rows = [row for row in rows if len(row[0])]
    unit = "bits/dim as a density" if density else "bits/dim"
    top, step = 746, h + 100
    height = top + step * len(rows)

    with page(path, height, layout=None) as figure:

        def write(x: float, y: float, text: str, size: float, colour: str = INK, **style: Any) -> None:
            figure.text(x / WIDTH_PX, 1 - y / height, signed(text), fontsize=size, color=colour, **style)

        title = f"Images cost {bits.mean():.3f} {unit} on average, between {bits.min():.3f} and {bits.max():.3f}"
        note = (
            f"Images: {len(bits)}. Grey: 95% interval of their mean. Dashed: what they cost on average without a model"
        )
        write(_MARGIN, 48, title if len(bits) > 1 else f"The image costs {bits[0]:.3f} {unit}", 12, weight="bold")
        write(_MARGIN, 86, note, 9.5, QUIET)
        box = (110 / WIDTH_PX, 1 - 600 / height, (WIDTH_PX - 110 - _MARGIN) / WIDTH_PX, 440 / height)
        _histogram(figure.add_axes(box), bits, {"uniform over the levels": uniform, "histogram per pixel": histogram})
        for i, (numbers, pictures, name) in enumerate(rows):
            y = top + i * step
            many = f"The {len(numbers)} {name}, {name} first" if len(numbers) > 1 else f"The {name}"
            write(_MARGIN, y - 16, many if len(bits) > 1 else "The image", 10.5)
            for j, (k, tile) in enumerate(zip(numbers, pictures, strict=True)):
                x = _MARGIN + j * (w + _GAP)
                figure.figimage(tile, x, height - y - h)
                write(x + w / 2, y + h + 28, f"{bits[k]:.3f}", 8.5, ha="center")


def _histogram(axes: Axes, bits: NDArray[np.float64], yardsticks: dict[str, float]) -> None:
    """Images per bin of bits/dim, with lines at the mean, its 95% interval and the yardsticks."""
    from matplotlib.ticker import MaxNLocator

    mean = float(bits.mean())
    ends = [bits.min(), bits.max(), *yardsticks.values()]
    low, width = min(ends), max(float(np.ptp(ends)), 1e-3)
    count = int(np.clip(2 * len(bits) ** 0.5, 1, 60)) if np.ptp(bits) > 0 else 1
    spare = max(width / 60 - float(np.ptp(bits)), 0.0) / 2
    reach = (bits.min() - spare, bits.max() + spare)  # the ends themselves: rounded, they would lose an image
    axes.hist(bits, bins=count, range=reach, color=BLUE, edgecolor="white", linewidth=0.4)
    top = axes.get_ylim()[1] * 1.42
    axes.set_ylim(0, top)
    axes.set_xlim(low - 0.03 * width, low + 1.03 * width)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("bits/dim")
    axes.set_title("images")
    name = f"mean {mean:.3f}"
    if len(bits) > 1:
        name += f" ± {_se(bits):.3f} (s.e.)"
        axes.axvspan(mean - 1.96 * _se(bits), mean + 1.96 * _se(bits), color=HAIR, lw=0, zorder=0.5)
    lines = [(mean, name, INK, "-"), *((x, f"{name} {x:.3f}", PURPLE, "--") for name, x in yardsticks.items())]
    # names point inwards, and the line nearer to the edge is the taller, so that no name crosses another's line
    leftwards = {line: line[0] > low + 0.7 * width for line in lines}
    for k, line in enumerate(sorted(lines, key=lambda line: (leftwards[line], line[0] * (1 - 2 * leftwards[line])))):
        x, text, colour, style = line
        y, side = top * (0.95 - 0.085 * k), -1 if leftwards[line] else 1
        axes.plot([x, x], [0, y], style, color=colour, linewidth=1.3)
        shift, ha = (6 * side, 0), "right" if side < 0 else "left"
        axes.annotate(
            signed(text), (x, y), shift, textcoords="offset points", ha=ha, va="center", color=colour, fontsize=9.5
        )


def _se(bits: NDArray[np.float64]) -> float:
    return float(bits.std(ddof=1) / len(bits) ** 0.5)


def _scaled(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Images (n, H, W, 3) at most `side` pixels high and wide: pixels repeated, or areas averaged."""
    from PIL import Image

    H, W = images.shape[1:3]
    k = side / max(H, W)
    k = float(int(k)) if k >= 1 else k
    size = (max(1, round(W * k)), max(1, round(H * k)))
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in images])
