"""The objects of a training worker, from its job."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import torch

from diffusion.models import EMA, UNet
from diffusion.process import log_snr_bins, to_unit
from diffusion.training.batches import Batches
from diffusion.training.draws import LabelDropout
from diffusion.training.health import Health
from diffusion.training.history import History
from diffusion.training.minibatch import Minibatches
from diffusion.training.objective import Objective
from diffusion.training.optimizer import AdamW
from diffusion.training.random import key
from diffusion.training.rate import LearningRate
from diffusion.training.reduction import reduction
from diffusion.training.state import TrainingState
from diffusion.training.step import Trainer, UpdateRule
from diffusion.training.tally import Tally
from diffusion.training.tree import Shares
from diffusion.training.validation import Validation
from pipelines.build import architecture, build_decoder, build_schedule
from pipelines.cluster.job import Job, Place
from pipelines.cluster.loaders import Loaders
from pipelines.cluster.objective import build_loss, build_times
from pipelines.cluster.record import Record, platform_of
from pipelines.data.dataset import ImageSplit, open_split
from pipelines.data.manifest import read_manifest
from pipelines.params import Params
from pipelines.sections import TrainParams

BINS = 16
"""Bins of equal width in log SNR in which the bound is shown while training."""


def fix_kernels(place: Place, *, strict: bool) -> None:
    """Make this process's arithmetic repeatable: one thread on the CPU, deterministic kernels on a GPU."""
    torch.set_num_threads(1)
    if place.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = not strict
        torch.use_deterministic_algorithms(strict)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def make_record(job: Job, place: Place) -> Record:
    """The facts of a run that begins here."""
    manifest = read_manifest(job.prepared)
    train = job.params.train
    return Record(
        key=job.key,
        data=manifest.digest,
        shape=tuple(manifest.shape),
        T=job.params.process.T,
        virtual_shards=train.virtual_shards,
        reduction=train.reduction,
        platforms=(platform_of(place.device),),
    )


def make_trainer(job: Job, place: Place, objective: Objective) -> Trainer:
    """The training at step 0; the initial weights depend on the seed alone."""
    params, train = job.params, job.params.train
    torch.manual_seed(key(params.seed, "init") % 2**63)
    null_label = train.label_dropout > 0
    net = UNet(**architecture(params.model, read_manifest(job.prepared), null_label=null_label)).to(place.device)
    state = TrainingState(
        net=net,
        ema=EMA(net, train.ema_decay),
        optimizer=AdamW(net, train.weight_decay),
        history=History(place.device, objective.tally.kept),
        health=Health(train.stop_after_bad_steps, place.device),
        times=objective.minibatches.times,
    )
    shares = Shares(train.virtual_shards, place.workers)
    reduce = reduction(train.reduction, net, objective, shares, place.rank)
    return Trainer(state, reduce, UpdateRule(learning_rate(train), train.clip_norm), objective.tally)


def learning_rate(train: TrainParams) -> LearningRate:
    """The learning rate at each step."""
    decaying = train.learning_rate_schedule == "cosine"
    return LearningRate(train.learning_rate, train.warmup_steps, train.steps if decaying else None)


def batches(params: Params, images: int) -> Batches:
    """The order of the training images.

    Raises:
        ValueError: there are fewer than a batch.
    """
    return Batches(images, params.train.batch_size, params.train.virtual_shards, params.seed)


def make_objective(job: Job, place: Place) -> Objective:
    """The loss of any virtual shard at any step."""
    params, train = job.params, open_split(job.prepared, "train")
    dropped = params.train.label_dropout
    minibatches = Minibatches(
        train,
        train.levels,
        batches(params, len(train)),
        build_times(params, place.device),
        flip=params.train.horizontal_flip,
        labelled=params.model.class_conditional,
        label_dropout=LabelDropout(dropped, len(train.classes)) if dropped else None,
        device=place.device,
    )
    if job.loaders:
        own = Shares(params.train.virtual_shards, place.workers).of(place.rank)
        minibatches = replace(minibatches, ahead=Loaders(minibatches.maker, own, job.loaders, job.loader_patience_s))
    loss = build_loss(params, train.levels, place.device)
    bins = log_snr_bins(loss.schedule, BINS)
    tally = Tally(loss.schedule, bins.of_index.to(place.device) + 1, BINS, per_time=params.train.times == "importance")
    return Objective(minibatches, loss, tally, params.train.microbatch, dropout=params.model.dropout > 0)


def make_validation(job: Job, place: Place) -> Validation | None:
    """The bound that watches training, estimated at few times. None for fewer than two images: they have no error."""
    params, split = job.params, open_split(job.prepared, "val")
    shown = np.arange(min(params.train.val_images, len(split)))
    if len(shown) < 2:
        return None
    return Validation(
        x_0=to_unit(torch.from_numpy(split.read(shown)), split.levels).to(place.device),
        ids=split.ids[: len(shown)],
        y=_labels(split, shown, place.device) if params.model.class_conditional else None,
        schedule=build_schedule(params.process).to(place.device),
        calls=params.train.val_calls,
        decoder=build_decoder(params.train.decoder, split.levels),
        target=params.model.predicts,
        variance="learned" if params.model.learned_variance else "small",
        bins=BINS,
        seed=params.seed,
        shares=Shares(params.train.virtual_shards, place.workers),
    )


def _labels(split: ImageSplit, rows: np.typing.NDArray[np.int64], device: torch.device) -> torch.Tensor | None:
    return None if split.labels is None else torch.from_numpy(split.labels[rows]).to(device)
