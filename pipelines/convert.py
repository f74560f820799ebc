"""`python -m pipelines.convert`: models of diffusers made into this project's, and the other way.

    python -m pipelines.convert from-diffusers FOLDER OUT    # a UNet2DModel with its scheduler, or a DDPMPipeline
    python -m pipelines.convert to-diffusers MODEL OUT       # for DDPMPipeline.from_pretrained(OUT)

FOLDER is as a download leaves it, its weights in safetensors. OUT becomes a folder with a model, for example for
`python -m pipelines.draw OUT`. MODEL is a folder with a model, or a registered version: models:/NAME/VERSION or
models:/NAME@ALIAS. The converted network says the same as the one that it is made from, to about six digits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.errors import CheckpointError, ParamsError
from pipelines.settings import load_settings
from pipelines.stage import outputs


def main() -> None:
    """Convert what is asked for and say where it is."""
    asked = _arguments()
    if asked.out.exists():
        raise ParamsError(f"{asked.out} is there already: name a new folder")
    if asked.direction == "from-diffusers":
        print(f"model {_import(asked)[:12]}.. with {asked.levels} levels of grey: {asked.out}")
    else:
        digest, weights = _export(asked)
        print(f"model {digest[:12]}.., its {weights} weights: {asked.out}")


def _import(asked: argparse.Namespace) -> str:
    """The content digest of what is written."""
    from diffusion.interop import from_diffusers
    from diffusion.models.saved import save_model

    try:
        found = from_diffusers(asked.source, sha256=asked.sha256)
        with outputs(asked.out) as folder:
            return save_model(
                folder,
                architecture=found.architecture.to_json(),
                ema=found.weights,
                raw=found.weights,
                schedule=found.schedule,
                levels=asked.levels,
                card=found.card,
                predicts=found.predicts,
            )
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _export(asked: argparse.Namespace) -> tuple[str, str]:
    """The content digest of what was read, and which of its weights were taken."""
    from diffusion.interop import to_diffusers
    from pipelines.measure.model import find_model
    from pipelines.tracking.fetch import model_files

    with model_files(asked.source, load_settings()) as model:
        weights = asked.weights or model.weights
        saved = find_model(model.path, weights).open()
    try:
        with outputs(asked.out) as folder:
            to_diffusers(saved, folder)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return saved.digest, weights


def _arguments() -> argparse.Namespace:
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipelines.convert", description=__doc__, formatter_class=text)
    directions = parser.add_subparsers(dest="direction", required=True, metavar="DIRECTION")
    theirs = directions.add_parser("from-diffusers", help="a folder of diffusers into a model of this project")
    theirs.add_argument("source", type=Path, metavar="FOLDER")
    theirs.add_argument("--sha256", help="of its file of weights, as its publisher states it: refuse another")
    theirs.add_argument("--levels", type=int, default=256, help="values of a pixel of its images (default: 256)")
    ours = directions.add_parser("to-diffusers", help="a model of this project into a DDPMPipeline")
    ours.add_argument("source", metavar="MODEL")
    ours.add_argument("--weights", choices=("ema", "raw"), help="default: the version's own; of a folder ema")
    for each in (theirs, ours):
        each.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    return parser.parse_args()


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
