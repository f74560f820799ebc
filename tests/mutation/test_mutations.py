"""Each formula is broken once, by one character or one swapped symbol; the fast tests of the core must turn red.

A mutation that survives means that a formula is not held by any test.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MUTATIONS = [
    # (file below diffusion/, what stands there, what it becomes)
    ("process/schedule.py", "torch.log1p(-betas).cumsum(0)", "torch.log1p(betas).cumsum(0).neg()"),
    (
        "process/schedule.py",
        "self.log_alpha_bar[:1], self.log_alpha_bar.diff()",
        "self.log_alpha_bar[:1], self.log_alpha_bar[1:]",
    ),
    ("process/schedule.py", "ratio[1:] * self.beta[1:]", "ratio[1:] * self.alpha[1:]"),
    ("process/schedule.py", "previous / self.one_minus_alpha_bar", "self.one_minus_alpha_bar / previous"),
    ("process/schedule.py", "self.alpha_bar / self.one_minus_alpha_bar", "self.alpha_bar * self.one_minus_alpha_bar"),
    ("process/schedule.py", "(u + offset) / (1 + offset)", "(u + offset) / (1 - offset)"),
    ("process/schedule.py", "* 1000 / T", "* 999 / T"),
    ("process/schedule.py", "self.time[index])", "index)"),
    ("process/schedule.py", "nn.functional.logsigmoid(log_snr)", "nn.functional.logsigmoid(2 * log_snr)"),
    ("process/forward.py", "at(s.one_minus_alpha_bar.sqrt(), t, x_0) * eps", "at(s.one_minus_alpha_bar, t, x_0) * eps"),
    ("process/forward.py", "x_0 + at(", "x_0 - at("),
    ("process/forward.py", "at(s.beta, t, x_previous)", "at(s.beta_tilde, t, x_previous)"),
    ("process/posterior.py", "alpha_bar_previous.sqrt() * s.beta", "alpha_bar_previous * s.beta"),
    ("process/posterior.py", "s.alpha.sqrt() * one_minus_previous", "s.alpha.sqrt()"),
    (
        "process/posterior.py",
        "at(of_x_0, t, x_t) * x_0",
        "at(of_x_t, t, x_t) * x_0",
    ),
    ("process/posterior.py", "at(s.beta_tilde, t, x_t)", "at(s.beta, t, x_t)"),
    ("process/parameterization.py", "(x_t - b * eps) / a", "(x_t + b * eps) / a"),
    ("process/parameterization.py", "a * v + b * x_t", "b * v + a * x_t"),
    ("process/parameterization.py", "a * x_t - b * v", "a * x_t + b * v"),
    ("process/parameterization.py", "return -eps / b", "return eps / b"),
    ("process/reverse.py", "table[1] = table[2]", "table[1] = s.beta[1]"),
    ("process/reverse.py", "is Variance.LARGE or", "is Variance.SMALL or"),
    ("process/reverse.py", "clamp(-1, 1)", "clamp(0, 1)"),
    ("process/gaussian.py", "ratio - 1 - torch.log(ratio)", "ratio - 1 + torch.log(ratio)"),
    ("process/gaussian.py", "(mean_1 - mean_2) ** 2 / variance_2", "(mean_1 - mean_2) ** 2 / variance_1"),
    ("process/gaussian.py", "log(2 * pi)", "log(pi)"),
    ("process/gaussian.py", "torch.where(mirror, -upper, lower)", "lower"),
    ("process/decoder.py", "half_bin = 1.0 / (self.levels - 1)", "half_bin = 1.0 / self.levels"),
    ("process/decoder.py", "torch.where(x_0 > 1 - half_bin, torch.inf, upper)", "upper"),
    ("process/decoder.py", "-0.5 * precision", "-1.0 * precision"),
    ("process/levels.py", ".round().to(torch.uint8)", ".to(torch.uint8)"),
    ("process/bound.py", "bits = 1 / (x_0[0].numel() * log(2))", "bits = 1 / x_0[0].numel()"),
    ("process/bound.py", "nats[:, 1:] * bits, nats[:, 0] * bits", "nats[:, :-1] * bits, nats[:, -1] * bits"),
    ("process/bound.py", "t = s.time[i]", "t = i"),
    ("process/objective.py", "mean(dim=1)", "sum(dim=1)"),
    ("process/reverse.py", "return prediction, (o + 1) / 2", "return prediction, o"),
    (
        "process/reverse.py",
        "at(log_small, t, v), at(log_large, t, v), v",
        "at(log_large, t, v), at(log_small, t, v), v",
    ),
    ("process/parameterization.py", "return a * eps - b * x_0", "return a * eps + b * x_0"),
    ("process/parameterization.py", "table = s.snr.clone()", "table = s.alpha_bar.clone()"),
    ("process/step_term.py", "s.beta**2 / (2 *", "s.beta / (2 *"),
    ("process/step_term.py", "* r * eps_error", "* eps_error"),
    ("process/step_term.py", "0.5 * ((-minus", "1.0 * ((-minus"),
    ("process/weighting.py", "scale[1:] = 1 / scale[1:]", "scale[1:] = scale[1:]"),
    ("process/weighting.py", "snr.clamp(max=self.gamma) / snr", "snr.clamp(min=self.gamma) / snr"),
    ("process/weighting.py", "** -self.gamma", "** self.gamma"),
    ("process/weighting.py", "s.T * bound_weight", "bound_weight"),
    ("process/bins.py", "- log_snr[2:]", "- log_snr[1:-1]"),
    ("process/bins.py", "top - width *", "top + width *"),
    ("process/estimate.py", "(chain.T - 1) / m *", "chain.T / m *"),
    ("process/estimate.py", "return 2 + torch", "return 1 + torch"),
    ("process/estimate.py", "(k - 1) % m + U", "k % m + U"),
    ("process/estimated.py", "(apart**2 / 4)", "(apart**2 / 2)"),
    ("process/first_time.py", "s.beta_tilde[2:], large[-1:]", "s.beta_tilde[1:-1], large[-1:]"),
    ("process/first_time.py", "cumsum(dim=1).flip(1)", "cumsum(dim=1)"),
    ("process/first_time.py", "torch.lerp(log_small, log_large,", "torch.lerp(log_large, log_small,"),
    ("training/times.py", "1 / (self.T * self._in_force(step)[t])", "1 / self._in_force(step)[t]"),
    ("training/times.py", "root = self._moment.sqrt()", "root = self._moment"),
    ("training/times.py", "1 + np.minimum((u * self.T)", "0 + np.minimum((u * self.T)"),
    ("training/tally.py", "term * self.s.T if weight is None", "term if weight is None"),
    ("training/tally.py", "y * y], dim=1)", "y], dim=1)"),
    ("training/tally.py", "a * mean_square - a", "a * mean_square + a"),
    ("training/times.py", "if not bool((self._seen[1:] >= self.visits).all()):", "if False:"),
    ("training/times.py", "uniform_share = 1e-3", "uniform_share = 0.0"),
    ("training/tally.py", "max(n - 1, 1)", "n + 1"),
    ("training/tally.py", "sums[-3:] * steps / images**2", "sums[-3:] / images**2"),
    ("training/validation.py", "target=self.target,", ""),
    ("training/validation.py", "variance=self.variance,", ""),
    ("training/minibatch.py", "1 / (1 - dropout.share)", "1"),
    ("training/objective.py", "term if part.told is None else term * part.told", "term"),
    ("training/objective.py", "batch, s.T * term, error)", "batch, term, error)"),
    ("training/objective.py", "if self.decoder.reads_network or", "if"),
    ("training/objective.py", "if v is None else (prediction.detach()", "if v is not None else (prediction.detach()"),
    ("training/objective.py", "nats.index_copy(0, at_1, L_0)", "nats"),
    ("drawing/recipe.py", "[s.T, s.T - 1, 1] if s.zero_snr", "[s.T, 1] if s.zero_snr"),
    ("drawing/between.py", "angle.sin() * end", "angle.cos() * end"),
    ("drawing/draw.py", "[i % classes if label is None", "[0 if label is None"),
    ("samplers/ancestral.py", "p.variance.sqrt() * draw()", "p.variance * draw()"),
    ("samplers/ancestral.py", "mean if i == 1 else", "mean if i == 0 else"),
    ("samplers/ancestral.py", "p.variance * pull", "p.variance.sqrt() * pull"),
    ("samplers/ancestral.py", "denoise.unguided(", "denoise("),
    ("samplers/loop.py", "one_minus_alpha_bar[i] / self.s", "one_minus_alpha_bar[i].sqrt() / self.s"),
    ("samplers/guidance.py", "(1 + w) * told[rows", "w * told[rows"),
    ("samplers/guidance.py", "told[rows, :C] = ", "told[rows] = "),
    ("samplers/guidance.py", "(t <= high)", "(t < high)"),
    ("samplers/guidance.py", "torch.full_like(self.y[rows], self.null_label)", "self.y[rows]"),
    ("samplers/ddim.py", "return self.eta > 0", "return self.eta > 1"),
    ("samplers/ddim.py", "self.eta**2 * s.beta_tilde[i]", "self.eta * s.beta[i]"),
    ("samplers/ddim.py", "s.one_minus_alpha_bar[i - 1] - variance", "s.one_minus_alpha_bar[i - 1]"),
    ("samplers/dpm_solver.py", "a[i - 1] * shrunk * m[0]", "a[i] * shrunk * m[0]"),
    ("samplers/dpm_solver.py", "shrunk / 2 * D_0", "shrunk * D_0"),
    ("samplers/dpm_solver.py", "bend = 2 * h", "bend = 1 * h"),
    ("samplers/dpm_solver.py", "(shrunk / h + 1)", "(shrunk / h - 1)"),
    ("samplers/dpm_solver.py", "min(self.order, i, len(m))", "min(self.order, len(m))"),
    ("samplers/unipc.py", "factorial(k) * phi - 1)", "phi - 1)"),
    ("samplers/unipc.py", "known[1:order]", "known[2:order]"),
    ("samplers/unipc.py", "min(self.order, i)", "self.order"),
    ("samplers/unipc.py", "(-h if self.variant", "(h if self.variant"),
    ("samplers/unipc.py", "if not (s.zero_snr and e.i == s.T)", "if True"),
    ("samplers/euler.py", "sigma[i - 1] * d", "sigma[i] * d"),
    ("samplers/heun.py", "(d_there - d) / 2", "(d_there + d) / 2"),
    ("samplers/heun.py", "if i > 1 and not (s.zero_snr and i == s.T):", "if i > 1:"),
    ("samplers/euler_maruyama.py", "x_t / 2 + score", "x_t / 2 - score"),
    ("samplers/euler_maruyama.py", "B.sqrt() * draw()", "B * draw()"),
    ("samplers/predictor_corrector.py", "2 * s.alpha[i]", "1 * s.alpha[i]"),
    ("samplers/predictor_corrector.py", "if i > 1:", "if i > 0:"),
    ("samplers/probability_flow.py", "-2 * float(np.log(at))", "-1 * float(np.log(at))"),
    ("samplers/invert.py", "b[1] * denoise(x_0, 1)", "a[1] * denoise(x_0, 1)"),
    ("samplers/loop.py", "noise(next(numbers), x.shape)", "noise(0, x.shape)"),
    ("samplers/loop.py", "x if step.x_t is None else step.x_t", "x"),
    ("samplers/times.py", "[-2 * rho * log(", "[-1 * rho * log("),
    ("process/schedule.py", "share = position - below", "share = above - position"),
    ("process/schedule.py", "after + 2 * (shift - shift[0])", "after + 1 * (shift - shift[0])"),
    ("process/schedule.py", "if not self.zero_snr:", "if True:"),
    ("process/bins.py", "if s.zero_snr else s.log_snr", "if False else s.log_snr"),
    ("samplers/loop.py", "self.s.time[index]", "index"),
    ("samplers/loop.py", "if self.clip_x0:", "if not self.clip_x0:"),
    ("samplers/times.py", "(2 * T * (steps - k) + steps)", "(2 * T * (steps - k - 1) + steps)"),
    ("evaluation/moments.py", "(n * part.n / self.n)", "(part.n / self.n)"),
    ("evaluation/kid.py", "np.fill_diagonal(k, 0)", "pass"),
    ("evaluation/kid.py", "sums[j] += k.sum(axis=0)", "pass"),
    ("evaluation/kid.py", "(1 if i == j else 2)", "1"),
    ("evaluation/kid.py", "/ x.shape[1] + 1", "/ x.shape[1]"),
    ("evaluation/kid.py", " - x.zeta / (x.n - 2) - zeta_xy / m", ""),
    ("evaluation/kid.py", "+ 4 * zeta_xy / (n * m)", "- 4 * zeta_xy / (n * m)"),
    ("evaluation/kid.py", "4 * _single(y, n, zeta_xy) / m", "4 * _single(y, n, zeta_xy) / n"),
    ("evaluation/kid.py", "max(of_images, 0.0)", "0.0"),
    ("evaluation/precision_recall.py", "np.fill_diagonal(square, np.inf)", "pass"),
    ("evaluation/precision_recall.py", "_smallest(nearest[j], square.T)", "nearest[j]"),
    ("evaluation/precision_recall.py", "square <= radius_x[i, None]", "square <= radius_y[j]"),
    ("evaluation/precision_recall.py", "nearest.max(axis=1)", "nearest.min(axis=1)"),
    ("evaluation/precision_recall.py", "float(balls.mean()) / k", "float(balls.mean())"),
    ("evaluation/precision_recall.py", "square[square < x.shape[1]", "square[square < 0 * x.shape[1]"),
    ("evaluation/frechet_interval.py", "(1 + level) / 2", "level"),
    ("evaluation/frechet_interval.py", "distance(draws.integers(n, size=n))", "distance(draws.permutation(n))"),
    ("evaluation/difference.py", "Estimate.of(y - x)", "Estimate.of(x - y)"),
    ("evaluation/difference.py", "between.standard_error, len(x) - 1", "between.standard_error, len(x)"),
    ("evaluation/difference.py", "hypot(first.standard_error, second.standard_error)", "first.standard_error"),
    ("evaluation/difference.py", "u**2 / (n - 1) + v**2 / (m - 1)", "u**2 / n + v**2 / m"),
    ("evaluation/frechet_interval.py", "max(0.0, value - half)", "value - half"),
    ("evaluation/frechet_at_infinity.py", "(h - 1) * np.array", "h * np.array"),
    ("evaluation/frechet_at_infinity.py", "(pseudo - value) ** 2 / (h - 1)", "(pseudo - value) ** 2 / h**2"),
    ("evaluation/frechet_at_infinity.py", "draws.permutation(len(x))", "np.arange(len(x))"),
]

OF_PIPELINES = [
    # (file below pipelines/, what stands there, what it becomes, the test that turns red)
    ("measure/noised_classifier.py", "rng.integers(1, s.T + 1", "rng.integers(s.T, s.T + 1", "test_classifier"),
    ("measure/noised_classifier.py", "z * sqrt(p * (1 - p)", "sqrt(p * (1 - p)", "test_classifier"),
    ("measure/drawing.py", "label=how.label,", "", "test_guidance"),
    ("measure/described.py", "min(keep, total)", "total", "test_reference"),
    ("measure/scores.py", "features[: how.paired], against", "features, against", "test_distance"),
    ("measure/distance.py", "reference.held_out[:count]", "reference.held_out", "test_distance"),
    ("measure/comparing.py", "of_b.features[half : 2 * half]", "of_b.features[:half]", "test_comparing"),
    ("measure/pictures.py", '.convert("RGB")', '.convert("L").convert("RGB")', "test_comparing"),
    ("measure/pretrained.py", "np.rint(images", "np.floor(images", "test_pretrained"),
    ("measure/pretrained.py", "verified(network.here, network.pinned)", "network.here", "test_pretrained"),
    ("measure/weights.py", "if digest.hexdigest() != self.pinned.sha256:", "if False:", "test_weights"),
    ("measure/weights.py", "file_sha256(file)) != pinned.sha256", "file_sha256(file)) == ''", "test_weights"),
    ("measure/weights.py", "stat.S_IWGRP | stat.S_IWOTH", "stat.S_IWOTH", "test_weights"),
    ("measure/weights.py", "not status.st_mode & stat.S_ISVTX", "False", "test_weights"),
    ("measure/committed.py", "except CheckpointError:", "except ZeroDivisionError:", "test_committed"),
    ("measure/committed.py", '"seed": drawing.seed,', '"seed": 0,', "test_committed"),
    ("measure/drawing.py", "drawing.how.batch_size if whole", "size if whole", "test_compiled"),
    ("comparison/verdict.py", "if good > 0 else 1 - difference.probability", "", "comparison/test_verdict"),
    ("comparison/verdict.py", "tail = (1 - level) / 2", "tail = 1 - level", "comparison/test_verdict"),
    ("comparison/verdict.py", "NEGLIGIBLE * abs(size)", "0", "comparison/test_verdict"),
    ("comparison/verdict.py", "-min(pair[0].when_ms, pair[1].when_ms)", "0", "comparison/test_verdict"),
    ("comparison/metrics.py", "max(p * (1 - p), 1 / n) / n", "p / n", "comparison/test_verdict"),
    ("comparison/cards.py", "name not in _IGNORED and ours != theirs", "ours != theirs", "comparison/test_verdict"),
    ("comparison/gate.py", "difference.value + gain", "difference.value", "comparison/test_gate"),
    ("comparison/gate.py", "if not isfinite(value)", "if False", "comparison/test_gate"),
    ("comparison/gate.py", "speed >= gate.min_speed", "True", "comparison/test_gate"),
    ("comparison/side_by_side.py", "sqrt(len(values)) if several", "1 if several", "comparison/test_side_by_side"),
    ("comparison/side_by_side.py", "if not set(measured) <= shown", "if True", "comparison/test_side_by_side"),
    ("comparison/recipes.py", "k != SEED and", "", "comparison/test_side_by_side"),
    ("tracking/champion.py", "-version.number", "version.number", "tracking/test_champion"),
    ("tracking/champion.py", "earlier[-1].number + 1", "earlier[-1].number", "tracking/test_champion"),
    ("stage.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB", "test_stage"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "old", "new"), MUTATIONS, ids=[f"{f}: {new}" for f, _, new in MUTATIONS])
def test_a_broken_formula_turns_a_test_red(tmp_path: Path, file: str, old: str, new: str):
    tests = ["tests/diffusion/process", "tests/diffusion/samplers"]
    if file.startswith("evaluation/"):
        tests = ["tests/diffusion/evaluation"]
    if file.startswith("drawing/"):
        tests = ["tests/diffusion/drawing"]
    if file.startswith("training/"):
        tests = [
            f"tests/diffusion/training/test_{name}.py" for name in ("times", "objective", "label_dropout", "validation")
        ]
    turns_red(tmp_path, f"diffusion/{file}", old, new, tests)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "old", "new", "test"), OF_PIPELINES, ids=[f"{f}: {n}" for f, _, n, _ in OF_PIPELINES])
def test_a_broken_measurement_turns_a_test_red(tmp_path: Path, file: str, old: str, new: str, test: str):
    turns_red(tmp_path, f"pipelines/{file}", old, new, [f"tests/pipelines/{test}.py"])


def turns_red(folder: Path, file: str, old: str, new: str, tests: list[str]) -> None:
    """Break a copy of the project and run the tests on it."""
    for name in ("diffusion", "pipelines", "presets", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    target = folder / file
    source = target.read_text()
    assert source.count(old) >= 1, f"{old!r} no longer stands in {file}: bring this list up to date"
    target.write_text(source.replace(old, new, 1))
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 1, f"the mutation survived:\n{run.stdout[-2000:]}"
