"""The pictures of training show the bound's terms over the steps, and the weights of the loss."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from diffusion.process import P2, SNR, BoundWeight, MinSNR, NoiseSchedule, Plain
from pipelines.report.pictures.terms import terms_over_training
from pipelines.report.pictures.weights import loss_weights

WEIGHTINGS = {"none": Plain(), "snr": SNR(), "min_snr": MinSNR(), "p2": P2(), "bound": BoundWeight()}


def course(steps, bins: int = 16) -> pd.DataFrame:
    """A bound that falls like 1 / step to 2 bits/dim, split evenly over the bins."""
    step = np.asarray(steps, dtype=np.int64)
    L_t_sum = 2 + 40 / step
    frame = pd.DataFrame({"step": step, "L_T": 0.001, "L_t_sum": L_t_sum, "L_0": 0.1})
    frame["total"] = frame["L_T"] + frame["L_t_sum"] + frame["L_0"]
    frame["total_se"] = 0.05
    for k in range(1, bins + 1):
        frame[f"L_t_{k:02d}"] = L_t_sum / bins
    return frame


RUNNING, VALIDATION, NOTHING = course(range(10, 2010, 10)), course([1000, 2000]), course([])
LAST = RUNNING["total"][-11:].mean()
"""The smoothed line's end, over a twentieth of the 200 points."""
HOLES = RUNNING.assign(L_t_03=RUNNING["L_t_03"].where(RUNNING["step"] % 30 == 0), L_t_16=np.nan)
DENSITY = RUNNING.assign(L_0=-3.0, total=RUNNING["total"] - 3.1)


DRAWN = {
    "terms": lambda path: terms_over_training(RUNNING, VALIDATION, path),
    "terms, running": lambda path: terms_over_training(RUNNING, NOTHING, path),
    "terms, validation": lambda path: terms_over_training(NOTHING, VALIDATION, path),
    "terms, one point": lambda path: terms_over_training(RUNNING[:1], NOTHING, path),
    "terms, one of each": lambda path: terms_over_training(RUNNING[:1], VALIDATION[:1], path),
    "terms, holes": lambda path: terms_over_training(HOLES, VALIDATION, path),
    "terms, a density": lambda path: terms_over_training(DENSITY, NOTHING, path),
    "terms, no bins": lambda path: terms_over_training(course([10, 20], bins=0), NOTHING, path),
    "weights": lambda path: loss_weights(NoiseSchedule.cosine(), WEIGHTINGS, path, used="p2"),
    "weights, coinciding": lambda path: loss_weights(NoiseSchedule.log_snr_linear(), WEIGHTINGS, path, used="bound"),
    "weights, learned variance": lambda path: loss_weights(
        NoiseSchedule.log_snr_linear(), WEIGHTINGS, path, used="bound", learned_variance=True
    ),
    "weights, one": lambda path: loss_weights(NoiseSchedule.linear(), {"min_snr": MinSNR()}, path),
    "weights, few times": lambda path: loss_weights(NoiseSchedule.linear(3), WEIGHTINGS, path, used="none"),
    "weights, one time": lambda path: loss_weights(NoiseSchedule.linear(1), WEIGHTINGS, path),
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


# -- the terms over training --------------------------------------------------------------------------------------


def test_nothing_to_draw_writes_no_file(tmp_path: Path):
    assert terms_over_training(NOTHING, NOTHING, tmp_path / "terms.png") is False
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("running", "validation", "headline", "panel"),
    [
        (RUNNING, VALIDATION, f"{LAST:.3f} bits/dim on training and 2.121 on validation images", "training"),
        (RUNNING, NOTHING, f"{LAST:.3f} bits/dim on training images", "training"),
        (NOTHING, VALIDATION, "2.121 bits/dim on validation images", "validation"),
    ],
    ids=["both", "running", "validation"],
)
def test_what_there_is_is_drawn(tmp_path: Path, figures, texts_of, running, validation, headline: str, panel: str):
    assert terms_over_training(running, validation, tmp_path / "terms.png") is True
    assert figures[0].get_suptitle() == f"The bound ends at {headline}"
    above, below, right = figures[0].axes
    assert right.get_title(loc="left") == f"Lₜ in 16 bins, {panel} images, bits/dim"
    assert len(right.lines) == 16
    assert {"total", "sum of Lₜ"} <= set(texts_of(above))
    assert {"L₀", "L_T"} <= set(texts_of(below))


def test_early_values_do_not_squash_the_rest(tmp_path: Path, figures):
    terms_over_training(RUNNING, NOTHING, tmp_path / "terms.png")
    above = figures[0].axes[0]
    assert RUNNING["total"].max() > 6
    assert above.get_ylim()[1] < 2.5
    assert above.get_title(loc="left").endswith(" (cut off: up to 6.101)")


def test_a_level_bound_is_not_cut_off(tmp_path: Path, figures):
    terms_over_training(RUNNING[100:], NOTHING, tmp_path / "terms.png")
    low, high = figures[0].axes[0].get_ylim()
    assert low < RUNNING["L_t_sum"].min()
    assert high > RUNNING["total"][100:].max()
    assert "cut off" not in figures[0].axes[0].get_title(loc="left")


def test_validation_has_the_interval_of_its_total(tmp_path: Path, figures):
    terms_over_training(NOTHING, VALIDATION, tmp_path / "terms.png")
    (_, _, (lines,)) = next(container for container in figures[0].axes[0].containers if container.has_yerr)
    heights = [np.ptp(segment[:, 1]) for segment in lines.get_segments()]
    np.testing.assert_allclose(heights, 2 * 1.96 * 0.05)


def test_an_empty_bin_is_left_out_and_gaps_are_bridged(tmp_path: Path, figures):
    terms_over_training(HOLES, NOTHING, tmp_path / "terms.png")
    right = figures[0].axes[2]
    assert len(right.lines) == 15
    third = right.lines[2].get_ydata()[50:]
    np.testing.assert_allclose(third, RUNNING["L_t_03"][50:], rtol=0.02)


def test_terms_below_zero_are_on_a_linear_scale(tmp_path: Path, figures):
    terms_over_training(DENSITY, NOTHING, tmp_path / "terms.png")
    terms_over_training(RUNNING, NOTHING, tmp_path / "terms.png")
    assert [figure.axes[1].get_yscale() for figure in figures] == ["linear", "log"]


# -- the weights --------------------------------------------------------------------------------------------------


def curves_of(axes) -> dict[str, np.ndarray]:
    """Name -> w_t for t = 1..T, from the line and the dot before it."""
    lines = [line for line in axes.lines if ":" in str(line.get_label())]
    dots = [line for line in axes.lines if line not in lines]
    names = [line.get_label().partition(":")[0] for line in lines]
    values = [np.concatenate([dot.get_ydata(), line.get_ydata()]) for dot, line in zip(dots, lines, strict=True)]
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("schedule", [NoiseSchedule.linear(100), NoiseSchedule.cosine(100)], ids=["linear", "cosine"])
def test_weights_are_drawn_relative_to_their_mean(tmp_path: Path, figures, schedule: NoiseSchedule):
    loss_weights(schedule, WEIGHTINGS, tmp_path / "weights.png")
    curves = curves_of(figures[0].axes[0])
    assert list(curves) == list(WEIGHTINGS)
    for name, curve in curves.items():
        assert curve.mean() == pytest.approx(1), name
    snr = schedule.snr[1:].numpy()
    np.testing.assert_allclose(curves["p2"] * (1 + snr), curves["p2"][0] * (1 + snr[0]))
    np.testing.assert_allclose(curves["none"], 1)


def test_the_weighting_in_use_is_thicker_and_named(tmp_path: Path, figures, texts_of):
    loss_weights(NoiseSchedule.linear(), WEIGHTINGS, tmp_path / "weights.png", used="min_snr")
    axes = figures[0].axes[0]
    widths = {str(line.get_label()).partition(":")[0]: line.get_linewidth() for line in axes.lines if line.get_label()}
    assert max(widths, key=lambda name: widths[name]) == "min_snr"
    assert "min_snr, in use" in texts_of(axes)
    assert figures[0].get_suptitle().startswith("“min_snr”, in use, has half of its weight on t ≤ ")
    assert {f"{name}:  {weighting.formula}" for name, weighting in WEIGHTINGS.items()} <= set(texts_of(figures[0]))


def test_plain_weights_have_their_half_at_half_of_the_times(tmp_path: Path, figures):
    schedule = NoiseSchedule.log_snr_linear(99, log_snr_max=7.0, log_snr_min=-7.0)
    loss_weights(schedule, WEIGHTINGS, tmp_path / "weights.png", used="none")
    assert figures[0].get_suptitle() == "“none”, in use, has half of its weight on t ≤ 50 (log SNR +0.0 and above)"


def test_time_runs_to_the_right(tmp_path: Path, figures, texts_of):
    loss_weights(NoiseSchedule.linear(), WEIGHTINGS, tmp_path / "weights.png")
    left, right = figures[0].axes[0].get_xlim()
    assert left > right
    assert {"t = 1", "1000"} <= set(texts_of(figures[0].axes[0]))


def test_curves_that_coincide_take_turns(tmp_path: Path, figures):
    loss_weights(NoiseSchedule.linear(), WEIGHTINGS, tmp_path / "weights.png")
    lines = {str(line.get_label()).partition(":")[0]: line for line in figures[0].axes[0].lines}
    assert [name for name in WEIGHTINGS if lines[name].is_dashed()] == ["none", "snr"]
    assert [name for name in WEIGHTINGS if not lines[name].is_dashed()] == ["min_snr", "p2", "bound"]
