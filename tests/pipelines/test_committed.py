"""A sampling job that was killed goes on from its finished batches, to the same files."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.cluster.parallel import serial_map
from pipelines.errors import CheckpointError
from pipelines.measure.committed import Committed, job_key, name_of
from pipelines.measure.drawing import Drawing
from pipelines.measure.model import find_model
from pipelines.measure.sampling import CARD, SAMPLES, draw_samples
from pipelines.runs.local import LocalStore
from pipelines.sections_of_sampling import SampleParams
from tests.pipelines.stage_inputs import saved_model

HOW = SampleParams(count=20, steps=5, batch_size=4)
BATCHES = [range(start, start + 4) for start in range(0, 20, 4)]


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Drawing:
    return Drawing(find_model(saved_model(tmp_path_factory.mktemp("model")), "ema"), HOW, 0)


@pytest.fixture(scope="module")
def whole(drawing: Drawing, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a job that nothing disturbed."""
    return drawn(drawing, tmp_path_factory.mktemp("whole"))


@pytest.fixture
def committed(tmp_path: Path) -> Committed:
    kept = Committed(LocalStore(tmp_path / "job"))
    kept.begin()
    return kept


def drawn(drawing: Drawing, folder: Path, committed: Committed | None = None) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    draw_samples(folder, drawing, committed=committed)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stopping_after(batches: int) -> Callable[..., Iterator[tuple[int, object]]]:
    """A mapper that stops when so many are done."""

    def mapper(
        function: Callable[..., object], items: Iterable[object], on_done: Callable[[int], None] | None = None
    ) -> Iterator[tuple[int, object]]:
        for k, result in serial_map(function, items, on_done):
            if k == batches:
                raise Stopped
            yield k, result

    return mapper


def test_the_next_attempt_draws_only_what_is_missing(
    drawing: Drawing, whole: dict[str, bytes], committed: Committed, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "first").mkdir()
    with pytest.raises(Stopped):
        draw_samples(tmp_path / "first", drawing, stopping_after(3), committed)
    assert [committed.read(ids) is not None for ids in BATCHES] == [True, True, True, False, False]
    (tmp_path / "second").mkdir()
    speed = draw_samples(tmp_path / "second", drawing, committed=committed)
    assert speed.images == 8
    assert {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()} == whole
    shown = capfd.readouterr()
    assert "12 of 20 images were drawn before" in shown.out
    assert "20/20 images" in shown.err


def test_a_finished_job_draws_nothing(
    drawing: Drawing, whole: dict[str, bytes], committed: Committed, tmp_path: Path
) -> None:
    drawn(drawing, tmp_path / "first", committed)
    (tmp_path / "second").mkdir()
    speed = draw_samples(tmp_path / "second", drawing, stopping_after(0), committed)
    assert (speed.images, speed.images_per_second, speed.calls) == (0, None, 5)
    assert (tmp_path / "second" / SAMPLES).read_bytes() == whole[SAMPLES]
    committed.remove()
    assert not [name for name in committed.store.names() if name.startswith("images-")]


@pytest.mark.parametrize("file", ["images.npy", "frames.npy", "manifest.json"])
def test_a_damaged_batch_is_drawn_again(
    drawing: Drawing, whole: dict[str, bytes], committed: Committed, tmp_path: Path, file: str
) -> None:
    drawn(drawing, tmp_path / "first", committed)
    path = tmp_path / "job" / name_of(BATCHES[1]) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (tmp_path / "second").mkdir()
    assert draw_samples(tmp_path / "second", drawing, committed=committed).images == 4
    assert {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()} == whole


def test_a_batch_that_cannot_be_kept_stops_the_job(drawing: Drawing, committed: Committed, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "job")
    (tmp_path / "job").write_text("not a folder")
    with pytest.raises(CheckpointError, match="could not be written"):
        drawn(drawing, tmp_path / "first", committed)


def test_the_job_is_named_by_all_that_its_images_depend_on(drawing: Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        replace(drawing, seed=1),
        replace(drawing, how=HOW.model_copy(update={"steps": 6})),
        replace(drawing, how=HOW.model_copy(update={"batch_size": 5})),
        replace(drawing, model=replace(drawing.model, digest="0" * 64)),
        replace(drawing, model=replace(drawing.model, device="cuda")),
    ]
    keys = {job_key(one) for one in [drawing, *others]}
    assert len(keys) == 1 + len(others)
    assert job_key(drawing) == job_key(replace(drawing, model=replace(drawing.model, folder=Path("elsewhere"))))
    monkeypatch.setattr(np, "__version__", "another")
    assert job_key(drawing) not in keys


SLOW_JOB = """
import sys, time
from pathlib import Path
from pipelines.cluster.parallel import serial_map
from pipelines.measure.committed import Committed
from pipelines.measure.drawing import Drawing
from pipelines.measure.model import find_model
from pipelines.measure.sampling import draw_samples
from pipelines.runs.local import LocalStore
from pipelines.runs.lock import run_lock
from pipelines.sections_of_sampling import SampleParams
from pipelines.stage import outputs

model, job, final = map(Path, sys.argv[1:4])
committed = Committed(LocalStore(job))

def slowly(function, items, on_done=None):
    for k, result in serial_map(function, items, on_done):
        yield k, result
        time.sleep(float(sys.argv[4]))

with run_lock(committed.store):
    committed.begin()
    with outputs(final) as folder:
        how = SampleParams(count=20, steps=5, batch_size=4)
        draw_samples(folder, Drawing(find_model(model, "ema"), how, 0), slowly, committed)
"""


def test_killed_half_way(drawing: Drawing, whole: dict[str, bytes], tmp_path: Path) -> None:
    """SIGKILL of the process after its second batch: nothing half-written is seen, and the same files at the end."""
    job, final = tmp_path / "job", tmp_path / "results" / "sample"

    def start(pause_s: float) -> subprocess.Popen[bytes]:
        arguments = [str(drawing.model.folder.path), str(job), str(final), str(pause_s)]
        return subprocess.Popen([sys.executable, "-c", SLOW_JOB, *arguments])

    process = start(pause_s=60)
    until = time.monotonic() + 120
    while not (job / name_of(BATCHES[0])).exists():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not final.exists()
    assert start(pause_s=0).wait(timeout=120) == 0
    assert {path.name: path.read_bytes() for path in final.iterdir()} == whole
    assert json.loads(whole[CARD])["count"] == np.load(final / SAMPLES).shape[0] == 20
