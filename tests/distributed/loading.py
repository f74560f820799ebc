"""A process with three loaders, for test_loaders.py: `python loading.py HOW`, where HOW is how it ends.

It prints the processes of the loaders, and how many threads torch has in them.
"""

import json
import sys
import time

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion.training.batches import Batches
from diffusion.training.shard import ShardMaker
from pipelines.cluster.loaders import Loaders


class ThreadImages:
    """Images that show how many threads torch has where they are read."""

    labels = None

    def __len__(self) -> int:
        return 64

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.full((len(indices), 1, 2, 2), torch.get_num_threads(), np.uint8)


def main() -> None:
    torch.set_num_threads(2)
    loaders = Loaders(ShardMaker(ThreadImages(), Batches(64, 16, 4, seed=0), flip=True, draws=True), range(4), 3, 60)
    threads = {int(loaders(0, shard).images.max()) for shard in range(4)}
    print(json.dumps({"pids": loaders.pids, "threads": sorted(threads)}), flush=True)
    match sys.argv[1]:
        case "killed":
            time.sleep(120)
        case "closed":
            loaders.close()
        case "error":
            raise ValueError("on purpose")


if __name__ == "__main__":
    main()
