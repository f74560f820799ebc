"""Several processes over gloo: the tree, strict and fast reduction, health, validation. What they run is in gang.py."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]


def gang(task: str, counts: list[int], folder: Path, script: str = "gang.py") -> dict[int, list[dict[str, Any]]]:
    """What each worker found, by number of workers."""
    command = [sys.executable, str(Path(__file__).with_name(script)), task, ",".join(map(str, counts)), str(folder)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return {n: [json.loads((folder / str(n) / f"{rank}.json").read_text()) for rank in range(n)] for n in counts}


def test_any_number_of_workers_sums_in_the_same_tree(tmp_path: Path) -> None:
    found = gang("tree", [1, 2, 3, 4, 5, 6, 7, 8], tmp_path)
    assert all(each == {"wrong": []} for workers in found.values() for each in workers)


def test_messages_through_the_host_arrive_too(tmp_path: Path) -> None:
    found = gang("tree", [2, 3, 4], tmp_path, "hosted.py")
    assert all(each == {"wrong": []} for workers in found.values() for each in workers)


def test_strict_gives_the_same_bits_on_any_number_of_workers(tmp_path: Path) -> None:
    """Weights, average, optimiser, loss curve and validation bound, on every worker."""
    found = gang("strict", [1, 2, 3, 4, 5, 6, 7, 8], tmp_path)
    digests = [each["digest"] for workers in found.values() for each in workers]
    assert len(digests) == 36
    assert len(set(digests)) == 1


def test_gradients_that_arrive_in_another_order_on_each_worker(tmp_path: Path) -> None:
    found = gang("turned", [1, 2, 4], tmp_path)
    assert [each["first"] for each in found[4]] == ["right", "left"] * 2
    assert len({each["digest"] for workers in found.values() for each in workers}) == 1


def test_workers_exchange_during_the_backward_pass(tmp_path: Path) -> None:
    found = gang("meanwhile", [2, 4], tmp_path)
    assert [each for workers in found.values() for each in workers] == [{"seen": [True]}] * 6


@pytest.mark.slow
def test_a_worker_that_fails_in_its_backward_pass_ends_all(tmp_path: Path) -> None:
    """It says why itself and lives on; the others learn it by the time-out of 10 s, two of them from a third."""
    found = gang("failing", [4], tmp_path)[4]
    assert found[1]["error"] == "worker 1 failed"
    assert all("imed out" in found[rank]["error"] for rank in (0, 2, 3))
    assert max(each["seconds"] for each in found) < 60


def test_a_parameter_without_a_gradient_is_refused_by_all(tmp_path: Path) -> None:
    found = gang("unused", [1, 2, 3], tmp_path)
    assert all("not have been used in the graph" in each["error"] for workers in found.values() for each in workers)


def test_fast_is_strict_up_to_rounding(tmp_path: Path) -> None:
    found = gang("fast", [1, 2, 3], tmp_path)
    gradients = [load_file(tmp_path / str(n) / "gradient.safetensors")["gradient"] for n in (1, 2, 3)]
    for other in gradients[1:]:
        assert torch.linalg.vector_norm(other - gradients[0]) < 1e-6 * torch.linalg.vector_norm(gradients[0])
    for workers in found.values():
        assert len({each["digest"] for each in workers}) == 1  # the workers of one run agree


@pytest.mark.parametrize("workers", [3, 4])
def test_all_workers_see_a_step_that_was_not_finite_on_one(tmp_path: Path, workers: int) -> None:
    found = gang("bad", [workers], tmp_path)
    assert found[workers] == [{"found": [0, 0]}] * workers
