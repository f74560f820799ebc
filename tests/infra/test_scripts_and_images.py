"""Shell scripts and Dockerfiles: the linters, and what can be run of an image's steps without Docker."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.infra.conftest import INFRA, ROOT, run, tool

SCRIPTS = sorted([*INFRA.rglob("*.sh"), *INFRA.rglob("*.sbatch")])
DOCKERFILES = sorted(INFRA.rglob("*Dockerfile"))
TORCH = {"torch", "torchvision"}


def test_all_are_found() -> None:
    assert len(SCRIPTS) >= 9
    assert [path.parent.name for path in DOCKERFILES] == ["docker", "mlflow"]


def test_shellcheck_finds_nothing() -> None:
    done = run(tool("shellcheck"), *SCRIPTS)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("planted", ["rm -rf $folder/x", "cd /nowhere; ls *.txt | xargs rm"])
def test_shellcheck_rejects_a_planted_error(planted: str, tmp_path: Path) -> None:
    bad = tmp_path / "backup.sh"
    bad.write_text((INFRA / "mlflow" / "backup.sh").read_text() + planted + "\n")
    assert run(tool("shellcheck"), bad).returncode == 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_stop_at_the_first_error_and_may_be_run(script: Path) -> None:
    assert re.search(r"^set -euo? ?(pipefail)?$", script.read_text(), re.MULTILINE)
    assert script.suffix == ".sbatch" or os.access(script, os.X_OK)


def test_hadolint_finds_nothing() -> None:
    done = run(
        tool("hadolint"), "--ignore", "DL3059", *DOCKERFILES
    )  # each RUN is a layer that stays when others change
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("planted", "rule"), [("FROM python", "DL3006"), ("RUN pip install mlflow", "DL3013"), ("USER root", "DL3002")]
)
def test_hadolint_rejects_a_planted_error(planted: str, rule: str, tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text((INFRA / "mlflow" / "Dockerfile").read_text() + planted + "\n")
    done = run(tool("hadolint"), bad)
    assert done.returncode == 1
    assert rule in done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_run_as_somebody_by_number_on_a_pinned_base(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "1000:1000"
    bases = {name.split()[0] for name in re.findall(r"^FROM (.*)$", text, re.MULTILINE)} - {
        "base",
        "with-cpu",
        "with-cuda",
    }
    assert all(re.search(r":\d+\.\d+\.\d+", base) for base in bases), bases


def context(tmp_path: Path) -> Path:
    """What install.sh finds in the image."""
    for name in ("requirements.lock", "pyproject.toml", "infra/docker/install.sh"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def packages(text: str) -> set[str]:
    return {line.split("==")[0][3:] for line in text.splitlines() if line.startswith(" + ")}


@pytest.mark.slow
def test_the_images_packages_are_the_locks_without_the_tools_for_development(tmp_path: Path) -> None:
    here, dry = context(tmp_path), ("--dry-run", "--target", str(tmp_path / "nothing"))
    torch = run(here / "install.sh", "torch", "cuda", *dry, cwd=here)
    rest = run(here / "install.sh", "rest", "cuda", *dry, cwd=here)
    if "Failed to fetch" in torch.stderr + rest.stderr:
        pytest.skip("no package index can be reached")
    assert torch.returncode == rest.returncode == 0, torch.stderr + rest.stderr
    assert TORCH < packages(torch.stderr) < packages(rest.stderr)
    assert {"ray", "mlflow", "dvc"} < packages(rest.stderr)
    assert not {"pytest", "ruff", "mypy", "diffusers"} & packages(rest.stderr)
    locked = set(re.findall(r"^([\w.-]+==[^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    installed = {line[3:] for line in rest.stderr.splitlines() if line.startswith(" + ")}
    assert installed < locked


@pytest.mark.slow
def test_a_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    here = context(tmp_path)
    (here / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "0"\ndependencies = ["six"]\n')
    (here / "requirements.lock").write_text(f"six==1.17.0 \\\n    --hash=sha256:{'0' * 64}\n")
    done = run(here / "install.sh", "rest", "cuda", "--target", tmp_path / "installed", cwd=here)
    if "Failed to fetch" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 1
    assert "Hash mismatch" in done.stderr


@pytest.mark.parametrize("arguments", [("torch", "tpu"), ("all", "cuda")])
def test_install_names_what_it_knows(arguments: tuple[str, str], tmp_path: Path) -> None:
    done = run(context(tmp_path) / "install.sh", *arguments, cwd=tmp_path)
    assert (done.returncode, "must be" in done.stderr) == (2, True)


def test_the_project_is_laid_out_anew_and_keeps_what_runs_left(tmp_path: Path) -> None:
    tool("dvc")
    project = tmp_path / "project"
    params = tmp_path / "params.yaml"
    params.write_text("seed: 7\n")
    for path in ("results/train/model.json", ".state/runs/key", "data/mine/1.png", "pipelines/gone.py", "dvc.lock"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("theirs")
    done = run(
        INFRA / "docker" / "lay-out.sh", project, env=os.environ | {"PARAMS": str(params), "DVC_NO_ANALYTICS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert (project / "params.yaml").read_text() == "seed: 7\n"
    assert (project / "pipelines" / "train.py").read_text() == (ROOT / "pipelines" / "train.py").read_text()
    assert not (project / "pipelines" / "gone.py").exists()
    for path in ("results/train/model.json", ".state/runs/key", "data/mine/1.png", "dvc.lock"):
        assert (project / path).read_text() == "theirs"
    assert "no_scm = true" in (project / ".dvc" / "config.local").read_text()


def test_the_build_sees_no_results_and_no_secrets() -> None:
    lines = (INFRA / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {line[1:] for line in rules if line.startswith("!")}
    assert not [name for name in allowed if name.startswith((".state", "results", ".git", ".venv", ".dvc/cache"))]
    assert "infra/mlflow/secrets" in rules
    assert rules.index("infra/mlflow/secrets") > rules.index("!infra")
