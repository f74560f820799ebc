"""Images per second of DDIM: ours against diffusers' DDIMPipeline, with U-Nets of the same configuration.

    python benchmarks/ddim.py [digits | cifar10] [--rounds 5] [--cores 2]

Alternating runs, medians and their ratio. Ours is what the sample stage does, rounding to levels included: a batch for
each worker, a thread for each. Diffusers' pipeline draws as many such batches, with as many threads as there are cores;
it gives arrays and shows no bar; beside it the same pipeline in a process of one thread for each core. Weights are
random: they do not change the time.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from diffusion.drawing import Recipe, draw  # noqa: E402
from diffusion.models import UNet  # noqa: E402
from diffusion.models.saved import SavedModel  # noqa: E402
from diffusion.process import NoiseSchedule, Target  # noqa: E402
from pipelines.measure.compiled import compiled  # noqa: E402

CONFIGURATIONS = {
    "digits": {"side": 8, "C": 1, "channels": 32, "multipliers": (1, 1), "blocks": 1, "attention": (4,), "batch": 128},
    "cifar10": {
        "side": 32,
        "C": 3,
        "channels": 128,
        "multipliers": (1, 2, 2, 2),
        "blocks": 2,
        "attention": (16,),
        "batch": 8,
    },
}
STEPS = {"digits": 50, "cifar10": 5}


def ours(name: str) -> SavedModel:
    c = CONFIGURATIONS[name]
    torch.manual_seed(0)
    net = UNet(
        c["side"], c["C"], c["channels"], c["multipliers"], blocks=c["blocks"], attention_resolutions=c["attention"]
    )
    net = net.eval().requires_grad_(False)
    return SavedModel(
        net, NoiseSchedule.linear(1000), 256, (c["C"], c["side"], c["side"]), None, Target.EPS, False, "", {}
    )


def theirs(name: str):
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    c = CONFIGURATIONS[name]
    sides = [c["side"] >> level for level in range(len(c["multipliers"]))]
    down = ["AttnDownBlock2D" if side in c["attention"] else "DownBlock2D" for side in sides]
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=c["side"],
        in_channels=c["C"],
        out_channels=c["C"],
        block_out_channels=tuple(c["channels"] * m for m in c["multipliers"]),
        layers_per_block=c["blocks"],
        down_block_types=tuple(down),
        up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(down)),
        attention_head_dim=None,  # one head
    )
    pipeline = DDIMPipeline(unet.eval().requires_grad_(False), DDIMScheduler(1000))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@lru_cache
def of_worker(name: str, compile: bool) -> SavedModel:
    """The model as a worker of the sample stage has it, on one thread."""
    torch.set_num_threads(1)
    saved = ours(name)
    return replace(saved, net=compiled(saved.net, CONFIGURATIONS[name]["batch"])) if compile else saved


def batch_of_worker(name: str, compile: bool, number: int) -> None:
    """A task of the sample stage."""
    n = CONFIGURATIONS[name]["batch"]
    draw(of_worker(name, compile), Recipe("ddim", STEPS[name]), 0, range(number * n, (number + 1) * n))


@lru_cache
def pipeline_of_worker(name: str):
    torch.set_num_threads(1)
    return theirs(name)


def batch_of_pipeline(name: str) -> None:
    n = CONFIGURATIONS[name]["batch"]
    pipeline_of_worker(name)(batch_size=n, num_inference_steps=STEPS[name], output_type="np")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", choices=CONFIGURATIONS, nargs="?", default="digits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.cores)
    warnings.simplefilter("ignore")
    name, cores = asked.configuration, asked.cores
    n, steps = CONFIGURATIONS[name]["batch"], STEPS[name]
    pipeline = theirs(name)
    for who, net in {"ours": ours(name).net, "diffusers": pipeline.unet}.items():
        print(f"{who}: {sum(p.numel() for p in net.parameters()):,} parameters")
    context = get_context("spawn")
    # one process for each worker, so that each computes one batch of a round
    pools = [ProcessPoolExecutor(1, mp_context=context) for _ in range(cores)]

    def by_workers(compile: bool) -> None:
        for batch in [pool.submit(batch_of_worker, name, compile, k) for k, pool in enumerate(pools)]:
            batch.result()

    def by_pipeline() -> None:
        for _ in range(cores):
            pipeline(batch_size=n, num_inference_steps=steps, output_type="np")

    def by_pipelines() -> None:
        for batch in [pool.submit(batch_of_pipeline, name) for pool in pools]:
            batch.result()

    runs: dict[str, Callable[[], None]] = {
        "diffusers": by_pipeline,
        "diffusers, a process per core": by_pipelines,
        "ours": lambda: by_workers(False),
        "ours, compiled": lambda: by_workers(True),
    }
    speeds: dict[str, list[float]] = {key: [] for key in runs}
    for k in range(asked.rounds + 1):  # the first round warms up, and compiles
        for key, run in runs.items():
            began = time.perf_counter()
            run()
            if k:
                speeds[key].append(cores * n / (time.perf_counter() - began))
    print(f"{name}, batches of {n}, {steps} steps, {cores} cores, torch {torch.__version__}, {platform.machine()}")
    for key, values in speeds.items():
        ratio = statistics.median(v / d for v, d in zip(values, speeds["diffusers"], strict=True))
        print(f"{key:30} {statistics.median(values):8.2f} images/s   {ratio:.2f} of diffusers'")
    for pool in pools:
        pool.shutdown()


if __name__ == "__main__":
    main()
