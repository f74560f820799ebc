"""`python -m pipelines.draw [MODEL]`: images of a model, without DVC.

MODEL is a folder with a model (default: results/train) or a registered version, models:/NAME/VERSION or
models:/NAME@ALIAS. The ending of --out says what is made: .png a grid, .gif or .mp4 the way out of the noise, .npy an
array, uint8 (n, C, H, W) in 0..255, no ending a new folder with one PNG for each image. With --to SEED each image is
followed from --seed to SEED, by a sampler that adds no noise on the way.

    python -m pipelines.draw models:/ddpm-digits@champion --count 64 --seed 1 --sampler dpm_solver --steps 20
    python -m pipelines.draw --class 3 --guidance 2
    python -m pipelines.draw --out way.gif
    python -m pipelines.draw --seed 1 --to 2 --count 8 --out between.gif
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pipelines.errors import ParamsError, TrainingError
from pipelines.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusion.drawing import Drawn, Guidance, Recipe
    from diffusion.models.saved import SavedModel

_STEPS = 25
"""Times visited unless another number is asked for."""
_POINTS = 12
"""Places on the way from one seed to another."""
_MOMENTS = 48
"""Of the reverse process in a moving picture."""


def main() -> None:
    """Draw what is asked for and say where it is."""
    asked = _arguments()
    settings = load_settings()
    from pipelines.measure.model import find_classifier, find_model
    from pipelines.tracking.fetch import model_files

    _check(asked)
    with model_files(asked.model, settings) as model:
        saved = find_model(model.path, asked.weights or model.weights, _device(asked.device)).open()
    if asked.classifier:
        asked.classifier = find_classifier(asked.classifier, _device(asked.device)).open()
    recipe = recipe_for(saved, asked)
    if asked.to is None:
        drawn = _in_batches(saved, recipe, asked, list(range(asked.count)))
    else:
        drawn = _between(saved, recipe, asked)
    write(drawn, saved.levels, asked)
    print(f"{len(drawn.images)} images with {drawn.calls} network calls each: {asked.out}")


def recipe_for(saved: SavedModel, asked: argparse.Namespace) -> Recipe:
    """Sampler and times; the variance is the learned one where the network has it, unless another is asked for.

    Raises:
        ParamsError: they do not fit one another, or the model.
    """
    from diffusion.drawing import Recipe
    from diffusion.samplers import options_of

    given: dict[str, Any] = {n: getattr(asked, n) for n in ("eta", "order", "variance", "tolerance")}
    options = {name: value for name, value in given.items() if value is not None}
    try:
        if "variance" in options_of(asked.sampler):
            options.setdefault("variance", "learned" if saved.learned_variance else "small")
        few = None if asked.sampler == "probability_flow" else min(_STEPS, saved.schedule.T)
        steps = {None: few, "all": saved.schedule.T}.get(asked.steps, asked.steps)
        recipe = Recipe(asked.sampler, steps, asked.spacing, options, not asked.no_clip, _guidance(asked))
        recipe.check(saved, asked.classifier)
        if recipe.make().stochastic and asked.to is not None:
            raise ValueError(f"{asked.sampler} adds noise of its own, so the way would not end at seed {asked.to}")
    except ValueError as error:
        raise ParamsError(str(error)) from None
    return recipe


def _guidance(asked: argparse.Namespace) -> Guidance:
    """By the classifier if one is named; else, with a scale, without one."""
    from diffusion.drawing import Guidance

    low, high = asked.guidance_interval or (0.0, float("inf"))
    scale = 1.0 if asked.guidance is None else asked.guidance
    kind = "classifier" if asked.classifier else "none" if asked.guidance is None else "classifier_free"
    return Guidance(kind, scale, (low, high))


def _in_batches(
    saved: SavedModel, recipe: Recipe, asked: argparse.Namespace, ids: Sequence[int], x_T: Any = None
) -> Drawn:
    from diffusion.drawing import Drawn, draw
    from pipelines.cluster.parallel import serial_map
    from pipelines.measure.chunks import chunks, watched

    shown = _MOMENTS if _is_moving(asked.out) and asked.to is None else 0

    def drawn(part: range) -> Drawn:
        some = ids[part.start : part.stop]
        how: dict[str, Any] = {"label": asked.label, "x_T": None if x_T is None else x_T[part.start : part.stop]}
        frames: dict[str, Any] = {"shown": len(some), "moments": shown} if shown else {}
        try:
            return draw(saved, recipe, asked.seed, some, classifier=asked.classifier, **how, **frames)
        except ValueError as error:
            raise TrainingError(f"images {some[0]} to {some[-1]} with {recipe.sampler}: {error}") from None

    parts = chunks(len(ids), asked.batch_size)
    made = watched("drawing", serial_map, drawn, parts, [len(part) for part in parts])  # as the stage's workers draw
    return Drawn.joined([each for _, each in made])


def _between(saved: SavedModel, recipe: Recipe, asked: argparse.Namespace) -> Drawn:
    """Each image at every place on its way, place after place."""
    from diffusion.drawing import between

    x_T = between((asked.seed, asked.to), range(asked.count), saved.shape, asked.points or _POINTS)
    ids = [i for i in range(asked.count) for _ in range(x_T.shape[1])]
    return _in_batches(saved, recipe, asked, ids, x_T.flatten(0, 1))


def write(drawn: Drawn, levels: int, asked: argparse.Namespace) -> None:
    """Write the images as the ending of --out says."""
    import numpy as np

    from pipelines.report.animation import animate
    from pipelines.report.pictures.images import between_seeds, sample_grid
    from pipelines.report.pictures.tiles import columns_for, from_levels

    out, images, ending = asked.out, drawn.images, asked.out.suffix.lower()
    rows = images.reshape(asked.count, -1, *images.shape[1:])  # (image, place, C, H, W)
    if _is_moving(out):
        frames = drawn.frames.images if asked.to is None else [*rows.swapaxes(0, 1), *rows.swapaxes(0, 1)[-2::-1]]
        animate(frames, levels, columns_for(asked.count, max(images.shape[-2:])), out)
    elif ending == ".npy":
        with out.open("wb") as file:  # a name in capitals would be given a second ending
            np.save(file, np.rint(images * (255 / (levels - 1))).astype(np.uint8), allow_pickle=False)
    elif ending == ".png":
        if asked.to is None:
            sample_grid(images, levels, out)
        else:
            between_seeds(rows, (asked.seed, asked.to), levels, out)
    else:
        from PIL import Image

        out.mkdir(exist_ok=True)
        for k, image in enumerate(from_levels(images, levels)):
            Image.fromarray(image[..., 0] if images.shape[1] == 1 else image).save(out / f"{k:06}.png")


def _is_moving(out: Path) -> bool:
    from pipelines.report.animation import FORMATS

    return out.suffix.lower() in FORMATS


def _check(asked: argparse.Namespace) -> None:
    """Refuse now rather than after minutes of work."""
    out = asked.out
    if out.suffix.lower() not in (".png", ".gif", ".mp4", ".npy", ""):
        raise ParamsError(f"--out must end in .png, .gif, .mp4 or .npy, or be a folder, got {out}")
    if not out.parent.is_dir() or (out.suffix and out.is_dir()) or (not out.suffix and out.is_file()):
        raise ParamsError(f"--out {out} cannot be written: name a file or a new folder in a folder that exists")
    if not out.suffix and out.is_dir() and any(out.iterdir()):
        raise ParamsError(f"--out {out} is a folder that is not empty: name a new one")
    if asked.guidance_interval and asked.guidance is None and not asked.classifier:
        raise ParamsError("--guidance-interval needs --guidance W or --classifier FOLDER")
    if asked.points is not None and asked.to is None:
        raise ParamsError("--points are on the way to another seed: give --to SEED")
    if asked.classifier and not (asked.classifier / "classifier.json").is_file():
        raise ParamsError(
            f"no classifier in {asked.classifier}: set classifier.steps above 0 in params.yaml and run "
            "`dvc repro classifier`"
        )


def _device(asked: str | None) -> str:
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise ParamsError("--device cuda: torch sees no GPU here")
    return asked or ("cuda" if there else "cpu")


def _arguments() -> argparse.Namespace:
    from pipelines.sections_of_sampling import SampleParams

    samplers, spacings = (get_args(SampleParams.model_fields[name].annotation) for name in ("sampler", "spacing"))
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipelines.draw", description=__doc__, formatter_class=text)
    parser.add_argument("model", nargs="?", default="results/train", metavar="MODEL")
    parser.add_argument("--count", type=_whole(1), default=16, help="images (default: 16)")
    parser.add_argument("--seed", type=_whole(0), default=0, help="image i depends on it and on i alone (default: 0)")
    parser.add_argument("--class", type=_whole(0), dest="label", metavar="K", help="all of this class")
    parser.add_argument("--guidance", type=float, metavar="W", help="towards the class, so strongly; 0: not at all")
    parser.add_argument("--guidance-interval", type=float, nargs=2, metavar="T", help="from and to these times alone")
    parser.add_argument("--classifier", type=Path, metavar="FOLDER", help="guide by this one: results/classifier")
    parser.add_argument("--sampler", choices=samplers, default="dpm_solver", help="default: dpm_solver")
    parser.add_argument(
        "--steps", type=_steps, help=f"times visited, or `all` (default: {_STEPS}; probability_flow's own)"
    )
    parser.add_argument("--spacing", choices=spacings, default="trailing", help="of the times (default: trailing)")
    parser.add_argument("--eta", type=float, help="of ddim: 0 to 1")
    parser.add_argument("--order", type=int, help="of dpm_solver and unipc: 1, 2 or 3")
    parser.add_argument("--variance", choices=("small", "large", "learned"), help="of ancestral")
    parser.add_argument("--tolerance", type=float, help="of probability_flow")
    parser.add_argument("--no-clip", action="store_true", help="do not clip the predicted image to [-1, 1]")
    parser.add_argument("--weights", choices=("ema", "raw"), help="default: the version's own; of a folder ema")
    parser.add_argument("--to", type=_whole(0), metavar="SEED", help="follow each image from --seed to this one")
    parser.add_argument("--points", type=_whole(2), help=f"places on that way (default: {_POINTS})")
    parser.add_argument("--out", type=Path, default=Path("drawn.png"), help="default: drawn.png")
    parser.add_argument("--batch-size", type=_whole(1), default=128, help="images per network call (default: 128)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    return parser.parse_args()


def _whole(least: int) -> Any:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of {least} or more, got {text!r}")
        return int(text)

    return read


def _steps(text: str) -> int | str:
    return text if text == "all" else int(_whole(1)(text))


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
