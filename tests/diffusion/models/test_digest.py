"""The content digest: what changes it and what does not."""

import struct
from hashlib import sha256

import pytest
import torch
from torch import Tensor

from diffusion.models.digest import content_digest


def tensors() -> dict[str, Tensor]:
    return {"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor(7), "c": torch.zeros(0, 3).half()}


def test_it_is_the_sha256_of_names_types_shapes_and_bytes() -> None:
    stream = b'["a", "float32", [2, 2]]\n' + struct.pack("<4f", 1, 2, 3, 4)
    stream += b'["b", "int64", []]\n' + struct.pack("<q", 7)
    stream += b'["c", "float16", [0, 3]]\n'
    assert content_digest(tensors()) == sha256(stream).hexdigest()


def test_nothing_has_the_digest_of_nothing() -> None:
    assert content_digest({}) == sha256().hexdigest()


def test_the_order_of_the_mapping_does_not_matter() -> None:
    assert content_digest(dict(reversed(tensors().items()))) == content_digest(tensors())


def test_neither_memory_layout_nor_gradients_matter() -> None:
    image = torch.randn(2, 3, 4, 5)
    expected = content_digest({"x": image})
    assert content_digest({"x": image.contiguous(memory_format=torch.channels_last)}) == expected
    assert content_digest({"x": image.transpose(0, 3).contiguous().transpose(0, 3)}) == expected
    assert content_digest({"x": image.clone().requires_grad_()}) == expected


@pytest.mark.parametrize("bit", range(32))
def test_every_bit_matters(bit: int) -> None:
    changed = tensors()
    changed["a"].view(torch.int32)[1, 0] ^= -(2**31) if bit == 31 else 1 << bit
    assert content_digest(changed) != content_digest(tensors())


@pytest.mark.parametrize(
    "changed",
    [
        {"A": torch.zeros(4)},
        {"w": torch.zeros(2, 2)},
        {"w": torch.zeros(4, 1)},
        {"w": torch.zeros(4, dtype=torch.int32)},
        {"w": torch.zeros(2, dtype=torch.float64)},
        {"w": -torch.zeros(4)},
        {"w": torch.zeros(4), "v": torch.zeros(0)},
        {},
    ],
)
def test_name_type_shape_sign_and_presence_matter(changed: dict[str, Tensor]) -> None:
    assert content_digest(changed) != content_digest({"w": torch.zeros(4)})


def test_a_name_cannot_imitate_a_header() -> None:
    two = {"a": torch.zeros(0), "b": torch.zeros(0)}
    one = {'a", "float32", [0]]\n["b': torch.zeros(0)}
    assert content_digest(one) != content_digest(two)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.bool, torch.uint8])
def test_all_types_have_one(dtype: torch.dtype) -> None:
    assert len(content_digest({"x": torch.ones(3, dtype=dtype)})) == 64
