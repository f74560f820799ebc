"""A sweep's run in MLflow: what goes wrong there stops no trial and hides no outcome."""

import socket

import pytest

from pipelines.settings import Settings, TrackingSettings
from pipelines.sweeping.family import Family
from tests.pipelines.tracking.embedded import runs

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


def test_a_dead_server_is_asked_once_and_told_of(capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and answers none
        silent.settimeout(0)
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = Settings(tracking=TrackingSettings(uri=uri, timeout_s=1, retries=0))
        family = Family("s", "m", ["seed=0"], settings)
        for _ in range(5):
            family.look()
        assert len(capsys.readouterr().err.splitlines()) == 1
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
        family.end([], "FINISHED")
        assert "own run in MLflow is not complete" in capsys.readouterr().err


def test_a_run_that_is_gone_at_the_end_costs_a_line(workplace, capsys):
    family = Family("s", workplace.params.register_.name, ["seed=0"], workplace.settings)
    family.look()
    (run,) = runs(workplace, "sweep")
    family._client._client._tracking_client.store._hard_delete_run(run.info.run_id)  # as `mlflow gc` does
    family.end([], "FINISHED")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_sweep_ends_with_its_status(workplace):
    family = Family("s", workplace.params.register_.name, ["seed=0"], workplace.settings)
    family.look()
    family.end([], "FAILED")
    (run,) = runs(workplace, "sweep")
    assert (run.info.status, run.data.params) == ("FAILED", {"seed": "0"})
