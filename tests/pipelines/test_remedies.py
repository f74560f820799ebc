"""What is offered where versions cannot be compared: a command that names them whole, or none where none helps."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipelines.errors import TrackingError
from pipelines.promote import through
from pipelines.register import Receipt, told
from pipelines.sections import GateParams
from pipelines.settings import Settings
from pipelines.tracking.measurements import measurements
from pipelines.tracking.registry import Version
from pipelines.tracking.store import connect
from tests.pipelines.comparison.made_up import entry, measurement


def version(number: int, *aliases: str, **card: object) -> Version:
    """A registered one that was measured, without files."""
    made = entry(number, aliases=aliases).version
    value = {"metrics": measurement(total=1 / number, bound_card=card).content}
    return replace(made, tags=made.tags | {f"measurement.{number:064x}": json.dumps(value)})


def refused(challenger: Version, champion: Version) -> str:
    with pytest.raises(TrackingError) as error:
        through(challenger, [champion, challenger], GateParams(), Settings())
    return str(error.value)


def test_what_was_measured_otherwise_is_to_be_measured_in_one_way() -> None:
    said = refused(version(2, first_time=8), version(1, "champion"))
    assert "`python -m pipelines.remeasure models:/m/2 models:/m/1` first; to promote it all the same" in said
    receipt = Receipt("m", 2, champion=False, decision="why", model_digest="", evaluation_digest="", comparable=False)
    command = "remeasure models:/m/1 && python -m pipelines.promote models:/m/2"
    assert told(replace(receipt, against=1), new=True).endswith(command)


def test_where_no_measurement_helps_none_is_offered() -> None:
    said = refused(version(2, times=4000), version(1, "champion", times=1000))
    assert "measured with another times (no measurement brings these together: times follows from the model)" in said
    assert said.endswith("; to promote it all the same, give a reason: --reason TEXT")
    assert "remeasure" not in said
    receipt = Receipt("m", 2, champion=False, decision="why", model_digest="", evaluation_digest="", comparable=False)
    assert "remeasure" not in told(replace(receipt, measurable=False), new=True)


@pytest.mark.filterwarnings("ignore")
def test_a_measurement_that_names_no_files_has_none(workplace) -> None:
    connect(workplace.settings, "m")
    (found,) = measurements(version(1), workplace.settings)
    with pytest.raises(TrackingError, match=r"version 1 .*python -m pipelines\.remeasure models:/m/1"):
        found.per_image  # noqa: B018
