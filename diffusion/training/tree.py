"""The sum of V leaves in one fixed binary tree, the same bits on any number of workers from 1 to V.

Float addition is not associative, so the order of a sum is part of its result. Here the order is the tree: a node of
level k is the sum of two nodes of level k - 1, and the V leaves are the virtual shards. Worker w owns a run of
neighbouring leaves. A node whose leaves all belong to one worker is summed there without a message. Above that:

- W a power of two: at level k a worker exchanges with worker w XOR 2^k. Both need not add all of the node: each takes
  over one half of what the pair still answers for and sends the partner the other (recursive halving), so that after
  log2(W) levels it has its W-th part of the root. Back up the levels the parts are exchanged (recursive doubling). Each
  element meets the same additions as in the tree, and a + b is b + a, so every worker ends with the same bits; a tensor
  is sent 2 (W - 1) / W times, not log2(W) times. For W = 2, where that is the same, whole nodes are exchanged at once.
- any other W: a node is computed by the owner of its first leaf, which receives the right child from that one's
  owner; the root is broadcast.

The additions are those of single elements, so the sum may also be made part by part, with the same bits. For W a power
of two all messages come after a worker's last leaf, so a part of that leaf can go on its way while the rest is still
computed: `begin`, then `finish` for each part. For any other W some run of leaves is no whole subtree, and messages
fall between the leaves of a worker too; there the tensor is summed whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

from diffusion.training.messages import exchange, receive, send


@dataclass(frozen=True)
class Shares:
    """Which worker owns which of the V leaves: neighbouring ones, as evenly as W allows."""

    leaves: int
    """V, a power of two."""
    workers: int = 1
    """W, from 1 to V."""

    def __post_init__(self) -> None:
        if not _power_of_two(self.leaves):
            raise ValueError(f"the number of virtual shards must be a power of two, got {self.leaves}")
        if not 1 <= self.workers <= self.leaves:
            raise ValueError(
                f"{self.leaves} virtual shards can be shared by 1 to {self.leaves} workers, got {self.workers}"
            )

    def of(self, rank: int) -> range:
        """The leaves of one worker."""
        return range(rank * self.leaves // self.workers, (rank + 1) * self.leaves // self.workers)

    def owner(self, leaf: int) -> int:
        """The worker that owns `leaf`."""
        return ((leaf + 1) * self.workers - 1) // self.leaves

    @property
    def doubling(self) -> bool:
        """Whether W is a power of two: every worker then owns a whole subtree."""
        return _power_of_two(self.workers)

    @property
    def buffers(self) -> int:
        """How many buffers of the size of a leaf a worker needs."""
        if not self.doubling:
            return self.leaves.bit_length()
        return max((self.leaves // self.workers).bit_length(), min(self.workers, 2))


class TreeSum:
    """Sums leaves of one shape; call it on every worker of the default process group (none is needed for W = 1)."""

    def __init__(self, shares: Shares, rank: int, buffers: Sequence[Tensor]) -> None:
        """`buffers`: `shares.buffers` tensors of the shape of a leaf, overwritten by each call."""
        if len(buffers) < shares.buffers:
            raise ValueError(f"{shares} needs {shares.buffers} buffers, got {len(buffers)}")
        self._shares = shares
        self._mine = shares.of(rank)
        self._rank = rank
        self._buffers = buffers

    def __call__(self, leaf: Callable[[int, int], None]) -> None:
        """Leave the sum over all leaves in buffer 0 of every worker; `leaf(v, i)` puts leaf v into buffer i."""
        if not self._shares.doubling:
            self._node(0, self._shares.leaves, 0, leaf)
            dist.broadcast(self._buffers[0], src=0)
            return
        self.begin(leaf)
        leaf(self._mine[-1], self.last)
        self.finish(slice(None))

    @property
    def last(self) -> int:
        """For W a power of two: the buffer of this worker's last leaf."""
        return len(self._mine).bit_length() - 1

    def begin(self, leaf: Callable[[int, int], None]) -> None:
        """For W a power of two: sum this worker's leaves as far as that goes without the last one."""
        for number, v in enumerate(self._mine[:-1]):
            at = number.bit_count()  # as many whole subtrees stand to the left of it
            leaf(v, at)
            while number & 1:  # it is a right child: its node is complete
                self._buffers[at - 1].add_(self._buffers[at])
                at, number = at - 1, number >> 1

    def finish(self, part: slice) -> None:
        """After `begin`, with the last leaf in buffer `last`: leave the sum of these elements in buffer 0.

        Of one part after the other, in the same order on every worker. Waits for the workers in turn.
        """
        for at in range(self.last, 0, -1):
            self._buffers[at - 1][part].add_(self._buffers[at][part])
        start, stop, _ = part.indices(len(self._buffers[0]))
        if self._shares.workers == 2 or stop - start < self._shares.workers:
            for partner in self._partners:
                self._exchange(part, part, partner)
        else:
            self._halve_and_double(slice(start, stop))

    def _halve_and_double(self, mine: slice) -> None:
        """The same for a part of which every worker can take over some elements."""
        given = []
        for partner in self._partners:
            lower, upper = _halves(mine)
            mine, others = (lower, upper) if self._rank < partner else (upper, lower)
            self._exchange(others, mine, partner)
            given.append(others)
        for partner, others in zip(reversed(self._partners), reversed(given), strict=True):
            exchange(self._buffers[0][mine], self._buffers[0][others], partner)
            mine = slice(min(mine.start, others.start), max(mine.stop, others.stop))

    @property
    def _partners(self) -> list[int]:
        """Of the levels above this worker's own."""
        return [self._rank ^ (1 << level) for level in range(self._shares.workers.bit_length() - 1)]

    def _node(self, first: int, size: int, at: int, leaf: Callable[[int, int], None]) -> None:
        """Leave the sum of leaves first..first+size-1 in buffer `at` of its owner; other workers contribute theirs.

        Every worker walks the tree in the same order, and each message has two ends only; so the first message of that
        order that is still open always has both ends ready, and there is no deadlock.
        """
        if first >= self._mine.stop or first + size <= self._mine.start:
            return
        if size == 1:
            leaf(first, at)
            return
        half = size // 2
        left, right = self._shares.owner(first), self._shares.owner(first + half)
        self._node(first, half, at, leaf)
        self._node(first + half, half, at + 1, leaf)
        if self._rank == left:
            if left != right:
                receive(self._buffers[at + 1], right)
            self._buffers[at].add_(self._buffers[at + 1])
        elif self._rank == right:
            send(self._buffers[at + 1], left)

    def _exchange(self, theirs: slice, ours: slice, partner: int) -> None:
        """Send our node's part that is theirs from now on, and add the partner's to the one that is ours."""
        node, room = self._buffers[:2]
        exchange(node[theirs], room[ours], partner)
        node[ours].add_(room[ours])


def _halves(part: slice) -> tuple[slice, slice]:
    middle = (part.start + part.stop) // 2
    return slice(part.start, middle), slice(middle, part.stop)


def _power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0
