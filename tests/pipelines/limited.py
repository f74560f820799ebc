"""A process whose memory is limited while it draws, for test_fitting.py: `python limited.py MODEL FOLDER BATCH ROOM`.

ROOM is how much more address space (MB) than before a task may take; beyond it torch's own allocator fails.
"""

import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from pipelines.cluster.parallel import serial_map
from pipelines.measure.drawing import Drawing, draw
from pipelines.measure.model import find_model
from pipelines.measure.sampling import draw_samples
from pipelines.sections_of_sampling import SampleParams


def address_space() -> int:
    """Of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def limited(room: int) -> Callable[..., Iterator[tuple[int, object]]]:
    """Like `serial_map`, with the limit on each task."""

    def mapper(
        function: Callable[..., object], items: Iterable[object], on_done: Callable[[int], None] | None = None
    ) -> Iterator[tuple[int, object]]:
        def task(item: object) -> object:
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (address_space() + room, before[1]))
            try:
                return function(item)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)

        yield from serial_map(task, items, on_done)

    return mapper


def main() -> None:
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False  # once short of memory, it makes no more kernels in this process
    model, folder, batch, room = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) * 2**20
    drawing = Drawing(find_model(model, "ema"), SampleParams(count=batch, steps=1, batch_size=batch), 0)
    draw(drawing, range(2))  # what torch needs once for itself
    draw_samples(folder, drawing, limited(room))


if __name__ == "__main__":
    main()
