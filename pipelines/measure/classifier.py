"""Training the extractor on the labels. The same seed and data give the same weights: one thread, draws by step."""

from __future__ import annotations

from math import isfinite

import numpy as np
import torch
from torch.nn import functional as F

from diffusion.training.random import numbers
from pipelines.data.dataset import ImageSplit
from pipelines.errors import TrainingError
from pipelines.measure.chunks import chunks
from pipelines.measure.extractor import Design, Extractor, random_extractor, to_255
from pipelines.report.progress import progress

_BATCH = 64
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 1.0
"""Keeps the features of images that it was trained on close to those of others."""


def train_classifier(split: ImageSplit, design: Design, seed: int, steps: int) -> Extractor:
    """Train the extractor to tell the labels of the split apart, by AdamW with a rate that falls to zero.

    Raises:
        TrainingError: the loss is not finite.
    """
    assert split.labels is not None
    labels = torch.from_numpy(split.labels.copy())
    extractor = random_extractor(design, seed).requires_grad_(True)
    optimizer = torch.optim.AdamW(extractor.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    with progress("training the classifier", total=steps, unit="step") as bar:
        for step in range(steps):
            rows = numbers(seed, "reference-batch", step).permutation(len(split))[:_BATCH]
            images = to_255(torch.from_numpy(split.read(rows)), split.levels)
            loss = F.cross_entropy(extractor.scores(images), labels[torch.from_numpy(rows)])
            if not isfinite(value := loss.item()):
                raise TrainingError(f"the classifier's loss is {value} at step {step + 1}; try another seed")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate.step()
            bar.update(step + 1, loss=value)
    return extractor.eval().requires_grad_(False)


def accuracy(extractor: Extractor, split: ImageSplit) -> float | None:
    """Share of the split's images whose label gets the highest score; None for a split without images."""
    if not len(split):
        return None
    assert split.labels is not None
    right = 0
    for chunk in chunks(len(split), _BATCH):
        images = to_255(torch.from_numpy(split.read(np.arange(chunk.start, chunk.stop))), split.levels)
        guess = extractor.scores(images).argmax(dim=1).numpy()
        right += int((guess == split.labels[chunk.start : chunk.stop]).sum())
    return right / len(split)
