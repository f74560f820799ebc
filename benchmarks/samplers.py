"""How good are how many network calls? Every sampler on one model: the Fréchet distance against the calls per image.

    python benchmarks/samplers.py draw results/train drawn [--device cuda]
    python benchmarks/samplers.py score drawn results/reference docs/samplers.png

The first needs time or a GPU; what is in the folder `drawn` is not drawn again. The second scores it on the CPU, prints
the table in Markdown and draws the plot. Each point is COUNT images of each of SEEDS seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from diffusion.drawing import Recipe, draw  # noqa: E402
from diffusion.models.saved import load_model  # noqa: E402

COUNT = 2048
SEEDS = (0, 1, 2)
STEPS = (5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Line:
    """One sampler at several numbers of steps."""

    name: str
    recipes: tuple[Recipe, ...]
    style: str
    stochastic: bool = False


def _line(name: str, sampler: str, style: str, spacing: str = "trailing", more: tuple[int, ...] = (), **options):
    recipes = tuple(Recipe(sampler, steps, spacing, options) for steps in (*STEPS, *more))
    stochastic = sampler in ("ancestral", "euler_maruyama", "predictor_corrector")
    return Line(name, recipes, style, stochastic)


LINES = (
    _line("ancestral, learned variance", "ancestral", "C0", more=(250,), variance="learned"),
    _line("ancestral, small variance", "ancestral", "C1", more=(250,), variance="small"),
    _line("Euler-Maruyama", "euler_maruyama", "C2", more=(250,)),
    _line("predictor-corrector", "predictor_corrector", "C3", variance="learned"),
    _line("DDIM", "ddim", "C4", more=(250,)),
    _line("Euler, Karras times", "euler", "C5", "karras"),
    _line("Heun, Karras times", "heun", "C6", "karras"),
    _line("DPM-Solver++ 2", "dpm_solver", "C7", order=2),
    _line("DPM-Solver++ 3", "dpm_solver", "C8", order=3),
    _line("UniPC 3", "unipc", "C9", order=3),
    Line(
        "probability flow, RK45",
        tuple(Recipe("probability_flow", options={"tolerance": tolerance}) for tolerance in (0.1, 1e-2, 1e-3)),
        "k",
    ),
)


def points() -> Iterator[tuple[Line, Recipe, int, str]]:
    """Line, recipe, seed, and the name of the file that holds the images."""
    for line in LINES:
        for recipe in line.recipes:
            at = recipe.options.get("tolerance", recipe.steps)
            for seed in SEEDS:
                yield line, recipe, seed, f"{line.name}, {at}, seed {seed}"


def draw_all(model: Path, folder: Path, device: str, seeds: list[int]) -> None:
    """Draw what is missing; one file for each seed, rewritten after each recipe."""
    saved = load_model(model, device=device)
    folder.mkdir(parents=True, exist_ok=True)
    images, calls, began = read(folder)
    for _, recipe, seed, name in points():
        if name in images or seed not in seeds:
            continue
        drawn = draw(saved, recipe, seed, range(COUNT))
        images[name], calls[name] = drawn.images, drawn.calls
        write(folder, images, calls, seed)
        print(f"{time.perf_counter() - began:6.1f} s  {name}: {drawn.calls} calls", flush=True)


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, int], float]:
    """Images and network calls by name, and the time now."""
    images: dict[str, np.ndarray] = {}
    calls: dict[str, int] = {}
    for path in sorted(folder.glob("seed-*.npz")):
        with np.load(path, allow_pickle=False) as file:
            for name in file["names"].tolist():
                images[name], calls[name] = file[f"images/{name}"], int(file[f"calls/{name}"])
    return images, calls, time.perf_counter()


def write(folder: Path, images: dict[str, np.ndarray], calls: dict[str, int], seed: int) -> None:
    """All that there is of a seed; the others' files may be another process's."""
    names = [name for name in images if name.endswith(f"seed {seed}")]
    arrays = {f"images/{name}": images[name] for name in names} | {f"calls/{n}": calls[n] for n in names}
    np.savez_compressed(folder / f"seed-{seed}.npz", names=np.array(names), **arrays)


def score_all(folder: Path, reference: Path) -> tuple[pd.DataFrame, float]:
    """Mean and standard error of the distance over the seeds, and that of as many held-out images as there are."""
    from diffusion.evaluation import Moments, frechet_distance
    from pipelines.measure.features import Extraction, features_of
    from pipelines.measure.reference import read_reference

    known = read_reference(reference)
    levels = 17
    images, calls, _ = read(folder)
    extraction = Extraction(known.extractor, levels, "cpu")

    def distance(features: np.ndarray) -> float:
        moments = Moments.of(features)
        against = known.against
        return frechet_distance(against.mean, against.covariance, moments.mean, moments.covariance)

    rows = []
    for line, recipe, seed, name in points():
        if name in images:
            value = distance(features_of(extraction, images[name]))
            at = recipe.options.get("tolerance", recipe.steps)
            rows.append({"sampler": line.name, "at": at, "calls": calls[name], "seed": seed, "distance": value})
    grouped = pd.DataFrame(rows).groupby(["sampler", "at"], sort=False)
    table = grouped.agg(calls=("calls", "mean"), distance=("distance", "mean"), spread=("distance", "sem"))
    return table.reset_index(), distance(np.asarray(known.held_out))


def markdown(table: pd.DataFrame) -> str:
    """A row for each sampler, a column for each number of steps."""
    lines = ["| sampler | calls per image: distance ± standard error over the seeds |", "|---|---|"]
    for sampler, rows in table.groupby("sampler", sort=False):
        cells = (f"{row.calls:.0f}: {row.distance:.2f} ± {row.spread:.2f}" for row in rows.itertuples())
        lines.append(f"| {sampler} | {'; '.join(cells)} |")
    return "\n".join(lines)


def plot(table: pd.DataFrame, floor: float, path: Path) -> None:
    """Distance against calls, both on logarithmic scales."""
    from pipelines.report.pictures.canvas import QUIET, headline, page

    with page(path, 900) as figure:
        headline(figure, "What a network call buys: distance of the samples by sampler")
        axes = figure.subplots()
        for line in LINES:
            rows = table[table["sampler"] == line.name]
            if len(rows):
                style = {"marker": "o" if line.stochastic else "s", "markersize": 3.5, "color": line.style}
                dashes = "--" if line.stochastic else "-"
                axes.errorbar(
                    rows["calls"], rows["distance"], 2 * rows["spread"], label=line.name, linestyle=dashes, **style
                )
        axes.axhline(floor, color=QUIET, linewidth=1)
        axes.annotate(
            "365 held-out digits", (axes.get_xlim()[1], floor), ha="right", va="bottom", color=QUIET, fontsize=9
        )
        axes.set(
            xscale="log", yscale="log", xlabel="network calls per image", ylabel="Fréchet distance ± 2 standard errors"
        )
        ticks = [5, 10, 20, 50, 100, 200]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        heights = [1, 2, 5, 10, 20, 50]
        axes.set_yticks(heights, [str(height) for height in heights])
        axes.minorticks_off()
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw")
    drawing.add_argument("model", type=Path)
    drawing.add_argument("folder", type=Path)
    drawing.add_argument("--device", default="cpu")
    drawing.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="to share them among processes")
    scoring = commands.add_parser("score")
    for name in ("folder", "reference", "picture"):
        scoring.add_argument(name, type=Path)
    asked = parser.parse_args()
    if asked.command == "draw":
        torch.backends.cudnn.conv.fp32_precision = "ieee"
        draw_all(asked.model, asked.folder, asked.device, asked.seeds)
        return
    table, floor = score_all(asked.folder, asked.reference)
    print(markdown(table))
    print(f"\nheld-out digits: {floor:.2f}")
    plot(table, floor, asked.picture)


if __name__ == "__main__":
    main()
