"""A loss that is not finite on CUDA, where the host hears of a step one step late."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster.events import Unusual
from pipelines.errors import TrainingError
from tests.distributed.test_unusual import not_finite, poison_losses

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),  # its own, of its own parts
]


def test_a_bad_step_is_left_out_and_its_images_listed(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed and resumed, the run ends in the same bits."""
    calm, killed = (lab.job(name, stop_after_bad_steps=2) for name in ("calm", "killed"))
    poison_losses(monkeypatch, [6], not_finite)
    unusual = [event for event in lab.run(calm) if isinstance(event, Unusual)]
    assert [(event.step, event.kind) for event in unusual] == [(7, "not finite")]
    content = json.loads(Path(unusual[0].file).read_text())
    bad, *others = content["images"]
    assert len(others) == 15
    assert bad["loss"] == "nan"
    assert 1 <= bad["t"] <= 20
    assert all(isinstance(each["loss"], float) for each in others)
    lab.kill_at(killed, 8)
    lab.run(killed)
    assert lab.digest(killed) == lab.digest(calm)


@pytest.mark.parametrize("reduction", ["strict", "fast"])
def test_all_workers_stop_where_training_diverges(lab: Any, fit: Any, reduction: str) -> None:
    """With this decay each step multiplies the weights by about -10^6, until float32 ends."""
    job = lab.job(
        reduction=reduction, learning_rate=1.0, weight_decay=1e6, warmup_steps=0, steps=50, stop_after_bad_steps=2
    )
    with pytest.raises(TrainingError, match=r"at step \d+ .*not finite.*Lower train\.learning_rate"):
        fit(job, 2)
    files = sorted((job.run.folder / "unusual").glob("*.json"))
    content = json.loads(files[-1].read_text())
    assert content["kind"] == "not finite"
    assert len(content["images"]) == 16
    assert {each["loss"] for each in content["images"]} & {"nan", "inf"}
