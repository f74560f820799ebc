"""What a checkpoint costs a training: the wait for the copy, and the step beside which it is written.

    python benchmarks/saving.py --preset cifar10 --batch-size 8 --saves 5

On one worker with one thread, with random images in the preset's shape. A smaller batch makes steps short and changes
no checkpoint.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from reduction import Measured, open_images, trainer

from pipelines.cluster.job import Job
from pipelines.cluster.saving import Saver
from pipelines.runs.local import LocalStore


def measure(asked: Measured, saves: int) -> dict[str, list[float]]:
    """Seconds of each kind."""
    torch.set_num_threads(1)
    params = asked.params()
    training = trainer("strict", params, open_images(asked, params), 0, 1)
    seconds: dict[str, list[float]] = {"step": [], "wait": [], "step beside the save": [], "rest of the save": []}
    training.step()  # makes the optimiser's state
    size = sum(t.nbytes for named in training.state.groups().values() for t in named.values())
    print(f"{asked.preset}: a state of {size / 1e6:.0f} MB, batch of {params.train.batch_size}\n")
    with tempfile.TemporaryDirectory() as folder:
        job = Job(params, Path(folder), LocalStore(Path(folder) / "run"), "benchmark", every_steps=1, keep=2)
        saver = Saver(job, lambda event: None)
        for number in range(saves + 1):
            for name, action in (
                ("step", training.step),
                ("wait", lambda: saver.start(training.state.step, training.state.groups(), {})),
                ("step beside the save", training.step),
                ("rest of the save", saver.wait),
            ):
                began = time.perf_counter()
                action()
                if number:  # the first copy also gets its memory
                    seconds[name].append(time.perf_counter() - began)
        saver.close()
    return seconds


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--preset", default="cifar10", help="a file of presets/, without .yaml")
    parser.add_argument("--batch-size", type=int, help="instead of the preset's")
    parser.add_argument("--saves", type=int, default=5, help="after one that does not count")
    asked = parser.parse_args()
    measured = Measured(asked.preset, 1, 0, asked.batch_size, None, None, 0)
    print("| | median s | least | most |\n|---|---|---|---|")
    for name, each in measure(measured, asked.saves).items():
        print(f"| {name} | {statistics.median(each):.3f} | {min(each):.3f} | {max(each):.3f} |")


if __name__ == "__main__":
    main()
