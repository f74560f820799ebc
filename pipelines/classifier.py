"""Stage `classifier`: a classifier of noised images, by which sampling can be guided to a class.

With `classifier.steps: 0` there is none, and the stage says so in a moment. It is trained on the images and the process
that the model is trained on, apart from it, so that a model without labels can be guided too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.params import Params, load_params
from pipelines.project import results
from pipelines.settings import Settings, load_settings
from pipelines.stage import outputs

if TYPE_CHECKING:
    from rich.table import Table

    from pipelines.measure.noised_classifier import Accuracy

CARD, TABLE, PICTURE = "card.json", "accuracy.csv", "accuracy.png"
_SHOWN = 6


def main() -> None:
    """Train what params.yaml asks for and leave it in results/classifier/."""
    from pipelines.runs.digest import digest
    from pipelines.tracking.run import stage_run

    params, settings = load_params(), load_settings()
    if params.classifier.steps:
        _train(params, settings)
        return
    none = {"steps": 0}
    with outputs(results("classifier")) as folder:
        _write_card(folder, none)
    with stage_run("classifier", params, settings, key=digest(none), send=False) as tracker:
        tracker.metrics(0, {"classifier/steps": 0})
    print("no classifier: classifier.steps is 0")


def _train(params: Params, settings: Settings) -> None:
    from rich.console import Console

    from pipelines.tracking.machine import work
    from pipelines.tracking.run import stage_run

    final = results("classifier")
    with work() as done, outputs(final) as folder:
        card, found = make(params, settings, results("prepare"), folder)
    with stage_run("classifier", params, settings, key=card["digest"]) as tracker:
        tracker.work("classifier", done, workers=1)
        tracker.metrics(0, {"classifier/steps": params.classifier.steps})
        tracker.tags({"classifier.digest": card["digest"], "data.digest": card["data"]})
        for each in found:
            tracker.metrics(each.t, {"classifier/accuracy": each.accuracy, "classifier/bits": each.bits})
        for path in (final / CARD, *([final / PICTURE] if found else [])):
            tracker.artifact(path)
    if found:
        Console(highlight=False).print(table(found))


def make(params: Params, settings: Settings, data: Path, folder: Path) -> tuple[dict[str, Any], list[Accuracy]]:
    """Train the classifier and write it to `folder`, with its card and its accuracy on validation images.

    Raises:
        DataError: the images have no labels.
        ParamsError: the network does not fit them.
        TrainingError: the loss is not finite.
    """
    from dataclasses import asdict
    from functools import partial

    import pandas as pd

    from diffusion.models.saved_classifier import save_classifier
    from pipelines.build import build_schedule
    from pipelines.cluster.parallel import on_ray, serial_map
    from pipelines.data.dataset import open_split
    from pipelines.data.manifest import read_manifest
    from pipelines.data.sharing import share_images
    from pipelines.measure.model import device_of
    from pipelines.measure.noised_classifier import Accuracy, Task, accuracies, trained
    from pipelines.report.pictures import accuracy_by_time

    task = Task(params.classifier, build_schedule(params.process), params.seed, device_of(settings))
    on_gpu = task.device == "cuda"  # which is had through Ray alone
    train = open_split(share_images(data, settings) if on_gpu else data, "train")
    task.check(train)
    mapper = on_ray(settings) if on_gpu else serial_map
    [(_, net)] = mapper(partial(trained, task), [train])
    [(_, found)] = serial_map(partial(accuracies, net, task), [open_split(data, "val")])
    card = {
        "steps": params.classifier.steps,
        "classes": train.classes,
        "seed": params.seed,
        "process": params.process.model_dump(mode="json"),
        "classifier": params.classifier.model_dump(mode="json"),
        "data": read_manifest(data).digest,
        "device": task.device,
    }
    card["digest"] = save_classifier(folder, net, task.schedule, train.levels, card)
    _write_card(folder, card)
    frame = pd.DataFrame([asdict(each) for each in found], columns=list(Accuracy.__dataclass_fields__))
    frame.to_csv(folder / TABLE, index=False)
    if found:
        accuracy_by_time(frame, len(train.classes), folder / PICTURE)
    return card, found


def table(found: list[Accuracy]) -> Table:
    """The accuracy at some of the times."""
    from rich.table import Table

    shown = [found[round(k * (len(found) - 1) / (_SHOWN - 1))] for k in range(_SHOWN)]
    made = Table(title=f"the classifier on the first {found[0].images:,} validation images", header_style="bold")
    for name in ("t", "log SNR", "right", "bits of the class not known"):
        made.add_column(name, justify="right")
    for each in dict.fromkeys(shown):
        made.add_row(str(each.t), f"{each.log_snr:+.1f}", f"{each.accuracy:.1%}", f"{each.bits:.2f}")
    return made


def _write_card(folder: Path, card: dict[str, Any]) -> None:
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from pipelines.remote.stage import run_stage

    run_stage(main)
