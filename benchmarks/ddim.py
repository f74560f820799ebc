"""Images per second of DDIM: ours against diffusers' DDIMPipeline, with U-Nets of the same configuration.

    python benchmarks/ddim.py [digits | cifar10] [--rounds 5] [--threads 2]

Alternating runs in one process, medians and their ratio. Weights are random: they do not change the time. Ours is what
the sample stage does, rounding to levels included; diffusers' pipeline gives arrays and shows no bar.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
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


def timed(run: Callable[[], object], images: int) -> float:
    """Images per second."""
    began = time.perf_counter()
    run()
    return images / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", choices=CONFIGURATIONS, nargs="?", default="digits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="ours compiled too (sample.compile)")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.simplefilter("ignore")
    name = asked.configuration
    n, steps = CONFIGURATIONS[name]["batch"], STEPS[name]
    saved, pipeline = ours(name), theirs(name)
    count = {"ours": saved.net, "diffusers": pipeline.unet}
    print(*(f"{key}: {sum(p.numel() for p in net.parameters()):,} parameters" for key, net in count.items()), sep="\n")
    recipe = Recipe("ddim", steps)
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: draw(saved, recipe, 0, range(n)),
        "diffusers": lambda: pipeline(batch_size=n, num_inference_steps=steps, output_type="np"),
    }
    if asked.compile:
        fast = SavedModel(**{**vars(saved), "net": compiled(saved.net, n)})
        runs["ours, compiled"] = lambda: draw(fast, recipe, 0, range(n))
    speeds: dict[str, list[float]] = {key: [] for key in runs}
    for k in range(asked.rounds + 1):  # the first round warms up
        for key, run in runs.items():
            speed = timed(run, n)
            if k:
                speeds[key].append(speed)
    print(
        f"{name}, {n} images at once, {steps} steps, {asked.threads} threads, "
        f"torch {torch.__version__}, {platform.machine()}"
    )
    for key, values in speeds.items():
        ratio = statistics.median(v / d for v, d in zip(values, speeds["diffusers"], strict=True))
        print(f"{key:16} {statistics.median(values):8.2f} images/s   {ratio:.2f} of diffusers'")


if __name__ == "__main__":
    main()
