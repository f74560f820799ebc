"""`python -m pipelines.report [VERSION]`: the card of one registered model as a page of HTML, with its pictures.

python -m pipelines.report                      # the champion, to NAME-VERSION.html
python -m pipelines.report 7 --out card.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.params import load_params
from pipelines.settings import load_settings


def main() -> None:
    """Write the page."""
    asked = _arguments()
    settings = load_settings()
    name = asked.name or load_params().register_.name
    from pipelines.comparison.grids import title_of
    from pipelines.comparison.page import model_card
    from pipelines.comparison.side_by_side import Column, Entry, blocks
    from pipelines.tracking.fetch import find_versions
    from pipelines.tracking.measurements import measurements

    (version,) = find_versions([asked.version], name, settings)
    entry = Entry(version, measurements(version, settings))
    column = Column(title_of(entry), (entry,))
    page = model_card(column, blocks([column], column.title), _USE.format(name=version.name, number=version.number))
    out = asked.out or Path(f"{version.name}-{version.number}.html")
    out.write_text(page, encoding="utf-8")
    print(f"written to {out}")


_USE = """\
import mlflow
model = mlflow.pyfunc.load_model("models:/{name}/{number}")
images = model.predict({{"count": 16, "seed": 1}})      # uint8 (16, H, W, C)

python -m pipelines.draw models:/{name}/{number} --count 16 --seed 1
"""


def _arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipelines.report", description=__doc__, formatter_class=form)
    parser.add_argument("version", nargs="?", default="@champion", metavar="VERSION", help="number or @alias")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: NAME-VERSION.html")
    parser.add_argument("--name", help="registered model (default: register.name of params.yaml)")
    asked = parser.parse_args()
    if asked.out and not asked.out.parent.is_dir():
        parser.error(f"--out {asked.out}: there is no folder {asked.out.parent}")
    return asked


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
