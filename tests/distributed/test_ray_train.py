"""The real thing: Ray Train around the loop, with real worker processes."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster.events import Busy, Saved, Started, Stopped, Told
from pipelines.cluster.job import Job
from pipelines.cluster.session import ray_session
from pipelines.cluster.trainer import count_workers, train
from pipelines.errors import Interrupted, TrainingError
from pipelines.runs.checkpoint import newest_checkpoint
from pipelines.runs.lock import WRITER, writer_lock
from pipelines.runs.s3 import S3Store
from pipelines.settings import RaySettings, Settings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")  # its own, of its own parts


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Train's own storage goes to a `.state` of the test."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


@pytest.fixture(scope="module")
def ray_is_up() -> Iterator[None]:
    """One Ray for the slow tests, which use it as a session within another."""
    with ray_session(settings(8)):
        yield


def settings(workers: int, **ray: Any) -> Settings:
    return Settings(ray=RaySettings(workers=workers, cpus_per_worker=0.5, **ray))


def fit(job: Job, workers: int, **ray: Any) -> list[Any]:
    events: list[Any] = []
    train(job, settings(workers, **ray), events.append)
    return events


def test_two_workers_end_in_the_bits_of_one_process(lab: Any, tmp_path: Path) -> None:
    alone, together = lab.job("alone"), lab.job("together")
    lab.run(alone)
    left = tmp_path / ".state" / "ray" / f"{together.key}-00000000"  # by a driver that was killed
    left.mkdir(parents=True)
    events = fit(together, 2)
    (started,) = (event for event in events if isinstance(event, Started))
    assert (started.step, started.workers) == (0, 2)
    (busy,) = (event for event in events if isinstance(event, Busy))  # of the machine, though it has two workers
    assert busy.node == 0
    assert busy.values["system_memory_usage_megabytes"] > 0
    assert lab.digest(together) == lab.digest(alone)
    assert list((tmp_path / ".state" / "ray").iterdir()) == []  # nothing of Ray Train's is left
    assert "RAY_CHDIR_TO_TRIAL_DIR" not in os.environ


def test_sigterm_stops_after_a_saved_step(lab: Any) -> None:
    """Though Ray, when it starts, takes this signal for itself."""
    job, calm = lab.job("stopped", steps=100), lab.job("calm", steps=100)
    events: list[Any] = []

    def hear(event: Any) -> None:
        events.append(event)
        if event == Saved(3):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"SIGTERM: training stopped after step \d+ and saved it"):
        train(job, settings(1), hear)
    (stopped,) = (event for event in events if isinstance(event, Stopped))
    assert newest_checkpoint(job.run)[0].step == stopped.step < 100
    for each in (job, calm):
        lab.run(each)
    assert lab.digest(job) == lab.digest(calm)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_is_up")
@pytest.mark.parametrize("workers", [1, 3, 4])
def test_any_number_of_workers_ends_in_the_same_bits(lab: Any, workers: int) -> None:
    alone, together = lab.job("alone"), lab.job("together")
    lab.run(alone)
    fit(together, workers)
    assert lab.digest(together) == lab.digest(alone)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_is_up")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_is_killed_is_replaced_and_leaves_no_trace(lab: Any, victim: int) -> None:
    alone, killed = lab.job("alone", steps=60, log_every=1), lab.job("killed", steps=60, log_every=1)
    lab.run(alone)
    killer = threading.Thread(target=kill_worker, args=(killed, victim), daemon=True)
    killer.start()
    events = fit(killed, 2)
    killer.join(1)
    assert not killer.is_alive()
    starts = [event.step for event in events if isinstance(event, Started)]
    assert len(starts) == 2
    assert starts[0] == 0
    assert 3 <= starts[1] < 60
    assert lab.digest(killed) == lab.digest(alone)


def kill_worker(job: Job, rank: int) -> None:
    """kill -9 of one worker process, after the run's first checkpoint."""
    while newest_checkpoint(job.run)[0] is None:
        time.sleep(0.02)
    os.kill(worker_processes()[rank], signal.SIGKILL)


def worker_processes() -> list[int]:
    """The processes of Ray Train's workers below this one, in the order of their birth."""
    return processes("RayTrainWorker")


def processes(name: str) -> list[int]:
    """Those of Ray's actors below this one whose class has this name."""
    import psutil

    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if each.name().startswith("ray::") and name in " ".join(each.cmdline()):
                found.append(each.pid)
    return sorted(found)


@pytest.mark.slow
def test_a_worker_that_is_killed_as_it_starts_is_replaced(lab: Any) -> None:
    """In another session of Ray."""

    def kill_the_first() -> None:
        while not worker_processes():
            time.sleep(0.01)
        os.kill(worker_processes()[0], signal.SIGKILL)

    job = lab.job()
    killer = threading.Thread(target=kill_the_first, daemon=True)
    killer.start()
    events = fit(job, 2)
    assert not killer.is_alive()
    assert isinstance(events[0], Told)
    assert events[0].line.startswith("a worker died while the workers were starting. New workers go on (1 of 3")
    assert lab.final(job).step == 10


@pytest.mark.slow
def test_training_goes_on_at_once_in_another_session_if_the_board_is_killed(lab: Any) -> None:
    """Without a board nobody would hear of a signal or of a worker that hangs."""
    changes: dict[str, Any] = {"steps": 200, "every_steps": 10, "val_every": 100}
    alone, killed = lab.job("alone", **changes), lab.job("killed", **changes)

    def hear(event: Any) -> None:
        events.append(event)
        if event == Saved(10):
            os.kill(processes("Board")[0], signal.SIGKILL)

    events: list[Any] = []
    train(killed, settings(2, grace_s=300), hear)
    starts = [event.step for event in events if isinstance(event, Started)]
    assert len(starts) == 2
    assert 10 <= starts[1] < 200  # the workers stop and save
    lab.run(alone)
    assert lab.digest(killed) == lab.digest(alone)


@pytest.mark.slow
def test_on_s3_a_killed_worker_is_replaced_and_leaves_no_trace(lab: Any, s3: str) -> None:
    """The next worker 0 waits until the lease of the one before has run out."""
    alone, run = lab.job("alone", steps=60, log_every=1), S3Store(f"{s3}/run")
    killed = lab.job(run, steps=60, log_every=1)
    lab.run(alone)
    killer = threading.Thread(target=kill_worker, args=(killed, 0), daemon=True)
    killer.start()
    events = fit(killed, 2)
    killer.join(1)
    assert not killer.is_alive()
    starts = [event.step for event in events if isinstance(event, Started)]
    assert len(starts) == 2
    assert 3 <= starts[1] < 60
    assert lab.digest(killed) == lab.digest(alone)
    with run.lock(WRITER, 0):
        pass  # given back at the end


@pytest.mark.slow
@pytest.mark.usefixtures("ray_is_up")
def test_a_worker_of_a_driver_that_was_killed_keeps_the_next_from_writing(lab: Any) -> None:
    """Here this process is that worker."""
    job = lab.job()
    with writer_lock(job.run, 0):
        with pytest.raises(TrainingError, match=f"is being written by process {os.getpid()}.*kill {os.getpid()}"):
            fit(job, 2, collective_timeout_s=4)
        assert job.run.names() == ["writer.lock"]
    fit(job, 2, collective_timeout_s=4)
    assert lab.final(job).step == 10


@pytest.mark.slow
@pytest.mark.usefixtures("ray_is_up")
def test_a_loss_that_is_not_finite_stops_with_its_message(lab: Any) -> None:
    """With this decay each step multiplies the weights by about -10^6, until float32 ends."""
    job = lab.job(learning_rate=1.0, weight_decay=1e6, warmup_steps=0, steps=50, log_every=1, val_every=50)
    with pytest.raises(TrainingError, match=r"at step \d+ is not finite.*Lower train\.learning_rate"):
        fit(job, 2)
    newest, skipped = newest_checkpoint(job.run)
    assert skipped == []
    assert newest is None or not newest.final


@pytest.mark.slow
@pytest.mark.usefixtures("ray_is_up")
def test_an_error_in_a_worker_reaches_the_user(lab: Any) -> None:
    job = lab.job()
    lab.run(lab.job(steps=3))
    state = newest_checkpoint(job.run)[0]
    assert state is not None
    other = Job(**{**job.__dict__, "key": "another run's key"})
    with pytest.raises(TrainingError, match="the checkpoint belongs to another run: its key is 0123456789abcdef"):
        fit(other, 2, max_failures=1)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_is_up")
def test_workers_that_cannot_be_had(lab: Any) -> None:
    job = lab.job()
    wanted = Settings(ray=RaySettings(address="auto", workers=1, gpus_per_worker=1, start_timeout_s=4))
    with pytest.raises(TrainingError, match="1 workers with 1 CPUs and 1 GPUs each could not be had within 4 s"):
        train(job, wanted, lambda event: None)


class FakeRay:
    def __init__(self, **resources: float) -> None:
        self.resources = resources

    def cluster_resources(self) -> dict[str, float]:
        return self.resources


@pytest.mark.parametrize(
    ("there", "settings", "shards", "workers"),
    [
        ({"CPU": 2}, RaySettings(), 8, 2),
        ({"CPU": 7}, RaySettings(), 8, 4),
        ({"CPU": 64}, RaySettings(), 8, 8),
        ({"CPU": 64, "GPU": 3}, RaySettings(gpus_per_worker=1), 8, 2),
        ({"CPU": 4}, RaySettings(cpus_per_worker=2), 8, 2),
        ({"CPU": 1}, RaySettings(), 1, 1),
        ({"CPU": 4}, RaySettings(workers=3), 8, 3),
        ({"CPU": 2}, RaySettings(workers=3, address="10.0.0.1:6379"), 8, 3),
    ],
)
def test_how_many_workers(there: dict[str, float], settings: RaySettings, shards: int, workers: int) -> None:
    assert count_workers(FakeRay(**there), settings, shards) == workers  # type: ignore[arg-type]


def test_more_workers_than_virtual_shards() -> None:
    with pytest.raises(TrainingError, match=r"ray\.workers is 9.*train\.virtual_shards = 8 parts"):
        count_workers(FakeRay(CPU=2), RaySettings(workers=9), 8)  # type: ignore[arg-type]
