"""Looking into the embedded store, and telling a spool something."""

from typing import Any

from pipelines.tracking.spool import Spool
from pipelines.tracking.store import connect


def runs(workplace, stage: str) -> list[Any]:
    store = connect(workplace.settings, workplace.params.register_.name)
    return list(store.client.search_runs([store.experiment_id], f"tags.stage = '{stage}'"))


def tell(spool: Spool, *steps: int) -> None:
    for step in steps:
        spool.metric("loss", step, float(step))
