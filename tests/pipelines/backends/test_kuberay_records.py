"""What Kubernetes knows besides of a job: why it waits, where it is, and how long it is remembered."""

import json
import os
import shutil
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.backends.backend import State, Status
from pipelines.backends.kuberay import KubeRay
from pipelines.remote.follow import follow
from pipelines.settings import JobSettings
from tests.pipelines.backends.conftest import until
from tests.pipelines.backends.kubernetes import Cluster, job

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")

STATUS = "GET /apis/ray.io/v1/namespaces/diffusion/rayjobs/train-1"
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPUs"}
NO_IMAGE = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nowhere"'}


def pod(name: str, **status: object) -> dict[str, Any]:
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "diffusion"}, "status": status}


def test_who_watches_a_job_that_waits_is_told_why(
    cluster: Cluster, rendered: KubeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    rendered.submit(job())
    made = pod("head", containerStatuses=[{"state": {"waiting": {"reason": "ContainerCreating"}}}])
    no_image = pod("head", containerStatuses=[{"state": {"waiting": NO_IMAGE}}])
    cluster.says("train-1", "Initializing", rayClusterName="train-1-x")
    cluster.pods["train-1-x"] = [made, pod("worker", conditions=[UNSCHEDULABLE])]
    assert rendered.attach("")["train-1"] == Status(State.WAITING, "Initializing")

    def asked() -> int:
        return sum(line.startswith(STATUS) for line in cluster.seen)

    def go_on() -> None:
        for then in (
            lambda: cluster.pods.update({"train-1-x": [no_image]}),
            lambda: cluster.says("train-1", "Running", "RUNNING", rayClusterName="train-1-x"),
            lambda: cluster.says("train-1", "Complete", "SUCCEEDED"),
        ):
            enough = asked() + 2
            until(lambda enough=enough: asked() >= enough)  # type: ignore[misc]
            then()

    threading.Thread(target=go_on, daemon=True).start()
    assert follow("train-1", rendered).state is State.SUCCEEDED
    assert capsys.readouterr().err.splitlines() == [
        "job train-1 waits: Initializing, worker: Unschedulable, 0/3 nodes: no GPUs",
        'job train-1 waits: Initializing, head: ImagePullBackOff, Back-off pulling image "nowhere"',
        "job train-1 runs",
    ]


def test_records_of_jobs_that_ended_long_ago_are_deleted(cluster: Cluster, rendered: KubeRay) -> None:
    """The operator never does, nor those that were cancelled, which are suspended."""
    names = ("ended-1", "cancelled-1", "runs-1", "theirs-1", "new-1")
    for name in names:
        rendered.submit(job(name))
    for name in names:
        cluster.says(name, "Complete", "SUCCEEDED")
        made = datetime.now(UTC) - timedelta(days=1 if name == "new-1" else 31)
        cluster.jobs[name]["metadata"]["creationTimestamp"] = made.isoformat(timespec="seconds")
    cluster.says("runs-1", "Running", "RUNNING")
    cluster.says("cancelled-1", "Running", "RUNNING")
    rendered.cancel("cancelled-1")
    cluster.says("cancelled-1", "Suspended")
    del cluster.jobs["theirs-1"]["metadata"]["labels"]
    rendered.submit(job("next-1"))
    assert sorted(cluster.jobs) == ["new-1", "next-1", "runs-1", "theirs-1"]
    asked_at = rendered.status("new-1").asked_at
    assert asked_at
    assert abs(time.time() - 24 * 3600 - asked_at) < 60


def test_its_place_is_a_namespace_of_a_server(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = KubeRay(JobSettings().overlay).place
    port = json.loads(Path(os.environ["KUBECONFIG"]).read_text())["clusters"][0]["cluster"]["server"].split(":")[-1]
    assert here == f"Kubernetes, {socket.gethostname()}:http://127.0.0.1:{port}, diffusion"
    server = Path(os.environ["KUBECONFIG"]).read_text().replace(f"http://127.0.0.1:{port}", "https://kube.example:6443")
    (tmp_path / "another").write_text(server)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "another"))
    assert KubeRay(JobSettings().overlay).place == "Kubernetes, https://kube.example:6443, diffusion"
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert socket.gethostname() in KubeRay(JobSettings().overlay).place
