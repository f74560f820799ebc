"""What guidance gains and costs: how many images are of the class that was asked for, and how far they are from data.

    cp presets/digits-labels.yaml params.yaml && dvc repro reference train classifier
    python benchmarks/guidance.py run results guidance.jsonl
    python benchmarks/guidance.py show guidance.jsonl docs/guidance.png

Each point is COUNT images, the classes in turn, of each of SEEDS seeds, drawn with DDIM in STEPS steps; what the file
holds is not drawn again. The class is judged by the reference stage's classifier, and the distance is in its features:
it has seen neither noise nor the classifier that guides. The second command prints the table and draws the plot.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from diffusion.drawing import Guidance, Recipe, draw  # noqa: E402
from diffusion.models.saved import load_model  # noqa: E402
from diffusion.models.saved_classifier import load_classifier  # noqa: E402

COUNT = 500
STEPS = 25
SEEDS = (0, 1, 2)
SCALES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
INTERVAL = (200.0, 600.0)


@dataclass(frozen=True)
class Line:
    """One kind of guidance at several scales."""

    kind: str
    told: bool
    """Whether the network itself is told the class."""
    interval: tuple[float, float] | None = None


LINES = {
    "classifier-free": Line("classifier_free", True),
    f"classifier-free, t = {INTERVAL[0]:.0f} to {INTERVAL[1]:.0f} only": Line("classifier_free", True, INTERVAL),
    "classifier, network told the class": Line("classifier", True),
    "classifier, network not told": Line("classifier", False),
}


class Untold(nn.Module):
    """The network without labels that is in one with labels left out."""

    def __init__(self, net: nn.Module, null_label: int) -> None:
        super().__init__()
        self.net, self.null_label = net, null_label

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.net(x_t, t, torch.full((len(x_t),), self.null_label))
        return output


def points() -> Iterator[tuple[str, float, int]]:
    """Line, scale and seed; without guidance lines are the same, told the class or not."""
    names = {line.told: name for name, line in reversed(LINES.items())}
    for seed in SEEDS:
        for scale in SCALES:
            yield from ((name, scale, seed) for name in (LINES if scale else names.values()))


def measure(results: Path, name: str, scale: float, seed: int) -> dict[str, Any]:
    """Draw the images of a point and judge them."""
    from diffusion.evaluation import Moments, frechet_distance
    from pipelines.measure.extractor import Extractor
    from pipelines.measure.reference import read_reference

    torch.set_num_threads(1)
    line, saved = LINES[name], load_model(results / "train")
    classifier = load_classifier(results / "classifier")
    assert saved.classes
    if not line.told:
        saved = replace(saved, net=Untold(saved.net, saved.classes), classes=None)  # type: ignore[arg-type]
    recipe = Recipe("ddim", STEPS, guidance=Guidance(line.kind, scale, line.interval))
    images = draw(saved, recipe, seed, range(COUNT), classifier=classifier).images
    known = read_reference(results / "reference")
    assert isinstance(known.extractor, Extractor)
    batch = known.extractor.from_levels(images, saved.levels)
    with torch.no_grad():
        features, guess = known.extractor(batch).numpy(), known.extractor.scores(batch).argmax(dim=1).numpy()
    moments = Moments.of(features)
    return {
        "line": name,
        "scale": scale,
        "seed": seed,
        "accuracy": float((guess == np.arange(COUNT) % classifier.classes).mean()),
        "distance": frechet_distance(known.mean, known.covariance, moments.mean, moments.covariance),
    }


def run(results: Path, file: Path, processes: int) -> None:
    """Measure what the file does not hold yet."""
    done = {(row["line"], row["scale"], row["seed"]) for row in _read(file)}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for task in as_completed([pool.submit(measure, results, *point) for point in points() if point not in done]):
            row = task.result()
            with file.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(f"{row['line']}, {row['scale']:g}, seed {row['seed']}: {row['accuracy']:.1%}, {row['distance']:.2f}")


def show(file: Path, picture: Path) -> None:
    """The table in Markdown, mean and deviation over the seeds, and the plot."""
    found = _read(file)
    names = {line.told: name for name, line in reversed(LINES.items())}
    for name, line in LINES.items():
        if name != names[line.told]:
            found += [row | {"line": name} for row in found if row["line"] == names[line.told] and not row["scale"]]
    rows = pd.DataFrame(found)
    of = rows.groupby(["line", "scale"])[["accuracy", "distance"]].agg(["mean", "std"])
    print("| | " + " | ".join(f"{scale:g}" for scale in SCALES) + " |")
    print("|---|" + "---|" * len(SCALES))
    for name in LINES:
        for what, form in (("accuracy", "{:.1%}"), ("distance", "{:.2f}")):
            cells = [
                f"{form.format(of.loc[(name, s), (what, 'mean')])} ± {form.format(of.loc[(name, s), (what, 'std')])}"
                for s in SCALES
            ]
            print(f"| {name}: {what} | {' | '.join(cells)} |")
    plot(of, picture)


def plot(of: pd.DataFrame, picture: Path) -> None:
    """Accuracy against the scale, and the distance against the accuracy."""
    from pipelines.report.pictures.canvas import BLUE, GREEN, ORANGE, PURPLE, headline, page

    colours = dict(zip(LINES, (BLUE, GREEN, ORANGE, PURPLE), strict=True))
    at = np.arange(len(SCALES))
    with page(picture, 960) as figure:
        headline(figure, "Guidance gets the class that is asked for, and pays for it where it is strong")
        panels = figure.subplots(1, 2)
        for what, axes in zip(("accuracy", "distance"), panels, strict=True):
            for name, colour in colours.items():
                mean, spread = (of.loc[name].loc[list(SCALES), (what, how)].to_numpy() for how in ("mean", "std"))
                axes.fill_between(at, mean - spread, mean + spread, color=colour, alpha=0.18, lw=0)
                axes.plot(at, mean, color=colour, marker="o", markersize=4, label=name)
            axes.set_xticks(at, [f"{scale:g}" for scale in SCALES])
            axes.set_xlabel("scale: w of classifier-free guidance, s of a classifier's")
        panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        panels[0].set_title("images of the class that was asked for")
        panels[1].set_yscale("log")
        panels[1].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panels[1].yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        panels[1].set_title("Fréchet distance to the training images")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=2, frameon=False, fontsize=9)


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def main() -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="draw and judge")
    running.add_argument("results", type=Path, help="the folder with train, classifier and reference")
    running.add_argument("--processes", type=int, default=2)
    showing = commands.add_parser("show", help="print the table and draw the plot")
    for each in (running, showing):
        each.add_argument("file", type=Path, help="one JSON line for each point")
    showing.add_argument("picture", type=Path)
    asked = parser.parse_args()
    if asked.command == "run":
        run(asked.results, asked.file, asked.processes)
    else:
        show(asked.file, asked.picture)


if __name__ == "__main__":
    main()
