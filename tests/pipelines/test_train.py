"""The train stage around the loop: which run it is, whether it is trained, what it leaves. Ray is left out here."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from diffusion.models.saved import load_model
from pipelines import train as stage
from pipelines.cluster import trainer
from pipelines.cluster.job import Job, Place
from pipelines.cluster.loop import Loop
from pipelines.cluster.not_finite import NotFinite
from pipelines.data.manifest import Manifest, read_manifest
from pipelines.errors import DataError, ParamsError, RunLocked, TrainingError
from pipelines.params import Params
from pipelines.prepare import prepare
from pipelines.runs.lock import run_lock
from pipelines.settings import Settings, StorageSettings

PARAMS: dict[str, Any] = {
    "seed": 3,
    "data": {"source": "digits"},
    "process": {"schedule": "log_snr", "T": 20},
    "model": {"channels": 8, "channel_multipliers": [1, 2], "blocks": 1},
    "train": {
        "steps": 6,
        "batch_size": 16,
        "virtual_shards": 4,
        "learning_rate": 0.01,
        "log_every": 2,
        "val_every": 4,
        "val_images": 4,
        "val_calls": 3,
    },
    "sample": {"count": 80},
    "register": {"name": "test"},
}


def params(**sections: Any) -> Params:
    """The parameters with some values replaced; sections are merged."""
    values = copy.deepcopy(PARAMS)
    for name, changes in sections.items():
        values[name] = {**values.get(name, {}), **changes} if isinstance(changes, dict) else changes
    return Params.model_validate(values)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(params(), folder)
    return folder


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    return read_manifest(prepared)


class Tracked:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, int], float] = {}
        self.facts: dict[str, str] = {}
        self.files: list[str] = []

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.numbers |= {(name, step): value for name, value in values.items()}

    def tags(self, tags: dict[str, str]) -> None:
        self.facts |= tags

    def artifact(self, path: Path) -> None:
        assert path.is_file()
        self.files.append(path.name)


class Project:
    """A project in a temporary folder, with Ray and MLflow left out."""

    def __init__(self, folder: Path, prepared: Path) -> None:
        self.folder = folder
        self.prepared = prepared
        self.params = params()
        self.settings = Settings()
        self.tracked = Tracked()
        self.trainings = 0

    def results(self, name: str) -> Path:
        return self.prepared if name == "prepare" else self.folder / "results" / name

    @contextmanager
    def stage_run(self, *args: Any, **more: Any) -> Iterator[Tracked]:
        yield self.tracked

    def train(self, job: Job, settings: Settings, hear: Callable[[Any], None]) -> None:
        self.trainings += 1
        Loop(job, Place(0, 1, torch.device("cpu")), hear).run()


@pytest.fixture
def project(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path, prepared)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(stage, "load_params", lambda: project.params)
    monkeypatch.setattr(stage, "load_settings", lambda: project.settings)
    monkeypatch.setattr(stage, "results", project.results)
    monkeypatch.setattr(trainer, "train", project.train)
    monkeypatch.setattr("pipelines.tracking.run.stage_run", project.stage_run)
    return project


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def digest(folder: Path) -> str:
    return load_model(folder).digest


def test_what_the_stage_leaves(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    stage.main()
    folder = project.results("train")
    assert {path.name for path in folder.iterdir()} >= {"model.json", "metrics.json", "summary.json", "loss.csv"}

    ema, raw = load_model(folder), load_model(folder, weights="raw")
    assert (ema.levels, ema.shape, ema.schedule.T, ema.classes) == (17, (1, 8, 8), 20, None)
    assert any(not torch.equal(a, b) for a, b in zip(ema.net.parameters(), raw.net.parameters(), strict=True))
    assert ema.card["steps"] == 6
    assert ema.card["samples_seen"] == 96
    assert ema.card["data"] == read_manifest(project.prepared).digest
    assert [platform["torch"] for platform in ema.card["platforms"]] == [torch.__version__]

    metrics = json.loads((folder / "metrics.json").read_text())
    bound = metrics["validation_bits_per_dim"]
    assert metrics["steps"] == 6
    assert metrics["parameters"] == sum(p.numel() for p in ema.net.parameters())
    assert bound["total"] == pytest.approx(bound["L_T"] + bound["L_t_sum"] + bound["L_0"])
    losses, bounds = pd.read_csv(folder / "loss.csv"), pd.read_csv(folder / "validation.csv")
    assert losses["step"].tolist() == [2, 4, 6]
    assert losses["loss"].iloc[-1] == metrics["loss"]
    assert bounds["step"].tolist() == [4, 6]
    assert bounds["total"].iloc[-1] == bound["total"]

    tracked = project.tracked
    assert tracked.numbers["loss", 6] == metrics["loss"]
    assert tracked.numbers["bound/total", 6] == bound["total"]
    running = pd.read_csv(folder / "running_bound.csv")
    assert [tracked.numbers["bound_running/L_t_16", step] for step in (2, 4, 6)] == running["L_t_16"].tolist()
    assert tracked.facts["model.digest"] == ema.digest
    assert "metrics.json" in tracked.files
    assert f"model {ema.digest[:12]}" in capsys.readouterr().out


def test_a_finished_run_is_taken_as_it_is(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    stage.main()
    before = content(project.results("train"))
    project.settings = Settings.model_validate({"ray": {"workers": 2}, "checkpoint": {"every_steps": 1}})
    stage.main()
    assert project.trainings == 1
    assert content(project.results("train")) == before
    assert "has finished its 6 steps before; nothing to train" in capsys.readouterr().out


def test_more_steps_continue_and_fewer_come_back(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    stage.main()
    six = digest(project.results("train"))
    project.params = params(train={"steps": 9})
    stage.main()
    assert digest(project.results("train")) != six
    assert "resumed from the checkpoint of step 6 on 1 worker" in capsys.readouterr().err
    project.params = params(train={"steps": 6})
    stage.main()
    assert digest(project.results("train")) == six
    assert project.trainings == 2


def test_killed_and_resumed_gives_the_same_model(
    project: Project, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.settings = Settings.model_validate({"checkpoint": {"every_steps": 2}})
    stage.main()
    undisturbed = digest(project.results("train"))

    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "other"))
    whole = Loop._after_step

    def dying(loop: Loop, step: int, heard: Any) -> None:
        if step == 5:
            raise KeyboardInterrupt
        whole(loop, step, heard)

    monkeypatch.setattr(Loop, "_after_step", dying)
    with pytest.raises(KeyboardInterrupt):
        stage.main()
    monkeypatch.setattr(Loop, "_after_step", whole)
    stage.main()
    model = load_model(project.results("train"))
    assert model.digest == undisturbed
    assert model.card["resumed_from"] == [4]


def test_a_loss_that_is_not_finite_leaves_no_model(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: Any) -> None:
        raise NotFinite("the loss at step 2 is not finite")

    monkeypatch.setattr(trainer, "train", failing)
    with pytest.raises(TrainingError, match="not finite"):
        stage.main()
    assert not project.results("train").exists()


def test_a_result_that_is_not_seen_from_here(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "train", lambda *args: None)
    with pytest.raises(TrainingError, match=r"holds no whole final checkpoint of step 6: storage\.uri"):
        stage.main()


def test_a_run_that_another_process_works_on(project: Project) -> None:
    job = stage.make_job(project.params, project.settings, project.prepared)
    with run_lock(job.run), pytest.raises(RunLocked):
        stage.main()


def test_without_prepared_images(project: Project, tmp_path: Path) -> None:
    project.prepared = tmp_path / "nothing"
    with pytest.raises(DataError, match="dvc repro"):
        stage.main()
    assert not (tmp_path / ".state").exists()


def test_runs_are_kept_where_the_settings_say(project: Project, tmp_path: Path) -> None:
    project.settings = Settings(storage=StorageSettings(uri=str(tmp_path / "shared")))
    stage.main()
    assert len(list((tmp_path / "shared").iterdir())) == 1
    project.settings = Settings(storage=StorageSettings(uri="gs://bucket/runs"))
    with pytest.raises(ParamsError, match=r"storage\.uri must be a folder .* or s3://bucket/prefix, got .* gs://"):
        stage.main()


def key(prepared: Path, **sections: Any) -> str:
    return stage.make_job(params(**sections), Settings(), prepared).key


def test_the_key_leaves_out_steps_and_what_comes_after(prepared: Path, tmp_path: Path) -> None:
    same = [
        {"train": {"steps": 7}},
        {"sample": {"count": 81}},
        {"evaluate": {"decoder": "gaussian"}},
        {"register": {"name": "other"}},
        {"reference": {"steps": 3}},
    ]
    assert {key(prepared, **changes) for changes in same} == {key(prepared)}


def test_the_key_holds_what_changes_the_result(prepared: Path) -> None:
    other = [
        {"seed": 4},
        {"process": {"T": 21}},
        {"model": {"dropout": 0.1}},
        {"train": {"batch_size": 32}},
        {"train": {"reduction": "fast"}},
        {"train": {"microbatch": 2}},
        {"train": {"learning_rate": 0.02}},
        {"train": {"learning_rate_schedule": "cosine"}},
        {"train": {"learning_rate_schedule": "cosine", "steps": 7}},
    ]
    keys = [key(prepared, **changes) for changes in other] + [key(prepared)]
    assert len(set(keys)) == len(keys)


def test_the_key_holds_the_data_and_the_code(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    prepare(params(prepare={"test_fraction": 0.3}), other)
    assert key(other) != key(prepared)

    code = tmp_path / "step.py"
    monkeypatch.setattr(stage, "code_of_a_step", lambda: [code])
    keys = []
    for source in ("x = 1\n", '"""A step."""\nx = 1  # one\n', "x = 2\n"):
        code.write_text(source)
        keys.append(key(prepared))
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]


def test_fewer_images_than_a_batch(prepared: Path) -> None:
    with pytest.raises(ParamsError, match=r"training images, fewer than one batch: train\.batch_size is 2048"):
        key(prepared, train={"batch_size": 2048})
