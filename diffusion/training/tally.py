"""The running bound: what the losses of a step already say of the bound, summed up so that it costs nothing.

A training step computes one term of the bound for each image, that of its time. With p_t the probability of that time,
y = L_t / p_t is an unbiased estimate of the sum of all terms, and its mean over the images of some steps is the running
bound, bin by bin. It is the bound of the weights as they are (not of their average), in training mode, on training
images as they are shown (flipped, with dropout), without clipping.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from diffusion.process import NoiseSchedule
from diffusion.training.points import BoundPoint


@dataclass(frozen=True)
class Tally:
    """Sums over the images of a step that travel with the gradient; all in one float32 tensor."""

    s: NoiseSchedule
    bins: Tensor
    """(T + 1,) int64 on the device: the bin of each time, 1..B; 0 at t = 1, whose term is L_0."""
    count: int
    """B."""
    per_time: bool = False
    """Whether sums over each time are needed, for a distribution of times that learns."""

    @property
    def size(self) -> int:
        """Length of the tensor: y and y^2 by bin, the mean square of x_0, and the two sums over each time."""
        return 2 * (self.count + 1) + 1 + (2 * (self.s.T + 1) if self.per_time else 0)

    @torch.no_grad()
    def of(self, x_0: Tensor, t: Tensor, loss: Tensor, term: Tensor, weight: Tensor | None) -> Tensor:
        """The sums of n images.

        Args:
            x_0: (n, C, H, W).
            t: LongTensor (n,).
            loss: (n,): what is minimised at time t, not weighted by 1 / (T p_t).
            term: (n,): the bound's term at time t in bits/dim.
            weight: (n,): 1 / (T p_t); None where all are 1.
        """
        y = term * self.s.T if weight is None else term * self.s.T * weight
        hit = (self.bins[t] == torch.arange(self.count + 1, device=t.device)[:, None]).to(y.dtype)
        parts = [(hit @ torch.stack([y, y * y], dim=1)).T.flatten(), x_0.square().flatten(1).mean(dim=1).sum()[None]]
        if self.per_time:
            zeros = torch.zeros(self.s.T + 1, device=t.device)
            parts += [zeros.index_add(0, t, loss * loss), zeros.index_add(0, t, torch.ones_like(loss))]
        return torch.cat(parts)

    def per_time_sums(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Of squared losses, and how many there were, each (T + 1,)."""
        start = 2 * (self.count + 1) + 1
        squares, counts = sums[start:].view(2, self.s.T + 1)
        return squares, counts

    def point(self, step: int, sums: Tensor, images: int) -> BoundPoint:
        """The running bound after `step` updates, from sums over this many images. Waits for the device."""
        B = self.count + 1
        y, squares = sums[: 2 * B].cpu().double().view(2, B) / images
        error = ((squares - y**2).clamp(min=0) / images).sqrt()
        L_t_sum, L_t_squares = float(y[1:].sum()), float(squares[1:].sum())
        return BoundPoint(
            source="running",
            step=step,
            L_T=self._prior(float(sums[2 * B]) / images),
            L_t_sum=L_t_sum,
            L_0=float(y[0]),
            L_t_sum_se=_error(L_t_sum, L_t_squares, images),
            L_0_se=float(error[0]),
            total_se=_error(float(y.sum()), float(squares.sum()), images),
            bins=tuple(y[1:].tolist()),
        )

    def _prior(self, mean_square: float) -> float:
        """L_T in bits/dim: (alpha_bar_T x_0^2 - alpha_bar_T - log(1 - alpha_bar_T)) / 2, which is linear in x_0^2."""
        a, rest = self.s.alpha_bar[-1].cpu(), self.s.one_minus_alpha_bar[-1].cpu()
        return float((a * mean_square - a - rest.log()) / 2 / torch.log(torch.tensor(2.0, dtype=torch.float64)))


def _error(mean: float, mean_square: float, n: int) -> float:
    """Standard error of the mean of n values; each y lies in one bin, so squares of a sum are sums of squares."""
    return sqrt(max(mean_square - mean**2, 0.0) / n)
