"""Stage `evaluate`: the variational bound on the test split, term by term, and how far the samples are from the data.

The bound is exact in t: every time is visited once for each image, and beside it stands what the same images cost
without a model. The samples are compared with the training images in the features of the reference stage: Fréchet
distance with an interval and its value for infinitely many images, KID, precision and recall. Beside these stands what
held-out images come to.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.measure.evaluating import Evaluation
    from pipelines.tracking.run import Tracker


def main() -> None:
    """Measure the model in results/train/ and leave the numbers in results/evaluate/."""
    from pipelines.cluster.code import code_tags
    from pipelines.cluster.parallel import on_ray, workers_at_once
    from pipelines.cluster.session import ray_session
    from pipelines.measure.bound import Measuring
    from pipelines.measure.evaluating import Inputs, evaluate
    from pipelines.measure.features import by_size
    from pipelines.measure.model import device_of, find_model
    from pipelines.measure.tables import METRICS, PER_IMAGE, PER_TIMESTEP, SHARES, write_evaluation
    from pipelines.params import load_params
    from pipelines.project import results
    from pipelines.settings import load_settings
    from pipelines.stage import outputs
    from pipelines.tracking.machine import work
    from pipelines.tracking.run import stage_run

    params, settings = load_params(), load_settings()
    model = find_model(results("train"), params.evaluate.weights, device_of(settings))
    inputs = Inputs(results("prepare"), results("reference"), results("sample"))
    final = results("evaluate")
    with work() as done, ray_session(settings) as ray, outputs(final) as folder:
        workers = workers_at_once(ray, settings)
        measuring = Measuring(model.shared(settings), params.evaluate, params.seed)
        evaluation = evaluate(measuring, inputs, on_ray(settings), by_size(settings))
        write_evaluation(folder, evaluation)
    with stage_run("evaluate", params, settings, key=evaluation.key) as tracker:
        tracker.work("evaluate", done, workers)
        tracker.tags(code_tags(settings))
        track(tracker, evaluation)
        for path in (
            *(final / name for name in (METRICS, PER_TIMESTEP, PER_IMAGE, SHARES)),
            *sorted(final.glob("*.png")),
        ):
            tracker.artifact(path)
    print(evaluation.summary(), *evaluation.distance.card.warnings, sep="\n")


def named(metric: str, numbers: dict[str, float]) -> dict[str, float]:
    """Names for MLflow: `fd_classifier` for the value, `fd_classifier_low`, `fd_classifier_kid` .. for the others."""
    return {metric if name == "value" else f"{metric}_{name}": number for name, number in numbers.items()}


def track(tracker: Tracker, evaluation: Evaluation) -> None:
    """Log the numbers under their names, and L_t as one curve with step = t."""
    from pipelines.measure.tables import bits_of

    distance = evaluation.distance
    cards = {"bound.card": asdict(evaluation.card), f"{distance.metric}.card": asdict(distance.card)}
    digests = {"model.digest": evaluation.card.model_digest, "data.digest": evaluation.card.data_digest}
    tracker.tags(digests | {name: json.dumps(card, sort_keys=True) for name, card in cards.items()})
    tracker.metrics(
        0,
        {
            **{f"bound/{name}": value for name, value in bits_of(evaluation).items()},
            **named(distance.metric, distance.samples.numbers()),
            **(named(f"{distance.metric}_held_out", distance.held_out.numbers()) if distance.held_out else {}),
            "yardstick/uniform": evaluation.yardstick.uniform,
            "yardstick/histogram": evaluation.yardstick.histogram,
        },
    )
    tracker.metrics(
        0, {f"bound/L_t_{k:02d}": part.mean for k, part in enumerate(evaluation.bits.estimates().L_t_bins, 1)}
    )
    for t, L_t in zip(evaluation.bits.t.tolist(), evaluation.bits.L_t.mean.tolist(), strict=True):
        tracker.metrics(t, {"bound/L_t": L_t})


if __name__ == "__main__":
    from pipelines.remote.stage import run_stage

    run_stage(main)
