"""What all commands have in common: help, refused arguments, a full disk; and the settings they read."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cluster.trainer import count_workers
from pipelines.errors import ParamsError, PipelineError, TrainingError
from pipelines.sections import TrainParams
from pipelines.settings import RaySettings, load_settings
from pipelines.stage import outputs, run


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "stage", ["prepare", "reference", "train", "classifier", "sample", "evaluate", "register", "summary"]
)
def test_help_says_what_a_stage_does_and_does_not_run_it(stage: str) -> None:
    helped = command(f"pipelines.{stage}", "--help")
    assert helped.returncode == 0
    assert f"usage: python -m pipelines.{stage} [-h]" in helped.stdout
    assert stage in helped.stdout.split("\n", 2)[2]


def test_an_argument_that_a_stage_does_not_know_is_refused() -> None:
    refused = command("pipelines.sample", "--count=5")
    assert refused.returncode == 2
    assert "unrecognized arguments: --count=5" in refused.stderr


def test_the_parameters_help() -> None:
    assert "--schema" in command("pipelines.params", "--help").stdout


def test_a_full_disk_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/x")

    with pytest.raises(SystemExit):
        run(full, arguments=True)
    assert capsys.readouterr().err == "error: No space left on device (results/x): free some space\n"


def test_two_processes_do_not_write_into_one_folder(tmp_path: Path) -> None:
    final = tmp_path / "results" / "sample"
    with outputs(final) as folder:
        (folder / "a").write_text("first")
        with pytest.raises(PipelineError, match=r"another process is writing .*building: let it end"), outputs(final):
            pass
        assert (folder / "a").read_text() == "first"
    assert [path.name for path in final.iterdir()] == ["a"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    final = tmp_path / "sample"
    (tmp_path / ".sample.building" / "below").mkdir(parents=True)
    (tmp_path / ".sample.building" / "half").write_text("of a file")
    with outputs(final) as folder:
        (folder / "whole").write_text("file")
    assert [path.name for path in final.iterdir()] == ["whole"]
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_the_names_of_ray_and_mlflow_win_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PIPELINES__RAY__ADDRESS": "ours:6379",
        "PIPELINES__TRACKING__URI": "http://ours:5000",
        "RAY_ADDRESS": "theirs:6379",
        "MLFLOW_TRACKING_URI": "http://theirs:5000",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.ray.address, settings.tracking.uri) == ("theirs:6379", "http://theirs:5000")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PIPELINES__RAY", "{workers: 2", "a whole section is given as JSON"),
        ("PIPELINES__RAY__WORKERS", "0", "ray.workers.*greater than or equal to 1"),
        ("PIPELINES__RAY__WORKERS", "many", "ray.workers"),
        ("PIPELINES__TRACKING__TIMEOUT_S", "inf", "tracking.timeout_s.*finite"),
        ("PIPELINES__JOBS__BACKEND", "pbs", "jobs.backend"),
        ("PIPELINES__JOBS__STAGES", '["register"]', "jobs.stages"),
        ("PIPELINES__JOBS__PASS_ON", '["A=B"]', "jobs.pass_on"),
    ],
)
def test_bad_settings(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ParamsError, match=message):
        load_settings()


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "apikey", "PGPASSWORD", "DB_PASSWD", "MY_SECRETS", "CREDENTIALS_FILE"]
)
def test_what_sounds_like_a_secret_is_not_passed_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    harmless = "NCCL_SOCKET_IFNAME", "TOKENIZERS_PARALLELISM"
    monkeypatch.setenv("PIPELINES__JOBS__PASS_ON", json.dumps(harmless))
    assert load_settings().jobs.pass_on == harmless
    monkeypatch.setenv("PIPELINES__JOBS__PASS_ON", json.dumps([*harmless, name]))
    with pytest.raises(ParamsError, match=rf"jobs\.pass_on: {name} would be readable for everybody on the cluster"):
        load_settings()


def test_parameters_are_finite_numbers() -> None:
    with pytest.raises(ValueError, match="finite"):
        TrainParams(steps=1, clip_norm=float("inf"))


class FakeRay:
    @staticmethod
    def cluster_resources() -> dict[str, float]:
        return {"CPU": 2.0}


@pytest.mark.parametrize("settings", [RaySettings(gpus_per_worker=1), RaySettings(workers=3, cpus_per_worker=1)])
def test_workers_that_this_machine_does_not_have_are_refused_at_once(settings: RaySettings) -> None:
    with pytest.raises(TrainingError, match="cannot be had on this machine: each needs 1 CPU"):
        count_workers(FakeRay, settings, shards=8)  # type: ignore[arg-type]
