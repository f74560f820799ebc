"""The variational bound, term by term: L = L_T + sum_{t>1} L_{t-1} + L_0. Ho et al. 2020, eq. 5."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from diffusion.process.decoder import Decoder, FirstStep
from diffusion.process.forward import q_marginal, q_sample
from diffusion.process.gaussian import Gaussian, gaussian_kl
from diffusion.process.parameterization import Target, check_target
from diffusion.process.posterior import q_posterior
from diffusion.process.reverse import Variance, first_non_finite, p_reverse, predict_x_0, split_output
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


@dataclass(frozen=True)
class Seen:
    """Noised images, and what the model made of each: all that a term is computed from."""

    x_0: Tensor
    """(n, C, H, W) float64, as are the others."""
    x_t: Tensor
    i: Tensor
    """LongTensor (n,): the index of x_t in the chain."""
    x_0_hat: Tensor
    v: Tensor | None
    """Where a learned variance lies (`split_output`), in the model's dtype; None for a fixed one."""


@dataclass(frozen=True)
class Measure:
    """Which bound of which process: all that a term depends on besides the image, its time and its noise."""

    model: Model
    """(x_t, t) -> prediction, in eval mode; called as (x_t, t, y=..) where there are labels."""
    s: NoiseSchedule
    """The chain that is measured, on the device of the images."""
    decoder: Decoder
    variance: Variance | str = Variance.SMALL
    clip_x0: bool = True
    target: Target | str = Target.EPS
    """What the model predicts."""

    def __post_init__(self) -> None:
        check_target(self.s, self.target)

    def rows(self, x_0: Tensor, i: Tensor, eps: Tensor, y: Tensor | None, chunk: int) -> Iterator[Seen]:
        """Call the model for pairs of an image and an index of the chain, at most `chunk` of them at a time.

        The host waits for the device once per call, to refuse what is not finite.

        Args:
            x_0: (N, C, H, W), in the dtype that the model takes.
            i: LongTensor (k N,) within 1..T: k times all images in their order.
            eps: (k N, C, H, W): the noise that makes x_t.
            y: LongTensor (N,) of labels, for a model that is told them.

        Raises:
            ValueError: a prediction of the wrong shape, or one that is not finite; the message names image and t.
        """
        if y is not None and y.shape != x_0.shape[:1]:
            raise ValueError(f"y must have a label for each of the {len(x_0)} images, got shape {tuple(y.shape)}")
        if eps.shape != (len(i), *x_0.shape[1:]):
            wanted = (len(i), *x_0.shape[1:])
            raise ValueError(
                f"noise must have the shape of x_0: wanted {wanted} for the images together, got {tuple(eps.shape)}"
            )
        image = torch.arange(len(x_0), device=x_0.device).repeat(len(i) // len(x_0))
        for image_k, i_k, eps_k in zip(*(torch.split(whole, chunk) for whole in (image, i, eps)), strict=True):
            yield self._seen(x_0, image_k, i_k, eps_k, None if y is None else y[image_k])

    def terms(self, seen: Seen, *, first: bool) -> Tensor:
        """(n,) float64 in nats: L_0 if `first`, all of `seen` being at index 1; else L_t, within 2..T."""
        if not first:
            return self.L_t(seen)
        return self.L_0(seen, p_reverse(self.s, seen.x_t, seen.i, seen.x_0_hat, self.variance, seen.v))

    def _seen(self, x_0: Tensor, image: Tensor, i: Tensor, eps: Tensor, y: Tensor | None) -> Seen:
        s, exact = self.s, x_0[image].double()
        x_t = q_sample(s, exact, i, eps.double())
        t = s.time[i]
        told = {} if y is None else {"y": y}
        output = self.model(x_t.to(x_0.dtype), t, **told)
        prediction, v = split_output(output, x_t, learned=Variance(self.variance) is Variance.LEARNED)
        if (row := first_non_finite(output)) is not None:
            where = f"image {int(image[row])} at t = {int(t[row])}"
            raise ValueError(f"the model's prediction is not finite for {where}")
        x_0_hat = predict_x_0(s, x_t, i, prediction.double(), clip=self.clip_x0, target=self.target)
        return Seen(exact, x_t, i, x_0_hat, v)

    def L_t(self, seen: Seen) -> Tensor:
        """KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)), (n,) in nats. Infinite at index 1: q is a point."""
        q = q_posterior(self.s, seen.x_0, seen.x_t, seen.i)
        p = p_reverse(self.s, seen.x_t, seen.i, seen.x_0_hat, self.variance, seen.v)
        return gaussian_kl(*q, *p).flatten(1).sum(dim=1)

    def L_0(self, seen: Seen, p: Gaussian) -> Tensor:
        """-log p_theta(x_0 | x_t), (n,) in nats, by the decoder; `p` is the chain's step from x_t to the data."""
        signal = at(self.s.alpha_bar, seen.i, seen.x_t)
        noise = at(self.s.one_minus_alpha_bar, seen.i, seen.x_t)
        log_p = self.decoder.log_likelihood(seen.x_0, FirstStep(seen.x_t, signal, noise, p.mean, p.variance))
        return -log_p.flatten(1).sum(dim=1)


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
    target: Target | str = Target.EPS,
    chunk: int = 128,
) -> BoundTerms:
    """The bound with every time visited once and every KL in closed form.

    The host waits for the device once per call of the model, to refuse what is not finite.

    Args:
        model: (x_t, t) -> eps_hat, all (n, C, H, W) in x_0's dtype, t a LongTensor (n,) of times of the full process;
            with `y` it is called as (x_t, t, y=..). In eval mode. All else is computed in float64.
        x_0: (N, C, H, W) in [-1, 1].
        noise: (t, shape of x_0) -> the eps that makes x_t; asked once per time.
        decoder: p(x_0 | x_1).
        variance: with `learned` the model returns 2 C channels, see `split_output`.
        clip_x0: clip the predicted image to [-1, 1]. With and without are two different numbers.
        times: measure the process respaced to these (decreasing) times instead of all of T..1.
        y: (N,) labels of the images, for a model that is told them.
        target: what the model predicts, if not eps. The bound is the same whichever of them a perfect model predicts.
        chunk: rows (image, time) per call of the model; memory depends on it and on N, not on T.

    Returns:
        Bits per dimension, float64, one row per image.

    Raises:
        ValueError: no images, images off the levels of a discrete decoder, times that are not decreasing within T..1, a
            prediction of the wrong shape or not finite (the message names image and t).
    """
    if len(x_0) == 0:
        raise ValueError("the bound needs at least one image")
    decoder.check(x_0)
    chain = s.respaced(times).to(x_0.device)
    measure = Measure(model, chain, decoder, variance, clip_x0, target)
    labels = None if y is None else y.to(x_0.device)
    bits = 1 / (x_0[0].numel() * log(2))
    nats = torch.empty(len(x_0), chain.T, dtype=torch.float64, device=x_0.device)
    for indices in _groups(chain.T, max(1, chunk // len(x_0))):
        eps = torch.cat([noise(int(chain.time[i]), x_0.shape).to(x_0) for i in indices])
        i = torch.tensor(indices, device=x_0.device).repeat_interleave(len(x_0))
        seen = measure.rows(x_0, i, eps, labels, chunk)
        terms = torch.cat([measure.terms(part, first=indices == [1]) for part in seen])
        nats[:, [index - 1 for index in indices]] = terms.view(len(indices), len(x_0)).T
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
