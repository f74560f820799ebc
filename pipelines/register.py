"""Stage `register`: the trained and evaluated model as a version in the MLflow registry.

Idempotent, since it acts where DVC does not see: a version with this model is found, not made again, and a new
evaluation of it is added as another measurement. What a killed process left undone of the gate's decision is done by
the next one. `python -m pipelines.register` by hand registers results/ again when a registry was emptied.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import CheckpointError, TrackingError
from pipelines.params import Params, load_params
from pipelines.project import results, state, workspace
from pipelines.report.scores import distances
from pipelines.settings import Settings, load_settings
from pipelines.stage import outputs

if TYPE_CHECKING:
    from pipelines.tracking.registry import Version
    from pipelines.tracking.store import Store

RECEIPT = "receipt.json"


@dataclass(frozen=True)
class Receipt:
    """What stands in the registry."""

    name: str
    version: int
    champion: bool
    """Whether the gate made it champion."""
    decision: str
    """The gate's reason."""
    model_digest: str
    evaluation_digest: str
    comparable: bool = True
    """Whether there was a champion, or a former one, that was measured in the same way."""
    measurable: bool = True
    """Whether measuring both in one way would make them comparable."""
    against: int | None = None
    """The version that it was compared with."""


@dataclass(frozen=True)
class Results:
    """What is registered."""

    trained: Path
    """Folder of the model."""
    evaluated: Path
    """Folder of its evaluation."""
    samples: Path
    model_digest: str
    training: dict[str, Any] | None
    """results/train/metrics.json; None for a model that was trained elsewhere."""
    evaluation: dict[str, Any]
    """metrics.json of the evaluation."""
    evaluation_digest: str
    run_key: str
    """Of its training."""

    @property
    def weights(self) -> str:
        """Those that were evaluated: `ema` or `raw`."""
        return str(self.evaluation["bits_per_dim"]["card"]["weights"])


def read_results() -> Results:
    """The outputs of train, sample and evaluate.

    Raises:
        TrackingError: one is missing, or the evaluation is of another model.
        CheckpointError: the model is damaged.
    """
    return results_in(results("train"), results("evaluate"), results("sample"))


def results_in(trained: Path, evaluated: Path, samples: Path, *, elsewhere: bool = False) -> Results:
    """The same from these folders.

    Args:
        elsewhere: the model was trained elsewhere: nothing of this project says how.

    Raises:
        TrackingError, CheckpointError: as `read_results`.
    """
    from diffusion.models.description import Description
    from pipelines.tracking.intact import content_of

    for path in (trained / "model.json", evaluated / "metrics.json", samples / "samples.npy"):
        if not path.exists():
            raise TrackingError(f"{_shown(path)} is missing: run `dvc repro` first")
    digest, model = content_of(trained), Description.read(trained)
    if digest != model.digests.content:
        raise CheckpointError(
            f"{_shown(trained)}/model.json describes model {model.digests.content[:12]}, model.safetensors is "
            f"{digest[:12]}: bring back the folder as it was trained, or train it again"
        )
    training, content = trained / "metrics.json", (evaluated / "metrics.json").read_bytes()
    found = Results(
        trained,
        evaluated,
        samples,
        digest,
        json.loads(training.read_text()) if training.exists() and not elsewhere else None,
        json.loads(content),
        sha256(content).hexdigest(),
        "" if elsewhere else model.card.get("run", ""),
    )
    measured = found.evaluation["bits_per_dim"]["card"]["model_digest"]
    if measured not in vars(model.digests).values():
        raise TrackingError(
            f"{_shown(evaluated)} measured model {measured[:12]}, {_shown(trained)} holds {found.model_digest[:12]}: "
            "run `dvc repro` to bring them together"
        )
    return found


def _shown(path: Path) -> Path:
    return path.relative_to(workspace()) if path.is_relative_to(workspace()) else path


def register(params: Params, settings: Settings, found: Results) -> tuple[Receipt, bool]:
    """Find the version or make it, one process of this project at a time; the receipt, and whether anything is new.

    On another machine another may make it meanwhile. So it is looked for again: of two the older one is used.

    Raises:
        TrackingError: the registry does not answer or refuses; the next call does what is left to do.
    """
    from pipelines.tracking.gated import decision_of, pending, settle
    from pipelines.tracking.measurements import has, pack, stamped, upload
    from pipelines.tracking.registry import find, versions
    from pipelines.tracking.store import connect, exclusive, tracking_errors

    name = params.register_.name
    store = connect(settings, name)
    with (
        exclusive(state() / f"register-{name}.lock"),
        tracking_errors(settings),
        tempfile.TemporaryDirectory() as scratch,
    ):
        packed = Path(scratch) / "measurement"
        measurement = pack(found.evaluated, found.samples, packed)
        there = find(versions(store, name), found.model_digest, found.weights)
        new = there is None or not has(there, measurement)
        if there is None:
            _make(store, params, settings, found, packed, measurement)
            there = find(versions(store, name), found.model_digest, found.weights)
        if there is None:
            raise TrackingError(f"the version of {name} that was just made is gone: somebody deleted it; try again")
        number = there.number
        if not has(there, measurement):
            upload(store, there.run_id, packed, measurement)
            tags = pending(params.register_.gate) | stamped(measurement, time.time_ns() // 1_000_000)
            for tag, value in tags.items():
                store.client.set_model_version_tag(name, str(number), tag, value)
        version = next(v for v in settle(store, settings, name, number) if v.number == number)
    return _receipt(version, found, decision_of(version)), new


def _make(
    store: Store, params: Params, settings: Settings, found: Results, packed: Path, measurement: dict[str, str]
) -> None:
    """Log the model to the stage's run and make a version of it, complete with its tags at once."""
    from pipelines.tracking import origin
    from pipelines.tracking.family import find_or_make_run
    from pipelines.tracking.gated import pending
    from pipelines.tracking.measurements import upload
    from pipelines.tracking.model import log_model
    from pipelines.tracking.run import identity
    from pipelines.tracking.store import quiet_mlflow

    name, client = params.register_.name, store.client
    run_id = find_or_make_run(store, identity("register", params, found.evaluation_digest))
    upload(store, run_id, packed, measurement)
    came_from: dict[str, str] = {}
    if found.training is not None:
        came_from = origin.pack(workspace(), packed.with_name("origin"))
        origin.upload(store, run_id, packed.with_name("origin"), came_from)
    logged = log_model(quiet_mlflow(settings), run_id, found.trained, found.weights)
    _make_model(client, name)
    tags = _facts(params, found) | came_from | measurement | pending(params.register_.gate)
    client.create_model_version(name, logged.artifact_location, run_id, tags=tags, model_id=logged.model_id)


def _make_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    if client.search_registered_models(f"name='{name}'"):
        return
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another machine was first
            raise


def _facts(params: Params, found: Results) -> dict[str, str]:
    """All that a version is found, compared and traced back by, besides its measurements."""
    from pipelines.tracking.lineage import lineage, params_flat
    from pipelines.tracking.took import total

    bits = found.evaluation["bits_per_dim"]
    took = {"train": total("train", found.run_key)}
    return lineage() | {
        "model.digest": found.model_digest,
        "data.digest": bits["card"]["data_digest"],
        "weights": found.weights,
        "run.key": found.run_key,
        "platforms": json.dumps(_platforms(found.trained)),
        "bits_per_dim": f"{bits['total']:.6g}",
        **{name: f"{distance['value']:.6g}" for name, distance in distances(found.evaluation).items()},
        "training": json.dumps(found.training or {}, sort_keys=True),
        "params": json.dumps(_params_of(found, params_flat(params)), sort_keys=True),
        "took": json.dumps({stage: cost for stage, cost in took.items() if cost}, sort_keys=True),
    }


def _platforms(trained: Path) -> list[dict[str, Any]]:
    """Where its steps were made."""
    return list(json.loads((trained / "model.json").read_text())["card"].get("platforms", []))


def _params_of(found: Results, params: dict[str, str]) -> dict[str, str]:
    """Of a model that was trained elsewhere those alone by which it was measured."""
    own = ("process.", "model.", "train.")
    return params if found.training is not None else {k: v for k, v in params.items() if not k.startswith(own)}


def _receipt(version: Version, found: Results, decision: dict[str, Any]) -> Receipt:
    return Receipt(
        name=version.name,
        version=version.number,
        champion=decision.get("champion", False),
        decision=decision.get("reason", ""),
        model_digest=found.model_digest,
        evaluation_digest=found.evaluation_digest,
        comparable=decision.get("comparable", True),
        measurable=decision.get("measurable", True),
        against=decision.get("against"),
    )


def told(receipt: Receipt, *, new: bool) -> str:
    """What a person is told."""
    if not new:
        return f"{receipt.name} version {receipt.version} is this model with this evaluation already: nothing to do"
    alias = "now champion" if receipt.champion else "not champion"
    line = f"registered {receipt.name} version {receipt.version}; {alias}: {receipt.decision}"
    model = f"models:/{receipt.name}"
    promote = f"python -m pipelines.promote {model}/{receipt.version}"
    if receipt.comparable or not receipt.measurable:
        return line
    if receipt.against is None:
        return f"{line}\nto make it champion: {promote} --reason TEXT"
    return f"{line}\nto compare them: python -m pipelines.remeasure {model}/{receipt.against} && {promote}"


def main() -> None:
    """Register what results/ holds."""
    from pipelines.tracking.machine import work
    from pipelines.tracking.run import stage_run

    params, settings, found = load_params(), load_settings(), read_results()
    with stage_run("register", params, settings, key=found.evaluation_digest) as tracker:
        with work() as done:
            receipt, new = register(params, settings, found)
        tracker.work("register", done, workers=1)
        tracker.tags({"model.digest": receipt.model_digest, "evaluation.digest": receipt.evaluation_digest})
        tracker.tags({"model.version": str(receipt.version), "gate.champion": str(receipt.champion).lower()})
    with outputs(results("register")) as folder:
        (folder / RECEIPT).write_text(json.dumps(asdict(receipt), indent=2) + "\n")
    print(told(receipt, new=new))


if __name__ == "__main__":
    from pipelines.stage import run

    run(main)
