"""Randomness as a function: every draw depends on (seed, stream, position) and on nothing else.

No generator lives across steps, in a checkpoint or per worker. A key is 128 bits of a BLAKE2b hash of the tuple, so the
same position gives the same numbers in any process, on any number of workers, after any number of restarts. (Python's
own `hash` is salted per process and cannot serve.)

On the CPU the numbers come from numpy's Philox, which takes the whole key: torch's CPU generator keeps 32 bits of a
seed, and among 100,000 images two would then probably share their noise.
"""

from collections.abc import Sequence
from hashlib import blake2b
from operator import index

import numpy as np
import torch
from torch import Tensor

Position = int | str


def key(seed: int, stream: str, *position: Position) -> int:
    """128-bit key of a position in a stream.

    Integers (numpy's are the same as Python's) and strings are told apart and lengths are written, so that no two
    tuples share their bytes.

    Raises:
        TypeError: something else, such as a float.
    """
    text = "/".join([str(index(seed)), *map(_named, (stream, *position))])
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "little")


def _named(position: Position) -> str:
    text = position if isinstance(position, str) else str(index(position))
    return f"{'str' if isinstance(position, str) else 'int'}{len(text)}:{text}"


def numbers(seed: int, stream: str, *position: Position) -> np.random.Generator:
    """A fresh generator of numpy's for one position, for draws on the CPU."""
    return np.random.Generator(np.random.Philox(key=key(seed, stream, *position)))


def generator(seed: int, stream: str, *position: Position, device: torch.device | str) -> torch.Generator:
    """A fresh generator of torch's for one position, for draws on a device that takes 64-bit seeds (CUDA)."""
    return torch.Generator(device).manual_seed(key(seed, stream, *position) % 2**63)


def normal_per_image(
    seed: int, stream: str, image_ids: Sequence[Position], step: int | Sequence[int], shape: Sequence[int]
) -> Tensor:
    """Standard normal noise for a batch of images, float32 (N, *shape), drawn image by image.

    The noise of an image depends on its id and the step only, so neither the batch size nor the number of workers
    changes it.

    Args:
        step: of all images, or one for each.
        shape: of one image, (C, H, W).
    """
    steps = [step] * len(image_ids) if isinstance(step, int) else step
    noise = np.empty((len(image_ids), *shape), np.float32)
    philox = np.random.Philox(0)
    draw = np.random.Generator(philox)
    state = philox.state
    for row, image_id, position in zip(noise, image_ids, steps, strict=True):
        k = key(seed, stream, image_id, position)
        state["state"] = {"counter": np.zeros(4, np.uint64), "key": np.array([k % 2**64, k >> 64], np.uint64)}
        philox.state = state  # a third of the cost of a new generator, and the same numbers
        draw.standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(noise)
