"""Training on CUDA: strict reduction ends in the same bits on any workers, fast near them."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch

from pipelines.cluster.events import Started
from tests.distributed.test_ray_train import kill_worker
from tests.gpu.conftest import STEPS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),  # its own, of its own parts
]


@pytest.mark.parametrize(
    ("workers", "gpus", "loaders"),
    [
        pytest.param(1, 1, 0, id="a-gpu-of-its-own"),  # over NCCL
        pytest.param(2, 0.25, 1, id="two-share-one"),
        pytest.param(3, 0.25, 0, id="three-share-one"),
        pytest.param(4, 0.25, 2, id="four-share-one"),
    ],
)
def test_any_workers_end_in_the_bits_of_one_process(
    lab: Any, fit: Any, workers: int, gpus: float, loaders: int
) -> None:
    """Weights, average, optimiser and curves, with dropout and flips; also with loader processes."""
    alone, together = lab.job("alone", **STEPS), replace(lab.job("together", **STEPS), loaders=loaders)
    lab.run(alone)
    events = fit(together, workers, gpus)
    started = next(event for event in events if isinstance(event, Started))
    assert started.workers == workers
    if lab.place.device.type == "cuda":
        assert started.device == torch.cuda.get_device_name(0)
    assert lab.digest(together) == lab.digest(alone)


def test_bits_of_the_bound_and_of_importance_sampling(lab: Any, fit: Any) -> None:
    """The default recipe of the digits: a learned variance, and times that learn from the losses."""
    recipe = {"objective": "bound", "times": "importance", "decoder": "normalized_levels", **STEPS}
    model = {"learned_variance": True, "fourier_features": [2, 3], "attention_resolutions": [4]}
    alone, together = (lab.job(name, model=model, **recipe) for name in ("alone", "together"))
    lab.run(alone)
    fit(together, 2)
    assert lab.digest(together) == lab.digest(alone)


def test_a_run_killed_and_resumed_ends_in_the_same_bits(lab: Any) -> None:
    calm, killed = (lab.job(name, **STEPS) for name in ("calm", "killed"))
    lab.run(calm)
    lab.kill_at(killed, 8)
    lab.kill_at(killed, 14)
    lab.run(killed)
    assert lab.digest(killed) == lab.digest(calm)


def test_a_worker_that_is_killed_is_replaced_and_leaves_no_trace(lab: Any, fit: Any) -> None:
    changes = {"steps": 150, "val_every": 75, "every_steps": 10}
    alone, killed = (lab.job(name, **changes) for name in ("alone", "killed"))
    lab.run(alone)
    killer = threading.Thread(target=kill_worker, args=(killed, 1), daemon=True)
    killer.start()
    events = fit(killed, 2)
    killer.join(1)
    assert not killer.is_alive()
    starts = [event.step for event in events if isinstance(event, Started)]
    assert len(starts) == 2
    assert 10 <= starts[1] < 150
    assert lab.digest(killed) == lab.digest(alone)


@pytest.mark.parametrize("workers", [1, 2])
def test_fast_ends_near_strict(lab: Any, fit: Any, workers: int) -> None:
    """Without dropout, which `fast` draws per worker."""
    changes: dict[str, Any] = {"model": {"dropout": 0.0}, **STEPS}
    strict, fast = lab.job("strict", **changes), lab.job("fast", reduction="fast", **changes)
    start = {name: value.clone() for name, value in lab.loop(strict)._trainer.state.net.state_dict().items()}
    lab.run(strict)
    fit(fast, workers)
    there, near = (lab.final(job).load("weights") for job in (strict, fast))
    moved = sum(float((there[name] - start[name].cpu()).square().sum()) for name in start) ** 0.5
    apart = sum(float((there[name] - near[name]).square().sum()) for name in start) ** 0.5
    assert moved > 0.1
    assert apart < 0.05 * moved
