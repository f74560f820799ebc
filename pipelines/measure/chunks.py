"""Cutting images into the chunks that tasks work on, and watching the tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from pipelines.cluster.parallel import Mapper
from pipelines.report.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def chunks(total: int, size: int) -> list[range]:
    """range(total) cut into pieces of `size`, the last one shorter."""
    if size < 1:
        raise ValueError(f"a chunk has one image or more, got {size}")
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def watched(
    title: str,
    mapper: Mapper,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    sizes: Sequence[int],
    start: int = 0,
) -> Iterator[tuple[int, Result]]:
    """`mapper` with a progress bar in images.

    Args:
        sizes: how many images each item stands for.
        start: images that were done before.
    """
    done = start
    with progress(title, total=start + sum(sizes), unit="image", start=start) as bar:

        def on_done(index: int) -> None:
            nonlocal done
            done += sizes[index]
            bar.update(done)

        yield from mapper(function, items, on_done)
