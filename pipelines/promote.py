"""`python -m pipelines.promote VERSION`: make a version champion, through the gate or with a reason.

    python -m pipelines.promote 7                                   # if the gate of params.yaml lets it through
    python -m pipelines.promote 7 --reason "smoother skies"         # whatever the gate says; the reason is kept
    python -m pipelines.promote --rollback --reason "7 draws seven fingers"
    python -m pipelines.promote --history

The champion until then becomes `previous`, and --rollback makes that one champion again.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipelines.errors import TrackingError
from pipelines.params import load_params
from pipelines.project import state
from pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipelines.sections import GateParams
    from pipelines.tracking.registry import Version


def main() -> None:
    """Move the alias, or say why not."""
    asked = _arguments()
    params, settings = load_params(), load_settings()
    from pipelines.tracking.fetch import named

    name = asked.name or params.register_.name
    if asked.history:
        print(history(name, settings))
        return
    name, wanted = named("@previous" if asked.rollback else asked.version, name)
    promoted, before = promote(name, wanted, asked.reason, params.register_.gate, settings)
    if before == promoted:
        print(f"{name} version {promoted} is champion already")
    else:
        was = "" if before is None else f"; version {before} is `previous`"
        print(f"{name} version {promoted} is champion{was}")


def promote(name: str, wanted: str, reason: str | None, gate: GateParams, settings: Settings) -> tuple[int, int | None]:
    """Make the version champion; its number, and that of the champion before.

    Args:
        wanted: number or @alias.
        reason: a person's; None: the gate decides.

    Raises:
        TrackingError: there is no such version, the gate does not let it through, or the registry does not answer.
    """
    from pipelines.tracking import champion
    from pipelines.tracking.fetch import chosen, known_versions
    from pipelines.tracking.registry import CHAMPION, at
    from pipelines.tracking.store import connect, exclusive, tracking_errors

    store = connect(settings, name, make=False)
    with exclusive(state() / f"register-{name}.lock"), tracking_errors(settings):
        known = known_versions(settings, name)
        version, before = chosen(known, wanted, name), at(known, CHAMPION)
        if before is not None and before.number == version.number:
            return version.number, version.number
        by = "gate" if reason is None else "person"
        if not champion.promote(store, known, version, by, reason or through(version, known, gate, settings)):
            raise TrackingError(f"another process promoted another version of {name} at the same time: look, try again")
        return version.number, before.number if before else None


def through(version: Version, known: list[Version], gate: GateParams, settings: Settings) -> str:
    """The gate's reason to let the version through.

    Raises:
        TrackingError: it does not, or the version was never measured.
    """
    from pipelines.tracking.gated import judged

    decision = judged(version, known, gate, settings)
    if decision.champion:
        return decision.reason
    remedy = "to promote it all the same, give a reason: --reason TEXT"
    if decision.measurable and not decision.comparable and decision.against is not None:
        both = f"python -m pipelines.remeasure {version.uri} models:/{version.name}/{decision.against}"
        remedy = f"measure both in one way with `{both}` first; {remedy}"
    raise TrackingError(f"the gate does not let version {version.number} through: {decision.reason}; {remedy}")


def history(name: str, settings: Settings) -> str:
    """A line for each promotion, the oldest first."""
    from pipelines.tracking.champion import promotions
    from pipelines.tracking.fetch import known_versions

    lines = [
        f"{each.when}  version {each.version} after {each.before or 'none'}, by the {each.by}: {each.reason}"
        for each in promotions(known_versions(settings, name))
    ]
    return "\n".join(lines) or f"no version of {name} was ever promoted by the gate or by this command"


def _arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipelines.promote", description=__doc__, formatter_class=form)
    parser.add_argument("version", nargs="?", metavar="VERSION", help="number, @alias or models:/NAME/VERSION")
    parser.add_argument("--rollback", action="store_true", help="make @previous champion again; needs --reason")
    parser.add_argument("--history", action="store_true", help="all promotions with their reasons")
    parser.add_argument("--reason", metavar="TEXT", help="a person's, instead of the gate's decision")
    parser.add_argument("--name", help="registered model (default: register.name of params.yaml)")
    asked = parser.parse_args()
    if sum((asked.version is not None, asked.rollback, asked.history)) != 1:
        parser.error("name one VERSION, or give --rollback or --history")
    if asked.rollback and not asked.reason:
        parser.error("--rollback needs --reason TEXT")
    if asked.reason is not None and not asked.reason.strip():
        parser.error("--reason must not be empty")
    return asked


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
