"""Training the classifier that guides sampling, on noised images, and how often it is right at each noise level.

The same seed and data give the same weights: one worker, one thread, draws that are functions of the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log, sqrt

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion.models import Classifier
from diffusion.process import NoiseSchedule, q_sample, to_unit
from diffusion.training.random import key, normal_per_image, numbers
from pipelines.data.dataset import ImageSplit
from pipelines.errors import DataError, ParamsError, TrainingError
from pipelines.measure.chunks import chunks
from pipelines.report.progress import progress
from pipelines.sections_of_sampling import ClassifierParams

_TIMES = 20
_ROWS = 128
_MOST = 2000


@dataclass(frozen=True)
class Task:
    """All that the classifier depends on, besides the images."""

    how: ClassifierParams
    schedule: NoiseSchedule
    seed: int
    device: str
    """`cpu` or `cuda`."""

    def check(self, split: ImageSplit) -> None:
        """Find here what would stop the training.

        Raises:
            DataError: fewer than two labels.
            ParamsError: the network does not fit the images.
        """
        found = 0 if split.labels is None else len(np.unique(split.labels))
        if found < 2:
            raise DataError(
                f"classifier.steps is {self.how.steps}, but the training split has {found} different labels and two "
                "are needed: sort the images into one folder per class, or set classifier.steps to 0"
            )
        try:
            with torch.device("meta"):
                self.network(split)
        except ValueError as error:
            side = "x".join(map(str, split.shape[1:]))
            raise ParamsError(f"params.yaml: classifier: {error} (the prepared images are {side})") from None

    def network(self, split: ImageSplit) -> Classifier:
        """Untrained; drawn from torch's global generator."""
        how = self.how
        return Classifier(
            classes=len(split.classes),
            image_size=split.shape[1],
            in_channels=split.shape[0],
            channels=how.channels,
            channel_multipliers=how.channel_multipliers,
            blocks=how.blocks,
            attention_resolutions=how.attention_resolutions,
            dropout=how.dropout,
        )


def trained(task: Task, split: ImageSplit) -> Classifier:
    """Train on the split's images at uniformly drawn times, by AdamW with a rate that falls to zero; on the CPU.

    Raises:
        TrainingError: the loss is not finite.
    """
    assert split.labels is not None
    how, device, s = task.how, torch.device(task.device), task.schedule.to(task.device)
    labels = torch.from_numpy(split.labels.copy()).to(device)
    with torch.random.fork_rng(), progress("training the classifier", total=how.steps, unit="step") as bar:
        torch.manual_seed(key(task.seed, "classifier-init") % 2**63)
        net = task.network(split).to(device).train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / how.steps)
        for step in range(how.steps):
            rng = numbers(task.seed, "classifier", step)
            rows = rng.permutation(len(split))[: how.batch_size]
            x_0 = to_unit(torch.from_numpy(split.read(rows)), split.levels).to(device)
            t = torch.from_numpy(rng.integers(1, s.T + 1, len(rows))).to(device)
            eps = torch.from_numpy(rng.standard_normal(x_0.shape, dtype=np.float32)).to(device)
            loss = F.cross_entropy(net(q_sample(s, x_0, t, eps), t), labels[torch.from_numpy(rows).to(device)])
            if not isfinite(value := loss.item()):
                raise TrainingError(
                    f"the classifier's loss is {value} at step {step + 1}: lower classifier.learning_rate"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate.step()
            bar.update(step + 1, loss=value)
    return net.cpu().eval().requires_grad_(False)


@dataclass(frozen=True)
class Accuracy:
    """How well the classifier knows the class at one time."""

    images: int
    t: int
    log_snr: float
    accuracy: float
    """Share of the images whose class gets the highest score."""
    accuracy_low: float
    accuracy_high: float
    """Its 95% interval (Wilson 1927)."""
    bits: float
    """Mean of -log2 p(y | x_t): what of the class it does not know."""
    bits_se: float


def accuracies(net: Classifier, task: Task, split: ImageSplit) -> list[Accuracy]:
    """At some times from 1 to T, each image once with noise of its own; none for a split without images.

    Of more than 2,000 images the first ones are taken: they are stored in the order of their hashes, so these are a
    random choice.
    """
    n = min(len(split), _MOST)
    if not n:
        return []
    assert split.labels is not None
    s, y = task.schedule, torch.from_numpy(split.labels[:n].copy())
    found = []
    for t in sorted({max(1, k * s.T // _TIMES) for k in range(_TIMES + 1)}):
        parts = [_scores(net, task, split, chunk, t) for chunk in chunks(n, _ROWS)]
        found.append(_accuracy(t, float(s.log_snr[t]), torch.cat(parts).log_softmax(dim=1), y))
    return found


def _scores(net: Classifier, task: Task, split: ImageSplit, chunk: range, t: int) -> Tensor:
    """Of these images of the split, noised."""
    ids, times = split.ids[chunk.start : chunk.stop], torch.full((len(chunk),), t)
    eps = normal_per_image(task.seed, "classifier-accuracy", ids, t, split.shape)
    x_0 = to_unit(torch.from_numpy(split.read(np.array(chunk))), split.levels)
    scores: Tensor = net(q_sample(task.schedule, x_0, times, eps), times)
    return scores


def _accuracy(t: int, log_snr: float, log_p: Tensor, y: Tensor) -> Accuracy:
    n, z = len(y), 1.96
    p = float((log_p.argmax(dim=1) == y).double().mean())
    centre, half = (p + z**2 / (2 * n)) / (1 + z**2 / n), z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    bits = -log_p.gather(1, y[:, None])[:, 0].double() / log(2)
    error = float(bits.std()) / sqrt(n) if n > 1 else 0.0
    return Accuracy(n, t, log_snr, p, centre - half, centre + half, float(bits.mean()), error)
