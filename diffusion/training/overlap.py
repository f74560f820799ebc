"""The exchange between workers during the backward pass, in strict reduction: the same bits, and less waiting.

In a worker's last microbatch the gradients arrive one by one, those of the last layers first. They go into buckets,
neighbouring parts of the flat gradient. A bucket that is complete is handed to a thread, which takes it up the tree and
through all messages to the sum over the workers, while the backward pass goes on. Every worker hands the buckets over
in one fixed order, so each message finds its counterpart, in whatever order the gradients arrive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor

from diffusion.training.gradient import Bucket, FlatGradient
from diffusion.training.tree import TreeSum

BUCKET = 2**20
"""Elements of a bucket: 4 MiB. Smaller ones begin sooner, larger ones cost fewer messages. The same on all workers."""


class Overlap:
    """The last backward pass of a worker's last leaf, with the rest of the tree sum. For W a power of two, from 2."""

    def __init__(
        self, tree: TreeSum, leaf: FlatGradient, parameters: Sequence[Tensor], buckets: Sequence[Bucket]
    ) -> None:
        self._tree = tree
        self._leaf = leaf
        self._parameters = parameters
        self._buckets = buckets
        self._thread = ThreadPoolExecutor(1, "exchange")
        self._side = SideStream(leaf.flat.device)
        self._broken = False

    @classmethod
    def of(cls, tree: TreeSum, leaf: FlatGradient, parameters: Sequence[Tensor]) -> Overlap | None:
        """`leaf` is the tree's buffer of the last leaf. None where it makes one bucket, which could not go early."""
        buckets = leaf.buckets(BUCKET)
        return cls(tree, leaf, parameters, buckets) if len(buckets) > 1 else None

    def backward(self, loss: Tensor, tallied: Tensor, *, first: bool) -> None:
        """Differentiate the loss of the last microbatch; on return the sum over all leaves is in the tree's buffer 0.

        Args:
            first: whether it is also the leaf's first microbatch, so that the leaf is overwritten, not added to.

        Raises:
            Exception: what the backward pass or the exchange raised. The thread has ended then, with the bucket that it
                was at, for which no message waits longer than the process group's time-out. This object is of no more
                use, as the workers' messages no longer match.
        """
        self._take([self._leaf.loss, self._leaf.tallied], [loss.detach(), tallied], first)
        arrivals = Arrivals(self._buckets)
        handed: list[Future[None]] = []

        def arrived(number: int, gradient: Tensor) -> None:
            for bucket, gradients in arrivals.add(number, gradient):
                self._take([self._leaf.views[i] for i in bucket.parameters], gradients, first)
                handed.append(self._thread.submit(self._exchange, bucket, self._side.mark()))

        try:
            with _hooks(self._parameters, arrived):
                gradients = torch.autograd.grad(loss, self._parameters)
            for number in arrivals.missing(len(gradients)):  # should a hook not have run
                arrived(number, gradients[number])
            for each in handed:
                each.result()
            self._side.join()
        except BaseException:
            self._thread.shutdown(cancel_futures=True)
            raise

    @staticmethod
    def _take(places: Sequence[Tensor], values: Sequence[Tensor], first: bool) -> None:
        """As `FlatGradient.set` and `add` do."""
        if first:
            torch._foreach_copy_(list(places), list(values))
        else:
            torch._foreach_add_(list(places), list(values))

    def _exchange(self, bucket: Bucket, ready: torch.cuda.Event | None) -> None:
        """In the thread. After a failure no more messages: a partner would take them for others."""
        if self._broken:
            return
        try:
            with self._side.after(ready):
                self._tree.finish(bucket.part)
        except BaseException:
            self._broken = True
            raise


class Arrivals:
    """The gradients of one backward pass as they arrive, and the buckets that they fill."""

    def __init__(self, buckets: Sequence[Bucket]) -> None:
        self._waiting = deque(buckets)
        self._there: dict[int, Tensor] = {}

    def add(self, number: int, gradient: Tensor) -> Iterator[tuple[Bucket, list[Tensor]]]:
        """The gradient of parameter `number` is there: the buckets that may go now, in their order, with gradients."""
        self._there[number] = gradient
        while self._waiting and all(i in self._there for i in self._waiting[0].parameters):
            bucket = self._waiting.popleft()
            yield bucket, [self._there[i] for i in bucket.parameters]

    def missing(self, count: int) -> list[int]:
        """Which of the gradients 0 .. count - 1 have not arrived."""
        return [number for number in range(count) if number not in self._there]


class SideStream:
    """On CUDA: the stream of the exchange, beside that of the computation. Elsewhere nothing.

    The order that it promises: a bucket's exchange begins after all that the compute stream was
    given before `mark`, and what the compute stream is given after `join` begins after all exchanges. The thread only
    queues work there; with NCCL a message's `wait` is a wait of the stream, not of the thread.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def mark(self) -> torch.cuda.Event | None:
        """This point in the compute stream, the current one of the calling thread."""
        return torch.cuda.current_stream(self._device).record_event() if self._stream else None

    def after(self, mark: torch.cuda.Event | None) -> AbstractContextManager[object]:
        """Work inside goes to the side stream, and begins after `mark`."""
        if self._stream is None or mark is None:
            return nullcontext()
        self._stream.wait_event(mark)
        return torch.cuda.stream(self._stream)

    def join(self) -> None:
        """The compute stream waits for all that the side stream was given."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)


@contextmanager
def _hooks(parameters: Sequence[Tensor], arrived: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Within: `arrived(number, gradient)` is called for each parameter when its gradient is computed."""
    with ExitStack() as hooks:
        for number, parameter in enumerate(parameters):
            hooks.enter_context(parameter.register_hook(partial(arrived, number)))  # type: ignore[no-untyped-call]
        yield
