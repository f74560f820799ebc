"""The weights of diffusers' UNet2DModel under their names there, and under ours. Nothing is computed but the shift."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from diffusion.interop.shift import told_t, told_t_minus_1

TOLD_TIME = "condition.time.dense_1.weight"
"""Ours, the only one that the shift of the time changes."""

_RULES = (
    (r"^condition\.time\.dense_", "time_embedding.linear_"),
    (r"^condition\.label\.", "class_embedding."),
    (r"^head\.", "conv_in."),
    (r"^norm\.", "conv_norm_out."),
    (r"^tail\.", "conv_out."),
    (r"^(down|up)\.(\d+)\.(?:down|up)sample\.", r"\1_blocks.\2.\1samplers.0."),
    (r"^(down|up)\.(\d+)\.blocks\.(\d+)\.residual\.", r"\1_blocks.\2.resnets.\3."),
    (r"^(down|up)\.(\d+)\.blocks\.(\d+)\.attention\.", r"\1_blocks.\2.attentions.\3."),
    (r"^middle\.(\d+)\.residual\.", r"mid_block.resnets.\1."),
    (r"^middle\.(\d+)\.attention\.", r"mid_block.attentions.\1."),
    (r"\.(norm|conv)_(1|2)\.", r".\1\2."),
    (r"\.condition\.", ".time_emb_proj."),
    (r"\.shortcut\.", ".conv_shortcut."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d+)\.projection\.", r"\1.to_out.0."),
)
"""From our names to theirs, one after the other."""

_BEFORE_2023 = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))
"""What the layers of an attention were called in older files, and are now."""


def to_theirs(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of our network under their names, with a first layer that is told t - 1."""
    found: dict[str, Tensor] = {}
    for name, value in ours.items():
        parts = value.chunk(3) if ".qkv." in name else (value,)
        found |= zip(_names(name), parts, strict=True)
    found[_names(TOLD_TIME)[0]] = told_t_minus_1(ours[TOLD_TIME]).to(ours[TOLD_TIME].dtype)
    return found


def to_ours(theirs: Mapping[str, Tensor], names: Mapping[str, object], *, cosines_first: bool) -> dict[str, Tensor]:
    """Their tensors as those of our network, float32.

    Args:
        theirs: with today's names, see `renamed`; complete.
        names: of our tensors.
        cosines_first: whether their embedding of the time begins with the cosines.
    """
    found = {name: torch.cat([theirs[part].float() for part in _names(name)]) for name in names}
    weight = found[TOLD_TIME]
    found[TOLD_TIME] = told_t(torch.cat(weight.chunk(2, dim=1)[::-1], dim=1) if cosines_first else weight).float()
    return found


def renamed(name: str) -> str:
    """A tensor's name today, from that in an older file."""
    for before, now in _BEFORE_2023:
        name = re.sub(rf"(attentions\.\d+)\.{before}\.", rf"\1.{now}.", name)
    return name


def _names(ours: str) -> tuple[str, ...]:
    """Theirs for one of our tensors: three for the layer that makes queries, keys and values."""
    name = ours
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return tuple(name.replace(".qkv.", f".to_{part}.") for part in "qkv") if ".qkv." in name else (name,)
