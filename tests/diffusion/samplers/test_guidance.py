"""Guidance: by what is known of Gaussians, whose classifier and whose conditional law have closed forms."""

from dataclasses import dataclass, field

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from diffusion.process import NoiseSchedule
from diffusion.samplers import (
    DDIM,
    Ancestral,
    ClassifierFree,
    ClassifierGuide,
    DPMSolver,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
    ProbabilityFlow,
    UniPC,
    sample,
    trailing,
)
from diffusion.samplers.loop import Denoiser
from tests.diffusion.samplers.analytic import Mixture, columns

S = NoiseSchedule.log_snr_linear(1000, log_snr_max=9.0, log_snr_min=-9.0)
DATA = Mixture(S, (0.3, 0.7), (-0.3, 0.3), (0.3, 0.2))
"""Two classes that overlap: no x tells for sure which it is of."""
SHAPE = (20, 1, 25, 10)
"""With 5,000 pixels the errors of order 1 are not seen in 250 steps; those of the moved mean are not in 500."""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors gain nothing by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise_from(seed: int):
    rng = torch.Generator().manual_seed(seed)
    return lambda k, shape: torch.randn(shape, generator=rng, dtype=torch.float64)


def x_T(shape=SHAPE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def guided(sampler, guide, model=DATA.eps, *, shape=SHAPE, steps=None, **how) -> Tensor:
    times = trailing(S.T, steps or (500 if isinstance(sampler, Ancestral) else 250))
    return sample(
        model, S, x_T(shape), sampler, times=times, noise=noise_from(1), clip_x0=False, guide=guide, **how
    ).flatten()


def p_value(x_0: Tensor, law: Mixture) -> float:
    return kstest(x_0.numpy(), lambda x: law.cdf(torch.from_numpy(x)).numpy()).pvalue


def with_variance(x_t: Tensor, t: Tensor) -> Tensor:
    """The best network with a learned variance half-way between both fixed ones."""
    return torch.cat([DATA.eps(x_t, t), torch.zeros_like(x_t)], dim=1)


SAMPLERS = [
    (Ancestral("small"), DATA.eps),
    (Ancestral("large"), DATA.eps),
    (Ancestral("learned"), with_variance),
    (DDIM(0.0), DATA.eps),
    (DDIM(1.0), DATA.eps),
    (DPMSolver(2), DATA.eps),
    (UniPC(2), DATA.eps),
    (Heun(), DATA.eps),
    (EulerMaruyama(), DATA.eps),
    (PredictorCorrector(Ancestral("small")), DATA.eps),
]


@pytest.mark.parametrize(("sampler", "model"), SAMPLERS, ids=[str(s) for s, _ in SAMPLERS])
def test_the_unconditional_network_with_the_right_classifier_draws_the_conditional_law(sampler, model):
    assert p_value(guided(sampler, DATA.pull(0), model), DATA.component(0)) > 0.001


@pytest.mark.parametrize("sampler", [Ancestral("small"), DDIM(0.0)], ids=str)
def test_with_a_little_less_of_it_the_law_is_another(sampler):
    weaker = guided(sampler, lambda x_t, t: 0.8 * DATA.pull(0)(x_t, t))
    assert p_value(weaker, DATA.component(0)) < 0.001


@pytest.mark.parametrize("t", [1, 300, 1000])
def test_the_gradient_is_the_difference_of_the_scores(t):
    """Taken where gradients are off, for the class that each image asks for."""
    x_t, times, y = columns(-0.7, 0.1, 0.4, 0.9), torch.full((4,), t), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        pull = ClassifierGuide(DATA.logits, y, scale=2.5)(x_t, times)
    expected = torch.where(y[:, None, None, None] == 0, DATA.pull(0)(x_t, times), DATA.pull(1)(x_t, times))
    torch.testing.assert_close(pull, 2.5 * expected)
    assert not pull.requires_grad


def test_whatever_is_predicted_the_image_is_the_same():
    x_0 = {
        target: guided(DDIM(), DATA.pull(1), getattr(DATA, target), shape=(5, 1, 1, 1), steps=20, target=target)
        for target in ("eps", "x_0", "v")
    }
    torch.testing.assert_close(x_0["x_0"], x_0["eps"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(x_0["v"], x_0["eps"], rtol=1e-9, atol=1e-9)


def test_the_guided_prediction_is_clipped_and_its_noise_agrees():
    x_t = columns(-0.5, 0.2)
    plain = Denoiser(DATA.eps, S, clip_x0=False)
    free, clipped = (Denoiser(DATA.eps, S, clip, guide=lambda x, t: 30 + 0 * x) for clip in (False, True))
    a, b = S.alpha_bar[400].sqrt(), S.one_minus_alpha_bar[400].sqrt()
    torch.testing.assert_close(free(x_t, 400).eps_hat, plain(x_t, 400).eps_hat - 30 * b)
    for prediction in (free(x_t, 400), clipped(x_t, 400)):
        torch.testing.assert_close(a * prediction.x_0_hat + b * prediction.eps_hat, x_t)
    assert float(free(x_t, 400).x_0_hat.max()) > 1
    assert torch.equal(clipped(x_t, 400).x_0_hat, free(x_t, 400).x_0_hat.clamp(-1, 1))


@pytest.mark.parametrize("times", [[700], [900, 640, 300, 20]])
def test_the_moved_mean_and_the_moved_noise_agree_to_first_order(times):
    """By eps the mean moves by beta_t / sqrt(alpha_t) times the gradient, by itself by the variance of the step."""
    chain = S.respaced(times)
    x_t, pull = columns(-0.5, 0.2), DATA.pull(0)
    for i in range(1, chain.T + 1):
        for kind in ("small", "large"):
            plain, moved = Denoiser(DATA.eps, chain, False), Denoiser(DATA.eps, chain, False, guide=pull)
            moved_eps = Denoiser(lambda x, t, to=moved, i=i: to(x, i).eps_hat, chain, False)
            still, by_mean, by_eps = (
                Ancestral(kind).step(each, x_t, i, lambda: torch.zeros_like(x_t), ()).x
                for each in (plain, moved, moved_eps)
            )
            alpha, beta = chain.alpha[i], chain.beta[i]
            small = chain.beta_tilde[max(i, 2)] if chain.T > 1 else beta
            variance = beta if kind == "large" else small
            gradient = pull(x_t, chain.time[i].expand(2))
            torch.testing.assert_close(by_mean - still, variance * gradient)
            torch.testing.assert_close(by_eps - still, beta / alpha.sqrt() * gradient)


@dataclass
class Labelled:
    """Class k of the mixture for y = k, the mixture itself for y = 2. Counts the images of each call."""

    target: str = "eps"
    variance: bool = False
    data: Mixture = DATA
    rows: list[int] = field(default_factory=list)

    def __call__(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.rows.append(len(x_t))
        parts = [self.data.component(0), self.data.component(1), self.data]
        each = torch.stack([getattr(part, self.target)(x_t, t) for part in parts])
        prediction = each[y, torch.arange(len(y))]
        o = (y / 10)[:, None, None, None].to(x_t).expand_as(x_t)
        return torch.cat([prediction, o], dim=1) if self.variance else prediction


def free(net, w: float, **how) -> ClassifierFree:
    return ClassifierFree(net, torch.tensor([0, 1, 0]), null_label=2, scale=w, **how)


def test_without_a_scale_the_network_is_told_the_class_and_called_as_ever():
    net, x_t, t = Labelled(), columns(-0.5, 0.2, 0.9), torch.full((3,), 300)
    assert torch.equal(free(net, 0.0)(x_t, t), Labelled()(x_t, t, torch.tensor([0, 1, 0])))
    assert net.rows == [3]


def test_with_a_scale_of_minus_one_it_is_not_told():
    x_t, t = columns(-0.5, 0.2, 0.9), torch.full((3,), 300)
    assert torch.equal(free(Labelled(), -1.0)(x_t, t), DATA.eps(x_t, t))


def test_the_second_half_is_computed_within_the_interval_alone():
    net = Labelled()
    sample(free(net, 3.0, interval=(300, 700)), S, x_T((3, 1, 1, 1)), DDIM(), times=trailing(1000, 10), clip_x0=False)
    assert net.rows == [3, 3, 3, 6, 6, 6, 6, 6, 3, 3]  # 1000, 900, 800, then 700 .. 300


def test_each_image_has_its_own_time():
    def net(x_t, t, y):
        assert (t.tolist(), y.tolist()) == ([299, 300, 701, 300], [0, 1, 0, 2])
        return y[:, None, None, None] + 0 * x_t

    led = free(net, 3.0, interval=(300, 700))(columns(-0.5, 0.2, 0.9), torch.tensor([299, 300, 701]))
    assert led.flatten().tolist() == [0, 4 * 1 - 3 * 2, 0]


def test_a_classifier_is_asked_within_the_interval_alone():
    asked = []

    def logits(x_t, t):
        asked.append(t.tolist())
        return DATA.logits(x_t, t)

    guide = ClassifierGuide(logits, torch.tensor([0, 1, 0]), interval=(300, 700))
    pull = guide(columns(-0.5, 0.2, 0.9), torch.tensor([299, 300, 701]))
    assert asked == [[300]]
    torch.testing.assert_close(pull[1], DATA.pull(1)(columns(0.2), torch.tensor([300]))[0])
    assert pull[[0, 2]].abs().max() == 0
    assert guide(columns(0.0), torch.tensor([100])).item() == 0
    assert asked == [[300]]


@pytest.mark.parametrize("w", [0.5, 4.0])
def test_it_is_guidance_by_the_classifier_that_the_network_implies(w):
    """From the network that is told the class, by w log p(y | x_t) of p(x_t | y) over p(x_t)."""
    shape = (3, 1, 1, 1)
    net = Labelled()
    told = ClassifierFree(net, torch.tensor([0, 0, 0]), null_label=2, scale=w)
    by_classifier = guided(DDIM(), lambda x, t: w * DATA.pull(0)(x, t), DATA.component(0).eps, shape=shape, steps=25)
    torch.testing.assert_close(guided(DDIM(), None, told, shape=shape, steps=25), by_classifier, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("target", ["eps", "x_0", "v"])
def test_a_gaussian_led_away_from_one_of_the_same_width_is_a_gaussian_farther_off(target):
    """N(m_y, s^2) led away from N(m, s^2) is N(m_y + w (m_y - m), s^2) at every time."""
    told, untold, w = Mixture.gaussian(S, 0.2, 0.3), Mixture.gaussian(S, -0.1, 0.3), 2.0
    farther = Mixture.gaussian(S, 0.2 + w * 0.3, 0.3)

    def net(x_t, t, y):
        return torch.where(y[:, None, None, None] == 1, getattr(untold, target)(x_t, t), getattr(told, target)(x_t, t))

    model = ClassifierFree(net, torch.zeros(20, dtype=torch.int64), null_label=1, scale=w)
    led, alone = (guided(Ancestral("small"), None, each, target=target) for each in (model, getattr(farther, target)))
    torch.testing.assert_close(led, alone, rtol=1e-9, atol=1e-9)
    assert p_value(led, farther) > 0.001


def test_the_learned_variance_is_that_of_the_network_that_is_told():
    x_t, t = columns(-0.5, 0.2, 0.9), torch.full((3,), 300)
    output = free(Labelled(variance=True), 3.0)(x_t, t)
    assert torch.equal(output[:, :1], free(Labelled(), 3.0)(x_t, t))
    assert output[:, 1].flatten().tolist() == pytest.approx([0.0, 0.1, 0.0])


def test_at_zero_snr_there_is_nothing_to_guide():
    zero = NoiseSchedule.log_snr_linear(20).rescaled_to_zero_snr()
    asked = []

    def guide(x_t, t):
        asked.append(int(t[0]))
        return 0 * x_t

    for sampler in (Ancestral("small"), DDIM()):
        sample(lambda x, t: -0.1 * x, zero, columns(0.5), sampler, noise=noise_from(0), target="v", guide=guide)
    assert asked == 2 * list(range(19, 0, -1))


def test_between_the_chains_times_there_is_guidance_too():
    """By the flow that chooses its own steps: the same image as by many small ones."""
    shape = (4, 1, 1, 1)
    flow, heun = (guided(s, DATA.pull(0), shape=shape, steps=60) for s in (ProbabilityFlow(1e-6, 1e-6), Heun()))
    torch.testing.assert_close(flow, heun, rtol=0, atol=2e-3)


def test_a_gradient_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match="gradient of the guide is not finite for image 1 of the batch at t = 1000"):
        guided(DDIM(), lambda x, t: x / torch.tensor([1.0, 0.0]).view(2, 1, 1, 1), shape=(2, 1, 1, 1))


def test_an_interval_that_goes_the_wrong_way():
    for guidance in (
        lambda: ClassifierGuide(DATA.logits, torch.tensor([0]), interval=(5, 4)),
        lambda: free(Labelled(), 1.0, interval=(5, 4)),
    ):
        with pytest.raises(ValueError, match=r"from the smaller to the larger, got \(5, 4\)"):
            guidance()
