"""When to give up on workers that die: chance is answered by new workers, what is no chance by an error."""

from __future__ import annotations


class Patience:
    """Counts failures, and says when they are too many."""

    def __init__(self, failures: int, same_step: int) -> None:
        """Args:
        failures: how many in a row, without a new checkpoint between them, are answered by another attempt.
        same_step: how many in a row in one and the same step are no chance.
        """
        self._failures = failures
        self._same_step = same_step
        self._in_a_row = 0
        self._at: list[int | None] = []

    @property
    def count(self) -> int:
        """Failures in a row without a new checkpoint between them."""
        return self._in_a_row

    def after(self, step: int | None, saved: bool) -> str | None:
        """Why to give up after a failure, None to try again.

        Args:
            step: the update in which the workers died, from 1; None if they died before they met.
            saved: whether this attempt has saved a checkpoint.
        """
        self._in_a_row = 1 if saved else self._in_a_row + 1
        self._at = [step] if self._at[-1:] != [step] else [*self._at, step]
        where = "before their first step" if step is None else f"in step {step}"
        if len(self._at) >= self._same_step:
            return (
                f"the workers died {len(self._at)} times in a row {where}, which is no chance: the same step would "
                "fail again (ray.same_step_failures)"
            )
        if self._in_a_row > self._failures:
            return (
                f"the workers died {self._in_a_row} times without a new checkpoint in between, the last time {where} "
                f"(ray.max_failures is {self._failures})"
            )
        return None
