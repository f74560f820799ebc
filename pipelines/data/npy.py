"""Where an image is in a shard: after a header whose length is known before it is read."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from pipelines.data.sources import Shape


def header(count: int, shape: Shape) -> bytes:
    """What a .npy file of `count` uint8 images of this shape begins with; all after it are pixels."""
    content = BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
    return content.getvalue()
