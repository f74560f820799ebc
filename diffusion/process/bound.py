"""The variational bound, term by term: L = L_T + sum_{t>1} L_{t-1} + L_0. Ho et al. 2020, eq. 5."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from diffusion.process.decoder import Decoder, FirstStep
from diffusion.process.forward import q_marginal, q_sample
from diffusion.process.gaussian import gaussian_kl
from diffusion.process.posterior import q_posterior
from diffusion.process.reverse import Variance, check_prediction, first_non_finite, p_reverse, predict_x_0
from diffusion.process.schedule import NoiseSchedule, at

Model = Callable[..., Tensor]
Noise = Callable[[int, torch.Size], Tensor]


@dataclass(frozen=True)
class BoundTerms:
    """The bound of each image, in bits per dimension. S is the number of times, T of them unless respaced."""

    L_T: Tensor
    """(N,): KL(q(x_T | x_0) || N(0, I)), what the prior costs."""
    L_t: Tensor
    """(N, S - 1): KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)) for the times from the second smallest up."""
    L_0: Tensor
    """(N,): -log p_theta(x_0 | x_1), what the decoder costs at the smallest time."""
    times: Tensor
    """(S,) int64, increasing: the times of the process that was measured; times[1:] belong to the columns of L_t."""

    @property
    def L_t_sum(self) -> Tensor:
        """(N,): the sum of L_t over its times."""
        return self.L_t.sum(dim=1)

    @property
    def total(self) -> Tensor:
        """(N,): the bound."""
        return self.L_T + self.L_t_sum + self.L_0


@torch.no_grad()
def bound(
    model: Model,
    s: NoiseSchedule,
    x_0: Tensor,
    *,
    noise: Noise,
    decoder: Decoder,
    variance: Variance | str = Variance.SMALL,
    clip_x0: bool = True,
    times: Sequence[int] | None = None,
    y: Tensor | None = None,
    chunk: int = 128,
) -> BoundTerms:
    """The bound with every time visited once and every KL in closed form.

    Args:
        model: (x_t, t) -> eps_hat, all (n, C, H, W) in x_0's dtype, t a LongTensor (n,) of times of the full process;
            with `y` it is called as (x_t, t, y=..). In eval mode. All else is computed in float64.
        x_0: (N, C, H, W) in [-1, 1].
        noise: (t, shape of x_0) -> the eps that makes x_t; asked once per time.
        decoder: p(x_0 | x_1).
        clip_x0: clip the predicted image to [-1, 1]. With and without are two different numbers.
        times: measure the process respaced to these (decreasing) times instead of all of T..1.
        y: (N,) labels of the images, for a model that is told them.
        chunk: rows (image, time) per call of the model; memory depends on it and on N, not on T.

    Returns:
        Bits per dimension, float64, one row per image.

    Raises:
        ValueError: no images, a prediction of the wrong shape or not finite (the message names image and t).
    """
    if len(x_0) == 0:
        raise ValueError("the bound needs at least one image")
    chain = s.respaced(times).to(x_0.device)
    bits = 1 / (x_0[0].numel() * log(2))
    nats = torch.empty(len(x_0), chain.T, dtype=torch.float64, device=x_0.device)
    for indices in _groups(chain.T, max(1, chunk // len(x_0))):
        eps = torch.cat([noise(int(chain.time[i]), x_0.shape).to(x_0) for i in indices])
        i = torch.tensor(indices, device=x_0.device).repeat_interleave(len(x_0))
        image = torch.arange(len(x_0), device=x_0.device).repeat(len(indices))
        terms = [
            _terms(model, chain, x_0, y, image_k, i_k, eps_k, decoder=decoder, variance=variance, clip_x0=clip_x0)
            for image_k, i_k, eps_k in zip(*(torch.split(whole, chunk) for whole in (image, i, eps)), strict=True)
        ]
        nats[:, [index - 1 for index in indices]] = torch.cat(terms).view(len(indices), len(x_0)).T
    return BoundTerms(prior_kl(chain, x_0) * bits, nats[:, 1:] * bits, nats[:, 0] * bits, chain.time[1:].cpu())


def prior_kl(s: NoiseSchedule, x_0: Tensor) -> Tensor:
    """L_T = KL(q(x_T | x_0) || N(0, I)) in nats per image, (N,) float64."""
    t = torch.full((len(x_0),), s.T, device=x_0.device)
    mean, variance = q_marginal(s, x_0.double(), t)
    zero, one = mean.new_zeros(()), mean.new_ones(())
    return gaussian_kl(mean, variance, zero, one).flatten(1).sum(dim=1)


def _groups(T: int, size: int) -> Iterator[list[int]]:
    """The indices 1, then 2..T in groups of `size`: L_0 is another formula, so it stands alone."""
    yield [1]
    for start in range(2, T + 1, size):
        yield list(range(start, min(start + size, T + 1)))


def _terms(
    model: Model,
    chain: NoiseSchedule,
    images: Tensor,
    labels: Tensor | None,
    image: Tensor,
    i: Tensor,
    eps: Tensor,
    *,
    decoder: Decoder,
    variance: Variance | str,
    clip_x0: bool,
) -> Tensor:
    """L_{t-1} (or L_0 where i = 1) in nats for rows (image, i), (n,) float64. All of i is 1, or none."""
    x_0 = images[image].double()
    x_t = q_sample(chain, x_0, i, eps.double())
    t = chain.time[i]
    told = {} if labels is None else {"y": labels.to(x_t.device)[image]}
    eps_hat = check_prediction(model(x_t.to(images.dtype), t, **told), x_t).double()
    if (row := first_non_finite(eps_hat)) is not None:
        raise ValueError(f"the model's prediction is not finite for image {int(image[row])} at t = {int(t[row])}")
    x_0_hat = predict_x_0(chain, x_t, i, eps_hat, clip=clip_x0)
    p = p_reverse(chain, x_t, i, x_0_hat, variance)
    if int(i[0]) == 1:
        signal, noise = at(chain.alpha_bar, i, x_t), at(chain.one_minus_alpha_bar, i, x_t)
        first = FirstStep(x_t, signal, noise, p.mean, p.variance)
        elementwise = -decoder.log_likelihood(x_0, first)
    else:
        elementwise = gaussian_kl(*q_posterior(chain, x_0, x_t, i), *p)
    return elementwise.flatten(1).sum(dim=1)
