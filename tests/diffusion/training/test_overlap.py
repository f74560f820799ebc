"""The last backward pass in buckets; between workers in tests/distributed."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from diffusion.models import UNet
from diffusion.training import overlap
from diffusion.training.gradient import FlatGradient
from diffusion.training.objective import Objective
from diffusion.training.overlap import Arrivals, Overlap
from diffusion.training.reduction import Strict
from diffusion.training.tree import Shares, TreeSum

SIZES = (3, 40, 2, 2, 17, 5)


def gradient(tallied: int = 4) -> FlatGradient:
    return FlatGradient.like([torch.zeros(size) for size in SIZES], tallied)


@pytest.mark.parametrize("size", [1, 5, 20, 10**6])
def test_buckets_hold_every_element_once(size: int) -> None:
    flat = gradient()
    seen = torch.zeros(len(flat.flat), dtype=torch.int64)
    for bucket in flat.buckets(size):
        seen[bucket.part] += 1
    assert seen.tolist() == [1] * (sum(SIZES) + 6)


@pytest.mark.parametrize("size", [1, 5, 20, 10**6])
def test_a_bucket_holds_its_parameters_from_the_last_to_the_first(size: int) -> None:
    flat = gradient()
    for number, view in enumerate(flat.views):
        view.fill_(number)
    flat.rest.fill_(len(SIZES) - 1)
    buckets = flat.buckets(size)
    assert [i for bucket in buckets for i in reversed(bucket.parameters)] == list(reversed(range(len(SIZES))))
    for bucket in buckets:
        assert set(flat.flat[bucket.part].tolist()) == set(bucket.parameters)
    assert all(len(flat.flat[bucket.part]) >= size for bucket in buckets[:-1])


def test_a_bucket_ends_with_the_parameter_that_fills_it() -> None:
    """From the back: 6 sums and 5 elements, then 17 + 2 + 2, then 40 + 3."""
    assert [list(bucket.parameters) for bucket in gradient().buckets(10)] == [[5], [4], [1, 2, 3], [0]]


def test_buckets_go_in_their_order_whatever_arrives_first() -> None:
    buckets = gradient().buckets(10)
    arrivals = Arrivals(buckets)
    going = []
    for number in (0, 4, 3, 1, 5, 2):
        found = list(arrivals.add(number, torch.tensor(number)))
        assert all([int(each) for each in gradients] == list(bucket.parameters) for bucket, gradients in found)
        going.append([buckets.index(bucket) for bucket, _ in found])
    assert going == [[], [], [], [], [0, 1], [2, 3]]
    assert arrivals.missing(len(SIZES)) == []


def test_what_has_not_arrived_is_known() -> None:
    arrivals = Arrivals(gradient().buckets(10))
    assert [list(arrivals.add(number, torch.tensor(number))) for number in (2, 0)] == [[], []]
    assert arrivals.missing(len(SIZES)) == [1, 3, 4, 5]


def exchanging() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("exchange")]


@pytest.mark.parametrize(
    ("workers", "overlaps"), [(1, False), (2, True), (3, False), (4, True), (5, False), (6, False), (8, True)]
)
def test_only_a_power_of_two_overlaps(
    net: UNet, objective: Objective, workers: int, overlaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "BUCKET", 500)
    strict = Strict(net, objective, Shares(8, workers), rank=0)
    assert (strict._overlap is not None) == overlaps


def test_one_bucket_does_not_overlap(net: UNet, objective: Objective) -> None:
    assert Strict(net, objective, Shares(8, 2), rank=0)._overlap is None


def test_one_worker_pays_nothing(net: UNet, objective: Objective) -> None:
    before = exchanging()
    Strict(net, objective, Shares(4), rank=0)(0)
    assert exchanging() == before
    assert not any(parameter._backward_hooks for parameter in net.parameters())


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator["Alone"]:
    """A network with buckets of its own for each layer, and a tree on one worker, which needs no process group."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    monkeypatch.setattr(overlap, "BUCKET", 50)
    made = Alone(request.param)
    yield made
    made.overlap._thread.shutdown()


class Alone:
    """The last of two leaves of a tree on one worker."""

    def __init__(self, device: str) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(*(nn.Linear(8, 8) for _ in range(6))).to(device)
        self.x = torch.randn(5, 8, device=device)
        self.parameters = list(self.net.parameters())
        self.buffers = [FlatGradient.like(self.parameters, 1) for _ in range(2)]
        self.tree = TreeSum(Shares(2), 0, [buffer.flat for buffer in self.buffers])
        found = Overlap.of(self.tree, self.buffers[1], self.parameters)
        assert found is not None
        self.overlap = found
        self.tallied = torch.ones(1, device=device)

    def loss(self) -> Tensor:
        loss: Tensor = self.net(self.x).square().mean()
        return loss


@pytest.mark.parametrize("first", [True, False])
def test_the_sum_in_buckets_has_the_bits_of_the_whole(alone: Alone, first: bool) -> None:
    gradients = torch.autograd.grad(loss := alone.loss(), alone.parameters)
    start = [torch.randn_like(buffer.flat) for buffer in alone.buffers]
    for buffer, value in zip(alone.buffers, start, strict=True):
        buffer.flat.copy_(value)
    alone.overlap.backward(alone.loss(), alone.tallied, first=first)
    own = torch.cat([*(each.flatten() for each in gradients), loss.detach()[None], alone.tallied])
    leaf = own if first else start[1][:-1] + own
    assert torch.equal(alone.buffers[0].flat[:-1], start[0][:-1] + leaf)
    assert alone.buffers[0].wishes == start[0][-1] + start[1][-1]
    assert not any(parameter._backward_hooks for parameter in alone.parameters)


def test_an_error_in_the_exchange_reaches_the_caller(alone: Alone) -> None:
    """Of the second bucket; those after it are left alone, and the thread ends."""
    done: list[slice] = []

    def finish(part: slice) -> None:
        done.append(part)
        if len(done) == 2:
            raise RuntimeError("connection closed by peer")

    alone.tree.finish = finish  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="connection closed by peer"):
        alone.overlap.backward(alone.loss(), alone.tallied, first=True)
    assert len(done) == 2
    assert len(alone.buffers[0].buckets(overlap.BUCKET)) == 6
    with pytest.raises(RuntimeError, match="shutdown"):
        alone.overlap.backward(alone.loss(), alone.tallied, first=True)


def test_an_error_in_the_backward_pass_ends_the_thread(alone: Alone) -> None:
    def fail(_: Tensor) -> None:
        raise ArithmeticError("no gradient here")

    alone.net[1].weight.register_hook(fail)
    with pytest.raises(ArithmeticError, match="no gradient here"):
        alone.overlap.backward(alone.loss(), alone.tallied, first=True)
    assert not any(thread.is_alive() for thread in alone.overlap._thread._threads)
    assert not any(parameter._backward_hooks for parameter in alone.parameters if parameter is not alone.net[1].weight)
