"""Which numbers a spool holds: each is told once per name and step, also by a run that is resumed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pipelines.tracking.lines import Event


class Told:
    """The numbers among a spool's events."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._known: set[tuple[str, int]] = set()
        self._not_finite: dict[str, list[str]] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """An event is on the disk."""
        if (name := event.get("metric")) is not None:
            self._known.add((name, event["step"]))
        elif (name := event.get("not_finite")) is not None:
            self._known.add((name, event["step"]))
            self._not_finite.setdefault(name, []).append(event["value"])

    def has(self, event: Event) -> bool:
        """Whether it tells a number that was told before."""
        return (event.get("metric", event.get("not_finite")), event.get("step")) in self._known

    def fresh(self, step: int, values: Mapping[str, float], now_ms: int) -> list[Event]:
        """The events of those numbers that were not told yet.

        One that is not finite becomes a tag that names the first and the last of them: MLflow would store 1.8e308.
        """
        new = {name: value for name, value in values.items() if (name, step) not in self._known}
        return [
            {"metric": name, "step": step, "value": value, "time": now_ms}
            if math.isfinite(value)
            else self._tag(name, step, value)
            for name, value in new.items()
        ]

    def _tag(self, name: str, step: int, value: float) -> Event:
        here = f"{value} at step {step}"
        first, *others = [*self._not_finite.get(name, []), here]
        said = f"{first}, and {len(others)} more, the last {here}" if others else here
        return {"tags": {f"not_finite.{name}": said}, "not_finite": name, "step": step, "value": here}
