"""`python -m pipelines.distance A B`: how far the images in A are from those in B, as the evaluate stage measures it.

A and B are folders of images, `results/sample` or another samples.npy, or a split of the prepared ones,
`results/prepare/test`. Beside the numbers stand those of two random halves of B against each other, the floor. With
`--extractor inception` the first number is FID, equal to clean-fid's on the same images. Those of a folder are found by
their suffix, in any capitals, and what is left out is told; clean-fid leaves out .Png or .BMP and takes .npy files too.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from pipelines.errors import ParamsError
from pipelines.project import results
from pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.table import Table

    from pipelines.measure.comparing import Comparison
    from pipelines.measure.extractor import Extractor
    from pipelines.measure.pretrained import Pretrained

_CHOICES = ("reference", "inception", "clip")


def main() -> None:
    """Compute and print."""
    asked = _arguments()
    settings = load_settings()

    from pipelines.measure.comparing import compare
    from pipelines.measure.features import by_size
    from pipelines.measure.image_sets import open_images

    a, b = open_images(asked.a), open_images(asked.b)
    network, name = extractor(asked.extractor, settings)
    comparison = compare(a, b, network, name, asked.seed, by_size(settings))
    if asked.json:
        print(json.dumps(comparison.content(), indent=2, allow_nan=False))
        return

    from rich.console import Console

    console = Console(highlight=False)
    console.print(table(comparison))
    for images in (a, b):
        if images.ignored:
            console.print(f"ignored in {images.name}, because no images by their names: {images.ignored}", markup=False)
    if comparison.halves is None:
        console.print("no floor: two halves of B are too small", markup=False)


def extractor(asked: str, settings: Settings) -> tuple[Extractor | Pretrained, str]:
    """The network and its name on cards.

    Raises:
        ParamsError: the reference stage's is asked for and there is none.
        PipelineError: weights from elsewhere cannot be had.
    """
    from pipelines.measure.pretrained import PRETRAINED, find_pretrained
    from pipelines.measure.reference import CARD, read_reference

    for name in PRETRAINED:
        if asked == name:
            return find_pretrained(name, settings), name
    if not (results("reference") / CARD).exists():
        others = " or ".join(f"--extractor {name}" for name in PRETRAINED)
        raise ParamsError(f"results/reference holds no extractor yet: run `dvc repro reference`, or give {others}")
    reference = read_reference(results("reference"))
    return reference.extractor, reference.card.extractor


def table(comparison: Comparison) -> Table:
    """A against B, and the floor beside it."""
    from pipelines.report.scores import scores_table

    card = comparison.card
    columns = {f"A, {comparison.scores.images:,} images": comparison.scores.numbers()}
    if comparison.halves:
        columns[f"two halves of B, {comparison.halves.images:,} each"] = comparison.halves.numbers()
    title = (
        f"A: {card.a}\nB: {card.b}, {card.b_images:,} images\ndistance to B, with intervals of {card.scoring.level:.0%}"
    )
    return scores_table(comparison.metric, columns, title, card.warnings)


def _arguments() -> argparse.Namespace:
    description = (__doc__ or "").split(": ", 1)[1]
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m pipelines.distance", description=description, formatter_class=text)
    parser.add_argument("a", metavar="A", help="the images in question")
    parser.add_argument("b", metavar="B", help="those they are compared with")
    parser.add_argument(
        "--extractor",
        choices=_CHOICES,
        default=_CHOICES[0],
        help="`reference`: that of results/reference (default); `inception`: FID; `clip`: CLIP ViT-B/32",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resamples behind the intervals (default 0)")
    parser.add_argument("--json", action="store_true", help="print numbers and card as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
