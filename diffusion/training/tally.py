"""The running bound: what the losses of a step already say of the bound, summed up so that it costs nothing.

A training step computes one term of the bound for each image, that of its time. With p_t the probability of that time,
y = L_t / p_t is an unbiased estimate of the sum of all terms, and its mean over the images of some steps is the
running bound, bin by bin. Its error comes from how the means of single steps scatter: the images of a step may share
what their times are drawn from, steps are independent. It is the bound of the weights as they are (not of their
average), in training mode, on training images as they are shown (flipped, with dropout), without clipping. Where labels
are left out it is that of the network that is told the class, from the other images.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    @property
    def kept(self) -> int:
        """Length of what is added up over steps, see `of_step`."""
        return self.size + 3

    @torch.no_grad()
    def of(self, x_0: Tensor, t: Tensor, loss: Tensor, term: Tensor, weight: Tensor | None) -> Tensor:
        """The sums of n images.

        Args:
            x_0: (n, C, H, W).
            t: LongTensor (n,).
            loss: (n,): what is minimised at time t, not weighted by 1 / (T p_t).
            term: (n,): the bound's term at time t in bits/dim, times `Minibatch.told` where labels are left out.
            weight: (n,): 1 / (T p_t); None where all are 1.
        """
        y = term * self.s.T if weight is None else term * self.s.T * weight
        hit = (self.bins[t] == torch.arange(self.count + 1, device=t.device)[:, None]).to(y.dtype)
        parts = [(hit @ torch.stack([y, y * y], dim=1)).T.flatten(), x_0.square().flatten(1).mean(dim=1).sum()[None]]
        if self.per_time:
            zeros = torch.zeros(self.s.T + 1, device=t.device)
            parts += [zeros.index_add(0, t, loss * loss), zeros.index_add(0, t, torch.ones_like(loss))]
        return torch.cat(parts)

    def of_step(self, sums: Tensor) -> Tensor:
        """(kept,): the sums of all images of a step, and the squares of its sums over y: of the L_t, of L_0, of all."""
        L_0, L_t = sums[0], sums[1 : self.count + 1].sum()
        return torch.cat([sums, torch.stack([L_t, L_0, L_t + L_0]).square()])

    def per_time_sums(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Of squared losses, and how many there were, each (T + 1,)."""
        start = 2 * (self.count + 1) + 1
        squares, counts = sums[start:].view(2, self.s.T + 1)
        return squares, counts

    def point(self, step: int, sums: Tensor, images: int, steps: int) -> BoundPoint:
        """The running bound after `step` updates, from what was kept of this many steps with as many images in all.

        From a single step the error is that of independent images: where their times are stratified that is too much.
        Waits for the device.
        """
        B, sums = self.count + 1, sums.cpu().double()
        y, squares = sums[: 2 * B].view(2, B) / images
        means = torch.stack([y[1:].sum(), y[0], y.sum()])
        if steps > 1:
            mean_square, n = sums[-3:] * steps / images**2, steps
        else:
            mean_square, n = torch.stack([squares[1:].sum(), squares[0], squares.sum()]), images
        L_t_sum_se, L_0_se, total_se = ((mean_square - means**2).clamp(min=0) / max(n - 1, 1)).sqrt().tolist()
        return BoundPoint(
            source="running",
            step=step,
            L_T=self._prior(float(sums[2 * B]) / images),
            L_t_sum=float(means[0]),
            L_0=float(y[0]),
            L_t_sum_se=L_t_sum_se,
            L_0_se=L_0_se,
            total_se=total_se,
            bins=tuple(y[1:].tolist()),
        )

    def _prior(self, mean_square: float) -> float:
        """L_T in bits/dim: (alpha_bar_T x_0^2 - alpha_bar_T - log(1 - alpha_bar_T)) / 2, which is linear in x_0^2."""
        a, rest = self.s.alpha_bar[-1].cpu(), self.s.one_minus_alpha_bar[-1].cpu()
        return float((a * mean_square - a - rest.log()) / 2 / torch.log(torch.tensor(2.0, dtype=torch.float64)))
