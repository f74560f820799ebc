"""The task of gang.py that sums in a tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion.training.tree import Shares, TreeSum


def leaf_values(v: int, leaves: int) -> Tensor:
    """Of very different size, so that the order of a sum changes its bits."""
    return torch.randn(1000, generator=torch.Generator().manual_seed(v)) * 10.0 ** (v % 5 - leaves % 3)


def nested(parts: list[Tensor]) -> Tensor:
    half = len(parts) // 2
    return parts[0] if len(parts) == 1 else nested(parts[:half]) + nested(parts[half:])


def tree(rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """The tree sum on these workers against its definition, for every number of leaves that they can share; made whole,
    and in parts of which some have fewer elements than there are workers."""
    wrong = []
    for leaves in (n for n in (1, 2, 4, 8, 16, 32) if n >= workers):
        parts = [leaf_values(v, leaves) for v in range(leaves)]
        shares = Shares(leaves, workers)
        buffers = [torch.empty(1000) for _ in range(shares.buffers)]
        asked: list[int] = []

        def leaf(v: int, i: int, *, parts: list[Tensor] = parts, asked: list[int] = asked, out: Any = buffers) -> None:
            asked.append(v)
            out[i].copy_(parts[v])

        TreeSum(shares, rank, buffers)(leaf)
        if not torch.equal(buffers[0], nested(parts)) or asked != list(shares.of(rank)):
            wrong.append(leaves)
        if shares.doubling:
            total = TreeSum(shares, rank, buffers)
            total.begin(leaf)
            leaf(shares.of(rank)[-1], total.last)
            for part in (slice(0, 1), slice(1, 4), slice(4, 11), slice(11, 1000)):
                total.finish(part)
            if not torch.equal(buffers[0], nested(parts)):
                wrong.append(-leaves)
    return {"wrong": wrong}
