"""What a worker's errors are to the driver. Ray's own parts are left out here."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.cluster import loop, worker
from pipelines.cluster.job import Place
from pipelines.errors import DataError


class Board:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.fail = SimpleNamespace(remote=self.failures.append)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    context = SimpleNamespace(get_node_id=lambda: "node")
    monkeypatch.setattr("ray.get_runtime_context", lambda: context)
    monkeypatch.setattr("ray.get", lambda answer, **_: answer)
    monkeypatch.setattr(worker, "_machine_watched", lambda board: nullcontext())
    monkeypatch.setattr(worker, "Pulse", lambda: SimpleNamespace(beating=lambda *_: nullcontext()))
    return Board()


def train(board: Board, error: Exception, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker of rank 1, whose training raises this."""

    def broken(*_: Any) -> Any:
        raise error

    job = SimpleNamespace(run=Path("run"))
    job.here = lambda: job
    monkeypatch.setattr(worker, "_place", lambda on_gpu: Place(1, workers, torch.device("cpu")))
    monkeypatch.setattr(loop, "Loop", broken)
    worker.train_loop({"job": job, "board": board, "on_gpu": False, "preemption": False, "writer_wait_s": 0})


def test_what_a_restart_would_meet_again_is_told(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError):
        train(board, DataError("no images"), 1, monkeypatch)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    with pytest.raises(ValueError, match="no sense"):
        train(board, ValueError("no sense"), 2, monkeypatch)
    assert board.failures == ["no images", "no sense"]


def test_a_worker_whose_group_ray_has_dissolved_tells_no_failure(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins again with more workers, and the error of an old one that was in a step is not that of the run."""
    with pytest.raises(ValueError, match="has not been initialized"):
        train(board, ValueError("Default process group has not been initialized"), 2, monkeypatch)
    assert board.failures == []
