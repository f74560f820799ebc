"""Randomness is a function of (seed, stream, position): repeatable anywhere, without collisions, standard normal."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from diffusion.training.random import generator, key, normal_per_image, numbers


def test_a_position_has_one_key_and_neighbours_have_others():
    positions = [
        (seed, stream, p) for seed in (0, 1, 2**32, 2**63 - 1) for stream in ("a", "b") for p in (0, 1, "0", 10)
    ]
    keys = {key(seed, stream, p) for seed, stream, p in positions}
    assert len(keys) == len(positions)
    assert key(1, "a", 2, 3) != key(1, "a", 23)
    assert key(1, "ab", "c") != key(1, "a", "bc")


def test_numpys_integers_are_integers():
    for i in (np.int64(3), np.uint8(3)):
        assert key(0, "a", i) == key(0, "a", 3) != key(0, "a", "3")
    with pytest.raises(TypeError):
        key(0, "a", 3.0)


def test_the_key_does_not_depend_on_the_process():
    code = "from diffusion.training.random import key; print(key(7, 'train', 3, 'x'))"
    for salt in ("0", "1"):
        printed = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": salt}, capture_output=True, check=True
        ).stdout
        assert int(printed) == key(7, "train", 3, "x")


def test_noise_belongs_to_the_image_not_to_the_batch():
    ids = ["c", "a", "b"]
    together = normal_per_image(5, "s", ids, 9, (1, 4, 4))
    for row, image_id in zip(together, ids, strict=True):
        assert torch.equal(normal_per_image(5, "s", [image_id], 9, (1, 4, 4))[0], row)
        alone = numbers(5, "s", image_id, 9).standard_normal((1, 4, 4), dtype=np.float32)
        assert np.array_equal(row.numpy(), alone)


def test_all_bits_of_the_key_count():
    """torch's CPU generator would keep 32 of them: seeds 5 and 5 + 2^32 give the same numbers there."""
    low, high = (np.random.Generator(np.random.Philox(key=k)).random() for k in (5, 5 + 2**32))
    assert low != high
    assert torch.rand(1, generator=torch.Generator().manual_seed(5)) == torch.rand(
        1, generator=torch.Generator().manual_seed(5 + 2**32)
    )


def test_noise_is_standard_normal():
    noise = normal_per_image(0, "law", range(2000), 0, (1, 8, 8)).double()
    n = noise.numel()
    assert noise.mean().item() == pytest.approx(0, abs=4 / n**0.5)
    assert noise.var().item() == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    assert (noise[:-1] * noise[1:]).mean().item() == pytest.approx(0, abs=4 / n**0.5)  # between images


def test_torch_generators_are_seeded_by_the_key():
    one, other = (torch.rand(3, generator=generator(1, "s", p, device="cpu")) for p in (0, 1))
    assert not torch.equal(one, other)
    assert torch.equal(one, torch.rand(3, generator=generator(1, "s", 0, device="cpu")))
