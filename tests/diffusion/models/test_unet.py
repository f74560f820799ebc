"""The U-Net: its size, its first output, its shapes, its gradients and what it refuses."""

import pytest
import torch
from torch import Tensor, nn

from diffusion.models import UNet

CIFAR10 = {
    "image_size": 32,
    "in_channels": 3,
    "channels": 128,
    "channel_multipliers": (1, 2, 2, 2),
    "blocks": 2,
    "attention_resolutions": (16,),
    "attention_heads": 1,
    "dropout": 0.1,
}


def tiny(**changes: object) -> UNet:
    """An 8x8 grey network with every kind of part; arguments can be changed one by one."""
    arguments: dict[str, object] = {
        "image_size": 8,
        "in_channels": 1,
        "channels": 8,
        "channel_multipliers": (1, 2),
        "blocks": 1,
        "attention_resolutions": (4,),
    }
    torch.manual_seed(0)
    return UNet(**{**arguments, **changes})  # type: ignore[arg-type]


def awake(net: UNet) -> UNet:
    """The network after training might have left it: nothing is zero."""
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net


def images(net: UNet, count: int) -> Tensor:
    return torch.randn(count, *net.architecture.shape, generator=torch.Generator().manual_seed(2))


def times(count: int) -> Tensor:
    return torch.arange(1, count + 1) * 37


def parameter_count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


class TestSize:
    def test_the_papers_cifar10_network_has_its_number_of_parameters(self) -> None:
        # Ho, Jain & Abbeel 2020, appendix B: "35.7 million"; exactly, by their code: 35,746,307.
        with torch.device("meta"):
            assert parameter_count(UNet(**CIFAR10)) == 35_746_307  # type: ignore[arg-type]

    def test_the_papers_256x256_network_has_its_number_of_parameters(self) -> None:
        # "the LSUN and CelebA-HQ models have 114 million": six levels, attention at 16.
        with torch.device("meta"):
            assert parameter_count(UNet(256, 3, 128, (1, 1, 2, 2, 4, 4), 2, (16,))) == 113_673_219

    def test_heads_and_dropout_cost_no_parameters(self) -> None:
        assert parameter_count(tiny()) == parameter_count(tiny(attention_heads=4, dropout=0.5))

    def test_classes_cost_one_vector_each(self) -> None:
        assert parameter_count(tiny(classes=10)) - parameter_count(tiny()) == 10 * 4 * 8


class TestOutput:
    def test_an_untrained_network_predicts_no_noise(self) -> None:
        net = tiny(dropout=0.1)
        assert torch.equal(net(images(net, 3), times(3)), torch.zeros(3, 1, 8, 8))

    def test_with_its_last_layer_awake_it_is_a_chain_of_shortcuts(self) -> None:
        # At first all residual branches and attentions are silent. Down and in the middle the shortcuts are identities;
        # on the way up the two blocks are 1x1 convolutions of what they get beside what was remembered.
        net = tiny(channel_multipliers=(1,), attention_resolutions=(8,), channels=4)
        net.tail.weight.data.normal_()
        x = images(net, 2)
        h = net.head(x)
        first, second = (block.residual.shortcut for block in net.up[0].blocks)
        expected = second(torch.cat((first(torch.cat((h, h), dim=1)), h), dim=1))
        flat = expected.flatten(1)  # four channels are one group
        mean, variance = (f(flat)[:, None, None, None] for f in (lambda v: v.mean(1), lambda v: v.var(1, correction=0)))
        normed = (expected - mean) / (variance + 1e-6).sqrt()
        assert torch.allclose(net(x, times(2)), net.tail(normed * normed.sigmoid()), atol=1e-5)

    @pytest.mark.parametrize(
        ("size", "in_channels", "channels", "multipliers", "attention"),
        [
            (8, 1, 8, (1, 2), (4,)),
            (8, 1, 8, (1, 1, 1, 1), (8, 4, 2, 1)),
            (28, 1, 4, (1, 2, 2), (14, 7)),
            (32, 3, 16, (1, 2, 2, 2), (16,)),
            (64, 3, 12, (1, 1, 2, 3), (8,)),
            (256, 3, 4, (1, 1, 2, 2, 4, 4), (16,)),
            (5, 2, 6, (1,), ()),
        ],
    )
    def test_it_is_shaped_like_the_image_from_8x8_grey_to_256x256_colour(
        self, size: int, in_channels: int, channels: int, multipliers: tuple[int, ...], attention: tuple[int, ...]
    ) -> None:
        net = awake(UNet(size, in_channels, channels, multipliers, blocks=2, attention_resolutions=attention))
        eps_hat = net(images(net, 2), times(2))
        assert eps_hat.shape == (2, in_channels, size, size)
        assert eps_hat.isfinite().all()
        assert eps_hat.std() > 0

    def test_it_depends_on_the_time_integer_or_floating(self) -> None:
        net = awake(tiny())
        x = images(net, 2)
        early, late = net(x, torch.tensor([1, 1])), net(x, torch.tensor([500, 500]))
        assert not torch.allclose(early, late)
        assert torch.equal(late, net(x, torch.tensor([500.0, 500.0])))
        assert torch.equal(late, net(x, torch.tensor([500.0, 500.0], dtype=torch.float64)))
        between = net(x, torch.tensor([500.5, 500.5]))
        assert not torch.equal(late, between)

    def test_it_depends_on_the_label(self) -> None:
        net = awake(tiny(classes=3))
        x, t = images(net, 2), times(2)
        assert not torch.allclose(net(x, t, torch.tensor([0, 1])), net(x, t, torch.tensor([0, 2])))

    def test_the_label_of_one_image_is_its_own(self) -> None:
        net = awake(tiny(classes=3)).eval()
        x, t = images(net, 2), times(2)
        a, b = net(x, t, torch.tensor([0, 1])), net(x, t, torch.tensor([0, 2]))
        assert torch.allclose(a[0], b[0], atol=1e-6)
        assert not torch.allclose(a[1], b[1], atol=1e-3)

    def test_an_image_is_not_seen_by_the_others_of_its_batch(self) -> None:
        net = awake(tiny(attention_resolutions=(8, 4))).double().eval()
        x, t = images(net, 5).double(), times(5)
        together = net(x, t)
        alone = torch.cat([net(x[i : i + 1], t[i : i + 1]) for i in range(5)])
        assert torch.allclose(together, alone, rtol=0, atol=1e-12)
        changed = x.clone()
        changed[0] = 100.0
        assert torch.allclose(net(changed, t)[1:], together[1:], rtol=0, atol=1e-12)

    def test_every_pixel_sees_every_other(self) -> None:
        net = awake(tiny()).double()
        x = images(net, 1).double().requires_grad_()
        net(x, times(1))[0, 0, 0, 0].backward()
        assert x.grad is not None
        assert (x.grad != 0).all()

    def test_the_memory_format_changes_rounding_only(self) -> None:
        net = awake(tiny()).double()
        x, t = images(net, 3).double(), times(3)
        expected = net(x, t)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        got = net(x.contiguous(memory_format=torch.channels_last), t)
        assert torch.allclose(got, expected, rtol=0, atol=1e-12)

    def test_dropout_is_drawn_in_training_only(self) -> None:
        net = awake(tiny(dropout=0.5))
        x, t = images(net, 2), times(2)
        torch.manual_seed(3)
        first, second = net(x, t), net(x, t)
        assert not torch.equal(first, second)
        torch.manual_seed(3)
        assert torch.equal(net(x, t), first)
        net.eval()
        assert torch.equal(net(x, t), net(x, t))

    def test_it_runs_in_bfloat16(self) -> None:
        net = awake(tiny(classes=2)).bfloat16()
        eps_hat = net(images(net, 2).bfloat16(), times(2), torch.tensor([0, 1]))
        assert eps_hat.dtype == torch.bfloat16
        assert eps_hat.isfinite().all()


class TestGradient:
    @pytest.mark.parametrize("classes", [None, 3])
    def test_every_parameter_of_a_network_in_training_receives_one(self, classes: int | None) -> None:
        net = awake(tiny(classes=classes, blocks=2))
        y = None if classes is None else torch.tensor([0, 1, 2])
        net(images(net, 3), times(3), y).square().mean().backward()
        silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        assert silent == []

    def test_an_untrained_network_learns_its_last_layer_first(self) -> None:
        net = tiny()
        x = images(net, 3)
        (net(x, times(3)) - x).square().mean().backward()
        moved = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.any()}
        assert moved == {"tail.weight", "tail.bias"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"image_size": 9}, r"image_size 9 cannot be halved 1 times.* multiple of 2, for example 10"),
            ({"image_size": 28, "channel_multipliers": (1, 2, 2, 2)}, r"multiple of 8, for example 32"),
            ({"attention_resolutions": (16,)}, r"\[16\] do not occur.* \[8, 4\]"),
            ({"attention_resolutions": (4, 2, 3)}, r"\[2, 3\] do not occur.* \[8, 4\]"),
            ({"attention_heads": 3}, r"attention_heads 3 must divide the 16 channels"),
            ({"attention_heads": 3, "attention_resolutions": ()}, r"attention_heads 3 must divide the 16 channels"),
            (
                {"attention_heads": 16, "attention_resolutions": (8, 4)},
                r"attention_heads 16 must divide the 8 channels",
            ),
            ({"channels": 7}, r"channels must be even and 4 or more.* got 7"),
            ({"channels": 2}, r"channels must be even and 4 or more.* got 2"),
            ({"channel_multipliers": ()}, r"at least one level"),
            ({"channel_multipliers": (1, 0)}, r"channel_multipliers\[1\] must be 1 or more, got 0"),
            ({"blocks": 0}, r"blocks must be 1 or more, got 0"),
            ({"in_channels": 0}, r"in_channels must be 1 or more"),
            ({"attention_heads": 0}, r"attention_heads must be 1 or more"),
            ({"classes": 0}, r"classes must be 1 or more"),
            ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1\.0"),
        ],
    )
    def test_a_network_that_cannot_be(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            tiny(**changes)

    def test_heads_need_not_divide_channels_without_attention(self) -> None:
        tiny(attention_heads=16)  # 8 channels at full resolution, 16 where there is attention

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (None, r"labels y, a LongTensor of shape \(2,\) in 0\.\.2, got none"),
            (torch.tensor([0]), r"got torch.int64 \(1,\)"),
            (torch.tensor([0.0, 1.0]), r"got torch.float32 \(2,\)"),
            (torch.tensor([0, 3]), r"got 0\.\.3"),
            (torch.tensor([-1, 2]), r"got -1\.\.2"),
        ],
    )
    def test_labels_that_are_missing_or_cannot_be(self, labels: Tensor | None, message: str) -> None:
        net = tiny(classes=3)
        with pytest.raises(ValueError, match=message):
            net(images(net, 2), times(2), labels)

    def test_labels_given_to_a_network_without_classes(self) -> None:
        net = tiny()
        with pytest.raises(ValueError, match="without classes"):
            net(images(net, 2), times(2), torch.tensor([0, 1]))

    def test_images_of_another_shape(self) -> None:
        with pytest.raises(ValueError, match=r"\(N, 1, 8, 8\), got \(2, 3, 8, 8\)"):
            tiny()(torch.zeros(2, 3, 8, 8), times(2))

    def test_another_number_of_times(self) -> None:
        with pytest.raises(ValueError, match=r"t must be shaped \(2,\).* got \(1,\)"):
            tiny()(torch.zeros(2, 1, 8, 8), times(1))
