"""What a person and the tracker see of a training."""

from typing import Any

import pytest

from diffusion.training.points import BoundPoint, LossPoint
from pipelines.cluster.events import Advanced, Measured, Started
from pipelines.cluster.watch import start_lines, watching


class Tracked:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, int], float] = {}

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.numbers |= {(name, step): value for name, value in values.items()}


def started(step: int, **more: Any) -> Started:
    return Started(**{"step": step, "workers": 2, "device": "cpu", "skipped": (), "notes": (), "points": ()} | more)


def test_what_a_person_is_told_at_the_start() -> None:
    assert start_lines(started(0), again=False) == ["training from the start on 2 workers (cpu)"]
    lines = start_lines(started(5, workers=1, skipped=("step-6: torn",), notes=("moved",)), again=False)
    assert lines == [
        "resumed from the checkpoint of step 5 on 1 worker (cpu)",
        "skipped a damaged checkpoint: step-6: torn",
        "moved",
    ]
    assert start_lines(started(5), again=True) == ["workers were lost; 2 workers (cpu) go on from step 5"]


def test_the_watch_passes_the_curves_on(capsys: pytest.CaptureFixture[str]) -> None:
    tracked = Tracked()
    loss, bound = LossPoint(2, 0.5, 3.0, 0.1), BoundPoint(4, 0.01, 2.0, 0.5, 2.51)
    with watching(10, tracked) as watch:
        watch.hear(started(2, points=(loss,)))
        watch.hear(Advanced(3))
        watch.hear(Measured(bound))
    assert tracked.numbers == {
        ("loss", 2): 0.5,
        ("gradient_norm", 2): 3.0,
        ("learning_rate", 2): 0.1,
        ("val_L_T", 4): 0.01,
        ("val_L_t_sum", 4): 2.0,
        ("val_L_0", 4): 0.5,
        ("val_bits_per_dim", 4): 2.51,
    }
    shown = capsys.readouterr().err
    assert "resumed from the checkpoint of step 2" in shown
    assert "training  4/10 steps" in shown
    assert "bits per dim 2.51" in shown
