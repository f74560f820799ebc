"""A set of images as its features describe it: the moments of all, and the features of the first ones on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile

import numpy as np

from diffusion.evaluation import Moments
from pipelines.cluster.parallel import Mapper
from pipelines.measure.features import Chunk, Extraction, Features, extracted

_ROWS = 4096
"""Whose moments are taken together: merging those of fewer images would cost as much as taking them."""


@dataclass(frozen=True, eq=False)
class Described:
    """What is known of a set of images."""

    moments: Moments
    """Of the features of all images."""
    features: Features
    """(m, d), of the first m images; a memory map."""


def describe(
    extraction: Extraction,
    total: int,
    read: Callable[[range], Chunk],
    mapper: Mapper,
    keep: int | None = None,
) -> Described:
    """Compute the features of `total` images, which `read` gives chunk by chunk, once.

    Memory does not depend on the number of images: features go to a temporary file (in the folder that TMPDIR names)
    that has no name and ends with the process, and moments are summed in float64.

    Args:
        keep: of how many images, from the first on, the features are kept; None for all.
    """
    kept = total if keep is None else min(keep, total)
    with TemporaryFile() as file:
        written = 0

        def passing(parts: Iterable[Features]) -> Iterator[Features]:
            nonlocal written
            for features in parts:
                file.write(features[: kept - written].tobytes())
                written = min(kept, written + len(features))
                yield features

        found = extracted(extraction, total, read, mapper)
        moments = Moments.pooled(map(Moments.of, _joined(passing(found))))
        file.flush()
        shape = (kept, len(moments.mean))
        return Described(moments, np.memmap(file, dtype=np.float32, mode="r", shape=shape))


def moments_of(features: Features) -> Moments:
    """Of features on the disk, a part at a time."""
    return Moments.pooled(Moments.of(features[start : start + _ROWS]) for start in range(0, len(features), _ROWS))


def _joined(parts: Iterable[Features]) -> Iterator[Features]:
    """The same features in blocks of `_ROWS` or a few more."""
    waiting: list[Features] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= _ROWS:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
