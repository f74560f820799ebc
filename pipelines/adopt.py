"""`python -m pipelines.adopt FOLDER`: measure a model that was trained elsewhere, and register it.

FOLDER holds model.json and model.safetensors, as `python -m pipelines.convert from-diffusers` leaves them. The model is
drawn from and evaluated as params.yaml says (sections sample and evaluate), on the data and the reference in results/,
and becomes a version beside those that were trained here. The gate judges it like any other.

    python -m pipelines.adopt models/ddpm-cifar10 -S evaluate.variance=small -S sample.variance=small
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.params import load_params
from pipelines.project import state
from pipelines.settings import load_settings


def main() -> None:
    """Measure and register."""
    asked = _arguments()
    params, settings = load_params(changes=asked.set), load_settings()
    from pipelines.measure.elsewhere import Plan
    from pipelines.register import register, results_in, told

    scratch = state() / "remeasured"
    scratch.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        measured = Plan.of(asked.folder, "ema", params, settings, Path(folder)).carry_out(Path(folder))
        print(measured.evaluation.summary(), flush=True)
        found = results_in(asked.folder, measured.evaluated, measured.samples, elsewhere=True)
        receipt, new = register(params, settings, found)
    print(told(receipt, new=new))


def _arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipelines.adopt", description=__doc__, formatter_class=form)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with model.json and model.safetensors")
    parser.add_argument(
        "-S", dest="set", action="append", default=[], metavar="KEY=VALUE", help="instead of the file's"
    )
    return parser.parse_args()


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
