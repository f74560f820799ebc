"""What a person and the tracker see of a training."""

from dataclasses import replace
from typing import Any

import pytest

from diffusion.training.points import BoundPoint, LossPoint
from pipelines.cluster.events import Advanced, Busy, Measured, Started
from pipelines.cluster.gauges import Gauges
from pipelines.cluster.watch import start_lines, watching


class Exported(Gauges):
    """Gauges that remember."""

    def __init__(self) -> None:
        super().__init__("key", batch_size=1)
        self.names: list[str] = []

    def _set(self, name: str, value: float, source: str = "") -> None:
        self.names.append(name)


class Tracked:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, int], float] = {}
        self.facts: dict[str, str] = {}
        self.readings: list[tuple[int, dict[str, float]]] = []

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.numbers |= {(name, step): value for name, value in values.items()}

    def tags(self, tags: dict[str, str]) -> None:
        self.facts |= tags

    def machine(self, node: int, values: dict[str, float]) -> None:
        self.readings.append((node, values))


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
    assert start_lines(started(5), again=True) == ["2 workers (cpu) go on from step 5"]


def test_the_watch_passes_the_curves_on(capsys: pytest.CaptureFixture[str]) -> None:
    tracked, exported = Tracked(), Exported()
    loss = LossPoint(2, 0.5, 3.0, 0.1)
    bound = BoundPoint("validation", 4, 0.01, 2.0, 0.5, 0.1, 0.2, 0.3, (1.5, 0.5))
    running = replace(bound, source="running", step=3)
    with watching(10, tracked, exported) as watch:
        watch.hear(started(2, points=(loss,)))
        watch.hear(Advanced(3))
        watch.hear(Measured(running))
        watch.hear(Measured(bound))
    numbers = {
        "L_T": 0.01,
        "L_t_sum": 2.0,
        "L_0": 0.5,
        "total": pytest.approx(2.51),
        "L_t_sum_se": 0.1,
        "L_0_se": 0.2,
        "total_se": 0.3,
        "L_t_01": 1.5,
        "L_t_02": 0.5,
    }
    assert tracked.numbers == {
        ("loss", 2): 0.5,
        ("gradient_norm", 2): 3.0,
        ("learning_rate", 2): 0.1,
        **{(f"bound_running/{name}", 3): value for name, value in numbers.items()},
        **{(f"bound/{name}", 4): value for name, value in numbers.items()},
    }
    shown = capsys.readouterr().err
    assert "resumed from the checkpoint of step 2" in shown
    assert "training  4/10 steps" in shown
    assert "bits per dim 2.51" in shown
    bound_twice = ["diffusion_bound_bits_per_dim"] * 2
    assert exported.names == ["diffusion_step", "diffusion_step", *bound_twice]


def test_each_attempts_workers_and_machines_are_told() -> None:
    tracked = Tracked()
    with watching(10, tracked, Exported()) as watch:
        watch.hear(started(0, workers=4))
        watch.hear(Busy(1, "x86_64, 2 CPUs", {"cpu_utilization_percentage": 90.0}))
        watch.hear(started(5, workers=2))
    assert tracked.facts == {
        "workers": "2",
        "workers.from_step_0": "4",
        "workers.from_step_5": "2",
        "hardware.node_1": "x86_64, 2 CPUs",
    }
    assert tracked.readings == [(1, {"cpu_utilization_percentage": 90.0})]
