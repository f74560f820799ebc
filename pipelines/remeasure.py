"""`python -m pipelines.remeasure VERSION ..`: measure registered versions again, all in one way.

The way is that of params.yaml (sections sample and evaluate, and the seed), on the data and the reference in results/.
Each version keeps what was measured of it before, and compare takes what versions have in common. A version that was
measured so already is left alone.

    python -m pipelines.remeasure 3 @champion
    python -m pipelines.remeasure 1 2 3 -S evaluate.first_time=8 -S sample.count=10000
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipelines.errors import TrackingError
from pipelines.params import Params, load_params
from pipelines.project import state
from pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipelines.measure.elsewhere import Plan
    from pipelines.tracking.registry import Version


def main() -> None:
    """Measure each version and keep the numbers in the registry."""
    asked = _arguments()
    params, settings = load_params(changes=asked.set), load_settings()
    name = asked.name or params.register_.name
    from pipelines.tracking.fetch import find_versions

    for version in find_versions(asked.versions, name, settings):
        summary = remeasure(version, params, settings)
        print(f"{version.name} version {version.number}: {summary or 'was measured so already'}", flush=True)


def remeasure(version: Version, params: Params, settings: Settings) -> str | None:
    """Measure one version as the parameters say; the numbers for a person, or None if it was measured so before.

    Raises:
        PipelineError: the model cannot be had or does not fit, as the stages; the registry is as it was.
    """
    from pipelines.measure.elsewhere import Plan
    from pipelines.tracking.fetch import model_files
    from pipelines.tracking.measurements import pack, stamped, upload
    from pipelines.tracking.store import connect, tracking_errors

    scratch = state() / "remeasured"
    scratch.mkdir(exist_ok=True)
    with (
        TemporaryDirectory(dir=scratch) as text,
        model_files(version.uri, settings) as model,
    ):
        folder = Path(text)
        plan = Plan.of(model.path, model.weights, params, settings, folder)
        if _is_known(version, plan, settings):
            return None
        measured = plan.carry_out(folder)
        packed = folder / "measurement"
        tag = stamped(pack(measured.evaluated, measured.samples, packed), time.time_ns() // 1_000_000)
        store = connect(settings, version.name)
        with tracking_errors(settings):
            upload(store, version.run_id, packed, tag)
            for key, value in tag.items():
                store.client.set_model_version_tag(version.name, str(version.number), key, value)
        return measured.evaluation.summary()


def _is_known(version: Version, plan: Plan, settings: Settings) -> bool:
    """Whether the version has a measurement with just these cards, the seeds included, and its files can be had."""
    from pipelines.comparison.measurement import BOUND
    from pipelines.report.scores import distances
    from pipelines.tracking.measurements import measurements

    bound, samples, reference = plan.cards()
    for known in measurements(version, settings):
        of_distance = [known.card(name) for name in distances(known.content)]
        if _same(bound, known.card(BOUND)) and any(
            _same(samples, card["samples"]) and _same(reference, card["reference"]) for card in of_distance
        ):
            with suppress(TrackingError):
                return known.folder.is_dir()
    return False


def _same(planned: dict[str, Any], found: dict[str, Any]) -> bool:
    """Equal but for what only rounds: a smaller batch where the memory had no room, another device."""
    from pipelines.comparison.cards import ROUNDING

    wanted = json.loads(json.dumps(planned))
    return {k: v for k, v in wanted.items() if k not in ROUNDING} == {
        k: v for k, v in found.items() if k not in ROUNDING
    }


def _arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipelines.remeasure", description=__doc__, formatter_class=form)
    parser.add_argument("versions", nargs="+", metavar="VERSION", help="number, @alias or models:/NAME/VERSION")
    parser.add_argument(
        "-S", dest="set", action="append", default=[], metavar="KEY=VALUE", help="instead of the file's"
    )
    parser.add_argument("--name", help="registered model (default: register.name of params.yaml)")
    return parser.parse_args()


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
