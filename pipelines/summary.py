"""`python -m pipelines.summary`: what `make repro` ends with — the numbers of results/, and where to look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import TrackingError
from pipelines.project import results
from pipelines.report.scores import distances, samples_table
from pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.table import Table

_FILES = {
    "train": "metrics.json",
    "evaluate": "metrics.json",
    "register": "receipt.json",
}


def main() -> None:
    """Print what the stages that have run say."""
    from rich.console import Console

    found = {stage: _read(results(stage) / name) for stage, name in _FILES.items()}
    console = Console(highlight=False)
    if missing := [stage for stage, content in found.items() if not content]:
        console.print(f"no results of {', '.join(missing)} yet: run `dvc repro`")
    if evaluation := found["evaluate"]:
        console.print(bound_table(evaluation["bits_per_dim"], evaluation["yardstick"]))
        for metric, distance in distances(evaluation).items():
            console.print(samples_table(metric, distance))
    if lines := facts(found["train"], found["evaluate"], found["register"]):
        console.print(*lines, sep="\n", soft_wrap=True)
    if (receipt := found["register"]) and (note := registry_note(receipt, load_settings())):
        console.print(note, soft_wrap=True, markup=False)


def bound_table(bits: dict[str, Any], yardstick: dict[str, float]) -> Table:
    """The bound by term, and below it what the same images cost without a model."""
    from rich.table import Table

    card = bits["card"]
    what = "bits per dimension, as a density," if card["decoder"] == "gaussian" else "bits per dimension"
    table = Table(title=f"{what} on {card['images']} test images", header_style="bold")
    for name, side in (("", "left"), ("mean", "right"), ("standard error", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    steps = "all steps" if card["first_time"] == 1 else f"above t = {card['first_time']}"
    for name, text in (("L_T", "L_T, the prior"), ("L_t_sum", f"L_t, {steps}"), ("L_0", "L_0, the decoder")):
        table.add_row(text, f"{bits[name]:.4f}", f"{bits[f'{name}_se']:.4f}")
    table.add_section()
    table.add_row("[bold]total[/]", f"[bold]{bits['total']:.4f}[/]", f"{bits['total_se']:.4f}")
    table.add_section()
    table.add_row("a histogram per pixel", f"{yardstick['histogram']:.4f}", "")
    table.add_row("uniform over the levels", f"{yardstick['uniform']:.4f}", "")
    return table


def facts(train: dict[str, Any], evaluation: dict[str, Any], receipt: dict[str, Any]) -> list[str]:
    """One line each: the model, the version, where to look."""
    lines = []
    if train:
        lines.append(f"model     {train['parameters']:,} parameters, {train['steps']:,} steps")
    if receipt:
        champion = "made champion" if receipt["champion"] else "not made champion"
        lines.append(f"registry  {receipt['name']} version {receipt['version']}, {champion} ({receipt['decision']})")
    if train and evaluation:
        lines += [
            "pictures  results/sample/grid.png  results/evaluate/bound_per_timestep.png  and beside them",
            "look      make ui    python -m pipelines.compare",
        ]
    return lines


def registry_note(receipt: dict[str, Any], settings: Settings) -> str | None:
    """One line if the registry lacks the receipt's version: DVC does not see that it was emptied or is another one."""
    from pipelines.tracking.registry import versions
    from pipelines.tracking.store import connect, tracking_errors

    name, number = receipt["name"], receipt["version"]
    try:
        store = connect(settings, name, make=False)
        with tracking_errors(settings):
            known = {(v.number, v.model_digest) for v in versions(store, name)}
    except TrackingError as error:
        return f"not checked whether the registry holds {name} version {number}: {error}"
    if (number, receipt["model_digest"]) in known:
        return None
    return f"this registry does not hold {name} version {number}: run `python -m pipelines.register` to enter it"


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


if __name__ == "__main__":
    from pipelines.stage import run

    run(main)
