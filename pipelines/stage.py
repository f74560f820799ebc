"""What every stage has in common: readable errors, and outputs that appear whole or not at all."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import PipelineError


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main` as a command: an expected error becomes its message and exit status 1, no traceback."""
    try:
        main()
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


@contextmanager
def outputs(final: Path) -> Iterator[Path]:
    """A folder under construction beside `final`; it is renamed to `final` when the block ends without an error.

    Until then `final` does not exist, so a stage that fails or is killed leaves nothing that looks complete.
    """
    building = final.with_name(f".{final.name}.building")
    final.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        yield building
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    building.rename(final)
