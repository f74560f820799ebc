"""Making the reference: which extractor, its weights, the moments of the training split, the floor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from diffusion.evaluation import Moments, check_full_rank
from pipelines.cluster.parallel import Mapper, serial_map
from pipelines.data.dataset import ImageSplit, open_split
from pipelines.data.manifest import Manifest, read_manifest
from pipelines.errors import DataError
from pipelines.measure.classifier import accuracy, train_classifier
from pipelines.measure.extractor import Design, Extractor, random_extractor
from pipelines.measure.features import Extraction, moments_of
from pipelines.measure.reference import Floor, Reference, ReferenceCard
from pipelines.sections import ReferenceParams

ExtractorName = Literal["classifier", "random"]


def make_reference(data: Path, how: ReferenceParams, seed: int, mapper: Mapper = serial_map) -> Reference:
    """Make the extractor, take the moments of the training split, and compare the test split with them.

    Args:
        data: folder of prepared images.
        seed: of the extractor's weights and of the order in which a classifier sees the images.
        mapper: what computes the features.

    Raises:
        DataError: a classifier is asked for without labels, or the covariance of so few images is singular.
    """
    train, test = open_split(data, "train"), open_split(data, "test")
    _check_enough(len(train), how.features)  # before a classifier is trained in vain
    made = _make_extractor(data, train, how, seed)
    extraction = Extraction(made.extractor, train.levels, "cpu")
    moments = _moments(extraction, train, mapper)
    try:
        check_full_rank(moments, "the training split")
    except ValueError as error:
        raise DataError(f"reference.features: {error}") from error
    card = _card(made, read_manifest(data), moments.n, seed)
    reference = Reference(made.extractor, moments.mean, moments.covariance, card)
    if len(test) <= how.features:
        return reference
    floor = Floor("test", len(test), reference.distance(_moments(extraction, test, mapper)))
    return replace(reference, card=replace(card, floor=floor))


def choose(how: ReferenceParams, train: ImageSplit) -> ExtractorName:
    """The extractor that `auto` stands for: the classifier if there are two labels or more.

    Raises:
        DataError: `classifier` without them.
    """
    found = 0 if train.labels is None else len(np.unique(train.labels))
    if how.extractor == "classifier" and found < 2:
        raise DataError(
            f"reference.extractor is `classifier`, but the training split has {found} different labels and two are "
            "needed: sort the images into one folder per class, or set reference.extractor to `auto` or `random`"
        )
    if how.extractor == "auto":
        return "classifier" if found >= 2 else "random"
    return how.extractor


@dataclass(frozen=True, eq=False)
class _Made:
    name: ExtractorName
    extractor: Extractor
    val_accuracy: float | None


def _make_extractor(data: Path, train: ImageSplit, how: ReferenceParams, seed: int) -> _Made:
    name = choose(how, train)
    channels, side, _ = train.shape
    if name == "random":
        return _Made(name, random_extractor(Design(channels, side, how.features, None), seed), None)
    design = Design(channels, side, how.features, len(train.classes))

    def trained(_: None) -> tuple[Extractor, float | None]:
        extractor = train_classifier(train, design, seed, how.steps)
        return extractor, accuracy(extractor, open_split(data, "val"))

    [(_, (extractor, val_accuracy))] = serial_map(trained, [None])  # on one thread: their number changes bits
    return _Made(name, extractor, val_accuracy)


def _moments(extraction: Extraction, split: ImageSplit, mapper: Mapper) -> Moments:
    return moments_of(extraction, len(split), lambda chunk: split.read(np.array(chunk)), mapper)


def _card(made: _Made, manifest: Manifest, images: int, seed: int) -> ReferenceCard:
    return ReferenceCard(
        extractor=made.name,
        extractor_digest=made.extractor.digest,
        design=made.extractor.design,
        val_accuracy=made.val_accuracy,
        data_digest=manifest.digest,
        split="train",
        images=images,
        resize=made.extractor.resize,
        quantisation=f"{manifest.levels} levels scaled to 0..255, not rounded",
        seed=seed,
        floor=None,
    )


def _check_enough(images: int, features: int) -> None:
    if images <= features:
        raise DataError(
            f"reference.features is {features}, but the training split has {images} images, so that the covariance "
            f"of the features would be singular: set reference.features below {images}, or use more images"
        )
