"""Jobs on Kubernetes: the real kubectl, and a server that speaks as much of the API as it needs."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.backends import kuberay
from pipelines.backends.backend import AlreadyThere, State, Status, Submission, Unreachable
from pipelines.backends.kuberay import KubeRay
from pipelines.errors import ParamsError, PipelineError
from tests.infra.test_kubernetes import errors
from tests.pipelines.backends.kubernetes import COMMAND, Cluster, Refusal, job, serve

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")


def container(created: dict[str, Any]) -> dict[str, Any]:
    head: dict[str, Any] = created["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    return head


def test_a_job_is_the_template_with_its_name_command_and_environment(cluster: Cluster, rendered: KubeRay) -> None:
    rendered.submit(job(PIPELINES__RAY__WORKERS="[1,2]", HOME="/tmp/home", PRICE="5$ $(HOME)"))
    created = cluster.jobs["train-1"]
    assert created["metadata"]["name"] == "train-1"
    assert created["metadata"]["namespace"] == "diffusion"
    variables = {one["name"]: one["value"] for one in container(created)["env"]}
    assert variables["PIPELINES__RAY__WORKERS"] == "[1,2]"
    assert variables["RAY_JOB_STOP_WAIT_TIME_S"] == "100"  # of the template
    assert variables["HOME"] == "/tmp/home"  # once, in place of the template's
    assert variables["PRICE"] == "5$$ $$(HOME)"  # for the kubelet to read back as it was
    assert len(variables) == len(container(created)["env"])
    assert any("fieldValidation=Strict" in line for line in cluster.seen)
    rendered.submit(job("train-2"))
    assert "PIPELINES__RAY__WORKERS" not in str(cluster.jobs["train-2"])


def test_what_is_created_is_valid(cluster: Cluster, rendered: KubeRay) -> None:
    rendered.submit(job(SOME="thing"))
    assert errors(cluster.jobs["train-1"]) == []
    container(cluster.jobs["train-1"])["envv"] = []
    assert len(errors(cluster.jobs["train-1"])) == 1


def test_the_command_goes_through_the_shells_on_its_way(cluster: Cluster, rendered: KubeRay, tmp_path: Path) -> None:
    """That of the pod which hands it to Ray, and Ray's; as KubeRay and Ray write them."""
    rendered.submit(job())
    entrypoint = cluster.jobs["train-1"]["spec"]["entrypoint"]
    ray, python = tmp_path / "ray", tmp_path / "python"
    ray.write_text('#!/bin/bash\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec /bin/sh -c "$*"\n')
    python.write_text('#!/bin/bash\necho "$PWD" "$@"\n')
    for program in (ray, python):
        program.chmod(0o755)
    submitter = f"if true ; then ray job submit --no-wait -- {entrypoint.replace('/opt/diffusion', '/usr')} ; fi"
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", submitter], capture_output=True, text=True, env=os.environ | {"PATH": path})
    assert done.stdout.split() == ["/usr", *COMMAND[1:]], done.stderr


@pytest.mark.parametrize("word", ["a b", "$HOME", "x;reboot", "it's", ""])
def test_a_command_that_the_shells_would_change_is_refused(word: str, cluster: Cluster, rendered: KubeRay) -> None:
    with pytest.raises(PipelineError, match="KubeRay takes commands of letters"):
        rendered.submit(Submission("train-1", ("python", word), Path()))
    assert not cluster.jobs


def test_a_name_is_taken_once(cluster: Cluster, rendered: KubeRay) -> None:
    rendered.submit(job())
    with pytest.raises(AlreadyThere, match="has a job train-1"):
        rendered.submit(job())


@pytest.mark.parametrize(
    ("phase", "outcome", "state"),
    [
        ("", "", State.WAITING),
        ("Initializing", "", State.WAITING),
        ("Waiting", "", State.WAITING),
        ("Running", "", State.WAITING),
        ("Running", "PENDING", State.WAITING),
        ("Running", "RUNNING", State.RUNNING),
        ("Running", "SUCCEEDED", State.RUNNING),
        ("Retrying", "FAILED", State.WAITING),
        ("Complete", "SUCCEEDED", State.SUCCEEDED),
        ("Complete", "STOPPED", State.STOPPED),
        ("Failed", "FAILED", State.FAILED),
        ("Failed", "", State.FAILED),
        ("ValidationFailed", "", State.FAILED),
        ("Suspending", "RUNNING", State.RUNNING),
        ("Suspended", "", State.WAITING),
    ],
)
def test_what_the_operator_says_is_a_state(phase: str, outcome: str, state: State) -> None:
    assert kuberay._state(phase, outcome, cancelled=False) == state


def test_how_jobs_are(cluster: Cluster, rendered: KubeRay) -> None:
    assert rendered.attach("") == {}
    assert rendered.status("train-1") == Status(State.MISSING)
    for name in ("train-1", "train-2", "sample-1"):
        rendered.submit(job(name))
    assert rendered.status("train-1") == Status(State.WAITING)  # before the operator has seen it
    cluster.says("train-1", "Running", "RUNNING")
    message = "Job entrypoint command failed with exit code 3, last available logs:\nbegun\nerror: no sheep\n"
    cluster.says("train-2", "Failed", "FAILED", reason="AppFailed", message=message)
    assert rendered.attach("train-") == {
        "train-1": Status(State.RUNNING, "Running, RUNNING"),
        "train-2": Status(
            State.FAILED,
            "Failed, AppFailed, FAILED, Job entrypoint command failed with exit code 3: error: no sheep",
        ),
    }
    assert rendered.status("train-2") == rendered.attach("train-2")["train-2"]


def test_a_cancelled_job_is_suspended_and_then_stopped(cluster: Cluster, rendered: KubeRay) -> None:
    rendered.submit(job())
    cluster.says("train-1", "Running", "RUNNING")
    rendered.cancel("train-1")
    assert cluster.jobs["train-1"]["spec"]["suspend"] is True
    assert cluster.jobs["train-1"]["spec"]["entrypoint"]  # the rest is as it was
    cluster.says("train-1", "Suspending", "RUNNING")
    assert rendered.status("train-1").state == State.RUNNING  # it may still be saving
    cluster.says("train-1", "Suspended")
    assert rendered.status("train-1") == Status(State.STOPPED, "Suspended")


def test_cancelling_what_has_ended_or_never_was_does_nothing(cluster: Cluster, rendered: KubeRay) -> None:
    rendered.submit(job())
    cluster.says("train-1", "Complete", "SUCCEEDED")
    rendered.cancel("train-1")
    rendered.cancel("train-2")
    assert not [line for line in cluster.seen if line.startswith("PATCH")]


def test_logs_come_while_it_runs_and_stay(cluster: Cluster, rendered: KubeRay) -> None:
    rendered.submit(job())
    assert list(rendered.logs("train-1")) == []  # its pod is not there yet
    cluster.logs["train-1"] = pieces = ["öne\n".encode()]
    log = rendered.logs("train-1")
    assert next(log) == "öne\n"
    pieces += [b"two\n", b""]
    assert "".join(log) == "two\n"
    assert "".join(rendered.logs("train-1", 5)) == "wo\n"


def test_a_log_that_is_silent_ends(cluster: Cluster, rendered: KubeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kuberay, "_SILENT_S", 1.5)
    cluster.logs["train-1"] = [b"one\n"]
    assert "".join(rendered.logs("train-1")) == "one\n"
    left = rendered.logs("train-1")
    next(left)
    left.close()
    cluster.logs["train-1"].append(b"")
    assert "kubectl" not in [child.name() for child in psutil.Process().children()]


def refused(backend: KubeRay, cluster: Cluster, submit: type[Exception], words: str) -> None:
    """Nobody may take a job for missing."""
    with pytest.raises(Unreachable, match=words):
        backend.status("train-1")
    with pytest.raises(Unreachable, match=words):
        backend.attach("")
    with pytest.raises(PipelineError, match=words) as error:
        backend.submit(job())
    assert type(error.value) is submit
    assert not cluster.jobs


@pytest.mark.parametrize(
    ("code", "reason", "submit"),
    [
        (403, "Forbidden", PipelineError),
        (404, "NotFound", PipelineError),  # of a namespace, or from something else than Kubernetes
        (503, "ServiceUnavailable", Unreachable),
    ],
)
def test_a_server_that_refuses(
    code: int, reason: str, submit: type[Exception], cluster: Cluster, rendered: KubeRay
) -> None:
    cluster.refusal = Refusal(code, reason, "not today")
    refused(rendered, cluster, submit, "not today")


def test_no_server(cluster: Cluster, rendered: KubeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(cluster, tmp_path) as (config, _):
        monkeypatch.setenv("KUBECONFIG", str(config))
    refused(rendered, cluster, Unreachable, "refused")
    assert list(rendered.logs("train-1")) == []


def test_a_server_that_is_silent(cluster: Cluster, rendered: KubeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kuberay, "_REQUEST_S", 1)
    cluster.silent.set()
    with pytest.raises(Unreachable, match="does not say how job train-1 is"):
        rendered.status("train-1")


def test_kubectl_that_hangs_is_ended(rendered: KubeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a plugin that wants somebody to log in, for example."""
    (tmp_path / "kubectl").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(kuberay, "_ANSWER_S", 0.2)
    with pytest.raises(Unreachable, match="did not end within"):
        rendered.status("train-1")


def test_an_overlay_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"jobs\.overlay .* cannot be rendered"):
        KubeRay(tmp_path).attach("")
    with pytest.raises(ParamsError, match="must have one RayJob, got 0"):
        KubeRay(Path("infra/kuberay/overlays/prod")).attach("")


def test_without_kubectl_it_says_so(rendered: KubeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PipelineError, match="kubectl is not on PATH"):
        rendered.status("train-1")
