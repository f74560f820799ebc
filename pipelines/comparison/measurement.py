"""One evaluation of a model: its numbers with their cards, and its table of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.report.scores import distances

if TYPE_CHECKING:
    import pandas as pd

BOUND = "bits_per_dim"


@dataclass(frozen=True)
class Measurement:
    """What was measured of one model at one time."""

    digest: str
    """SHA-256 of its metrics.json."""
    content: dict[str, Any]
    """metrics.json."""
    when_ms: int
    """Milliseconds since 1970."""
    fetch: Callable[[], Path]
    """The folder with its tables and samples, verified; raises TrackingError."""
    sampling: dict[str, Any] = field(default_factory=dict)
    """What drawing its samples took, as `pipelines.tracking.took.total` says; empty if that is not known."""

    @property
    def quantities(self) -> list[str]:
        """The names under which numbers with a card stand: the bound's and the distances'."""
        return [name for name in (BOUND, *distances(self.content)) if name in self.content]

    def card(self, quantity: str) -> dict[str, Any]:
        """How this was measured; empty if it was not."""
        return dict(self.content.get(quantity, {}).get("card", {}))

    @cached_property
    def folder(self) -> Path:
        """Where its files are, fetched once."""
        return self.fetch()

    @cached_property
    def per_image(self) -> pd.DataFrame:
        """The terms of the bound by image, in bits/dim, indexed by `image_id`.

        Raises:
            TrackingError: the file cannot be had.
        """
        import pandas as pd

        return pd.read_parquet(self.folder / "per_image.parquet").set_index("image_id")


def together(first: Measurement, second: Measurement, term: str) -> pd.DataFrame | None:
    """What each image that both were measured on costs, columns `first` and `second`; None if these are fewer than two.

    Raises:
        TrackingError: a table cannot be had.
    """
    import pandas as pd

    series = [first.per_image[term], second.per_image[term]]
    both = pd.concat(series, axis=1, join="inner", keys=["first", "second"])
    return both if len(both) > 1 else None
