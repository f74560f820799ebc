"""`python -m pipelines.sync`: send to MLflow what the stages could not, a line for each run.

What is told of a run waits in .state/spool while the server is away, refuses or is too slow. The exit status is 1 if
something still waits afterwards. A stage that is at work sends its own run by itself.
"""

from __future__ import annotations

import argparse

from pipelines.settings import Settings, load_settings, tracking_uri

_NOTHING = "nothing waits to be sent to MLflow"


def waiting(settings: Settings) -> int:
    """Print what waits to be sent, without sending it; the number of runs."""
    from pipelines.tracking.leftovers import amount
    from pipelines.tracking.spool import Spool

    uri = tracking_uri(settings)
    found = {spool.path.stem: spool.unsent(uri) for spool in Spool.leftovers()}
    for name, unsent in found.items():
        print(f"{name}: {amount(unsent) or 'nothing more'}")
    return len(found)


def send(settings: Settings, *, others: bool) -> bool:
    """Send it, and print what became of each run; whether MLflow has all of them now.

    Args:
        others: whether a run was told of that is not sent here.
    """
    from pipelines.tracking.leftovers import amount, send_leftovers

    complete, empty = True, True
    for sent in send_leftovers(settings):
        empty = False
        if sent.problem is None:
            print(f"{sent.name}: sent", flush=True)
        else:
            complete = False
            print(f"{sent.name}: {amount(sent.unsent)} not sent ({sent.problem})", flush=True)
    if empty and not others:
        print(_NOTHING)
    return complete


def main() -> None:
    """Send what waits, or list it."""
    from pipelines.tracking.spool import Spool

    parser = argparse.ArgumentParser(prog="python -m pipelines.sync", description=__doc__)
    parser.add_argument("--list", action="store_true", help="only show what waits")
    listing = parser.parse_args().list
    settings = load_settings()
    growing = list(Spool.growing())
    for name in growing:
        print(f"{name}: a stage is at work on it and sends it")
    if listing:
        if not waiting(settings):
            print(_NOTHING)
    elif not send(settings, others=bool(growing)):
        print("not all is in MLflow; it is kept: run this again when the reasons above are gone")
        raise SystemExit(1)


if __name__ == "__main__":
    from pipelines.stage import run

    run(main, arguments=True)
