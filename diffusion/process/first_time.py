"""The bound for every time at which the decoder could take over, from one visit to each time.

A chain that begins at a later time f leaves out x_1 .. x_{f-1}: Ho et al. 2020, eq. 5 becomes

    L(f) = L_T + sum_{t>f} L_{t-1} + L_0(f),   L_0(f) = -log p_theta(x_0 | x_f)

The KL of the pair (t, t - 1) is the same in every chain that begins below t, and the mean of the step from x_f to the
data is x_0_hat itself (eq. 7 with alpha_bar_{t-1} = 1). So the T predictions of the full bound are all that is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from diffusion.process.bound import Measure, Model, Noise, Seen, prior_kl
from diffusion.process.decoder import Decoder
from diffusion.process.gaussian import Gaussian
from diffusion.process.parameterization import Target
from diffusion.process.reverse import Variance
from diffusion.process.schedule import NoiseSchedule, at


@dataclass(frozen=True)
class FirstTimes:
    """The bound of each image for each first time, in bits per dimension, float64. Column k belongs to times[k]."""

    L_T: Tensor
    """(N,): what the prior costs, in all chains alike."""
    L_t: Tensor
    """(N, T - 1): the KL of each pair, for the times from the second smallest up, as in `BoundTerms`."""
    L_0: Tensor
    """(N, T): what the decoder costs where it takes over at times[k]."""
    times: Tensor
    """(T,) int64, increasing: every time of the process, in the chain that was given."""

    @property
    def L_t_sum(self) -> Tensor:
        """(N, T): the sum of L_t over the times above times[k]; 0 in the last column."""
        above = torch.cat([self.L_t, self.L_t.new_zeros(len(self.L_t), 1)], dim=1)
        return above.flip(1).cumsum(dim=1).flip(1)

    @property
    def total(self) -> Tensor:
        """(N, T): the bound of the chain whose smallest time is times[k]."""
        return self.L_T[:, None] + self.L_t_sum + self.L_0


@torch.no_grad()
def bound_by_first_time(
    model: Model,
    s: NoiseSchedule,
    x_0: Tensor,
    *,
    noise: Noise,
    decoder: Decoder,
    variance: Variance | str = Variance.SMALL,
    clip_x0: bool = True,
    y: Tensor | None = None,
    target: Target | str = Target.EPS,
    chunk: int = 128,
) -> FirstTimes:
    """`bound(times=range(T, f - 1, -1))` for every f = 1..T, with T calls of the model for each image in all.

    The decoder is asked at every time, so its own cost counts T times. Arguments and errors are those of `bound`; a
    process of fewer times is measured by giving `s.respaced(times)`.

    Raises:
        ValueError: no images, images off the levels of a discrete decoder, a prediction of the wrong shape or not
            finite (the message names image and t).
    """
    if len(x_0) == 0:
        raise ValueError("the bound needs at least one image")
    decoder.check(x_0)
    N, bits = len(x_0), 1 / (x_0[0].numel() * log(2))
    s = s.to(x_0.device)
    measure = Measure(model, s, decoder, variance, clip_x0, target)
    labels = None if y is None else y.to(x_0.device)
    nats = torch.empty(2, s.T, N, dtype=torch.float64, device=x_0.device)  # L_t and L_0 of each index and image
    for indices in torch.split(torch.arange(1, s.T + 1), max(1, chunk // N)):
        eps = torch.cat([noise(int(s.time[i]), x_0.shape).to(x_0) for i in indices])
        i = indices.to(x_0.device).repeat_interleave(N)
        seen = measure.rows(x_0, i, eps, labels, chunk)
        both = [torch.stack([measure.L_t(part), measure.L_0(part, _to_the_data(measure, part))]) for part in seen]
        terms = torch.cat(both, dim=1)  # L_t of index 1 has no meaning
        nats[:, indices - 1] = terms.view(2, len(indices), N)
    L_t, L_0 = nats.transpose(1, 2) * bits
    return FirstTimes(prior_kl(s, x_0) * bits, L_t[:, 1:], L_0, s.time[1:].cpu())


def first_variance(s: NoiseSchedule, kind: Variance | str) -> Tensor:
    """sigma^2 of the step from x_t to the data in the chain T..t, for every t: (T + 1,) float64, 0 at index 0.

    It is `reverse_variance(s.respaced(range(T, t - 1, -1)), kind)` at index 1. Large: beta of the pair (t, 0), which is
    1 - alpha_bar_t. Small: beta_tilde of the next pair, (t + 1, t); the chain of T alone has none and takes the large.

    Raises:
        ValueError: a learned variance is no table; it lies between these two.
    """
    if Variance(kind) is Variance.LEARNED:
        raise ValueError("a learned variance is the network's, pixel by pixel: there is no table of it")
    large = s.one_minus_alpha_bar
    if Variance(kind) is Variance.LARGE:
        return large
    return torch.cat([large[:1], s.beta_tilde[2:], large[-1:]])


def _to_the_data(measure: Measure, seen: Seen) -> Gaussian:
    """p_theta(x_0 | x_t) of the chain that begins at each row's own time."""
    s, i, x_t = measure.s, seen.i, seen.x_t
    if seen.v is None:
        return Gaussian(seen.x_0_hat, at(first_variance(s, measure.variance), i, x_t))
    log_small, log_large = (at(first_variance(s, kind).log(), i, x_t) for kind in (Variance.SMALL, Variance.LARGE))
    return Gaussian(seen.x_0_hat, torch.lerp(log_small, log_large, seen.v.to(x_t.dtype)).exp())
