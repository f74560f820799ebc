"""Progress of a long piece of work: a bar on a terminal, a plain line every ten seconds anywhere else, lines of its own
for a bar on another machine (`relayed.py`).

    with progress("training", total=2000, unit="step", start=500) as bar:
        bar.update(510, loss=0.045)

    training  1500/2000 steps  8.3 steps/s  1:00 left  loss 0.045

The rate counts what was done here: steps that a resumed run brought along are in the count but not in the rate.
Everything goes to the error stream, so that a command's output stays its own.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Number = int | float

LINE_EVERY_S = 10.0
"""Seconds between lines where there is no terminal."""
RELAY = "PIPELINES_PROGRESS"
"""Environment variable, set for a process that has no terminal, but a reader who knows the lines of `relayed.py`."""
MARK = "\x1eprogress "
"""With which these begin."""
TOLD_EVERY_S = 1.0
"""Seconds between two that are told to a process elsewhere, while it may be that somebody waits for the first ones."""
TOLD_LATER_EVERY_S = 5.0
"""The same when the work has gone on for `SOON_S`: whoever comes to it then reads them all."""
SOON_S = 120.0


@dataclass(frozen=True)
class Count:
    """How far a piece of work has come."""

    title: str
    total: int
    unit: str
    """Singular: `step`, `image`."""
    start: int = 0
    """What was done before this process took it up."""
    done: int = 0
    """What is done by now, including `start`."""
    elapsed_s: float = 0.0
    """Seconds since this process took it up."""
    numbers: dict[str, Number] = field(default_factory=dict)

    @property
    def rate(self) -> float | None:
        """Units per second since `start`; None before anything is done."""
        return (self.done - self.start) / self.elapsed_s if self.done > self.start and self.elapsed_s > 0 else None

    @property
    def left_s(self) -> float | None:
        """Seconds to go at that rate."""
        return (self.total - self.done) / self.rate if self.rate else None

    def fields(self) -> list[str]:
        """What is known, as short texts: count, rate, time left (or taken, at the end), the given numbers."""
        texts = [f"{self.done}/{self.total} {self.unit}s"]
        if self.rate:
            texts.append(_rate(self.rate, self.unit))
        if self.done >= self.total:
            texts.append(f"took {clock_text(self.elapsed_s)}")
        elif self.left_s is not None:
            texts.append(f"{clock_text(self.left_s)} left")
        return texts + [f"{name.replace('_', ' ')} {short(value)}" for name, value in self.numbers.items()]

    def line(self) -> str:
        """All of it on one plain line."""
        return "  ".join([self.title, *self.fields()])


class Bar(Protocol):
    """What `progress` hands out."""

    def update(self, done: int, **numbers: Number) -> None:
        """Say that `done` units are done by now (a total, not an increment), with numbers to show beside it."""


@contextmanager
def progress(title: str, total: int, unit: str, start: int = 0) -> Iterator[Bar]:
    """Show the progress of the block, which calls `update` on what it is given.

    Args:
        title: what is being done, a word or two.
        total: number of units at the end, including `start`.
        unit: what is counted, in the singular.
        start: units that were done before, by the run that this one resumes.
    """
    count = Count(title, total, unit, start, done=start)
    with shown(count) as bar:
        yield bar


def shown(count: Count) -> Shown:
    """As whoever reads the error stream can take it."""
    if os.environ.get(RELAY):
        return _Told(count)
    console = _console()
    return _Rich(count) if console.is_terminal and not console.is_dumb_terminal else _Lines(count)


class Shown(ABC):
    """Keeps the count; the subclasses show it."""

    def __init__(self, count: Count) -> None:
        self.count = count
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def update(self, done: int, **numbers: Number) -> None:
        self.count = replace(
            self.count,
            done=done,
            elapsed_s=time.monotonic() - self.began,
            numbers={**self.count.numbers, **numbers},
        )
        self.show()

    def take(self, count: Count) -> None:
        """Show the count of a process elsewhere."""
        self.count, self.began = count, time.monotonic() - count.elapsed_s
        self.show()

    @abstractmethod
    def show(self) -> None:
        """Show the count as it is now."""

    @abstractmethod
    def __exit__(self, *error: object) -> None:
        """Show it for the last time."""


class _Lines(Shown):
    """At most one line every ten seconds, and one at the end."""

    def __init__(self, count: Count) -> None:
        super().__init__(count)
        self.printed = self.began

    def show(self) -> None:
        now = time.monotonic()
        if now - self.printed >= LINE_EVERY_S and self.count.done < self.count.total:
            self.printed = now
            self.print()

    def __exit__(self, *error: object) -> None:
        self.count = replace(self.count, elapsed_s=time.monotonic() - self.began)
        self.print()

    def print(self) -> None:
        print(self.count.line(), file=sys.stderr, flush=True)


class _Told(Shown):
    """A line every second, later every five, for a process that shows the bar (`relayed.py`), and one at the end."""

    def __init__(self, count: Count) -> None:
        super().__init__(count)
        self.told = -math.inf

    def show(self) -> None:
        now = time.monotonic()
        if now - self.told >= (TOLD_EVERY_S if now - self.began < SOON_S else TOLD_LATER_EVERY_S):
            self.told = now
            self.tell()

    def __exit__(self, *error: object) -> None:
        self.count = replace(self.count, elapsed_s=time.monotonic() - self.began)
        self.tell(ended=True)

    def tell(self, *, ended: bool = False) -> None:
        line = MARK + json.dumps({**asdict(self.count), "ended": ended})
        print(line, file=sys.stderr, flush=True)


class _Rich(Shown):
    """A live bar that leaves its last state behind; a bar inside another one is shown below it while it lasts."""

    screen: ClassVar[Progress | None] = None
    """What is on the terminal now; a terminal has room for one."""

    def __enter__(self) -> Self:
        self.outermost = _Rich.screen is None
        self.bars = _Rich.screen = _Rich.screen or _bars(_console())
        count = self.count
        self.task = self.bars.add_task(count.title, total=count.total, completed=count.done, text=self.text())
        if self.outermost:
            self.bars.start()
        return self

    def show(self) -> None:
        self.bars.update(self.task, completed=self.count.done, text=self.text())

    def __exit__(self, *error: object) -> None:
        if self.outermost:
            self.bars.stop()
            _Rich.screen = None
        else:
            self.bars.remove_task(self.task)

    def text(self) -> str:
        return "  ".join(self.count.fields())


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _bars(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    text = TextColumn("{task.fields[text]}", markup=False)
    return Progress(TextColumn("{task.description}", markup=False), BarColumn(bar_width=28), text, console=console)


def short(value: Number) -> str:
    """Three significant digits, without an exponent for everyday numbers."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _rate(rate: float, unit: str) -> str:
    """8.3 steps/s, or 2.5 s/step where one takes more than a second."""
    if rate < 1:
        return f"{1 / rate:.3g} s/{unit}"
    return f"{rate:.1f} {unit}s/s" if rate < 100 else f"{rate:.0f} {unit}s/s"


def clock_text(seconds: float) -> str:
    """1:05 or 2:01:05."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
