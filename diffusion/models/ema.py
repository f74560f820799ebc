"""The exponential moving average of a network's weights, which samples better than the weights themselves."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class EMA:
    """average <- d average + (1 - d) weights after each step, with d = min(decay, (1 + step) / (10 + step)).

    The smaller d of the first steps lets the average forget the untrained weights; it is the rule of TensorFlow's
    ExponentialMovingAverage. The average is kept in float32 whatever the network's type: in bfloat16 it would never
    move, as a ten-thousandth of a change rounds to none. Buffers, and weights that are no floating numbers, are copied.
    The network itself is only read.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Starts at the model's present weights. The average lives on their device.

        Raises:
            ValueError: `decay` is not in [0, 1).
        """
        if not 0.0 <= decay < 1.0:
            raise ValueError(
                f"decay must lie in [0, 1), got {decay}: 0.9999 for long runs, 0.99 for a few thousand steps"
            )
        self.decay = decay
        weights = {n for n, p in model.named_parameters(remove_duplicate=False) if p.is_floating_point()}
        live = model.state_dict()
        self._averaged = [name for name in live if name in weights]
        self._copied = [name for name in live if name not in weights]
        self.tensors = {n: v.to(torch.float32, copy=True) if n in weights else v.clone() for n, v in live.items()}
        """Name in `model.state_dict()` to the average (or the buffer's copy). Updated in place."""

    def decay_at(self, step: int) -> float:
        """d of this step."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the model's weights in, after optimiser step number `step` = 0, 1, ...

        Raises:
            ValueError: the model's tensors are not those the average was made of.
        """
        live = model.state_dict()
        _check_names(self.tensors, live)
        averages = [self.tensors[name] for name in self._averaged]
        weights = [live[name].to(torch.float32) for name in self._averaged]
        torch._foreach_lerp_(averages, weights, 1.0 - self.decay_at(step))
        for name in self._copied:
            self.tensors[name].copy_(live[name])

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from an average that was kept, given as `tensors` names it; any device.

        Raises:
            ValueError: the names, shapes or types are not those of this average.
        """
        _check_names(self.tensors, tensors)
        for name, average in self.tensors.items():
            given = tensors[name]
            if given.shape != average.shape or given.dtype != average.dtype:
                raise ValueError(
                    f"{name} of the kept average is {given.dtype} {tuple(given.shape)}, this network needs "
                    f"{average.dtype} {tuple(average.shape)}: it belongs to another network"
                )
        for name, average in self.tensors.items():
            average.copy_(tensors[name])


def _check_names(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    if wanted.keys() != got.keys():
        different = sorted(wanted.keys() ^ got.keys())
        raise ValueError(
            f"the average belongs to another network: {len(different)} tensors are in one only, "
            f"for example {', '.join(different[:3])}"
        )
