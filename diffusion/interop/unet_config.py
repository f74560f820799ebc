"""config.json of diffusers' UNet2DModel and our `Architecture`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from diffusion.models.architecture import Architecture
from diffusion.models.contents import empty_network

FILE = "config.json"

_ONLY: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "freq_shift": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (0,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "norm_eps": (1e-6,),
    "resnet_time_scale_shift": ("default",),
    "add_attention": (True,),
    "class_embed_type": (None,),
}
"""Fields that our network has one answer to, the first being what is written."""

_WHEN_ABSENT: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
"""What UNet2DModel takes a field for that its config.json does not have."""


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of a config.json, with theirs for those that it leaves out.

    Raises:
        ValueError: it is of another class, or has a field that is unknown here.
    """
    if (kind := config.get("_class_name")) != "UNet2DModel":
        raise _refused("_class_name", kind, "UNet2DModel")
    given = {name: value for name, value in config.items() if not name.startswith("_")}
    if unknown := sorted(set(given) - set(_WHEN_ABSENT)):
        raise ValueError(
            f"{FILE}: {unknown[0]} = {given[unknown[0]]!r} is unknown here, and may mean something to the network: "
            "take it out if it does not"
        )
    return _WHEN_ABSENT | given


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The network of a `complete` config.

    Raises:
        ValueError: our network cannot be this one; the message names the field, what it is and what would do.
    """
    for name, values in _ONLY.items():
        if config[name] not in values:
            raise _refused(name, config[name], repr(values[0]))
    widths, sides = config["block_out_channels"], _sides(config)
    attentive = _attentive(config)
    if wrong := [width for width in widths if width % widths[0]]:
        raise _refused("block_out_channels", widths, f"multiples of the first, {widths[0]}; {wrong[0]} is none")
    if config["time_embedding_dim"] not in (None, 4 * widths[0]):
        raise _refused("time_embedding_dim", config["time_embedding_dim"], f"{4 * widths[0]} or null")
    if config["out_channels"] not in (config["in_channels"], 2 * config["in_channels"]):
        wanted = f"{config['in_channels']}, or {2 * config['in_channels']} for a learned variance"
        raise _refused("out_channels", config["out_channels"], wanted)
    a = Architecture(
        image_size=sides[0],
        in_channels=config["in_channels"],
        channels=widths[0],
        channel_multipliers=tuple(width // widths[0] for width in widths),
        blocks=config["layers_per_block"],
        attention_resolutions=tuple(side for side, yes in zip(sides, attentive, strict=True) if yes),
        attention_heads=_heads(config, attentive),
        dropout=config["dropout"],
        classes=config["num_class_embeds"],
        learned_variance=config["out_channels"] == 2 * config["in_channels"],
    )
    groups = _groups(a)
    for name, value in (("norm_num_groups", config["norm_num_groups"]), ("attn_norm_num_groups", _middle(config))):
        if {value} != groups:
            raise _refused(name, value, f"{sorted(groups)}, the groups that our network has at these widths")
    return a


def config_of(a: Architecture) -> dict[str, Any]:
    """The config of our network.

    Raises:
        ValueError: it has something that UNet2DModel does not; the message names it.
    """
    groups = _groups(a)
    attentive = [side in a.attention_resolutions for side in a.resolutions]
    widths = {w for w, yes in zip(a.widths, attentive, strict=True) if yes} | {a.widths[-1]}
    lacking = {
        "fourier_features": (a.fourier_features, not a.fourier_features, "()"),
        "null_label": (a.null_label, not a.null_label, "False"),
        "channel_multipliers": (a.channel_multipliers, a.channel_multipliers[0] == 1, "1 as the first"),
        "attention_heads": (a.attention_heads, a.attention_heads == 1 or len(widths) == 1, "1, or one attentive width"),
        "channels": (a.channels, len(groups) == 1, f"as many groups in each normalisation, not {sorted(groups)}: 128"),
    }
    for name, (got, fits, wanted) in lacking.items():
        if not fits:
            raise ValueError(f"UNet2DModel cannot hold this network: {name} is {got}, wanted {wanted}")
    return {
        "_class_name": "UNet2DModel",
        **_WHEN_ABSENT,
        **{name: values[0] for name, values in _ONLY.items()},
        "sample_size": a.image_size,
        "in_channels": a.in_channels,
        "out_channels": a.out_channels,
        "flip_sin_to_cos": False,
        "down_block_types": ["AttnDownBlock2D" if yes else "DownBlock2D" for yes in attentive],
        "up_block_types": ["AttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attentive)],
        "block_out_channels": list(a.widths),
        "layers_per_block": a.blocks,
        "dropout": a.dropout,
        "attention_head_dim": None if a.attention_heads == 1 else a.widths[-1] // a.attention_heads,
        "norm_num_groups": groups.pop(),
        "num_class_embeds": a.classes,
    }


def _sides(config: Mapping[str, Any]) -> list[int]:
    """Of the feature maps, from full resolution downwards."""
    size = config["sample_size"]
    side = size[0] if isinstance(size, list) and len(size) == 2 and size[0] == size[1] else size
    if not isinstance(side, int):
        raise _refused("sample_size", size, "the side of the images, which are squares, in pixels")
    return [side >> level for level in range(len(config["block_out_channels"]))]


def _attentive(config: Mapping[str, Any]) -> list[bool]:
    """Whether each level has self-attention, from full resolution downwards."""
    levels = len(config["block_out_channels"])
    for name, kinds in (
        ("down_block_types", ("DownBlock2D", "AttnDownBlock2D")),
        ("up_block_types", ("UpBlock2D", "AttnUpBlock2D")),
    ):
        if len(config[name]) != levels or not set(config[name]) <= set(kinds):
            raise _refused(name, config[name], f"{levels} of {' and '.join(kinds)}")
    down = [kind == "AttnDownBlock2D" for kind in config["down_block_types"]]
    up = ["AttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(down)]
    if list(config["up_block_types"]) != up:
        raise _refused("up_block_types", config["up_block_types"], f"{up}, the way down mirrored")
    return down


def _heads(config: Mapping[str, Any], attentive: list[bool]) -> int:
    """The number of heads, which UNet2DModel states by their width; the middle has them always."""
    widths = config["block_out_channels"]
    used = {width for width, yes in zip(widths, attentive, strict=True) if yes} | {widths[-1]}
    wide = config["attention_head_dim"]
    if wide is None:
        return 1
    if len({width / wide for width in used}) > 1 or widths[-1] % wide:
        wanted = f"null, or a divisor of {sorted(used)} with one quotient: our network has as many heads everywhere"
        raise _refused("attention_head_dim", wide, wanted)
    return int(widths[-1] // wide)


def _middle(config: Mapping[str, Any]) -> int:
    """Groups in the attention of the middle."""
    own = config["attn_norm_num_groups"]
    return int(config["norm_num_groups"] if own is None else own)


def _groups(a: Architecture) -> set[int]:
    """The numbers of groups in the normalisations of our network."""
    return {part.num_groups for part in empty_network(a).modules() if isinstance(part, nn.GroupNorm)}


def _refused(name: str, got: object, wanted: str) -> ValueError:
    return ValueError(f"{FILE}: {name} is {got!r}, and our network can only be one with {wanted}")
