"""Making the reference: which network, its weights, the features of the training split and of held-out images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from diffusion.evaluation import check_full_rank
from pipelines.cluster.parallel import Mapper, serial_map
from pipelines.data.dataset import ImageSplit, open_split
from pipelines.data.manifest import Manifest, read_manifest
from pipelines.errors import DataError
from pipelines.measure.classifier import accuracy, train_classifier
from pipelines.measure.described import Described, describe
from pipelines.measure.extractor import Design, Extractor, random_extractor
from pipelines.measure.features import Extraction, WorkersFor, this_process
from pipelines.measure.pretrained import PRETRAINED, Finder, Pretrained, find_pretrained
from pipelines.measure.reference import HELD_OUT, Reference, ReferenceCard
from pipelines.measure.scores import PAIRED
from pipelines.sections import ReferenceParams, fewest_images

ExtractorName = Literal["classifier", "random", "inception", "clip"]


def make_reference(
    data: Path,
    how: ReferenceParams,
    workers_for: WorkersFor = this_process,
    find: Finder = find_pretrained,
) -> Reference:
    """Make the extractor, take the moments of the training split, and keep what it makes of the test split.

    Args:
        data: folder of prepared images.
        workers_for: what computes the features.
        find: where networks that were trained elsewhere come from.

    Raises:
        DataError: a classifier is asked for without labels, or the covariance of so few images is singular.
        PipelineError: as `find`.
    """
    train, test = open_split(data, "train"), open_split(data, "test")
    _check_enough(len(train), how)  # before a classifier is trained in vain
    made = _make_extractor(data, train, how, find)
    workers = workers_for(made.extractor, len(train))
    extraction = workers.extraction(train.levels)
    known = _described(extraction, train, len(train), workers.mapper, PAIRED)
    try:
        check_full_rank(known.moments, "the training split")
    except ValueError as error:
        raise DataError(f"reference.extractor {made.name}: {error}") from error
    held_out = _described(extraction, test, min(len(test), HELD_OUT), workers.mapper)
    return Reference(
        extractor=made.extractor,
        mean=known.moments.mean,
        covariance=known.moments.covariance,
        features=known.features,
        held_out=held_out.features,
        card=_card(made, read_manifest(data), (known.moments.n, held_out.moments.n), workers.device, how.seed),
    )


def choose(how: ReferenceParams, train: ImageSplit) -> ExtractorName:
    """The extractor that `dataset` stands for: the classifier if there are two labels or more.

    Raises:
        DataError: `classifier` without them.
    """
    found = 0 if train.labels is None else len(np.unique(train.labels))
    if how.extractor == "classifier" and found < 2:
        raise DataError(
            f"reference.extractor is `classifier`, but the training split has {found} different labels and two are "
            "needed: sort the images into one folder per class, or set reference.extractor to `random`"
        )
    if how.extractor == "dataset":
        return "classifier" if found >= 2 else "random"
    return how.extractor


@dataclass(frozen=True, eq=False)
class _Made:
    name: ExtractorName
    extractor: Extractor | Pretrained
    val_accuracy: float | None


def _make_extractor(data: Path, train: ImageSplit, how: ReferenceParams, find: Finder) -> _Made:
    name = choose(how, train)
    for elsewhere in PRETRAINED:
        if name == elsewhere:
            return _Made(name, find(elsewhere), None)
    channels, side, _ = train.shape
    if name == "random":
        return _Made(name, random_extractor(Design(channels, side, how.features, None), how.seed), None)
    design = Design(channels, side, how.features, len(train.classes))

    def trained(_: None) -> tuple[Extractor, float | None]:
        extractor = train_classifier(train, design, how.seed, how.steps)
        return extractor, accuracy(extractor, open_split(data, "val"))

    [(_, (extractor, val_accuracy))] = serial_map(trained, [None])  # on one thread: their number changes bits
    return _Made(name, extractor, val_accuracy)


def _described(
    extraction: Extraction, split: ImageSplit, total: int, mapper: Mapper, keep: int | None = None
) -> Described:
    """The first `total` images of a split. They are stored in the order of their hashes, which is a random one."""
    return describe(extraction, total, lambda part: split.read(np.array(part)), mapper, keep)


def _card(made: _Made, manifest: Manifest, images: tuple[int, int], device: str, seed: int) -> ReferenceCard:
    design = made.extractor.design if isinstance(made.extractor, Extractor) else None
    quantisation = "rounded, grey tripled" if design is None else "not rounded"
    kept, held_out = images
    return ReferenceCard(
        extractor=made.name,
        extractor_digest=made.extractor.digest,
        design=design,
        features=made.extractor.features,
        val_accuracy=made.val_accuracy,
        data_digest=manifest.digest,
        shape=manifest.shape,
        split="train",
        images=kept,
        held_out=held_out,
        resize=made.extractor.resize,
        quantisation=f"{manifest.levels} levels scaled to 0..255, {quantisation}",
        device=device,
        seed=seed,
    )


def _check_enough(images: int, how: ReferenceParams) -> None:
    if images < (fewest := fewest_images(how.dimension)):
        raise DataError(
            f"reference.extractor {how.extractor} has {how.dimension} features, but the training split has {images} "
            f"images, so that the covariance of the features would be singular or close to it: use {fewest} images or "
            "more, or fewer features (reference.features of an extractor made from the data set)"
        )
