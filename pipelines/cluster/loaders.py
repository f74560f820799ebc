"""Loader processes, which make a worker's virtual shards before it asks for them.

What they make is a function of step and shard, so neither how many there are nor whether there are any changes a
result. They belong to torch's DataLoader. They start from a server that was never threaded (a fork of the worker, which
has the threads of Ray and gloo, may hang), open the images anew, and end with the worker, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from itertools import count
from math import ceil
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import torch
from torch.utils.data import DataLoader, Dataset

from diffusion.training.shard import Shard, ShardMaker

_STEPS_AHEAD = 2
"""How far they may be ahead: the bound on the memory of what waits."""

Position = tuple[int, int]
"""Step (counted from 0) and virtual shard."""


class LoaderError(RuntimeError):
    """A loader died or is stuck. Not an error for a person yet: the worker fails with it and is replaced."""


class Loaders:
    """The shards of one worker in its order: its own, step after step, from the first that it asks for.

    A shard that is not its turn (a past step that is looked at again, another worker's shard) is made on the spot and
    changes nothing; one beyond its turn begins the order anew from there.
    """

    def __init__(self, maker: ShardMaker, own: range, processes: int, patience_s: float) -> None:
        """Args:
        maker: makes a shard.
        own: the worker's virtual shards.
        processes: how many loaders.
        patience_s: how long to wait for one shard.
        """
        self._maker = maker
        self._own = own
        self._count = processes
        self._patience_s = patience_s
        self._arriving: Iterator[Shard] | None = None
        self._turn: Position | None = None
        self._processes: list[BaseProcess] = []
        self._watchdog: _Watchdog | None = None

    def __call__(self, step: int, shard: int) -> Shard:
        """The shard.

        Raises:
            LoaderError: a loader died, or none has answered for long.
        """
        if shard in self._own and (self._turn is None or (step, shard) > self._turn):
            self._start(step, shard)
        if self._arriving is None or (step, shard) != self._turn:
            return self._maker(step, shard)
        self._turn = (step, shard + 1) if shard + 1 in self._own else (step + 1, self._own.start)
        return self._next()

    def close(self) -> None:
        """End the processes; one that does not end when it is told to is killed."""
        self._arriving, self._turn = None, None  # without a reader the DataLoader tells them
        if self._watchdog is not None:
            self._watchdog.over.set()
            self._watchdog = None
        _kill(self._processes)
        self._processes = []

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [process.pid for process in self._processes if process.pid and _alive(process)]

    def _start(self, step: int, shard: int) -> None:
        self.close()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch"])  # imported once for all of them
        others = set(multiprocessing.active_children())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more than there are cores
            loader = DataLoader(
                _Shards(self._maker),
                sampler=_order(self._own, step, shard),
                batch_size=None,
                num_workers=self._count,
                prefetch_factor=max(2, ceil(_STEPS_AHEAD * len(self._own) / self._count)),
                multiprocessing_context=context,
                worker_init_fn=_end_with_parent,
                generator=torch.Generator(),  # else it would draw from the global one
            )
            self._arriving = iter(loader)
        self._processes = [each for each in multiprocessing.active_children() if each not in others]
        self._watchdog = _Watchdog(self._processes, self._patience_s)
        self._watchdog.start()
        self._turn = (step, shard)

    def _next(self) -> Shard:
        assert self._arriving is not None
        assert self._watchdog is not None
        self._watchdog.waiting_since = time.monotonic()
        try:
            return next(self._arriving)
        except (RuntimeError, OSError, EOFError) as error:
            reason = self._reason(error)
        finally:
            self._watchdog.waiting_since = None
        self.close()  # here, where no traceback holds on to the DataLoader
        raise LoaderError(
            f"{reason}. Without its loaders the worker cannot go on; if this comes again, give the workers more memory "
            "or set ray.loaders_per_worker to 0 in infra/cluster.yaml, which changes no result"
        )

    def _reason(self, error: Exception) -> str:
        """What is wrong with which process."""
        names = ", ".join(str(process.pid) for process in self._processes)
        if self._watchdog and self._watchdog.fired:
            return f"the loader processes {names} gave nothing for {self._patience_s:g} s"
        wait([process.sentinel for process in self._processes], timeout=1)
        if dead := [process for process in self._processes if process.exitcode is not None]:
            return "; ".join(f"loader process {process.pid} {_end(process.exitcode or 0)}" for process in dead)
        return f"a shard of the loader processes {names} did not arrive: {error}"


class _Watchdog(threading.Thread):
    """Kills the loaders when the worker has waited too long for one.

    A time limit in DataLoader is not enough: a shard's memory is handed over by the loader that made it, and the wait
    for one that is stopped has no end. What is killed ends every wait.
    """

    def __init__(self, processes: Sequence[BaseProcess], patience_s: float) -> None:
        super().__init__(name="patience with loaders", daemon=True)
        self._processes = processes
        self._patience_s = patience_s
        self.waiting_since: float | None = None
        self.fired = False
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(min(1.0, self._patience_s)):
            since = self.waiting_since
            if since is not None and time.monotonic() - since > self._patience_s:
                self.fired = all(map(_alive, self._processes))  # else the DataLoader notices by itself that one died
                _kill(self._processes)
                return


class _Shards(Dataset[Shard]):
    """The maker, as DataLoader wants it."""

    def __init__(self, maker: ShardMaker) -> None:
        self._maker = maker

    def __getitem__(self, position: Position) -> Shard:
        return self._maker(*position)


def _order(own: range, step: int, shard: int) -> Iterator[Position]:
    """A worker's shards without end."""
    yield from ((step, v) for v in range(shard, own.stop))
    yield from ((s, v) for s in count(step + 1) for v in own)


def _end_with_parent(number: int) -> None:
    """End this process with its worker, also one that is killed and can tell nobody."""
    parent = multiprocessing.parent_process()

    def end() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end, name="end with parent", daemon=True).start()


def _alive(process: BaseProcess) -> bool:
    """By its sentinel alone: `is_alive` takes up the exit status, which two threads must not do at once."""
    return not wait([process.sentinel], timeout=0)


def _kill(processes: Sequence[BaseProcess]) -> None:
    for process in filter(_alive, processes):
        process.kill()


def _end(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended by itself with status {code}"
