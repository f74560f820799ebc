"""Which kernels compute, and that the host does not wait for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.cluster.parallel import serial_map
from pipelines.project import workspace
from tests.gpu.conftest import DEVICE, STEPS

pytestmark = pytest.mark.gpu

WORKER = """
import json, os, sys, torch
from pipelines.cluster.assemble import fix_kernels
from pipelines.cluster.job import Place
device = torch.device(sys.argv[1])
fix_kernels(Place(0, 1, device), strict=sys.argv[2] == "strict")
before = torch.cuda.is_initialized()
x = torch.randn(64, 64, device=device, requires_grad=True)
(x @ x).sum().backward()
print(json.dumps({
    "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    "cuda before": before,
    "deterministic": torch.are_deterministic_algorithms_enabled(),
    "benchmark": torch.backends.cudnn.benchmark,
}))
"""


@pytest.mark.parametrize("reduction", ["strict", "fast"])
def test_a_worker_sets_its_kernels_before_cuda_starts(device: str, reduction: str) -> None:
    """In a process of its own, without the variable that Ray would give it."""
    environment = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    environment["PYTHONPATH"] = os.pathsep.join([str(workspace()), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", WORKER, device, reduction]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found, strict = json.loads(done.stdout.splitlines()[-1]), reduction == "strict"
    if device == "cuda":
        assert found == {
            "cublas": ":4096:8",
            "cuda before": False,
            "deterministic": strict,
            "benchmark": not strict,
        }


def error_of(compute: Callable[[Tensor, Tensor], Tensor], *shapes: tuple[int, ...]) -> float:
    """Of float32 on the device, relative to float64: about 1e-6, with TF32 3e-4."""
    random = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes)
    wanted = compute(x, w)
    got = compute(x.float().to(DEVICE), w.float().to(DEVICE)).cpu().double()
    return float(torch.linalg.vector_norm(got - wanted) / torch.linalg.vector_norm(wanted))


def convolve(x: Tensor, w: Tensor) -> Tensor:
    return F.conv2d(x, w, padding=1)


SHAPES = (8, 128, 16, 16), (128, 128, 3, 3)


def test_tasks_convolve_in_float32() -> None:
    def task(item: object) -> float:
        return error_of(convolve, *SHAPES)

    assert next(iter(serial_map(task, [None])))[1] < 5e-5
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"  # training has torch's default


def test_matrix_products_are_in_float32() -> None:
    assert error_of(torch.matmul, (256, 512), (512, 256)) < 1e-5


@pytest.mark.parametrize(
    ("model", "train"),
    [
        ({}, {}),
        ({}, {"reduction": "fast"}),
        (
            {"learned_variance": True, "class_conditional": True},
            {"objective": "bound", "decoder": "normalized_levels", "times": "stratified"},
        ),
    ],
)
def test_a_step_does_not_wait_for_the_device(lab: Any, model: dict[str, Any], train: dict[str, Any]) -> None:
    """With images at t = 1 among them, of T = 20."""
    loop = lab.loop(lab.job(model=model, **STEPS, **train))
    trainer = loop._trainer
    for _ in range(3):  # what is made once may wait
        trainer.step()
    if DEVICE == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        heard = [trainer.step() for _ in range(10)]
    finally:
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    seen = [loop._objective.minibatches.of(step, range(4)).first_rows for step in range(3, 13)]
    assert any(seen)
    late = 1 if DEVICE == "cuda" else 0
    assert [each.step for each in heard if each] == [step - late for step in range(3, 13)]
    assert all(each.loss == each.loss for each in heard if each)
