"""How images are led to their class, as plain values, and the model and guide that these stand for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from diffusion.models.saved import SavedModel
from diffusion.models.saved_classifier import SavedClassifier
from diffusion.samplers import ClassifierFree, ClassifierGuide
from diffusion.samplers.guidance import check_interval
from diffusion.samplers.loop import Guide, Model

KINDS = ("none", "classifier_free", "classifier")


@dataclass(frozen=True)
class Guidance:
    """Which guidance, how much, and when."""

    kind: str = "none"
    """One of `KINDS`."""
    scale: float = 1.0
    """w of `ClassifierFree`, s of `ClassifierGuide`."""
    interval: tuple[float, float] | None = None
    """The times at which there is guidance; None: all."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"guidance must be one of {', '.join(KINDS)}, got {self.kind!r}")
        check_interval(self.interval)

    def check(self, saved: SavedModel, classifier: SavedClassifier | None) -> None:
        """Find before anything is drawn what is lacking.

        Raises:
            ValueError: the model cannot be guided so, or the classifier is missing or does not fit it.
        """
        if self.kind == "classifier_free" and saved.classes is None:
            raise ValueError("guidance without labels: the model was trained without classes; train it with them")
        if self.kind == "classifier_free" and not saved.null_label:
            raise ValueError(
                "guidance is classifier_free, but the model was always told the class while it was trained: train it "
                "with train.label_dropout, 0.1 for example"
            )
        if self.kind == "classifier":
            if classifier is None:
                raise ValueError("guidance is classifier, but there is no classifier")
            classifier.check_fits(saved)

    def applied(
        self, saved: SavedModel, y: Tensor | None, classifier: SavedClassifier | None
    ) -> tuple[Model, Guide | None]:
        """What `sample` is given, for images of the classes y.

        Raises:
            ValueError: as `check`.
        """
        self.check(saved, classifier)
        told: Model = saved.net if saved.classes is None else partial(saved.net, y=y)
        if self.kind == "classifier_free":
            assert y is not None
            assert saved.classes is not None
            return ClassifierFree(saved.net, y, saved.classes, self.scale, self.interval), None
        if self.kind == "classifier":
            assert y is not None
            assert classifier is not None
            return told, ClassifierGuide(classifier.net, y, self.scale, self.interval)
        return told, None
