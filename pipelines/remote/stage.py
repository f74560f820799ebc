"""A heavy stage as DVC starts it: here, or as a job elsewhere whose outputs come back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pipelines.settings import Settings, load_settings
from pipelines.stage import run

if TYPE_CHECKING:
    from pipelines.backends.backend import Backend
    from pipelines.remote.pack import KeyOf


def run_stage(main: Callable[[], None], key_of: KeyOf | None = None) -> None:
    """Run the `main` of a stage's module as a command, where the settings say.

    Args:
        main: the stage, as it runs here.
        key_of: what names its work, if the stage has a name for it.
    """
    spec = sys.modules[main.__module__].__spec__
    stage = (spec.name if spec else main.__module__).rpartition(".")[2]

    def there_or_here() -> None:
        from pipelines.backends.choose import backend_of

        settings = load_settings()
        backend = backend_of(settings) if stage in settings.jobs.stages else None
        if backend is None:
            main()
        else:
            run_elsewhere(stage, settings, backend, key_of)

    there_or_here.__module__ = main.__module__  # whose docstring --help shows
    run(there_or_here)


def run_elsewhere(stage: str, settings: Settings, backend: Backend, key_of: KeyOf | None = None) -> None:
    """Bring the work of a stage to its end on a backend, and its outputs here.

    Raises:
        PipelineError: as `Work.run`; or an input is missing, or the parameters do not fit.
    """
    from pipelines.depot.address import depot_of
    from pipelines.params import load_params
    from pipelines.remote.collect import collect
    from pipelines.remote.pack import check_place, request_of
    from pipelines.remote.work import Work

    check_place(settings)
    depot = depot_of(settings)
    request = request_of(stage, load_params(), settings, depot, backend.place, key_of)
    Work(request, depot, backend, settings, partial(collect, stage)).run()
