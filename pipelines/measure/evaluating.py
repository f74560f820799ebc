"""All that the evaluate stage measures: the bound, the distance of the samples, the yardstick."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from diffusion.evaluation import BitsPerDim
from diffusion.models.saved import SavedModel
from pipelines.cluster.parallel import Mapper, serial_map
from pipelines.data.dataset import ImageSplit, open_split
from pipelines.data.manifest import read_manifest
from pipelines.errors import DataError
from pipelines.measure.bound import PARAMETER, Measuring, bound_of_split, times_of
from pipelines.measure.distance import Distance, distance_of_samples
from pipelines.measure.features import WorkersFor, this_process
from pipelines.measure.fitting import BatchSize
from pipelines.measure.reference import read_reference
from pipelines.measure.yardstick import Yardstick, yardstick
from pipelines.project import workspace
from pipelines.runs.digest import digest
from pipelines.runs.source import source_digest


@dataclass(frozen=True)
class Inputs:
    """Folders that other stages left."""

    data: Path
    reference: Path
    samples: Path


@dataclass(frozen=True)
class BoundCard:
    """What a bound depends on. Numbers with different cards never stand in one column."""

    split: str
    images: int
    data_digest: str
    times: int
    """How many were visited, each once."""
    first_time: int
    """Where the decoder takes over."""
    decoder: str
    labels: bool
    """Whether the network is told the class: a bound on -log p(x_0 | y)."""
    levels: int
    dequantisation: str
    variance: str
    clip_x0: bool
    weights: str
    noise_draws: int
    """Per image and time."""
    seed: int
    batch_size: int
    """Image-time pairs per network call; where the memory had no room for so many, the fewest that were used."""
    device: str
    model_digest: str

    @property
    def density(self) -> bool:
        """Whether it bounds a density of images in [-1, 1], and not the probability of their levels."""
        return self.decoder == "gaussian"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that the stage measures."""

    bits: BitsPerDim
    """The bound of each image and at each time."""
    images: ImageSplit
    """The split whose first images these are."""
    card: BoundCard
    distance: Distance
    yardstick: Yardstick

    @property
    def image_ids(self) -> list[str]:
        """Of the images of `bits`."""
        return self.images.ids[: self.card.images]

    @property
    def key(self) -> str:
        """Digest of both cards and of the code that measured: equal for evaluations that must give equal numbers."""
        code = source_digest([workspace() / "diffusion", Path(__file__).parent])
        return digest({"bound": asdict(self.card), "distance": asdict(self.distance.card), "code": code})

    def summary(self) -> str:
        """The numbers for a person."""
        bits = self.bits.estimates()
        terms = f"L_T {bits.L_T.mean:.3f} + L_t {bits.L_t_sum.mean:.3f} + L_0 {bits.L_0.mean:.3f}"
        without = f"histograms {self.yardstick.histogram:.2f}, uniform {self.yardstick.uniform:.2f}"
        unit = "bits/dim as a density" if self.card.density else "bits/dim"
        return (
            f"bound {bits.total.mean:.3f} +- {bits.total.standard_error:.3f} {unit} ({terms}; {without}); "
            f"{self.distance.summary()}"
        )


def evaluate(
    measuring: Measuring, inputs: Inputs, bound_mapper: Mapper = serial_map, workers_for: WorkersFor = this_process
) -> Evaluation:
    """Measure the model on the test split, and its samples against the training split.

    Args:
        bound_mapper: what computes the bound.
        workers_for: what computes the samples' features.

    Raises:
        DataError: an input is missing, damaged, or was made from other data or another model.
        TrainingError: the network's predictions are not finite.
        PipelineError: the memory has no room for a single image.
    """
    test = open_split(inputs.data, "test")
    card = bound_card(measuring, inputs.data)
    count = card.images
    check_fit(measuring.model.on_cpu(), test)
    reference = read_reference(inputs.reference)
    distance = distance_of_samples(inputs.samples, reference, measuring.seed, workers_for)  # quick, and may refuse
    _check_origin(distance, card)
    batch_size = BatchSize(PARAMETER, measuring.how.batch_size)
    bits = bound_of_split(measuring, test, count, bound_mapper, batch_size)
    return Evaluation(
        bits=bits,
        images=test,
        card=replace(card, batch_size=batch_size.used),
        distance=distance,
        yardstick=yardstick(open_split(inputs.data, "train"), test, count, density=card.density),
    )


def bound_card(measuring: Measuring, data: Path) -> BoundCard:
    """The card of the bound on the test split in `data`, measured so, where the memory has room for the batch."""
    manifest = read_manifest(data)
    there = manifest.counts["test"]
    how, saved = measuring.how, measuring.model.on_cpu()
    return BoundCard(
        split="test",
        images=min(how.images or there, there),
        data_digest=manifest.digest,
        times=len(times_of(how, saved.schedule.T)),
        first_time=how.first_time,
        decoder=how.decoder,
        labels=bool(saved.classes),
        levels=saved.levels,
        dequantisation="none",
        variance=how.variance,
        clip_x0=how.clip_x0,
        weights=how.weights,
        noise_draws=1,
        seed=measuring.seed,
        batch_size=how.batch_size,
        device=measuring.model.device,
        model_digest=measuring.model.digest,
    )


def check_fit(saved: SavedModel, split: ImageSplit) -> None:
    """Refuse a model that was trained on other images than these could be."""
    if (saved.shape, saved.levels) != (split.shape, split.levels):
        raise DataError(
            f"the model is of images {saved.shape} with {saved.levels} levels, the prepared images are {split.shape} "
            f"with {split.levels}; run `dvc repro`"
        )
    if saved.classes and (split.labels is None or len(split.classes) != saved.classes):
        raise DataError(
            f"the model knows {saved.classes} classes, the prepared images have {len(split.classes)}; run `dvc repro`"
        )


def _check_origin(distance: Distance, card: BoundCard) -> None:
    """Refuse samples of another model and statistics of other data than are measured here."""
    if distance.card.samples.model_digest != card.model_digest:
        raise DataError("the samples were drawn from another model than the one in results/train; run `dvc repro`")
    if distance.card.reference.data_digest != card.data_digest:
        raise DataError("the reference statistics are those of other images than results/prepare; run `dvc repro`")
