"""What the tests of pictures share: a look at the figures before they are pixels."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest

from pipelines.report.pictures import bits, curves, first_time, image_bits, terms, versions, weights
from pipelines.report.pictures.canvas import page


@pytest.fixture
def figures(monkeypatch) -> list[Any]:
    """The figures that pictures of curves and of the bound draw, in order, once they are drawn."""
    seen = []

    @contextmanager
    def watched(*args, **kwargs):
        with page(*args, **kwargs) as figure:
            seen.append(figure)
            yield figure

    for module in (bits, curves, first_time, image_bits, terms, versions, weights):
        monkeypatch.setattr(module, "page", watched)
    return seen


@pytest.fixture
def texts_of() -> Callable[[Any], list[str]]:
    """A figure or a part of it -> the texts on it, in the order in which they were added."""
    from matplotlib.text import Text

    return lambda thing: [text.get_text() for text in thing.findobj(Text) if text.get_text()]
