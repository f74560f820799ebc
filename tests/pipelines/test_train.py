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
from diffusion.process import NoiseSchedule
from diffusion.training.points import BoundPoint, LossPoint
from pipelines import train as stage
from pipelines.build import architecture, build_schedule
from pipelines.cluster import trainer
from pipelines.cluster.events import Advanced, Measured, Started
from pipelines.cluster.job import Job, Place
from pipelines.cluster.loop import Loop
from pipelines.cluster.not_finite import NotFinite
from pipelines.cluster.watch import start_lines, watching
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
        "val_times": 3,
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
    assert {path.name for path in folder.iterdir()} >= {"model.safetensors", "model.json", "metrics.json", "loss.csv"}

    ema, raw = load_model(folder), load_model(folder, weights="raw")
    assert (ema.levels, ema.shape, ema.schedule.T, ema.classes) == (17, (1, 8, 8), 20, None)
    assert any(not torch.equal(a, b) for a, b in zip(ema.net.parameters(), raw.net.parameters(), strict=True))
    assert ema.card["steps"] == 6
    assert ema.card["samples_seen"] == 96
    assert ema.card["data"] == read_manifest(project.prepared).digest
    assert ema.card["train"]["batch_size"] == 16
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
    assert tracked.numbers["val_bits_per_dim", 6] == bound["total"]
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

    def dying(loop: Loop, step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt
        whole(loop, step)

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
    project.settings = Settings(storage=StorageSettings(uri="s3://bucket/runs"))
    with pytest.raises(ParamsError, match=r"storage\.uri must be a folder that all workers see, got 's3"):
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


def test_the_code_of_a_step_exists() -> None:
    assert all(path.exists() for path in stage.code_of_a_step())


def test_fewer_images_than_a_batch(prepared: Path) -> None:
    with pytest.raises(ParamsError, match=r"training images, fewer than one batch: train\.batch_size is 2048"):
        key(prepared, train={"batch_size": 2048})


def test_networks_that_do_not_fit(manifest: Manifest) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: model: image_size 8 cannot be halved 4 times"):
        architecture(params(model={"channel_multipliers": [1, 2, 2, 2, 2]}).model, manifest)
    with pytest.raises(ParamsError, match="attention_resolutions"):
        architecture(params(model={"attention_resolutions": [16]}).model, manifest)
    with pytest.raises(ParamsError, match="no labels"):
        architecture(params(model={"class_conditional": True}).model, manifest.model_copy(update={"classes": ()}))
    with pytest.raises(ParamsError, match=r"8x16.*squares"):
        architecture(params().model, manifest.model_copy(update={"shape": (1, 8, 16)}))


def test_the_architecture_of_labelled_images(manifest: Manifest) -> None:
    built = architecture(params(model={"class_conditional": True, "dropout": 0.1}).model, manifest)
    assert (built["image_size"], built["in_channels"], built["classes"], built["dropout"]) == (8, 1, 10, 0.1)
    assert architecture(params().model, manifest)["classes"] is None


@pytest.mark.parametrize(
    ("process", "wanted"),
    [
        ({"schedule": "linear", "T": 50, "beta_T": 0.1}, NoiseSchedule.linear(50, beta_T=0.1)),
        ({"schedule": "linear", "T": 50, "rescale": False}, NoiseSchedule.linear(50, rescale=False)),
        ({"schedule": "cosine", "T": 50}, NoiseSchedule.cosine(50)),
        ({"schedule": "log_snr", "T": 50, "log_snr_max": 3.0}, NoiseSchedule.log_snr_linear(50, log_snr_max=3.0)),
    ],
)
def test_schedules(process: dict[str, Any], wanted: NoiseSchedule) -> None:
    schedule = build_schedule(params(process=process).process)
    assert torch.equal(schedule.log_alpha_bar, wanted.log_alpha_bar)


def test_a_schedule_that_cannot_be(prepared: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: process: T must be at least 2"):
        build_schedule(params(process={"T": 20}).process.model_copy(update={"T": 1}))


def started(step: int, **more: Any) -> Started:
    return Started(**{"step": step, "workers": 2, "device": "cpu", "skipped": (), "notes": (), "points": ()} | more)


def test_what_a_person_is_told_at_the_start() -> None:
    assert start_lines(started(0), again=False) == ["training from the start on 2 workers (cpu)"]
    lines = start_lines(started(5, workers=1, skipped=("step-6: torn",), notes=("moved",)), again=False)
    assert lines == [
        "resumed from the checkpoint of step 5 on 1 worker (cpu)",
        "skipped a damaged checkpoint: step-6: torn",
        "moved",
    ]
    assert start_lines(started(5), again=True) == ["workers were lost; 2 workers (cpu) go on from step 5"]


def test_the_watch_passes_the_curves_on(capsys: pytest.CaptureFixture[str]) -> None:
    tracked = Tracked()
    loss, bound = LossPoint(2, 0.5, 3.0, 0.1), BoundPoint(4, 0.01, 2.0, 0.5, 2.51)
    with watching(10, tracked) as watch:
        watch.hear(started(2, points=(loss,)))
        watch.hear(Advanced(3))
        watch.hear(Measured(bound))
    assert tracked.numbers == {
        ("loss", 2): 0.5,
        ("gradient_norm", 2): 3.0,
        ("learning_rate", 2): 0.1,
        ("val_L_T", 4): 0.01,
        ("val_L_t_sum", 4): 2.0,
        ("val_L_0", 4): 0.5,
        ("val_bits_per_dim", 4): 2.51,
    }
    shown = capsys.readouterr().err
    assert "resumed from the checkpoint of step 2" in shown
    assert "training  4/10 steps" in shown
    assert "bits per dim 2.51" in shown
