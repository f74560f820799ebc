"""`python -m pipelines.sweep -S KEY=VALUE,VALUE ..`: the pipeline for many values of its parameters.

    python -m pipelines.sweep -S train.learning_rate=0.001,0.002 -S seed=0,1
    python -m pipelines.sweep --random 20 --seed 1 -S 'train.learning_rate=log(1e-4,1e-2)' -S model.channels=32,64

Lists give all combinations; with --random N so many draws, from lists or from log(LOW,HIGH), uniform(LOW,HIGH) and
int(LOW,HIGH). Each trial is `dvc repro` in a copy of the project, with uncommitted changes, and registers a version.
The same command again goes on where it was ended, however that came: finished trials stay as they are.

Exit status: 0 all trials went through; 1 some failed; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import fcntl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import ParamsError, PipelineError
from pipelines.project import home, state, workspace
from pipelines.runs.digest import digest
from pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipelines.sweeping.place import Place
    from pipelines.sweeping.space import Trial


def main() -> None:
    """Check, run, and tell what came out."""
    asked = _arguments()
    settings, found = load_settings(), trials_of(asked)
    name = asked.name or digest([asked.set, asked.random, asked.seed])[:8]
    folder = state() / "sweeps" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError(f"sweep {name} is being run by another process") from None
        places = carry_out(name, found, folder, settings, asked)
        raise SystemExit(tell(found, places, settings))


def trials_of(asked: argparse.Namespace) -> list[Trial]:
    """The trials, all of their parameters checked.

    Raises:
        ParamsError: naming every problem.
    """
    from pipelines.sweeping.space import draws, grid, read_axes, trials

    axes = read_axes(asked.set, random=asked.random is not None)
    return trials(grid(axes) if asked.random is None else draws(axes, asked.random, asked.seed))


def carry_out(
    name: str, found: Sequence[Trial], folder: Path, settings: Settings, asked: argparse.Namespace
) -> list[Place]:
    """Run the trials that have not gone through; the places of all.

    Raises:
        PipelineError: the project is in no git repository.
        KeyboardInterrupt: after all have saved and stopped.
    """
    from pipelines.sweeping.family import Family
    from pipelines.sweeping.place import places_of
    from pipelines.sweeping.running import Width, environment, run_all

    places = places_of(found, folder, settings)
    forget_lost(places, settings)
    left = [k for k, place in enumerate(places) if place.outcome is None]
    shards = min(trial.params.train.virtual_shards for trial in found)
    width = Width.of(settings, max(1, len(left)), asked.at_once, shards)
    each = "as the cluster's settings say" if width.workers is None else f"{width.workers} workers each"
    print(
        f"sweep {name}: {len(found)} trials, {len(found) - len(left)} of them finished; {width.at_once} at once, {each}"
    )
    cache = _dvc_cache()
    for k in left:
        places[k].prepare(found[k], workspace(), cache)
        print(f"  {found[k]}: {places[k].log.relative_to(home())}", flush=True)
    family = Family(name, found[0].params.register_.name, asked.set, settings)
    variables = environment(name, width)
    status = "KILLED"
    try:
        if left:
            run_all([places[k] for k in left], settings, width, variables, family.look)
        status = "FINISHED" if all(place.outcome for place in places) else "FAILED"
    finally:
        family.end([place.outcome for place in places if place.outcome], status)
    return places


def forget_lost(places: Sequence[Place], settings: Settings) -> None:
    """Trials whose versions were deleted are not finished.

    Raises:
        TrackingError: the registry does not answer.
    """
    from pipelines.tracking.registry import versions
    from pipelines.tracking.store import connect, tracking_errors

    finished = [(place, place.outcome) for place in places]
    names = {outcome.name for _, outcome in finished if outcome}
    with tracking_errors(settings):
        there = {
            (version.name, version.number)
            for name in names
            for version in versions(connect(settings, name, make=False), name)
        }
    for place, outcome in finished:
        if outcome and (outcome.name, outcome.version) not in there:
            place.forget()


def tell(found: Sequence[Trial], places: Sequence[Place], settings: Settings) -> int:
    """Print what came out; the exit status."""
    from rich.console import Console

    from pipelines.sweeping.report import grouped, measured, table

    console = Console(highlight=False)
    finished = [(trial, place.outcome) for trial, place in zip(found, places, strict=True) if place.outcome]
    failed = [(trial, place) for trial, place in zip(found, places, strict=True) if not place.outcome]
    if finished:
        rows, without = measured([(trial, outcome) for trial, outcome in finished if outcome], settings)
        groups = grouped(rows)
        for group in groups:
            console.print(table(group))
        for outcome in without:
            console.print(
                f"no measurement of version {outcome.version}: python -m pipelines.remeasure {outcome.uri}",
                soft_wrap=True,
            )
        named = " ".join(row.outcome.uri for group in groups for row in group.rows)
        seeds = len({trial.params.seed for trial in found}) > 1
        console.print(f"python -m pipelines.compare {named}{' --by recipe' if seeds else ''}", soft_wrap=True)
    for trial, place in failed:
        console.print(f"FAILED: {trial}; the end of {place.log.relative_to(home())}:", soft_wrap=True, markup=False)
        console.print(place.tail(), soft_wrap=True, markup=False)
    return 1 if failed else 0


def _dvc_cache() -> str:
    """Where DVC keeps what the project's stages made."""
    from dvc.repo import Repo

    with Repo(str(home())) as repo:
        return str(repo.cache.local.path)


def _arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipelines.sweep", description=__doc__, formatter_class=form)
    parser.add_argument(
        "-S", dest="set", action="append", required=True, metavar="KEY=VALUES", help="a parameter and what it takes"
    )
    parser.add_argument("--random", type=int, metavar="N", help="so many draws instead of all combinations")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument("--at-once", type=int, metavar="K", help="trials at the same time (default: what fits)")
    parser.add_argument("--name", help="of the sweep, and of its folder (default: made from the arguments)")
    asked = parser.parse_args()
    for option, value in (("--random", asked.random), ("--at-once", asked.at_once)):
        if value is not None and value < 1:
            raise ParamsError(f"{option} must be 1 or more, got {value}")
    if asked.name and (Path(asked.name).name != asked.name or asked.name.startswith(".") or "'" in asked.name):
        raise ParamsError(f"--name must be a plain folder name, got {asked.name}")
    return asked


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
