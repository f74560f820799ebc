"""Round trips of every pair, and the defining equations."""

import pytest
import torch

from diffusion import process

PAIRS = [("eps", "x_0"), ("eps", "v"), ("x_0", "v"), ("eps", "score")]


@pytest.fixture
def case(any_schedule, rng):
    """One image per time."""
    s = any_schedule
    t = torch.arange(1, s.T + 1)
    x_0, eps = (torch.randn(s.T, 1, 2, 2, generator=rng, dtype=torch.float64) for _ in range(2))
    x_t = process.q_sample(s, x_0, t, eps)
    a, b = (table.sqrt()[t].view(-1, 1, 1, 1) for table in (s.alpha_bar, s.one_minus_alpha_bar))
    return s, x_t, t, {"x_0": x_0, "eps": eps, "v": a * eps - b * x_0, "score": -(x_t - a * x_0) / b**2}


@pytest.mark.parametrize(("one", "other"), [*PAIRS, *[(b, a) for a, b in PAIRS]])
def test_conversion_meets_the_definition(case, one, other):
    s, x_t, t, truth = case
    converted = getattr(process, f"{one}_to_{other}", None)
    assert converted is not None or (one, other) == ("v", "score")
    torch.testing.assert_close(converted(s, x_t, t, truth[one]), truth[other], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_round_trip(case, one, other):
    s, x_t, t, _ = case
    there, back = getattr(process, f"{one}_to_{other}"), getattr(process, f"{other}_to_{one}")
    arbitrary = torch.linspace(-2, 2, x_t.numel(), dtype=torch.float64).view_as(x_t)
    torch.testing.assert_close(back(s, x_t, t, there(s, x_t, t, arbitrary)), arbitrary, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("target", list(process.Target))
def test_every_target_stands_for_the_same_image_and_noise(case, target):
    s, x_t, t, truth = case
    said = process.target_of(s, truth["x_0"], t, truth["eps"], target)
    torch.testing.assert_close(said, truth[target], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(process.to_x_0(s, x_t, t, said, target), truth["x_0"], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(process.to_eps(s, x_t, t, said, target), truth["eps"], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("target", list(process.Target))
def test_errors_of_a_target_are_multiples_of_those_of_eps(case, target):
    """At fixed x_t the four are affine in each other, so their errors are proportional."""
    s, x_t, t, truth = case
    said = process.target_of(s, truth["x_0"], t, truth["eps"], target)
    wrong = said + 0.25
    eps_error = (process.to_eps(s, x_t, t, wrong, target) - truth["eps"]) ** 2
    scale = process.eps_error_scale(s, target)
    assert scale[0] == 0
    torch.testing.assert_close(
        eps_error, scale[t].view(-1, 1, 1, 1) * 0.25**2 * torch.ones_like(said), rtol=1e-6, atol=0
    )


def test_an_unknown_target_is_refused(case):
    s, x_t, t, truth = case
    with pytest.raises(ValueError, match="mu"):
        process.to_x_0(s, x_t, t, truth["eps"], "mu")
