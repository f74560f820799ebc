"""Randomness as a function: every draw depends on (seed, stream, position) and on nothing else.

No generator lives across steps, in a checkpoint or per worker. A key is 64 bits of a BLAKE2b hash of the tuple and
seeds a fresh generator, so the same position gives the same numbers in any process, on any number of workers, after any
number of restarts. (Python's own `hash` is salted per process and cannot serve.)
"""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

Position = int | str


def key(seed: int, stream: str, *position: Position) -> int:
    """64-bit key of a position in a stream.

    Integers and strings are told apart and lengths are written, so that no two tuples share their bytes.
    """
    text = "/".join([str(seed), *(f"{type(p).__name__}{len(str(p))}:{p}" for p in (stream, *position))])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(seed: int, stream: str, *position: Position, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one position. CPU and CUDA generators give different numbers for the same key."""
    return torch.Generator(device).manual_seed(key(seed, stream, *position))


def normal_per_image(seed: int, stream: str, image_ids: Sequence[Position], step: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise for a batch of images, float32 (N, *shape), drawn image by image.

    The noise of an image depends on its id and the step only, so neither the batch size nor the number of workers
    changes it. `shape` is that of one image, (C, H, W).
    """
    noise = torch.empty(len(image_ids), *shape)
    for row, image_id in zip(noise, image_ids, strict=True):
        row.normal_(generator=generator(seed, stream, image_id, step))
    return noise
