from dataclasses import replace

import pytest
import torch

from diffusion.models import EMA, UNet
from diffusion.process import DiscretizedGaussian, NoiseSchedule, bound, to_unit
from diffusion.training.random import normal_per_image
from diffusion.training.tree import Shares
from diffusion.training.validation import Validation, evaluating


@pytest.fixture
def validation() -> Validation:
    source = torch.Generator().manual_seed(0)
    x_0 = to_unit(torch.randint(0, 17, (10, 1, 8, 8), generator=source), 17)
    ids = [f"image-{i}" for i in range(10)]
    return Validation(x_0, ids, None, NoiseSchedule.cosine(20), [20, 10, 5], DiscretizedGaussian(17), 0, Shares(4))


def test_it_is_the_bound_of_the_respaced_process(validation: Validation, net: UNet) -> None:
    point = validation(net, net.state_dict(), step=5)
    net.eval()
    terms = bound(
        net,
        validation.schedule,
        validation.x_0,
        noise=lambda t, shape: normal_per_image(0, "validation", list(validation.ids), t, shape[1:]),
        decoder=validation.decoder,
        times=validation.times,
    )
    assert point.step == 5
    assert point.L_T == pytest.approx(float(terms.L_T.mean()))
    assert point.L_t_sum == pytest.approx(float(terms.L_t_sum.mean()), rel=1e-5)
    assert point.L_0 == pytest.approx(float(terms.L_0.mean()), rel=1e-5)
    assert point.total == pytest.approx(float(terms.total.mean()), rel=1e-5)


def test_it_measures_the_given_weights_and_leaves_the_network_alone(validation: Validation, net: UNet) -> None:
    net.train()
    torch.nn.init.normal_(net.tail.weight, std=0.1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    average = EMA(net, 0.9)
    own = validation(net, average.tensors, 1)
    average.tensors["tail.weight"].zero_()
    assert validation(net, average.tensors, 1) != own
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_dropout_is_off(validation: Validation, net: UNet) -> None:
    torch.nn.init.normal_(net.tail.weight, std=0.1)
    net.train()
    assert validation(net, net.state_dict(), 1) == validation(net, net.state_dict(), 1)


def test_the_mode_is_restored_after_an_error(net: UNet) -> None:
    net.train()
    modes = []

    def failing() -> None:
        with evaluating(net):
            modes.append(net.training)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert modes == [False]
    assert net.training


def test_fewer_images_than_shards(validation: Validation, net: UNet) -> None:
    few = replace(validation, x_0=validation.x_0[:2], ids=validation.ids[:2])
    assert few(net, net.state_dict(), 1).total > 0


def test_labels(validation: Validation) -> None:
    torch.manual_seed(0)
    net = UNet(8, 1, 8, (1,), classes=3)
    torch.nn.init.normal_(net.tail.weight, std=0.1)
    for block in net.modules():  # let the condition through: untrained blocks are their shortcut
        if hasattr(block, "conv_2"):
            torch.nn.init.normal_(block.conv_2.weight, std=0.1)
    y = torch.arange(10) % 3
    point = replace(validation, y=y)(net, net.state_dict(), 1)
    other = replace(validation, y=(y + 1) % 3)(net, net.state_dict(), 1)
    assert point != other


def test_labels_of_more_images_than_a_call_takes_rows(validation: Validation) -> None:
    """300 images in one shard: the network is called with 128 rows at a time, of which each has its own label."""
    torch.manual_seed(0)
    x_0, y = validation.x_0[:1].repeat(300, 1, 1, 1), torch.arange(300)
    many = replace(validation, x_0=x_0, ids=["same"] * 300, y=y, shares=Shares(1))
    seen = []

    class Noting(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            seen.extend(zip(t.tolist(), y.tolist(), strict=True))
            return x

    many(Noting(), {}, 1)
    assert sorted(seen) == [(t, label) for t in (5, 10, 20) for label in range(300)]
