"""What every stage has in common: readable errors, a missing environment named, and outputs that appear whole or not."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_NEEDED = ("pydantic", "ruamel.yaml", "rich", "torch", "ray", "mlflow")


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main` as a command: an expected error becomes its message and exit status 1, no traceback.

    A Python without the dependencies is named in one line, with the way to the right one.
    """
    missing = [name for name in _NEEDED if not _importable(name)]
    if missing:
        sys.exit(
            f"error: {sys.executable} has no {', '.join(missing)}. "
            "Run `make setup` once, then `source .venv/bin/activate` (or use `make repro`)."
        )
    from pipelines.errors import PipelineError

    try:
        main()
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


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
