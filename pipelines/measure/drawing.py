"""Drawing images: the task of the sample stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from diffusion.drawing import Drawn, Guidance, Recipe, draw
from diffusion.drawing.draw import labels
from diffusion.models.saved import SavedModel
from diffusion.models.unet import UNet
from diffusion.samplers import options_of
from pipelines.errors import ParamsError, TrainingError
from pipelines.measure.chunks import chunks
from pipelines.measure.compiled import compiled
from pipelines.measure.fitting import Fitted, Work, fitted
from pipelines.measure.model import ClassifierRef, ModelRef, device_of, find_classifier, find_model
from pipelines.sections_of_sampling import SampleParams

if TYPE_CHECKING:
    from pipelines.params import Params
    from pipelines.settings import Settings

_NAMED = 20
"""Classes that an error names."""
IMAGES_SHOWN = 8
"""Images whose way out of the noise is kept."""


@dataclass(frozen=True)
class Drawing:
    """All that an image depends on, besides its number."""

    model: ModelRef
    how: SampleParams
    seed: int
    classifier: ClassifierRef | None = None
    """Where one guides."""

    @property
    def recipe(self) -> Recipe:
        """Sampler and times."""
        return recipe_of(self.how)

    def check(self) -> None:
        """Find here what would stop the tasks.

        Raises:
            ParamsError: the parameters do not fit the model, or the classifier does not.
        """
        try:
            classifier = self.classifier.on_cpu() if self.classifier else None
            self.recipe.check(self.model.on_cpu(), classifier)
            labels(self.classes, (), self.how.label)
        except ValueError as error:
            raise ParamsError(f"section sample of params.yaml: {error}") from None

    def shared(self, settings: Settings) -> Drawing:
        """The same for tasks on all machines of the cluster.

        Raises:
            DataError, StoreError: model or classifier cannot be put where they have it from.
        """
        classifier = self.classifier.shared(settings) if self.classifier else None
        return replace(self, model=self.model.shared(settings), classifier=classifier)

    @property
    def classes(self) -> int | None:
        """How many there are; of the classifier for a model without."""
        return self.model.on_cpu().classes or (self.classifier.on_cpu().classes if self.classifier else None)


def drawing_of(params: Params, settings: Settings, trained: Path, classifier: Path, classes: Sequence[str]) -> Drawing:
    """What the parameters ask for, of the model in `trained`, with the classifier of the other folder where one guides.

    Args:
        classes: the names of the labels.

    Raises:
        ParamsError: it does not fit the model, there is no such class or no classifier.
        CheckpointError: the model or the classifier is missing or damaged.
    """
    how, device = params.sample, device_of(settings)
    if how.label is not None and how.label >= len(classes):
        names = ", ".join(f"{i} ({name})" for i, name in enumerate(classes[:_NAMED])) or "none"
        more = ", .." if len(classes) > _NAMED else ""
        raise ParamsError(f"sample.label is {how.label}, but the classes are {names}{more}: name one by its number")
    guide = find_classifier(classifier, device) if how.guidance == "classifier" else None
    drawing = Drawing(find_model(trained, how.weights, device), how, params.seed, guide)
    drawing.check()
    return drawing


def recipe_of(how: SampleParams) -> Recipe:
    """The recipe that the parameters spell out; what other samplers would need of them is left out."""
    given = how.model_dump(exclude_none=True)
    options = {name: given[name] for name in options_of(how.sampler) if name in given}
    guidance = Guidance(how.guidance, how.guidance_scale, how.guidance_interval)
    return Recipe(how.sampler, how.steps, how.spacing, options, how.clip_x0, guidance)


def draw_fitting(drawing: Drawing, ids: range) -> Fitted[Drawn]:
    """The task: the images with these numbers in one batch, or in as many smaller ones as the memory wants.

    Raises:
        TrainingError: an image became non-finite; the message names it, the time and the sampler.
        PipelineError: the memory has no room for a single image.
    """

    def in_batches(size: int) -> Drawn:
        parts = (ids[part.start : part.stop] for part in chunks(len(ids), size))
        whole = size == len(ids)  # if it is the last batch, which may be shorter, it is no reason to compile anew
        return Drawn.joined([_draw(drawing, part, drawing.how.batch_size if whole else size) for part in parts])

    work = Work("sampling", "sample.batch_size", drawing.model.on_cpu().shape, drawing.model.device)
    return fitted(in_batches, len(ids), work)


def _draw(drawing: Drawing, ids: range, size: int) -> Drawn:
    how = drawing.how
    saved = _compiled(drawing.model, size) if how.compile else drawing.model.open()
    try:
        return draw(
            saved,
            drawing.recipe,
            drawing.seed,
            ids,
            label=how.label,
            classifier=drawing.classifier.open() if drawing.classifier else None,
            shown=max(IMAGES_SHOWN - ids.start, 0),
        )
    except ValueError as error:
        raise TrainingError(
            f"sampling images {ids.start} to {ids.stop - 1} with {how.sampler}: {error}. "
            "Train longer or with a lower learning rate, or set sample.clip_x0 to true"
        ) from error


@lru_cache(maxsize=1)
def _compiled(ref: ModelRef, size: int) -> SavedModel:
    """The model with its network compiled for batches of this size."""
    saved = ref.open()
    return replace(saved, net=cast(UNet, compiled(saved.net, size)))
