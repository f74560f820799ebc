"""What helps the bound: schedules by objectives by decoders, over seeds. The table of benchmarks/README.md.

    python benchmarks/bound_table.py run results/prepare table.jsonl
    python benchmarks/bound_table.py show table.jsonl

The first takes hours; each finished training is kept in the file, so it goes on where it was interrupted.
A row is one training of the digits preset with some parameters changed, on one worker with one thread, and the bound of
its averaged weights on the test split, estimated with 201 network calls per image: with the discretised Gaussian and
with the normalised levels from t = 1, and with the latter from t = 8.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SEEDS = (0, 1, 2)
CALLS = 201
COLUMNS = ("discretized", "levels", "levels_from_8")

_SIMPLE: dict[str, dict[str, Any]] = {
    "model": {"learned_variance": False},
    "train": {"objective": "simple", "times": "uniform"},
    "sample": {"variance": "small"},
    "evaluate": {"variance": "small"},
}
_OBJECTIVES: dict[str, dict[str, Any]] = {
    "simple": _SIMPLE,
    "hybrid": {"train": {"objective": "hybrid", "times": "uniform"}},
    "bound": {},
}


def _simple(section: str, **values: Any) -> dict[str, dict[str, Any]]:
    return _SIMPLE | {section: _SIMPLE[section] | values}


ROWS: dict[str, dict[str, Any]] = {
    f"{schedule}, {objective}": {"process": {"schedule": schedule}, **changes}
    for schedule in ("linear", "cosine", "log_snr")
    for objective, changes in _OBJECTIVES.items()
} | {
    "log_snr, simple, 40 channels": _simple("model", channels=40),
    "log_snr, simple, no Fourier features": _simple("model", fourier_features=[]),
    "log_snr, simple, v": _simple("model", predicts="v"),
    "log_snr, simple, stratified times": _simple("train", times="stratified"),
}
"""What is changed in presets/digits.yaml."""


def measure(name: str, seed: int, prepared: Path) -> dict[str, Any]:
    """Train one row with one seed, and measure it."""
    import torch

    from pipelines.cluster.job import Job, Place
    from pipelines.cluster.loop import Loop
    from pipelines.cluster.outcome import finished
    from pipelines.configuration import read_yaml
    from pipelines.params import Params
    from pipelines.runs.local import LocalStore

    torch.set_num_threads(1)
    values = read_yaml(ROOT / "presets" / "digits.yaml") | {"seed": seed}
    for section, changes in ROWS[name].items():
        values[section] = values[section] | changes
    values["train"] |= {"val_every": values["train"]["steps"]}
    params = Params.model_validate(values)
    with tempfile.TemporaryDirectory() as folder:
        run = LocalStore(Path(folder) / "run")
        job = Job(params, prepared, run, "benchmark", every_steps=params.train.steps, keep=2)
        began = time.process_time()
        Loop(job, Place(0, 1, torch.device("cpu")), lambda event: None).run()
        seconds = time.process_time() - began
        done = finished(job)
        assert done is not None
        found = _bounds(done.checkpoint.load("ema"), params, prepared)
    return {"row": name, "seed": seed, "seconds": round(seconds), **found}


def _bounds(weights: dict[str, Any], params: Any, prepared: Path) -> dict[str, Any]:
    """The bound of the test split in each column, with its sampling error."""
    import numpy as np
    import torch

    from diffusion.models import UNet
    from diffusion.process import DiscretizedGaussian, NormalizedLevels, bound, estimate_bound, to_unit
    from diffusion.training.random import normal_per_image, numbers
    from pipelines.build import architecture, build_schedule
    from pipelines.data.dataset import open_split
    from pipelines.data.manifest import read_manifest

    net = UNet(**architecture(params.model, read_manifest(prepared)))
    net.load_state_dict(weights)
    net.eval()
    split, s = open_split(prepared, "test"), build_schedule(params.process)
    x_0, shape = to_unit(torch.from_numpy(split.read(np.arange(len(split)))), split.levels), split.shape
    uniforms = torch.from_numpy(np.stack([numbers(0, "times", image).random(CALLS - 1) for image in split.ids]))
    how = {
        "variance": "learned" if params.model.learned_variance else "small",
        "target": params.model.predicts,
    }

    def estimate(times: list[int] | None) -> Any:
        return estimate_bound(
            net, s, x_0, decoder=NormalizedLevels(split.levels), calls=CALLS, times=times, **how,
            noise=lambda k, t, _: normal_per_image(0, "bound", split.ids, t.tolist(), shape),
            uniforms=lambda k, n: uniforms[:, k - 1],
        ).estimates()  # fmt: skip

    whole, late = estimate(None), estimate(list(range(s.T, 7, -1)))
    first = bound(
        net, s, x_0, decoder=DiscretizedGaussian(split.levels), times=[2, 1], **how,
        noise=lambda t, _: normal_per_image(0, "bound", split.ids, t, shape),
    )  # fmt: skip
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "discretized": whole.total.mean - whole.L_0.mean + float(first.L_0.mean()),
        "levels": whole.total.mean,
        "levels_from_8": late.total.mean,
        "sampling_error": whole.total.sampling_error,
    }


def run(prepared: Path, file: Path, seeds: int, processes: int, only: list[str]) -> None:
    """Measure what the file does not hold yet, seed after seed."""
    done = {(row["row"], row["seed"]) for row in _read(file)}
    wanted = [(name, seed) for seed in SEEDS[:seeds] for name in (only or ROWS) if (name, seed) not in done]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        tasks = {pool.submit(measure, name, seed, prepared.resolve()): (name, seed) for name, seed in wanted}
        for task in as_completed(tasks):
            row = task.result()
            with file.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(f"{row['row']}, seed {row['seed']}: {row['levels']:.4f}", flush=True)


def show(file: Path) -> None:
    """The table in Markdown: mean and deviation over the seeds, in bits/dim."""
    import pandas as pd

    rows = pd.DataFrame(_read(file))
    print("| schedule, objective | discretised Gaussian | levels | levels from t = 8 | seeds | CPU s |")
    print("|---|---|---|---|---|---|")
    for name in (name for name in ROWS if name in set(rows["row"])):
        of_row = rows[rows["row"] == name]
        cells = [_spread(of_row[column]) for column in COLUMNS]
        print(f"| {name} | {' | '.join(cells)} | {len(of_row)} | {of_row['seconds'].mean():.0f} |")


def _spread(values: Any) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def main() -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train and measure")
    running.add_argument("prepared", type=Path, help="results/prepare of the digits")
    running.add_argument("--seeds", type=int, default=len(SEEDS))
    running.add_argument("--processes", type=int, default=2)
    running.add_argument("--only", nargs="*", default=[], choices=list(ROWS))
    for each in (running, commands.add_parser("show", help="print the table")):
        each.add_argument("file", type=Path, help="one JSON line for each finished training")
    asked = parser.parse_args()
    if asked.command == "run":
        run(asked.prepared, asked.file, asked.seeds, asked.processes, asked.only)
    else:
        show(asked.file)


if __name__ == "__main__":
    main()
