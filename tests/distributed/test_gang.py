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


def gang(task: str, counts: list[int], folder: Path) -> dict[int, list[dict[str, Any]]]:
    """What each worker found, by number of workers."""
    command = [sys.executable, str(Path(__file__).with_name("gang.py")), task, ",".join(map(str, counts)), str(folder)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return {n: [json.loads((folder / str(n) / f"{rank}.json").read_text()) for rank in range(n)] for n in counts}


def test_any_number_of_workers_sums_in_the_same_tree(tmp_path: Path) -> None:
    found = gang("tree", [1, 2, 3, 4, 5, 6, 7, 8], tmp_path)
    assert all(each == {"wrong": []} for workers in found.values() for each in workers)


def test_strict_gives_the_same_bits_on_1_2_3_and_4_workers(tmp_path: Path) -> None:
    """Weights, average, optimiser, loss curve and validation bound, on every worker."""
    found = gang("strict", [1, 2, 3, 4], tmp_path)
    digests = [each["digest"] for workers in found.values() for each in workers]
    assert len(digests) == 10
    assert len(set(digests)) == 1


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
