"""`python -m pipelines.first_time`: at which time should the decoder take over? The whole curve, and what to write.

Measures the model in results/train/ on the validation split, every time visited once for each image, and leaves the
curve in .state/first_time/. It changes nothing: the line for params.yaml is yours to write.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pipelines.errors import ParamsError
from pipelines.params import load_params
from pipelines.project import results, state
from pipelines.sections import EvaluateParams
from pipelines.settings import load_settings

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from pipelines.measure.first_time_choice import Choice

_ROWS = 16
"""Of the table, besides those that matter."""


def main() -> None:
    """Measure, print the table and the choice, write the curve and its picture."""
    asked = _arguments()
    params, settings = load_params(), load_settings()
    how = params.evaluate.model_copy(update={"decoder": asked.decoder} if asked.decoder else {})
    csv, picture = _files(asked.csv, how.decoder)

    from pipelines.cluster.parallel import on_ray
    from pipelines.cluster.session import ray_session
    from pipelines.measure.bound import Measuring
    from pipelines.measure.first_time import first_times_of_split, validation_images
    from pipelines.measure.first_time_choice import choose
    from pipelines.measure.model import device_of, find_model
    from pipelines.report.pictures.first_time import first_time_curve

    measuring = Measuring(find_model(results("train"), how.weights, device_of(settings)), how, params.seed)
    split = validation_images(results("prepare"), measuring)
    count = min(asked.images or len(split), len(split))
    with ray_session(settings):
        measuring = replace(measuring, model=measuring.model.shared(settings))
        curve = first_times_of_split(measuring, split, count, on_ray(settings)).curve()
    curve.to_csv(csv, index=False)
    first_time_curve(curve, picture)
    show(curve, choose(curve), params.evaluate, how.decoder, f"{count} of {len(split)} validation images")
    print(f"curve    {csv}\npicture  {picture}")


def show(curve: pd.DataFrame, choice: Choice, now: EvaluateParams, decoder: str, images: str) -> None:
    """Print the table and, below it, what it says."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(table(curve, choice, now.first_time, f"bits per dimension, {decoder}, {images}"))
    console.print(*findings(curve, choice, now, decoder), sep="\n", soft_wrap=True, markup=False)


def table(curve: pd.DataFrame, choice: Choice, now: int, title: str) -> Table:
    """The curve on a geometric grid of first times, with the lowest, the chosen and the present one."""
    from rich.table import Table

    from pipelines.measure.first_time import geometric
    from pipelines.measure.first_time_choice import REACH

    caption = f"± one standard error; L_0 is smoothed over log SNR ± {REACH}"
    made = Table(title=title, caption=caption, header_style="bold")
    for name in ("first\ntime", "L_0", "L_t\nsummed", "total", "±", "to the\nlowest", "paired\n±"):
        made.add_column(name, justify="right")
    made.add_column("")
    marks = {now: ["now"]}
    marks.setdefault(choice.lowest, []).append("lowest")
    if choice.first_time != choice.lowest:
        marks.setdefault(choice.first_time, []).append("chosen")
    shown = {*geometric(int(curve["first_time"].max()), _ROWS), *marks}
    columns = ["L_0", "L_t_sum", "total", "total_se", "difference", "difference_se"]
    for t, values in zip(curve["first_time"].tolist(), curve[columns].to_numpy().tolist(), strict=True):
        if t in shown:
            mark = ", ".join(marks.get(t, []))
            made.add_row(str(t), *(f"{value:.4f}" for value in values), mark, style="bold" if mark else "")
    return made


def findings(curve: pd.DataFrame, choice: Choice, now: EvaluateParams, decoder: str) -> list[str]:
    """The choice in words, and the lines of params.yaml that it means."""
    rows = curve.set_index("first_time")
    lowest, level = rows.loc[choice.lowest], choice.level
    bound = f"{lowest.total:.4f} ± {lowest.total_se:.4f} bits/dim, of which L_T {lowest.L_T:.4f}"
    lines = [f"lowest   first_time {choice.lowest}: {bound}"]
    if len(level) > 1:
        many = f"{len(level)} first times, {level[0]} to {level[-1]}"
        lines.append(f"level    {many}, are within two paired standard errors of it; the smallest leaves out least")
    if now.first_time in rows.index and now.first_time != choice.lowest:
        here = rows.loc[now.first_time]
        apart = f"{here.difference:.4f} ± {here.difference_se:.4f}"
        lines.append(f"now      first_time {now.first_time}: {apart} above the lowest")
    if (choice.first_time, decoder) == (now.first_time, now.decoder):
        return [*lines, f"keep     first_time: {now.first_time}, as params.yaml has it"]
    keys = {"decoder": decoder} if decoder != now.decoder else {}
    aim = " to use this decoder" if keys else ""
    lines.append(f"write    into params.yaml{aim}, then run `dvc repro`:\n           evaluate:")
    return lines + [f"             {key}: {value}" for key, value in {**keys, "first_time": choice.first_time}.items()]


def _arguments() -> argparse.Namespace:
    description = (__doc__ or "").split("\n\n")[1]
    parser = argparse.ArgumentParser(prog="python -m pipelines.first_time", description=description)
    decoders = get_args(EvaluateParams.model_fields["decoder"].annotation)
    parser.add_argument("--decoder", choices=decoders, help="another one than evaluate.decoder")
    parser.add_argument("--images", type=_images, metavar="N", help="measure the first N only (default: all)")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="where the curve goes (default: in .state/first_time/)"
    )
    return parser.parse_args()


def _images(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"must be a whole number of 2 or more, got {text!r}")
    return int(text)


def _files(csv: Path | None, decoder: str) -> tuple[Path, Path]:
    """Where curve and picture go; refused now rather than after minutes of work."""
    folder = state() / "first_time"
    folder.mkdir(exist_ok=True)
    if csv and (csv.is_dir() or not csv.parent.is_dir()):
        raise ParamsError(f"--csv {csv} cannot be written: name a file in a folder that exists")
    return csv or folder / f"{decoder}.csv", folder / f"{decoder}.png"


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
