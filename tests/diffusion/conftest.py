"""The Gaussian oracle: for x_0 ~ N(0, s^2) the best network is known, and so is everything that follows from it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffusion.process import NoiseSchedule


def best_model(s: NoiseSchedule, data_variance: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """eps_hat = E[eps | x_t] for x_0 ~ N(0, v): sqrt(1 - a-bar) x_t / (a-bar v + 1 - a-bar)."""

    def eps_hat(x_t: Tensor, t: Tensor) -> Tensor:
        noise = s.one_minus_alpha_bar[t]
        factor = noise.sqrt() / (s.alpha_bar[t] * data_variance + noise)
        return factor.view(-1, 1, 1, 1).to(x_t.dtype) * x_t

    return eps_hat


def sign_pairs() -> tuple[Tensor, Tensor]:
    """(x_0, eps) in {+-1}^2, each (4, 1, 1, 1): every mean of a quadratic over them is that over N(0, 1)^2, exactly."""
    pairs = torch.tensor([(a, b) for a in (1.0, -1.0) for b in (1.0, -1.0)], dtype=torch.float64)
    return pairs[:, :1, None, None], pairs[:, 1:, None, None]


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=["linear", "cosine", "log_snr"])
def any_schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    makers = {"linear": NoiseSchedule.linear, "cosine": NoiseSchedule.cosine, "log_snr": NoiseSchedule.log_snr_linear}
    schedule: NoiseSchedule = makers[request.param](50)
    return schedule
