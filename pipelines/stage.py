"""What every stage has in common: readable errors, and outputs that appear whole or not at all."""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import Interrupted, PipelineError


def run(main: Callable[[], None], *, arguments: bool = False) -> None:
    """Run a module's `main` as a command: an expected error becomes its message and exit status, no traceback.

    Args:
        arguments: whether `main` reads the command line itself. A stage does not: all it needs is in params.yaml.
    """
    if not arguments:
        _refuse_arguments(main)
    try:
        main()
    except PipelineError as error:
        print(f"{'stopped' if isinstance(error, Interrupted) else 'error'}: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: {error.strerror} ({error.filename or 'no room for a file'}): free some space", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _refuse_arguments(main: Callable[[], None]) -> None:
    """Answer --help with what the module says of itself; anything else on the command line is a mistake."""
    module = sys.modules[main.__module__]
    name = module.__spec__.name if module.__spec__ else Path(sys.argv[0]).name
    text = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(f"python -m {name}", description=module.__doc__, formatter_class=text).parse_args()


@contextmanager
def outputs(final: Path) -> Iterator[Path]:
    """A folder under construction beside `final`; it is renamed to `final` when the block ends without an error.

    Until then `final` is as it was, so a stage that fails or is killed leaves nothing that looks complete.

    Raises:
        PipelineError: another process is at work on the same folder.
    """
    building = final.with_name(f".{final.name}.building")
    final.parent.mkdir(parents=True, exist_ok=True)
    with _held(building):
        try:
            yield building
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        shutil.rmtree(final, ignore_errors=True)
        building.rename(final)


@contextmanager
def _held(building: Path) -> Iterator[None]:
    """The folder, made anew and locked for the length of the block. What a killed process left of it is removed."""
    building.mkdir(exist_ok=True)
    descriptor = os.open(building, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError(
                f"another process is writing {building}: let it end, or end it, and try again"
            ) from None
        for left in building.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        os.close(descriptor)
