"""The content digest: are these the same weights? (Whether a file is intact is its own SHA-256's question.)"""

import json
from collections.abc import Mapping
from hashlib import sha256

import torch
from torch import Tensor


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, over (name, type, shape, bytes) of each tensor in the order of the names.

    It depends on neither the order of the mapping nor the device nor the memory format, and on every bit of every
    tensor. The bytes are little-endian, in row-major order.
    """
    digest = sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        # JSON escapes the newline that ends it, and with type and shape the number of bytes is known: no two contents
        # write the same stream.
        header = json.dumps([name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)])
        digest.update(header.encode() + b"\n")
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
