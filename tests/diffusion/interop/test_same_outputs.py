"""The same outputs from the same weights in both libraries, at times that differ by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion.interop import from_diffusers, to_diffusers
from diffusion.interop.shift import told_t, told_t_minus_1
from diffusion.models.embedding import sinusoidal_embedding
from diffusion.models.saved import SavedModel, content_digest, load_model, save_model
from diffusion.process import NoiseSchedule
from diffusion.samplers import Ancestral, sample
from tests.diffusion.interop.conftest import network, theirs

CIFAR: dict[str, Any] = {
    "sample_size": 32,
    "block_out_channels": [128, 256, 256, 256],
    "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
"""google/ddpm-cifar10-32, in what the small network differs from it."""
CELEBA: dict[str, Any] = {
    "sample_size": 256,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
}
"""google/ddpm-celebahq-256 and ddpm-church-256."""


def agree(their_net: diffusers.UNet2DModel, our_net: torch.nn.Module, label: int | None = None) -> None:
    c, side = our_net.architecture.in_channels, our_net.architecture.image_size
    t = torch.tensor([10, 1000] if side > 32 else [1, 2, 10, 300, 999, 1000])
    x = torch.randn(len(t), c, side, side, generator=torch.Generator().manual_seed(2))
    y = None if label is None else torch.full_like(t, label)
    with torch.no_grad():
        wanted = their_net(x, t - 1, class_labels=y).sample
        torch.testing.assert_close(our_net(x, t, y), wanted, rtol=0, atol=1e-5)
    assert wanted.std() > 0.1


def test_the_shift_of_the_time_is_a_rotation() -> None:
    """In float64, where the angles are not rounded."""
    weight, t = torch.randn(5, 16, dtype=torch.float64), torch.arange(1, 20)
    torch.testing.assert_close(told_t_minus_1(told_t(weight)), weight, rtol=1e-14, atol=1e-15)
    before, after = sinusoidal_embedding(t - 1, 16).double(), sinusoidal_embedding(t, 16).double()
    torch.testing.assert_close(after @ told_t(weight).T, before @ weight.T, rtol=0, atol=2e-5)
    assert (after @ weight.T - before @ weight.T).abs().max() > 0.1


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"flip_sin_to_cos": True},
        {"attention_head_dim": 32},
        {"num_class_embeds": 5},
        {"in_channels": 1, "out_channels": 1, "sample_size": [8, 8], "dropout": 0.1},
        {"block_out_channels": [128, 256], "layers_per_block": 2},
        pytest.param(CIFAR, marks=pytest.mark.slow),
        pytest.param(CELEBA, marks=pytest.mark.slow),
    ],
    ids=["small", "cosines first", "heads", "classes", "grey", "wider below", "cifar10-32", "celebahq-256"],
)
def test_an_imported_network(tmp_path: Path, config: dict[str, Any]) -> None:
    net = theirs(tmp_path, **config)
    found = from_diffusers(tmp_path)
    assert found.architecture.dropout == config.get("dropout", 0.0)
    agree(net, network(found), 3 if "num_class_embeds" in config else None)


def test_names_of_older_files(tmp_path: Path) -> None:
    """Public checkpoints of 2022 call the layers of an attention so, and diffusers still reads them."""
    net = theirs(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(path)
    for now, before in older.items():
        tensors = {name.replace(f".{now}.", f".{before}."): value for name, value in tensors.items()}
    assert any(".query." in name for name in tensors)
    save_file(tensors, path, {"format": "pt"})
    agree(net, network(from_diffusers(tmp_path)))


def test_weights_in_half_the_precision(tmp_path: Path) -> None:
    net = theirs(tmp_path)
    net.half().save_pretrained(tmp_path)
    agree(net.float(), network(from_diffusers(tmp_path)))


@pytest.mark.parametrize("architecture", [{}, {"attention_heads": 4, "learned_variance": True}, {"classes": 3}])
def test_an_exported_network(tmp_path: Path, saved: Callable[..., SavedModel], architecture: dict[str, Any]) -> None:
    ours = saved(**architecture)
    to_diffusers(ours, tmp_path / "theirs")
    net = diffusers.UNet2DModel.from_pretrained(tmp_path / "theirs", subfolder="unet")
    agree(net.eval(), ours.net, 2 if ours.classes else None)


@pytest.mark.parametrize(("predicts", "learned_variance"), [("eps", True), ("v", False), ("x_0", False)])
def test_a_whole_pipeline_draws_the_same_images(
    tmp_path: Path,
    saved: Callable[..., SavedModel],
    monkeypatch: pytest.MonkeyPatch,
    predicts: str,
    learned_variance: bool,
) -> None:
    ours = saved(NoiseSchedule.linear(5), predicts, learned_variance=learned_variance)
    to_diffusers(ours, tmp_path / "theirs")
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "theirs")
    pipeline.set_progress_bar_config(disable=True)
    noises = torch.randn(6, 1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    steps = iter(noises)
    for place in ("pipelines.ddpm.pipeline_ddpm", "schedulers.scheduling_ddpm"):
        monkeypatch.setattr(f"diffusers.{place}.randn_tensor", lambda *_, **__: next(steps))
    wanted = pipeline(batch_size=1, num_inference_steps=5, output_type="pt").images
    how = Ancestral("learned" if learned_variance else "small")
    drawn = sample(
        ours.net, ours.schedule, noises[0], how, noise=lambda k, _: noises[k + 1], clip_x0=True, target=ours.predicts
    )
    torch.testing.assert_close((drawn / 2 + 0.5).clamp(0, 1), wanted, rtol=0, atol=1e-4)
    assert wanted.std() > 0.05


@pytest.mark.parametrize("schedule", [NoiseSchedule.linear(), NoiseSchedule.cosine(50)], ids=["linear", "cosine"])
def test_there_and_back_is_the_same_model(
    tmp_path: Path, saved: Callable[..., SavedModel], schedule: NoiseSchedule
) -> None:
    ours = saved(schedule)
    to_diffusers(ours, tmp_path / "theirs")
    back = from_diffusers(tmp_path / "theirs")
    assert back.architecture == ours.net.architecture
    assert content_digest(back.weights) == content_digest(ours.net.state_dict())
    digest = save_model(
        tmp_path / "back",
        architecture=back.architecture.to_json(),
        ema=back.weights,
        raw=back.weights,
        schedule=back.schedule,
        levels=256,
        card=back.card,
        predicts=back.predicts,
    )
    assert digest == ours.digest == load_model(tmp_path / "back").digest


def test_weights_that_were_trained_on_there_are_theirs(tmp_path: Path, saved: Callable[..., SavedModel]) -> None:
    """The layer as it was is left beside them, and no longer counts."""
    to_diffusers(saved(), tmp_path)
    net = diffusers.UNet2DModel.from_pretrained(tmp_path, subfolder="unet").eval()
    with torch.no_grad():
        net.time_embedding.linear_1.weight += 0.01
    net.save_pretrained(tmp_path / "unet")
    assert (tmp_path / "unet/told_t.safetensors").is_file()
    agree(net, network(from_diffusers(tmp_path)))
