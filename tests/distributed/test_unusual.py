"""Steps whose loss or gradient is not finite, and spikes: left out, listed, told."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.cluster import loop as loop_module
from pipelines.cluster.events import Unusual
from pipelines.cluster.not_finite import NotFinite
from pipelines.data.dataset import open_split
from pipelines.runs.checkpoint import newest_checkpoint


@pytest.mark.parametrize("log_every", [1, 4, 100])
def test_a_loss_that_is_not_finite(lab: Any, monkeypatch: pytest.MonkeyPatch, log_every: int) -> None:
    """Found when logging, and before a checkpoint that is due earlier."""
    job = lab.job(learning_rate=1.0, clip_norm=None, warmup_steps=0, steps=400, log_every=log_every)
    poison_losses(monkeypatch, [6], not_finite)
    with pytest.raises(NotFinite) as caught:
        lab.run(job)
    message = str(caught.value)
    assert "at step 7 is not finite" in message
    assert "the last good checkpoint is step 6" in message
    assert "the loss of 1 of 16 training images" in message
    assert " at t = " in message
    assert "train.learning_rate (it is 1)" in message
    assert (job.run.folder / "unusual" / "step-00000007.json").exists()
    newest, _ = newest_checkpoint(job.run)
    assert newest is not None
    assert newest.step == 6


def not_finite(loss: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    return loss + torch.where(here, torch.nan, 0.0)


def poison_losses(monkeypatch: pytest.MonkeyPatch, steps: Sequence[int], change: Any) -> None:
    """`change` losses, told where one image of the third virtual shard is, at some steps (counted from 0)."""
    real = loop_module.make_objective

    def poisoned(*args: Any) -> Any:
        objective = real(*args)
        loss, eps = objective.loss, [objective.minibatches.of(step, [2]).eps[1] for step in steps]

        def poison(net: Any, batch: Any) -> Any:
            found = loss(net, batch)
            here = torch.stack([(batch.eps == each).flatten(1).all(dim=1) for each in eps]).any(dim=0)
            return found._replace(loss=change(found.loss, here))

        object.__setattr__(objective, "loss", poison)
        return objective

    monkeypatch.setattr(loop_module, "make_objective", poisoned)


def test_a_bad_step_is_left_out_and_its_images_listed(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With patience for two, one bad step is a warning; killed and resumed, the run ends in the same bits."""
    calm, killed = (lab.job(name, stop_after_bad_steps=2) for name in ("calm", "killed"))
    poison_losses(monkeypatch, [6], not_finite)
    events = lab.run(calm)
    unusual = [event for event in events if isinstance(event, Unusual)]
    assert [(event.step, event.kind) for event in unusual] == [(7, "not finite")]
    content = json.loads(Path(unusual[0].file).read_text())
    assert (content["step"], content["kind"], content["loss"]) == (7, "not finite", "nan")
    assert len(content["images"]) == 16
    bad, *others = content["images"]
    assert bad["loss"] == "nan"
    assert 1 <= bad["t"] <= 20
    assert bad["id"] == open_split(lab.prepared, "train").ids[bad["index"]]
    assert all(isinstance(each["loss"], float) for each in others)
    lab.kill_at(killed, 8)
    lab.run(killed)
    assert lab.digest(killed) == lab.digest(calm)


def test_a_row_of_bad_steps_goes_on_over_a_checkpoint(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates 5 to 7 are bad, and a checkpoint is due after 6: a run that is killed then stops where the other does."""
    messages = []
    poison_losses(monkeypatch, [4, 5, 6], not_finite)
    for name in ("calm", "killed"):
        job = lab.job(name, stop_after_bad_steps=3)
        if name == "killed":
            lab.kill_at(job, 7)
        with pytest.raises(NotFinite, match=r"step 5 and the 2 after it .* checkpoint is step 6") as caught:
            lab.run(job)
        messages.append(str(caught.value).replace(str(job.run), ""))
    assert messages[0] == messages[1]


def test_a_spike_is_listed_and_training_goes_on(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss a thousand times the others', once the curve has twenty points."""
    poison_losses(monkeypatch, [24], lambda loss, here: loss * torch.where(here, 1000.0, 1.0))
    events = lab.run(lab.job(steps=26, log_every=1))
    (spike,) = [event for event in events if isinstance(event, Unusual)]
    assert (spike.step, spike.kind) == (25, "spike")
    assert spike.loss > 3 * spike.usual
    images = json.loads(Path(spike.file).read_text())["images"]
    assert images[0]["loss"] > 100 * images[1]["loss"]


def test_a_list_that_cannot_be_written_stops_nothing_and_hides_nothing(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spike at update 25, and a bad step after it; a file is where the folder of the lists would be."""
    poison_losses(monkeypatch, [24], lambda loss, here: loss * torch.where(here, 1000.0, 1.0))
    poison_losses(monkeypatch, [25], not_finite)
    job, events = lab.job(steps=30, log_every=1), []
    job.run.note("unusual", b"")
    with pytest.raises(NotFinite, match="at step 26 is not finite"):
        lab.loop(job, events).run()
    told = [(event.step, event.file) for event in events if isinstance(event, Unusual)]
    assert [step for step, _ in told] == [25, 26]
    assert all(re.match(r"not written: .*unusual.*File exists", file) for _, file in told)
