"""AdamW on the device alone: no wait, and an update that can be blocked there."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from diffusion.training.tensors import copy_into


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2) for all parameters of a network.

        m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,
        w <- (1 - lr wd) w - lr m / (1 - b1^n) / (sqrt(v / (1 - b2^n)) + eps)   at update n = 1, 2, ..

    It calls the kernel of torch.optim.AdamW(fused=True), which updates each element alone, so that its bits depend on
    no order. The class around that kernel is left out: it imports torch's compiler, seconds in each worker's start.
    """

    def __init__(
        self, net: nn.Module, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self._parameters: list[Tensor] = list(net.parameters())
        self._exp_avg = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
        self._exp_avg_sq = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
        self._updates = torch.zeros((), device=self._parameters[0].device)
        self._weight_decay, self._betas, self._eps = weight_decay, betas, eps

    @torch.no_grad()
    def update(self, gradients: Sequence[Tensor], rate: float, blocked: Tensor | None = None) -> None:
        """One update.

        Args:
            gradients: one per parameter, in the order of `net.parameters()`.
            rate: lr of this update.
            blocked: (), float32: where it is 1.0 nothing changes, moments and count included. Read on the device.
        """
        self._updates += 1.0 if blocked is None else 1.0 - blocked
        torch._fused_adamw_(
            self._parameters,
            list(gradients),
            list(self._exp_avg.values()),
            list(self._exp_avg_sq.values()),
            [],
            [self._updates] * len(self._parameters),
            lr=rate,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=self._weight_decay,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
            found_inf=blocked,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The state, not copied: both moments of each parameter, named after it, and the number of updates."""
        return {
            "updates": self._updates,
            **{f"exp_avg.{name}": tensor for name, tensor in self._exp_avg.items()},
            **{f"exp_avg_sq.{name}": tensor for name, tensor in self._exp_avg_sq.items()},
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave, bit for bit.

        Raises:
            ValueError: a name, shape or type differs.
        """
        copy_into(self.tensors(), tensors, "the optimiser")
