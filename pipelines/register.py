"""Stage `register`: the trained and evaluated model as a version in the MLflow registry.

Idempotent, since it acts where DVC does not see: a version with this model and this evaluation is found, not made
again. What a killed process left undone of its gate's decision is done by the next one.
`python -m pipelines.register` by hand registers results/ again when a registry was emptied.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipelines.errors import TrackingError
from pipelines.params import Params, load_params
from pipelines.project import results, state, workspace
from pipelines.report.scores import distances
from pipelines.settings import Settings, load_settings
from pipelines.stage import outputs

RECEIPT = "receipt.json"


@dataclass(frozen=True)
class Receipt:
    """What stands in the registry."""

    name: str
    version: int
    champion: bool
    """Whether the gate made it champion when it was registered."""
    decision: str
    """The gate's reason."""
    model_digest: str
    evaluation_digest: str


@dataclass(frozen=True)
class Results:
    """What is registered."""

    trained: Path
    model_digest: str
    training: dict[str, Any]
    """results/train/metrics.json."""
    evaluation: dict[str, Any]
    """results/evaluate/metrics.json."""
    evaluation_digest: str
    run_key: str

    @property
    def weights(self) -> str:
        """Those that were evaluated: `ema` or `raw`."""
        return str(self.evaluation["bits_per_dim"]["card"]["weights"])


def read_results() -> Results:
    """The outputs of train and evaluate.

    Raises:
        TrackingError: one is missing, or the evaluation is of another model.
    """
    trained, evaluated = results("train"), results("evaluate") / "metrics.json"
    for path in (trained / "model.json", trained / "metrics.json", evaluated):
        if not path.exists():
            raise TrackingError(f"{path.relative_to(workspace())} is missing: run `dvc repro` first")
    model = json.loads((trained / "model.json").read_text())
    content = evaluated.read_bytes()
    found = Results(
        trained,
        model["digests"]["content"],
        json.loads((trained / "metrics.json").read_text()),
        json.loads(content),
        sha256(content).hexdigest(),
        model["card"]["run"],
    )
    measured = found.evaluation["bits_per_dim"]["card"]["model_digest"]
    if measured not in model["digests"].values():
        raise TrackingError(
            f"results/evaluate measured model {measured[:12]}, results/train holds {found.model_digest[:12]}: "
            "run `dvc repro` to bring them together"
        )
    return found


def register(params: Params, settings: Settings, found: Results) -> tuple[Receipt, bool]:
    """Find the version or make it, one process of this project at a time; the receipt, and whether it is new.

    Raises:
        TrackingError: the registry does not answer or refuses; the next call does what is left to do.
    """
    from pipelines.tracking.gate import decide
    from pipelines.tracking.registry import PENDING, champion, find, settle, standing
    from pipelines.tracking.store import connect, exclusive, tracking_errors

    name = params.register_.name
    store = connect(settings, name)
    with exclusive(state() / f"register-{name}.lock"), tracking_errors(settings):
        known = settle(store, name)
        if there := find(known, found.model_digest, found.evaluation_digest):
            return _receipt(there.number, name, found, there.tags), False
        current = champion(known)
        decision = decide(found.evaluation["bits_per_dim"], current, params.register_.min_gain)
        tags = _tags(params, found) | {"gate.champion": str(decision.champion).lower(), "gate.reason": decision.reason}
        number = _make(params, settings, found, tags | {PENDING: standing(current)})
        settle(store, name)
    return _receipt(number, name, found, tags), True


def _make(params: Params, settings: Settings, found: Results, tags: dict[str, str]) -> int:
    """Log the model to the stage's run and make a version of it, complete with its tags at once."""
    from pipelines.tracking.model import log_model
    from pipelines.tracking.run import identity
    from pipelines.tracking.sender import find_or_make_run
    from pipelines.tracking.store import connect, quiet_mlflow

    mlflow = quiet_mlflow(settings)
    store = connect(settings, params.register_.name)
    run_id = find_or_make_run(store, identity("register", params, found.evaluation_digest))
    logged = log_model(mlflow, run_id, found.trained, found.weights)
    name, client = params.register_.name, store.client
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, logged.artifact_location, run_id, tags=tags, model_id=logged.model_id)
    return int(version.version)


def _tags(params: Params, found: Results) -> dict[str, str]:
    """All that a version is found, compared and traced back by."""
    from pipelines.tracking.lineage import lineage, params_flat

    lock = workspace() / "dvc.lock"
    bits = found.evaluation["bits_per_dim"]
    return lineage() | {
        "model.digest": found.model_digest,
        "evaluation.digest": found.evaluation_digest,
        "data.digest": bits["card"]["data_digest"],
        "weights": found.weights,
        "run.key": found.run_key,
        "dvc.lock.sha256": sha256(lock.read_bytes()).hexdigest() if lock.exists() else "",
        "bits_per_dim": f"{bits['total']:.6g}",
        **{name: f"{distance['value']:.6g}" for name, distance in distances(found.evaluation).items()},
        "evaluation": json.dumps(found.evaluation, sort_keys=True),
        "training": json.dumps(found.training, sort_keys=True),
        "params": json.dumps(params_flat(params), sort_keys=True),
    }


def _receipt(number: int, name: str, found: Results, tags: dict[str, str]) -> Receipt:
    made_champion = tags.get("gate.champion") == "true"
    return Receipt(
        name, number, made_champion, tags.get("gate.reason", ""), found.model_digest, found.evaluation_digest
    )


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
    if not new:
        print(f"{receipt.name} version {receipt.version} is this model with this evaluation already: nothing to do")
        return
    alias = "now champion" if receipt.champion else "champion stays"
    print(f"registered {receipt.name} version {receipt.version}; {alias}: {receipt.decision}")


if __name__ == "__main__":
    from pipelines.stage import run

    run(main)
