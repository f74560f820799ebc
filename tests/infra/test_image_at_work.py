"""A submitted pipeline with the programs and variables of the image, on a root file system that is read-only."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.project import TINY, Project
from tests.infra.conftest import INFRA, ROOT

DOCKERFILE = (INFRA / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
(INSTALLED,) = (set(names.split()) for names in re.findall(r"apt-get install .*? -y ([\w -]+)", DOCKERFILE))
ASK_FOR = {
    "git": (ROOT / "pipelines/tracking/git.py", r'\["git", '),
    "rsync": (INFRA / "ray/aws.yaml", r"^file_mounts:"),
    "tmux": (INFRA / "ray/aws.yaml", r"ray exec .* --tmux"),
    "wget": (INFRA / "kuberay/cluster/raycluster.yaml", r"^kind: RayCluster"),
}
"""What is run in a container of the image, besides what Python's packages bring along, and where one sees it."""


def test_the_programs_that_are_run_in_the_image_are_installed_and_no_others() -> None:
    asked_for = {name for name, (path, words) in ASK_FOR.items() if re.search(words, path.read_text(), re.MULTILINE)}
    assert INSTALLED == asked_for


def image_environment() -> dict[str, str]:
    """The variables that the image sets."""
    (first, *_) = re.findall(r"^ENV (.*)", DOCKERFILE, re.MULTILINE)
    return dict(re.findall(r"(\w+)=(\S+)", first))


def image_programs(folder: Path) -> Path:
    """A folder with the programs of the packages that the image installs, and of those that each Debian has."""
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${Essential} ${Priority}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    there = [line.split() for line in listed.splitlines()]
    names = {name for name, essential, priority in there if essential == "yes" or priority == "required"}
    names |= {name for name, *_ in there} & INSTALLED
    files = subprocess.run(["dpkg-query", "--listfiles", *names], capture_output=True, text=True, check=True).stdout
    folder.mkdir()
    for path in map(Path, files.splitlines()):
        if path.parent.name == "bin" and path.is_file() and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    return folder


READ_ONLY = """
mount --bind "$PLACE" /mnt
mount -o remount,ro,bind /
mount -t tmpfs tmpfs /tmp
mkdir -p "$PLACE"
mount --bind /mnt "$PLACE"
! touch /var/tmp/here 2> /dev/null
cd "$PLACE/project"
exec env --ignore-environment "$@"
"""
"""The root, that is: a container has a volume for the project and its own /tmp."""


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of mounts needs root")
@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="which programs a package has is asked of dpkg")
def test_a_pipeline_is_submitted_and_carried_out(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    project = Project.clone(tmp_path / "project")
    project.set(**TINY)
    project.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    project.commit("a remote")
    environment = image_environment() | {
        "PATH": f"{Path(sys.executable).parent}:{image_programs(tmp_path / 'bin')}",
        "HOME": str(Path.home()),
        "PIPELINES__JOBS__BACKEND": "local",
        "PIPELINES__TRACKING__RETRIES": "0",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    }
    apart = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-euc", READ_ONLY, "-"]
    variables = [f"{name}={value}" for name, value in environment.items()]
    done = subprocess.run(
        [*apart, *variables, "python", "-m", "pipelines.submit", "--commit-to", "results", "prepare"],
        env=os.environ | {"PLACE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done, and pushed" in done.stdout
    assert list((tmp_path / "store").rglob("*.dir"))
