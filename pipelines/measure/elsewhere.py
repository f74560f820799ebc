"""Measuring a model that is not the one in results/: drawn from, and evaluated, as the stages would."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.data.manifest import read_manifest
from pipelines.errors import DataError
from pipelines.measure.bound import Measuring
from pipelines.measure.drawing import Drawing, drawing_of
from pipelines.measure.evaluating import Evaluation, Inputs, bound_card, evaluate
from pipelines.measure.model import Weights, device_of, find_model
from pipelines.measure.reference import read_reference
from pipelines.params import Params
from pipelines.project import results
from pipelines.settings import Settings


@dataclass(frozen=True)
class Measured:
    """Where it is left."""

    evaluated: Path
    samples: Path
    evaluation: Evaluation


@dataclass(frozen=True)
class Plan:
    """What would be measured."""

    params: Params
    settings: Settings
    drawing: Drawing
    measuring: Measuring
    inputs: Inputs

    @classmethod
    def of(cls, trained: Path, weights: Weights, params: Params, settings: Settings, into: Path) -> Plan:
        """The model in `trained` on the prepared data and the reference of results/, as the parameters say.

        Args:
            weights: instead of those that the parameters name: which ones a version draws with is part of it.

        Raises:
            DataError: the data or the reference is not there.
            ParamsError: the parameters do not fit the model.
            CheckpointError: the model is missing or damaged.
        """
        for stage in ("prepare", "reference"):
            if not results(stage).is_dir():
                raise DataError(f"results/{stage} is missing: run `dvc repro {stage}` first")
        sections = {name: getattr(params, name).model_copy(update={"weights": weights}) for name in _WITH_WEIGHTS}
        params = params.model_copy(update=sections)
        classes = read_manifest(results("prepare")).classes
        drawing = drawing_of(params, settings, trained, results("classifier"), classes)
        model = find_model(trained, weights, device_of(settings))
        inputs = Inputs(results("prepare"), results("reference"), into / "sample")
        return cls(params, settings, drawing, Measuring(model, params.evaluate, params.seed), inputs)

    def cards(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Those of the bound, of the samples and of the reference, as they will be where the memory suffices."""
        from pipelines.measure.sampling import card_of

        drawn = card_of(self.drawing, self.drawing.model.on_cpu())
        reference = read_reference(self.inputs.reference).card
        return asdict(bound_card(self.measuring, self.inputs.data)), asdict(drawn), asdict(reference)

    def carry_out(self, into: Path) -> Measured:
        """Draw and evaluate.

        Raises:
            PipelineError: as the stages.
        """
        from pipelines.cluster.parallel import on_ray
        from pipelines.cluster.session import ray_session
        from pipelines.measure.features import by_size
        from pipelines.measure.job import draw_job
        from pipelines.measure.tables import write_evaluation

        evaluated = into / "evaluate"
        evaluated.mkdir(parents=True)
        with ray_session(self.settings):
            draw_job(self.inputs.samples, self.drawing, self.settings)
            measuring = replace(self.measuring, model=self.measuring.model.shared(self.settings))
            evaluation = evaluate(measuring, self.inputs, on_ray(self.settings), by_size(self.settings))
            write_evaluation(evaluated, evaluation)
        return Measured(evaluated, self.inputs.samples, evaluation)


_WITH_WEIGHTS = ("sample", "evaluate")
