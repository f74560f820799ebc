"""How busy a machine is, in MLflow: its names, its steps, and that an error in it ends nothing."""

import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from pipelines.tracking import machine
from pipelines.tracking.machine import Machine, watched, work
from pipelines.tracking.run import stage_run
from pipelines.tracking.store import connect
from tests.pipelines.tracking.embedded import runs

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


def test_the_names_and_units_are_mlflows_own():
    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    here = Machine()
    for monitor in monitors:
        monitor.collect_metrics()
    theirs = {name: value for monitor in monitors for name, value in monitor.aggregate_metrics().items()}
    ours = {name: value for name, value in here.read().items() if not name.startswith("gpu")}
    assert ours.keys() == theirs.keys()
    for name in ("system_memory_usage_megabytes", "disk_usage_megabytes", "disk_available_megabytes"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.2)


def test_a_busy_cpu_is_seen():
    here = Machine()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    assert here.read()["cpu_utilization_percentage"] >= 50 / psutil.cpu_count()


class Nvml:
    """NVIDIA's library, with a whole GPU and one that is divided, as far as it is asked."""

    NVMLError = RuntimeError

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(used=2e9, total=8e9)

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> SimpleNamespace:
        if gpu == 1:
            raise RuntimeError("Not Supported")
        return SimpleNamespace(gpu=75)


def test_gpus_are_read_as_far_as_their_driver_tells(monkeypatch):
    monkeypatch.setattr(machine, "_gpus", lambda: (Nvml(), [0, 1]))
    read = {name: value for name, value in Machine().read().items() if name.startswith("gpu")}
    assert read == {
        "gpu_0_utilization_percentage": 75,
        **{f"gpu_{k}_memory_usage_megabytes": 2000 for k in (0, 1)},
        **{f"gpu_{k}_memory_usage_percentage": 25 for k in (0, 1)},
    }


def test_it_is_told_now_and_then_and_at_the_end():
    told: list[float] = []
    with watched(lambda machine: told.append(machine.read()["disk_usage_percentage"]), every_s=0.05):
        time.sleep(0.5)
        during = len(told)
    assert during >= 3
    assert len(told) == during + 1
    assert not [thread for thread in threading.enumerate() if thread.name == "machine"]


def test_an_error_ends_only_the_telling(monkeypatch):
    told = []

    def fail(machine: Machine) -> None:
        told.append(machine)
        raise RuntimeError("on purpose")

    with watched(fail, every_s=0.01):
        time.sleep(0.2)
    assert len(told) == 1
    monkeypatch.setattr(psutil, "virtual_memory", lambda: 1 / 0)
    with work() as done:
        pass
    assert (done.readings, done.seconds > 0) == ([], True)


def test_a_stage_tells_how_long_it_took_and_how_busy_its_machine_was(workplace):
    with work() as done:
        time.sleep(0.1)
    with stage_run("reference", workplace.params, workplace.settings, key="k") as tracker:
        tracker.work("reference", done, workers=2)
        tracker.machine(3, {"cpu_utilization_percentage": 50.0})
    (run,) = runs(workplace, "reference")
    assert 0.1 <= run.data.metrics["reference/seconds"] < 5
    assert run.data.metrics["system/node_0/system_memory_usage_megabytes"] > 0
    assert run.data.metrics["system/node_3/cpu_utilization_percentage"] == 50
    assert run.data.tags["workers"] == "2"
    assert f"{psutil.cpu_count()} CPUs" in run.data.tags["hardware.node_0"]


def test_a_driver_that_fails_at_the_end_of_the_work_fails_no_stage(workplace, monkeypatch):
    monkeypatch.setattr(machine, "_gpus", lambda: (Nvml(), [0]))  # which lacks the names
    with pytest.raises(AttributeError):
        Machine().describe()
    with work() as done:
        pass
    with stage_run("reference", workplace.params, workplace.settings, key="k") as tracker:
        tracker.work("reference", done, workers=2)
    (run,) = runs(workplace, "reference")
    assert (run.info.status, run.data.tags["workers"]) == ("FINISHED", "2")
    assert "hardware.node_0" not in run.data.tags


def test_its_steps_are_seconds_since_the_run_began_also_when_it_goes_on_later(workplace, monkeypatch):
    """All of the first attempt is sent and its spool removed; the run's beginning is not forgotten with it."""
    with stage_run("train", workplace.params, workplace.settings, key="k") as tracker:
        tracker.machine(0, {"cpu_utilization_percentage": 1.0})
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100)
    with stage_run("train", workplace.params, workplace.settings, key="k") as tracker:
        tracker.machine(0, {"cpu_utilization_percentage": 2.0})
    (run,) = runs(workplace, "train")
    store = connect(workplace.settings, workplace.params.register_.name)
    history = store.client.get_metric_history(run.info.run_id, "system/node_0/cpu_utilization_percentage")
    assert [point.value for point in history] == [1, 2]
    assert history[0].step < 60 <= 100 <= history[1].step < 200
