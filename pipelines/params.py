"""params.yaml as frozen, strict models: every number that changes a result, and nothing else.

`load_params()` reads the file as DVC does (YAML 1.2) and checks all of it before any work starts; a bad value raises
`ParamsError` naming the key, the value, what is allowed and the nearest known key. `python -m pipelines.params` checks
the file from the command line; with `--schema` it prints the JSON schema that editors use for completion.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from pipelines.configuration import bad_values, read_yaml, with_changes
from pipelines.project import workspace
from pipelines.sections import (
    DataParams,
    EvaluateParams,
    ModelParams,
    PrepareParams,
    ProcessParams,
    ReferenceParams,
    RegisterParams,
    Section,
    TrainParams,
    fewest_images,
)
from pipelines.sections_of_sampling import ClassifierParams, SampleParams


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(ge=0, lt=2**63)
    """Everything random is a function of this number and a position."""
    data: DataParams
    prepare: PrepareParams = PrepareParams()
    reference: ReferenceParams = ReferenceParams()
    process: ProcessParams
    model: ModelParams
    train: TrainParams
    classifier: ClassifierParams = ClassifierParams()
    sample: SampleParams
    evaluate: EvaluateParams = EvaluateParams()
    register_: RegisterParams = Field(alias="register")

    @model_validator(mode="after")
    def _times_exist(self) -> Params:
        T = self.process.T
        for key, value in (
            ("sample.steps", self.sample.steps),
            ("sample.guidance_interval", self.sample.guidance_interval and self.sample.guidance_interval[1]),
            ("evaluate.first_time", self.evaluate.first_time),
        ):
            if value is not None and value > T:
                raise ValueError(f"{key} ({value}) must not exceed process.T ({T})")
        if self.train.val_calls >= T:
            most = T - 1 - T % 2  # odd
            raise ValueError(
                f"train.val_calls ({self.train.val_calls}) must be below process.T ({T}): set it to {most} or less"
            )
        return self

    @model_validator(mode="after")
    def _variance_is_learned(self) -> Params:
        for key, value in (("evaluate.variance", self.evaluate.variance), ("sample.variance", self.sample.variance)):
            if value == "learned" and not self.model.learned_variance:
                raise ValueError(f"{key} is learned, but model.learned_variance is false: nothing learns it")
        if self.model.learned_variance and self.train.objective == "simple":
            raise ValueError(
                "model.learned_variance needs train.objective hybrid or bound: the objective simple trains no variance"
            )
        return self

    @model_validator(mode="after")
    def _eps_is_seen(self) -> Params:
        if self.process.zero_terminal_snr and self.model.predicts == "eps":
            raise ValueError(
                "process.zero_terminal_snr is true: at T there is only noise, and a network that predicts it says "
                "nothing of the image; set model.predicts to v or x_0"
            )
        return self

    @model_validator(mode="after")
    def _dropped_labels_are_told(self) -> Params:
        if self.train.label_dropout > 0 and not self.model.class_conditional:
            raise ValueError(
                f"train.label_dropout is {self.train.label_dropout}, but model.class_conditional is false: the network "
                "is told no labels that could be left out; set one or the other"
            )
        return self

    @model_validator(mode="after")
    def _guidance_has_what_it_needs(self) -> Params:
        sample, told = self.sample, self.model.class_conditional
        if sample.label is not None and not told and sample.guidance != "classifier":
            raise ValueError(
                f"sample.label is {sample.label}, but model.class_conditional is false: the network knows no classes; "
                "set it to true, or sample.guidance to classifier"
            )
        if sample.guidance == "classifier_free" and not (told and self.train.label_dropout > 0):
            raise ValueError(
                "sample.guidance is classifier_free: the network must be told the class, and must have learned to do "
                f"without; set model.class_conditional to true (it is {str(told).lower()}) and train.label_dropout to "
                f"0.1 or so (it is {self.train.label_dropout})"
            )
        if sample.guidance == "classifier" and not self.classifier.steps:
            raise ValueError(
                "sample.guidance is classifier, but classifier.steps is 0: no classifier is trained; set it to some "
                "hundreds or thousands"
            )
        return self

    @model_validator(mode="after")
    def _enough_samples(self) -> Params:
        count, how = self.sample.count, self.reference
        if count < (fewest := fewest_images(how.dimension)):
            raise ValueError(
                f"sample.count ({count}) must be {fewest} or more with the {how.dimension} features of "
                f"reference.extractor {how.extractor}, or the covariance of the samples is singular or close to it"
            )
        return self


def load_params(path: Path | None = None, changes: Sequence[str] = ()) -> Params:
    """Read and check params.yaml (of the workspace, unless `path` names another file).

    Args:
        changes: values that count instead of the file's, as `dvc exp run -S` takes them: `evaluate.images=100`.

    Raises:
        ParamsError: the file is missing, is not YAML, or a value is unknown, missing, mistyped or out of range; the
            message lists every problem.
    """
    path = path or workspace() / "params.yaml"
    try:
        return Params.model_validate(with_changes(read_yaml(path), changes))
    except ValidationError as error:
        raise bad_values(Params, error, path) from None


def json_schema() -> str:
    """The JSON schema of params.yaml, as kept in params.schema.json."""
    return json.dumps(Params.model_json_schema(by_alias=True), indent=2) + "\n"


def main() -> None:
    """Check params.yaml, or print its JSON schema."""
    parser = argparse.ArgumentParser("python -m pipelines.params", description=main.__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="another file than the project's params.yaml")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema that params.schema.json holds")
    asked = parser.parse_args()
    if asked.schema:
        print(json_schema(), end="")
        return
    params = load_params(asked.file)
    process = params.process
    print(f"params are valid: {params.data.source}, {process.schedule} T={process.T}, {params.train.steps} steps")


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
