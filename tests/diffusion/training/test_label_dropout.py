"""Labels that are left out while training: which, and what of it the running bound sees."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diffusion.process import DiscretizedGaussian, NoiseSchedule, log_snr_bins
from diffusion.training.batches import Batches, Images
from diffusion.training.draws import LabelDropout
from diffusion.training.minibatch import Minibatch, Minibatches
from diffusion.training.objective import DiffusionLoss, Objective
from diffusion.training.tally import Tally
from diffusion.training.times import UniformTimes

LEVELS = 17


def test_labels_are_left_out_as_a_function_of_seed_step_and_shard() -> None:
    dropout = LabelDropout(0.1, null_label=10)
    untold = dropout.untold(0, 5, 2, 10_000)
    assert (dropout.untold(0, 5, 2, 10_000) == untold).all()
    assert abs(int(untold.sum()) - 1000) < 4 * 30
    for other in [(1, 5, 2), (0, 6, 2), (0, 5, 3), (0, 2, 5)]:
        assert (dropout.untold(*other, 10_000) != untold).any()
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"must lie in \(0, 1\)"):
            LabelDropout(share, null_label=10)


def test_what_is_left_out_is_the_label_and_nothing_else(labelled_images: object, minibatches: Minibatches) -> None:
    """The others count for them in the running bound; parts and joined shards are the same rows."""
    told = replace(minibatches, images=labelled_images, labelled=True)  # type: ignore[arg-type]
    some = replace(told, label_dropout=LabelDropout(0.5, null_label=10))
    every, batch = told.of(2, range(4)), some.of(2, range(4))
    for name in ("x_0", "t", "eps"):
        assert torch.equal(getattr(every, name), getattr(batch, name)), name
    assert every.told is None
    assert every.y is not None
    assert batch.y is not None
    assert batch.told is not None
    without = batch.y == 10
    assert 0 < without.sum() < 16
    assert torch.equal(batch.y[~without], every.y[~without])
    assert torch.equal(batch.told, torch.where(without, 0.0, 2.0))
    for parts in (batch.split(5), [some.of(2, [v]) for v in range(4)]):
        rejoined = Minibatch.joined(parts)
        assert rejoined.y is not None
        assert rejoined.told is not None
        assert torch.equal(rejoined.y, batch.y)
        assert torch.equal(rejoined.told, batch.told)
    with pytest.raises(ValueError, match="no classes are handed out"):
        replace(minibatches, label_dropout=LabelDropout(0.5, null_label=10))


class Told(nn.Module):
    """Good where it is told the class, useless where it is not."""

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return torch.where(y[:, None, None, None] == 10, 100.0, 0.8 * x_t)


def test_the_running_bound_is_of_the_images_whose_label_is_told(labelled_images: Images) -> None:
    """Without bias: over 400 steps with the same times and noise, labels left out or not."""
    s, p = NoiseSchedule.cosine(20), 0.25
    tally = Tally(s, log_snr_bins(s, 4).of_index + 1, 4)
    minibatches = Minibatches(labelled_images, LEVELS, Batches(50, 16, 4, 7), UniformTimes(20, 7), labelled=True)
    every, some = (
        Objective(replace(minibatches, label_dropout=dropout), DiffusionLoss(s, DiscretizedGaussian(LEVELS)), tally)
        for dropout in (None, LabelDropout(p, null_label=10))
    )
    found = []
    for objective in (every, some):
        sums = [
            tally.of_step(objective.share(Told(), objective.parts(step, range(4))[0]).tallied) for step in range(400)
        ]
        found.append(tally.point(1, torch.stack(sums).double().sum(dim=0), 400 * 16, 400))
    whole, told = found
    assert told.total != whole.total
    assert told.total == pytest.approx(whole.total, abs=3 * told.total_se)
    assert told.L_T == pytest.approx(whole.L_T)
    assert whole.total_se < told.total_se < 2 * whole.total_se
