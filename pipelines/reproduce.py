"""`python -m pipelines.reproduce VERSION`: where a registered version came from, and the same again.

VERSION is a number or @alias of register.name, or models:/NAME/VERSION.

    python -m pipelines.reproduce 7                          # commit, data, environment, command; what is here of it
    python -m pipelines.reproduce 7 --checkout ../again      # a clone as it was, checked; then `dvc repro` there
    python -m pipelines.reproduce 7 --checkout ../again --run-code    # if its patch changes code, after reading that
    python -m pipelines.reproduce 7 --verify ../again        # exit status 1 if a digest or number is another

The clone shares nothing with this project: no checkpoints, no registry, no cache.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.params import load_params
from pipelines.project import workspace
from pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipelines.reproduction.here import Check
    from pipelines.tracking.origin import Origin
    from pipelines.tracking.registry import Version


def main() -> None:
    """Tell, check out or verify."""
    asked = _arguments()
    settings, variables = load_settings(), set(os.environ)  # MLflow adds its own
    version = find(asked.version, asked.name, settings)
    if asked.verify:
        raise SystemExit(verify(version, asked.verify, settings))
    from pipelines.tracking.origin import origin_of

    with origin_of(version, settings) as origin:
        if asked.checkout:
            raise SystemExit(check_out(origin, asked.checkout.resolve(), asked.at, variables, run_code=asked.run_code))
        tell(origin)


def find(text: str, name: str | None, settings: Settings) -> Version:
    """The version asked for.

    Raises:
        TrackingError: it does not exist, or the registry does not answer.
    """
    from pipelines.tracking.fetch import find_versions

    (version,) = find_versions([text], name or load_params().register_.name, settings)
    return version


def tell(origin: Origin) -> None:
    """Print where it came from, and what of it is here."""
    from pipelines.reproduction.here import checks

    tags, params = origin.version.tags, origin.version.params
    changed = "with changes" if tags.get("git.dirty") == "true" else "without changes"
    where = f" of {tags['git.remote']}" if "git.remote" in tags else ""
    stages = ", ".join(dict.fromkeys(stage["cmd"] for stage in origin.stages.values()))
    print(f"{origin.version.name} version {origin.version.number}, weights {origin.version.model_digest[:12]}")
    print(f"  commit       {origin.commit or 'none'}{where}, {changed}")
    print(f"  data         {params.get('data.source')} at {params.get('data.path')}, digest {origin.data_digest[:12]}")
    print(f"  environment  Python {tags['python']}, torch {tags['torch']}, digest {tags['environment.digest'][:12]}")
    print(f"  command      dvc repro{f' ({stages})' if stages else ''}")
    print("on this machine")
    _print(checks(origin, workspace()))
    print(f"to check it out: python -m pipelines.reproduce {origin.version.uri} --checkout FOLDER")


def check_out(origin: Origin, folder: Path, at: str | None, variables: set[str], *, run_code: bool) -> int:
    """Make the clone and say whether it gives the same bits; the exit status.

    Args:
        variables: names of those in the environment of the person's shell.
        run_code: whether code that the version's patch changes may run.
    """
    from pipelines.reproduction import checkout
    from pipelines.reproduction.here import changes_check, environment_check, machine_check

    found = checkout.check_out(origin, workspace(), folder, at, run_code=run_code)
    _print([changes_check(origin), *found, environment_check(origin), machine_check(origin)])
    unset = " ".join(f"-u {shlex.quote(name)}" for name in checkout.leading_elsewhere(variables))
    again = f"cd {shlex.quote(str(folder))} && {f'env {unset} ' if unset else ''}dvc repro"
    same = all(check.ok for check in found)
    if any(check.what == "patch" and not check.ok for check in found):
        print(
            "The version's patch changes code, and whoever may write to the registry may have written it. Nothing of "
            f"it was run. Read it:\n  git -C {shlex.quote(str(folder))} diff HEAD\nand, if you trust it:\n"
            f"  python -m pipelines.reproduce {origin.version.uri} --checkout NEW_FOLDER --run-code"
        )
        return 1
    print(
        "All that its weights depend on is as it was: on the same kind of machine, with the same torch, this gives the "
        "same bits:"
        if same
        else "This is NOT all as it was (see NO above), so other weights are to be expected of"
    )
    print(f"  {again}\n  python -m pipelines.reproduce {origin.version.uri} --verify {shlex.quote(str(folder))}")
    return 0 if same else 1


def verify(version: Version, folder: Path, settings: Settings) -> int:
    """Compare the results in a checkout with the registered ones; the exit status."""
    from pipelines.reproduction.verifying import verified

    found = verified(version, folder, settings)
    _print(found)
    return 0 if all(check.ok for check in found) else 1


def _print(found: Sequence[Check]) -> None:
    for check in found:
        print(f"  {check}")


def _arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipelines.reproduce", description=__doc__, formatter_class=form)
    parser.add_argument("version", metavar="VERSION", help="number, @alias or models:/NAME/VERSION")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--checkout", type=Path, metavar="FOLDER", help="a new folder for a clone as it was")
    either.add_argument("--verify", type=Path, metavar="FOLDER", help="a checkout in which `dvc repro` has run")
    parser.add_argument("--at", metavar="COMMIT", help="with --checkout: another commit, where the version's is gone")
    parser.add_argument("--run-code", action="store_true", help="with --checkout: run what the version's patch changed")
    parser.add_argument("--name", help="registered model (default: register.name of params.yaml)")
    asked = parser.parse_args()
    if asked.at and not asked.checkout:
        parser.error("--at goes with --checkout")
    if asked.run_code and not asked.checkout:
        parser.error("--run-code goes with --checkout")
    return asked


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
