from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusion.models import EMA, UNet
from diffusion.process import BoundTerms, DiscretizedGaussian, NoiseSchedule, bound, to_unit
from diffusion.training.points import BoundPoint
from diffusion.training.random import normal_per_image, numbers
from diffusion.training.tree import Shares
from diffusion.training.validation import Validation, evaluating


@pytest.fixture
def validation() -> Validation:
    source = torch.Generator().manual_seed(0)
    x_0 = to_unit(torch.randint(0, 17, (10, 1, 8, 8), generator=source), 17)
    ids = [f"image-{i}" for i in range(10)]
    return Validation(x_0, ids, None, NoiseSchedule.cosine(20), 5, DiscretizedGaussian(17), 0, Shares(4), bins=3)


def exact(validation: Validation, net: UNet, **how: str) -> BoundTerms:
    """The bound of the same images with the same noise, every time visited."""
    return bound(
        net,
        validation.schedule,
        validation.x_0,
        noise=lambda t, shape: normal_per_image(0, "validation", list(validation.ids), t, shape[1:]),
        decoder=validation.decoder,
        **how,  # type: ignore[arg-type]
    )


def test_it_estimates_the_exact_bound(validation: Validation, net: UNet) -> None:
    """The times of an image depend on the seed, the noise at a time not: over seeds the mean is that of `bound`."""
    net.eval()
    terms = exact(validation, net)

    def point(seed: int) -> BoundPoint:
        one = replace(validation, shares=Shares(1))
        drawn = [numbers(seed, "times", image).random(4) for image in one.ids]
        one.__dict__["_uniforms"] = torch.from_numpy(np.stack(drawn))
        return one(net, net.state_dict(), step=5)

    points = [point(seed) for seed in range(60)]
    for name in ("L_T", "L_0"):
        for each in points:
            assert getattr(each, name) == pytest.approx(float(getattr(terms, name).mean()), rel=1e-5)
    sums = np.array([each.L_t_sum for each in points])
    assert abs(sums.mean() - float(terms.L_t_sum.mean())) < 4 * sums.std() / 60**0.5
    assert sums.std() > 0
    assert points[0].step == 5
    assert points[0].total_se > 0


@pytest.mark.parametrize(("target", "learned"), [("eps", True), ("v", False), ("x_0", True)])
def test_it_is_of_what_the_network_predicts(validation: Validation, target: str, learned: bool) -> None:
    """L_0 is exact, and with this decoder depends on the target and on the variance."""
    torch.manual_seed(0)
    net = UNet(8, 1, 8, (1,), blocks=1, learned_variance=learned).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    how = {"target": target, "variance": "learned" if learned else "small"}
    found = replace(validation, **how)(net, net.state_dict(), step=1)  # type: ignore[arg-type]
    assert found.L_0 == pytest.approx(float(exact(validation, net, **how).L_0.mean()), rel=1e-5)


def test_it_is_the_estimate_of_all_images_at_once(validation: Validation, net: UNet) -> None:
    """Cut in four chunks or in one."""
    cut, whole = validation(net, net.state_dict(), 1), replace(validation, shares=Shares(1))(net, net.state_dict(), 1)
    assert list(cut.numbers()) == list(whole.numbers())
    assert list(cut.numbers().values()) == pytest.approx(list(whole.numbers().values()), rel=1e-5)
    assert sum(cut.bins) == pytest.approx(cut.L_t_sum, rel=1e-12)
    assert len(cut.bins) == 3


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
    assert sorted(label for _, label in seen) == [label for label in range(300) for _ in range(5)]
    assert sorted(label for t, label in seen if t == 1) == list(range(300))
