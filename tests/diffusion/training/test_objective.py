"""What is minimised, and the bound's terms beside it: against the exact bound, and where gradients stop."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffusion.process import (
    BoundWeight,
    DiscretizedGaussian,
    MinSNR,
    NoiseSchedule,
    NormalizedLevels,
    Plain,
    Target,
    bound,
    log_snr_bins,
    simple_loss,
    split_output,
    target_of,
    to_unit,
)
from diffusion.training.minibatch import Minibatch
from diffusion.training.objective import DiffusionLoss, Losses
from diffusion.training.tally import Tally
from diffusion.training.times import StratifiedTimes, UniformTimes

T, LEVELS = 20, 17
S = NoiseSchedule.cosine(T)


def batch_at(t: Tensor, seed: int = 0) -> Minibatch:
    """One image for each time."""
    source = torch.Generator().manual_seed(seed)
    x_0 = to_unit(torch.randint(0, LEVELS, (len(t), 1, 4, 4), generator=source), LEVELS)
    eps = torch.randn(len(t), 1, 4, 4, generator=source)
    return Minibatch(x_0, t, eps, None, None, tuple((t == 1).tolist()))


class Net(nn.Module):
    """A few weights that everything depends on."""

    def __init__(self, *, learned: bool) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(0.8))
        self.o = nn.Parameter(torch.tensor(0.3))
        self.learned = learned

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        prediction = self.mean * x_t
        return torch.cat([prediction, self.o * torch.tanh(x_t)], dim=1) if self.learned else prediction


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("target", ["eps", "x_0", "v"])
@pytest.mark.parametrize("decoder", [DiscretizedGaussian(LEVELS), NormalizedLevels(LEVELS)])
def test_each_term_is_that_of_the_exact_bound(learned: bool, target: str, decoder: DiscretizedGaussian) -> None:
    check_terms(S, learned, target, decoder)


@pytest.mark.parametrize("target", ["x_0", "v"])
def test_each_term_is_that_of_the_exact_bound_down_to_zero_snr(target: str) -> None:
    zero = S.rescaled_to_zero_snr()
    check_terms(zero, True, target, DiscretizedGaussian(LEVELS))
    net, at_T = Net(learned=True), batch_at(torch.tensor([T]))
    simple = DiffusionLoss(zero, DiscretizedGaussian(LEVELS), weighting=Plain(target), target=target, learned=True)
    target_at_T = at_T.x_0 if target == "x_0" else -at_T.x_0
    error = ((target_at_T - net(at_T.eps, at_T.t).chunk(2, dim=1)[0]) ** 2).mean()
    torch.testing.assert_close(simple(net, at_T).loss, error[None])


@pytest.mark.parametrize("target", ["eps", "score"])
def test_what_says_nothing_about_x_0_at_zero_snr_is_not_trained(target: str) -> None:
    with pytest.raises(ValueError, match=f"predicted {target} says nothing about x_0"):
        DiffusionLoss(S.rescaled_to_zero_snr(), DiscretizedGaussian(LEVELS), target=target)


def check_terms(s: NoiseSchedule, learned: bool, target: str, decoder: DiscretizedGaussian) -> None:
    """Every image at every time, with the same noise."""
    net = Net(learned=learned)
    images = batch_at(torch.ones(6, dtype=torch.int64))
    source = torch.Generator().manual_seed(1)
    eps = {t: torch.randn(6, 1, 4, 4, generator=source) for t in range(1, T + 1)}
    exact = bound(
        net, s, images.x_0, noise=lambda t, _: eps[t], decoder=decoder, clip_x0=False, target=target,
        variance="learned" if learned else "small",
    )  # fmt: skip
    loss = DiffusionLoss(s, decoder, target=target, learned=learned, goal="bound")
    for t in range(1, T + 1):
        at_t = torch.full((6,), t)
        found = loss(net, replace(images, t=at_t, eps=eps[t], at_first=(t == 1,) * 6))
        expected = exact.L_0 if t == 1 else exact.L_t[:, t - 2]
        torch.testing.assert_close(found.term.double(), expected, rtol=2e-4, atol=1e-6)
        if decoder.reads_network or t > 1:
            torch.testing.assert_close(found.loss, T * found.term)


@pytest.mark.parametrize("target", ["eps", "x_0", "v"])
def test_a_decoder_that_ignores_the_network_leaves_no_time_untrained(target: str) -> None:
    """At t = 1 the error of eps takes the place of L_0, with the weight of t = 2; the term stays L_0."""
    batch, net = batch_at(torch.tensor([1, 5, 1])), Net(learned=True)
    loss = DiffusionLoss(S, NormalizedLevels(LEVELS), goal="bound", target=target, learned=True)
    found = loss(net, batch)
    weighted = DiffusionLoss(S, NormalizedLevels(LEVELS), weighting=BoundWeight(), target=target, learned=True)
    torch.testing.assert_close(found.loss[[0, 2]], weighted(net, batch).loss[[0, 2]] / log(2))
    torch.testing.assert_close(found.loss[1], T * found.term[1])
    torch.testing.assert_close(found.term, weighted(net, batch).term)
    found.loss[0].backward()
    assert net.mean.grad is not None
    assert net.mean.grad != 0


def test_rows_at_the_first_time_among_others() -> None:
    t = torch.tensor([5, 1, 9, 1])
    batch, loss = batch_at(t), DiffusionLoss(S, DiscretizedGaussian(LEVELS))
    net = Net(learned=False)
    together = loss(net, batch).term
    alone = torch.cat([loss(net, batch._rows(slice(k, k + 1))).term for k in range(4)])
    torch.testing.assert_close(together, alone)
    assert batch.first_rows == [1, 3]


def test_the_simple_loss_is_the_weighted_error_of_the_target() -> None:
    batch, net = batch_at(torch.arange(1, T + 1)), Net(learned=False)
    for target in (Target.EPS, Target.X_0, Target.V):
        x_t = S.alpha_bar[batch.t].sqrt().view(-1, 1, 1, 1) * batch.x_0
        x_t = (x_t + S.one_minus_alpha_bar[batch.t].sqrt().view(-1, 1, 1, 1) * batch.eps).float()
        error = ((target_of(S, batch.x_0, batch.t, batch.eps, target) - net(x_t, batch.t)) ** 2).mean(dim=(1, 2, 3))
        plain = DiffusionLoss(S, DiscretizedGaussian(LEVELS), weighting=Plain(target), target=target)
        torch.testing.assert_close(plain(net, batch).loss, error, rtol=1e-5, atol=1e-6)
        if target is Target.EPS:
            torch.testing.assert_close(error, simple_loss(net, S, batch.x_0, batch.t, batch.eps))
    min_snr = DiffusionLoss(S, DiscretizedGaussian(LEVELS), weighting=MinSNR(2.0), target=Target.X_0)
    snr = S.snr[batch.t].clamp(max=2.0).float()
    error = ((batch.x_0 - net(x_t, batch.t)) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(min_snr(net, batch).loss, snr * error, rtol=1e-5, atol=1e-6)


def test_weighted_as_in_the_bound_the_simple_loss_is_the_bound() -> None:
    """In nats, for the small variance, at every time but the first."""
    batch, net = batch_at(torch.arange(2, T + 1)), Net(learned=False)
    found = DiffusionLoss(S, DiscretizedGaussian(LEVELS), weighting=BoundWeight())(net, batch)
    torch.testing.assert_close(found.loss / log(2), T * found.term, rtol=1e-5, atol=1e-7)


def gradients(goal: str, t: int) -> dict[str, float]:
    """d loss / d weight, of the mean and of the variance."""
    net = Net(learned=True)
    loss = DiffusionLoss(S, DiscretizedGaussian(LEVELS), goal=goal, learned=True, hybrid_weight=0.5)  # type: ignore[arg-type]
    loss(net, batch_at(torch.full((4,), t))).loss.sum().backward()
    return {name: 0.0 if p.grad is None else float(p.grad) for name, p in net.named_parameters()}


@pytest.mark.parametrize("t", [1, 7])
def test_the_hybrid_trains_the_mean_by_the_simple_loss_alone(t: int) -> None:
    """Nichol & Dhariwal 2021, section 3.1: the gradient of the bound stops at the mean."""
    simple, bounded, hybrid = (gradients(goal, t) for goal in ("simple", "bound", "hybrid"))
    assert simple["o"] == 0
    assert hybrid["mean"] == pytest.approx(simple["mean"], rel=1e-6)
    assert hybrid["o"] == pytest.approx(0.5 * bounded["o"], rel=1e-5)
    assert bounded["mean"] != pytest.approx(simple["mean"], rel=0.1)
    assert bounded["o"] != 0


def test_the_hybrid_of_a_fixed_variance_is_the_sum_of_both() -> None:
    net, batch = Net(learned=False), batch_at(torch.arange(1, T + 1))
    simple, bounded, hybrid = (
        DiffusionLoss(S, DiscretizedGaussian(LEVELS), goal=goal, hybrid_weight=0.5)(net, batch).loss  # type: ignore[arg-type]
        for goal in ("simple", "bound", "hybrid")
    )
    torch.testing.assert_close(hybrid, simple + 0.5 * bounded)


def test_a_network_without_variance_is_refused_where_one_is_learned() -> None:
    loss = DiffusionLoss(S, DiscretizedGaussian(LEVELS), learned=True)
    with pytest.raises(ValueError, match="twice the channels"):
        loss(Net(learned=False), batch_at(torch.tensor([3])))


def running(weight: Tensor | None, t: Tensor, repeats: int = 400) -> tuple[Tensor, Tensor, Tally]:
    """The tally of the given times, `repeats` fresh batches of images, in float64; and the mean term of each time."""
    net, loss = Net(learned=False), DiffusionLoss(S, DiscretizedGaussian(LEVELS))
    tally = Tally(S, log_snr_bins(S, 4).of_index + 1, 4, per_time=True)
    sums, terms = torch.zeros(tally.kept, dtype=torch.float64), torch.zeros(len(t), dtype=torch.float64)
    for seed in range(repeats):
        batch = batch_at(t, seed)
        with torch.no_grad():
            found: Losses = loss(net, batch)
        sums += tally.of_step(tally.of(batch.x_0, t, found.loss, found.term, weight))
        terms += found.term / repeats
    return sums, terms, tally


def test_the_running_bound_is_the_sum_of_the_terms() -> None:
    """With every time once in each batch, T y averages to the sum of the mean terms, bin by bin."""
    t = torch.arange(1, T + 1)
    sums, terms, tally = running(None, t)
    point = tally.point(7, sums, 400 * T, 400)
    assert (point.source, point.step) == ("running", 7)
    assert point.L_0 == pytest.approx(float(terms[0]), rel=1e-4)
    assert point.L_t_sum == pytest.approx(float(terms[1:].sum()), rel=1e-4)
    expected = log_snr_bins(S, 4).sums(terms[None, 1:])[0]
    assert point.bins == pytest.approx(expected.tolist(), rel=1e-4)
    assert sum(point.bins) == pytest.approx(point.L_t_sum, rel=1e-9)


def test_the_running_bound_has_no_bias_from_the_distribution_of_times() -> None:
    """Times drawn twice as often count half: 1 / (T p_t)."""
    often = torch.tensor([t for t in range(1, T + 1) for _ in range(2 if t > 10 else 1)])
    p = torch.bincount(often, minlength=T + 1) / len(often)
    weight = (1 / (T * p[often])).float()
    sums, _, tally = running(weight, often, repeats=2000)
    plain, _, _ = running(None, torch.arange(1, T + 1), repeats=2000)
    one, other = tally.point(1, sums, 2000 * len(often), 2000), tally.point(1, plain, 2000 * T, 2000)
    assert one.total == pytest.approx(other.total, abs=4 * (one.total_se**2 + other.total_se**2) ** 0.5)
    assert one.L_0 == pytest.approx(other.L_0, abs=4 * (one.L_0_se**2 + other.L_0_se**2) ** 0.5)


def drawn(kind: str, step: int) -> Tensor:
    """(100,): the times of a step."""
    times = StratifiedTimes(T, 0, 1) if kind == "stratified" else UniformTimes(T, 0)
    return torch.from_numpy(times.of(step, 0, 100))


@pytest.mark.parametrize(("kind", "steps"), [("uniform", 1), ("uniform", 5), ("stratified", 5)])
def test_the_error_of_the_running_bound_is_that_of_its_mean(kind: str, steps: int) -> None:
    """Repeated on other images and times, it scatters as it says, also where the times of a step belong together."""
    points = []
    net, loss = Net(learned=False), DiffusionLoss(S, DiscretizedGaussian(LEVELS))
    tally = Tally(S, log_snr_bins(S, 4).of_index + 1, 4)
    for repeat in range(300):
        sums = torch.zeros(tally.kept, dtype=torch.float64)
        for step in range(repeat * steps, (repeat + 1) * steps):
            batch = batch_at(drawn(kind, step), step)
            with torch.no_grad():
                found = loss(net, batch)
            sums += tally.of_step(tally.of(batch.x_0, batch.t, found.loss, found.term, None))
        points.append(tally.point(1, sums, 100 * steps, steps))
    for name in ("total", "L_t_sum", "L_0"):
        scatter = np.std([getattr(point, name) for point in points], ddof=1)
        said = np.mean([getattr(point, f"{name}_se") ** 2 for point in points]) ** 0.5
        assert said == pytest.approx(scatter, rel=0.15)  # 300 repeats know a deviation to 4%


def test_the_running_prior_term_is_that_of_the_images() -> None:
    batch = batch_at(torch.arange(2, 12))
    tally = Tally(S, log_snr_bins(S, 4).of_index + 1, 4)
    zero = torch.zeros(10)
    point = tally.point(1, tally.of_step(tally.of(batch.x_0, batch.t, zero, zero, None)), 10, 1)
    terms = bound(lambda x, t: x, S, batch.x_0, noise=lambda t, sh: torch.zeros(sh), decoder=DiscretizedGaussian(17))
    assert point.L_T == pytest.approx(float(terms.L_T.mean()), rel=1e-4)


def test_sums_over_each_time() -> None:
    t = torch.tensor([3, 5, 3])
    tally = Tally(S, log_snr_bins(S, 4).of_index + 1, 4, per_time=True)
    loss = torch.tensor([1.0, 2.0, 3.0])
    sums = tally.of(torch.zeros(3, 1, 1, 1), t, loss, loss, None)
    assert len(sums) == tally.size
    squares, counts = tally.per_time_sums(sums)
    assert {k: v for k, v in enumerate(squares.tolist()) if v} == {3: 10.0, 5: 4.0}
    assert {k: v for k, v in enumerate(counts.tolist()) if v} == {3: 2.0, 5: 1.0}


def test_split_output_is_what_the_loss_reads() -> None:
    """The variance's v of the network is half-way where it says zero."""
    _, v = split_output(Net(learned=True)(torch.zeros(1, 1, 4, 4), torch.tensor([1])), torch.zeros(1, 1, 4, 4))
    assert v is not None
    assert (v == 0.5).all()
