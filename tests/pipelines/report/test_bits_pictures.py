"""The pictures of a finished model's bits show the numbers they are given, by time, by first time and by image."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.report.pictures.bits import bound_shares
from pipelines.report.pictures.first_time import first_time_curve
from pipelines.report.pictures.image_bits import bits_per_image

RNG = np.random.default_rng(0)
SHARES = pd.DataFrame(
    {
        "first": [2, np.nan, 6, 7],
        "last": [5, np.nan, 6, 9],
        "log_snr": [3.2, np.nan, -0.01, -4.0],
        "bits": [0.5, 0.0, 0.0625, 0.0615],
        "bits_se": [0.01, 0.0, 0.002, 0.001],
    }
)
"""With L_0 = 1/4 and L_T = 1/8 + 1/1000 the total is 1."""
ENDS = {"first_time": 1, "L_T": 0.126, "L_0": 0.25}
IMAGES = RNG.integers(0, 17, (40, 1, 8, 8)).astype(np.uint8)


def by_first_time(shift: float) -> pd.DataFrame:
    """L_0 grows with the first time, and its level is `shift`."""
    t = np.arange(1, 101)
    frame = pd.DataFrame(
        {"first_time": t, "L_t_sum": 1.6 * (1 - t / 100), "L_0": shift + 0.1 + 0.08 * t, "total_se": 0.02}
    )
    total = frame["L_t_sum"] + frame["L_0"]
    return frame.assign(total=total, measured=total + 0.01, difference=total - total.min(), difference_se=0.01)


def per_image(values, images, path):
    bits_per_image(np.asarray(values, dtype=np.float64), images, 17, path, uniform=4.1, histogram=2.4)


DRAWN = {
    "shares": lambda path: bound_shares(SHARES, path, **ENDS, L_0_se=0.01),
    "shares, no bins": lambda path: bound_shares(SHARES[:0], path, **ENDS),
    "shares, a density": lambda path: bound_shares(SHARES, path, first_time=1, L_T=0.1, L_0=-2.5),
    "first time, a density": lambda path: first_time_curve(by_first_time(-6), path),
    "images": lambda path: per_image(np.linspace(1, 3, 40), IMAGES, path),
    "images, equal": lambda path: per_image(np.ones(40), IMAGES, path),
    "images, one": lambda path: per_image([1.5], IMAGES[:1], path),
    "images, RGB": lambda path: per_image(np.arange(20.0), np.zeros((20, 3, 256, 256), np.uint8), path),
    "images, wide": lambda path: per_image(np.arange(20.0), np.zeros((20, 3, 30, 300), np.uint8), path),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_wide_and_repeatable_and_nothing_is_cut_off(tmp_path: Path, figures, name: str):
    for copy in ("one.png", "two.png"):
        DRAWN[name](tmp_path / copy)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width == 1660
        assert 200 < picture.height < 2000
        assert len(picture.convert("L").getcolors(256) or []) > 10  # something is drawn
    box, (width, height) = figures[0].get_tightbbox(), figures[0].get_size_inches()
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.005  # a page pixel, in inches


# -- the shares of the bound --------------------------------------------------------------------------------------


def test_bars_are_the_terms_in_order_of_time(tmp_path: Path, figures, texts_of):
    bound_shares(SHARES, tmp_path / "shares.png", **ENDS, L_0_se=0.03)
    axes = figures[0].axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.5, 0.0625, 0.0615, 0.126]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "L₀, t = 1",
        "2 to 5",
        "6",
        "7 to 9",
        "L_T, t = T",
    ]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first is on top
    shown = texts_of(axes)
    assert [text for text in shown if text.endswith("%")] == ["25.0%", "50.0%", "6.2%", "6.2%", "12.6%"]
    assert {"+3.2", "+0.0", "−4.0"} <= set(shown)


def test_error_bars_are_95_percent_intervals(tmp_path: Path, figures):
    bound_shares(SHARES, tmp_path / "shares.png", **ENDS, L_0_se=0.03)
    (_, _, (lines,)) = figures[0].axes[0].containers[1]
    ends = np.array([segment[:, 0] for segment in lines.get_segments()])
    mean, se = np.array([0.25, 0.5, 0.0625, 0.0615]), np.array([0.03, 0.01, 0.002, 0.001])
    np.testing.assert_allclose(ends, np.stack([mean - 1.96 * se, mean + 1.96 * se], axis=1))


@pytest.mark.parametrize(
    ("L_0", "L_T", "first", "headline"),
    [
        (0.25, 0.126, 0.5, "50% of the 1.000 bits/dim go to t = 2 to 5 (log SNR about 3)"),
        (0.6, 0.0, 0.276, "60% of the 1.000 bits/dim go to L₀"),
        (0.45, 0.006, 0.42, "87% of the 1.000 bits/dim go to L₀ and t = 2 to 5 (log SNR about 3)"),
        (0.2, 0.252, 0.424, "62% of the 1.000 bits/dim go to L₀ and t = 2 to 5 (log SNR about 3)"),
        (0.0, 0.45, 0.426, "51% of the 1.000 bits/dim go to t = 7 to 9 (log SNR about −4) and L_T"),
    ],
)
def test_the_headline_names_the_shortest_run_with_half_of_the_bits(
    tmp_path: Path, figures, L_0: float, L_T: float, first: float, headline: str
):
    shares = SHARES.assign(bits=[first, 0.0, 0.0625, 0.0615])
    bound_shares(shares, tmp_path / "shares.png", first_time=1, L_T=L_T, L_0=L_0)
    assert figures[0].get_suptitle() == headline


def test_signal_and_noise_are_summed_in_the_legend(tmp_path: Path, figures, texts_of):
    bound_shares(SHARES, tmp_path / "shares.png", **ENDS)
    assert texts_of(figures[0].legends[0]) == [
        "L₀: 25.0%",
        "Lₜ, more signal than noise: 50.0%",
        "Lₜ, more noise than signal: 12.4%",
        "L_T: 12.6%",
    ]


def test_a_negative_bound_has_no_shares(tmp_path: Path, figures, texts_of):
    bound_shares(SHARES, tmp_path / "shares.png", first_time=1, L_T=0.126, L_0=-2.5)
    assert figures[0].get_suptitle() == "The bound by time: −1.750 bits/dim in all"
    assert not any("%" in text and "95%" not in text for text in texts_of(figures[0]))


# -- the bound by first time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, -1.7, -3.0, -9.0])
def test_what_is_near_the_lowest_total_is_in_sight_whatever_its_sign(tmp_path: Path, figures, shift: float):
    frame = by_first_time(shift)  # the lowest is the first: 1.764 + shift
    first_time_curve(frame, tmp_path / "first_time.png")
    above, below = figures[0].axes
    low, high = above.get_ylim()
    assert low <= min(0, shift + 0.18)  # L_0
    assert high >= max(1.6, 1.764 + shift + 2.4)  # the sum of L_t, and 2.4 above the total
    assert high < max(frame["total"].max(), 1.6) + 1
    assert below.get_ylim() == pytest.approx((-0.1 / 3, 0.1))
    assert figures[0].get_suptitle().endswith(f"t = 1: {1.764 + shift:.3f} bits/dim".replace("-", "−"))


# -- the bits of each image ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("N", "rows"), [(1, (1, 0)), (2, (1, 1)), (3, (2, 1)), (15, (8, 7)), (16, (8, 8)), (40, (8, 8))]
)
def test_the_cheapest_and_the_dearest_are_shown_once_each(
    tmp_path: Path, figures, texts_of, N: int, rows: tuple[int, int]
):
    values = RNG.permutation(N) / 8 + 1
    asked = []

    def read(indices):
        asked.append(indices.tolist())
        return IMAGES[indices]

    per_image(values, read, tmp_path / "images.png")
    order = np.argsort(values).tolist()
    (chosen,) = asked  # one call, so that a reader opens its files once
    assert chosen == order[: rows[0]] + order[::-1][: rows[1]]
    assert len(set(chosen)) == sum(rows) == len(figures[0].images)
    captions = [f"{values[k]:.3f}" for k in chosen]
    assert [text for text in texts_of(figures[0]) if text in captions][-len(captions) :] == captions


def test_the_array_and_a_reader_give_the_same_picture(tmp_path: Path):
    values = RNG.normal(size=40)
    per_image(values, IMAGES, tmp_path / "array.png")
    per_image(values, lambda indices: IMAGES[indices], tmp_path / "reader.png")
    assert (tmp_path / "array.png").read_bytes() == (tmp_path / "reader.png").read_bytes()


def test_pixels_are_repeated_a_whole_number_of_times(tmp_path: Path, figures):
    per_image(np.arange(20.0), IMAGES[:20], tmp_path / "images.png")
    shown = np.asarray(figures[0].images[0].get_array())
    grey = np.rint(IMAGES[0, 0] * (255 / 16)).astype(np.uint8)
    np.testing.assert_array_equal(shown[..., 0], grey.repeat(24, axis=0).repeat(24, axis=1))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64), (3, 256, 256), (3, 256, 100), (1, 10, 250)])
def test_images_of_any_size_fit_their_row(tmp_path: Path, figures, shape: tuple[int, int, int]):
    per_image(np.arange(16.0), np.zeros((16, *shape), np.uint8), tmp_path / "images.png")
    h, w = np.asarray(figures[0].images[0].get_array()).shape[:2]
    assert 96 < max(h, w) <= 200
    assert h / w == pytest.approx(shape[1] / shape[2], rel=0.05)


@pytest.mark.parametrize("low", [1.0715, 1.07151, 1.0717, 1.1, 0.3])
def test_the_histogram_loses_neither_the_cheapest_nor_the_dearest_image(tmp_path: Path, figures, low: float):
    per_image([low, 1.5, 1.6, 2.6047], IMAGES[:4], tmp_path / "histogram.png")
    bars = [patch for patch in figures[0].axes[0].patches if patch.get_height() in (1.0, 2.0) and patch.get_width() < 1]
    assert sum(bar.get_height() for bar in bars) == 4


def test_the_histogram_counts_every_image_between_its_lines(tmp_path: Path, figures, texts_of):
    values = RNG.normal(2, 0.3, 500)
    per_image(values, lambda indices: np.zeros((len(indices), 1, 8, 8), np.uint8), tmp_path / "images.png")
    (axes,) = figures[0].axes
    assert sum(bar.get_height() for bar in axes.containers[0]) == 500
    places = sorted(float(line.get_xdata()[0]) for line in axes.lines)
    assert places == pytest.approx(sorted([values.mean(), 2.4, 4.1]))
    mean = f"mean {values.mean():.3f} ± {values.std(ddof=1) / 500**0.5:.3f} (s.e.)"
    assert {mean, "histogram per pixel 2.400", "uniform over the levels 4.100"} <= set(texts_of(axes))
