"""Progress across a pipe: one process tells how far it is on lines of its own, another shows the bars.

\\x1eprogress {"title": "training", "total": 2000, "unit": "step", "done": 1500, "numbers": {"loss": 0.045}, ..}
"""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress

from pipelines.report.progress import MARK, Count, Shown, shown


def decode(line: str) -> tuple[Count, bool] | None:
    """The count that a line tells of, and whether that is the last of it; None for any other line."""
    if not line.startswith(MARK):
        return None
    with suppress(ValueError, TypeError, KeyError):
        values = json.loads(line[len(MARK) :])
        ended = bool(values.pop("ended"))
        return Count(**values), ended
    return None


class Relayed:
    """Shows the bars that the lines tell of. To be used as a context: what is open is closed at its end."""

    def __init__(self) -> None:
        self._bars: dict[str, tuple[ExitStack, Shown]] = {}

    def __enter__(self) -> Relayed:
        return self

    def __exit__(self, *error: object) -> None:
        for title in list(self._bars):
            self._close(title)

    def show(self, line: str) -> bool:
        """Take a line; False if it is none of these, and for the reader."""
        if not (told := decode(line)):
            return False
        count, ended = told
        if count.title not in self._bars:
            stack = ExitStack()
            self._bars[count.title] = stack, stack.enter_context(shown(count))
        self._bars[count.title][1].take(count)
        if ended:
            self._close(count.title)
        return True

    def _close(self, title: str) -> None:
        stack, _ = self._bars.pop(title)
        stack.close()
