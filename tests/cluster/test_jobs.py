"""Stages as jobs of a cluster that the one who asks for them is no part of: one job, its bits, and its outputs here."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import CLUSTER_SETTINGS, WORKERS, ServedLab
from tests.cluster.nodes import Cluster, Node
from tests.cluster.servers import Servers
from tests.conftest import BUCKET
from tests.end_to_end.project import TINY, Project
from tests.faults.harness import Attempt, FaultLab, copy_of
from tests.faults.table import Table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.root,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("to_s3"),
]
TRAIN = ("dvc", "repro", "train")
CACHES = ("pipelines-", "torchinductor_")
"""In a machine's temporary folder, for the next job there."""
GOES_ON_WITH_TWO = {
    "PIPELINES__RAY__WORKERS": "[2,3]",
    "PIPELINES__RAY__HANG_TIMEOUT_S": "120",  # Ray itself misses the machine sooner, and then counts the others
    "PIPELINES__RAY__COLLECTIVE_TIMEOUT_S": "300",
}


@pytest.fixture
def outside(
    base: Project, cluster: Cluster, servers: Servers, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[ServedLab]:
    """A project on this machine, whose heavy stages are jobs of the cluster."""
    cluster.scale(WORKERS)
    lab = copy_of(base, tmp_path / "project")
    lab.settings = CLUSTER_SETTINGS | {
        "RAY_ADDRESS": cluster.jobs,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": cluster.token,
        "PIPELINES_CACHE": str(tmp_path / "cache"),
    }
    served = ServedLab.of(lab, servers, request.node.name.removeprefix("test_").replace("_", "-")[:40])
    yield served
    for attempt in served.attempts:
        served.clear(attempt)


def jobs(cluster: Cluster) -> list[str]:
    """Names of the jobs that the cluster has been given."""
    ask = urllib.request.Request(f"{cluster.jobs}/api/jobs/", headers={"Authorization": f"Bearer {cluster.token}"})
    with urllib.request.urlopen(ask, timeout=30) as answer:
        return sorted(job["submission_id"] for job in json.load(answer) if job["submission_id"])


def machine_of_rank_0(lab: ServedLab, cluster: Cluster) -> Node:
    """Its name is in the lease of the run's writer."""
    key = lab.store().uri.removeprefix(f"s3://{BUCKET}/") + "/writer.lock"
    host = json.loads(lab.servers.s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())["host"]
    (node,) = (node for node in cluster.nodes if node.name == host)
    return node


def train(lab: FaultLab) -> Attempt:
    """`dvc repro train` to its end."""
    attempt = lab.start(*TRAIN)
    assert attempt.end() == 0, attempt.text
    return attempt


def test_dvc_repro_from_outside(outside: ServedLab, cluster: Cluster, table: Table) -> None:
    row, before = table.expect("dvc repro outside of the cluster, training as its job", "nothing"), jobs(cluster)
    attempt = train(outside)
    assert "training from the start on 3 workers" in attempt.text
    (name,) = set(jobs(cluster)) - set(before)
    assert f"job {name} started on the Ray cluster at {cluster.jobs}" in attempt.text
    assert not (outside.project.folder / ".state/runs").exists()
    table.same_bits(row, outside, outside.outcome(), "nothing")
    again = train(outside)
    assert "Data and pipelines are up to date" in again.text
    assert len(jobs(cluster)) == len(before) + 1
    assert cluster.token not in attempt.text


def test_all_stages_but_the_last_run_there(outside: ServedLab, cluster: Cluster, table: Table) -> None:
    """And DVC's run cache knows them as if they had run here."""
    row, before = table.expect("a whole dvc repro outside of the cluster, five jobs", "nothing"), jobs(cluster)
    stages = ["evaluate", "prepare", "reference", "sample", "train"]
    outside.settings = {**outside.settings, "PIPELINES__JOBS__STAGES": json.dumps(stages)}
    outside.patience_s = 600
    lock = outside.project.folder / "dvc.lock"
    done_before = lock.read_bytes()
    outside.project.set(seed="5", prepare__shard_size="500", train__steps="20")
    attempt = outside.start("dvc", "repro")
    assert attempt.end() == 0, attempt.text
    done = sorted(set(jobs(cluster)) - set(before))
    assert [name.partition("-")[0] for name in done] == stages
    assert f"registered {outside.name} version 1; now champion: the first version" in attempt.text
    lock.write_bytes(done_before)
    again = outside.start("dvc", "repro")
    assert again.end() == 0, again.text
    assert again.text.count("is cached - skipping run, checking out outputs") >= len(stages)
    assert sorted(set(jobs(cluster)) - set(before)) == done
    row.seen = "nothing; the second time all of it from DVC's run cache"


def test_the_machine_of_rank_0_loses_its_power_in_a_job(outside: ServedLab, cluster: Cluster, table: Table) -> None:
    row = table.expect("a job's machine of rank 0 loses its power, from 2 to 3 workers", "the other two go on")
    outside.settings = {**outside.settings, **GOES_ON_WITH_TWO}
    attempt = outside.disturb(lambda _: machine_of_rank_0(outside, cluster).kill())
    assert attempt.process.returncode == 0, attempt.text
    assert "go on from step" in attempt.text
    table.same_bits(row, outside, outside.outcome(), "went on by itself")


def test_the_client_is_killed_and_comes_back(outside: ServedLab, cluster: Cluster, table: Table) -> None:
    row, before = (
        table.expect("kill -9 of the client of a job", "the job goes on, the same command comes back"),
        jobs(cluster),
    )
    outside.disturb(lambda attempt: attempt.process.kill(), at=40)
    outcome = outside.finish()
    assert "coming back to job" in outside.attempts[1].text or "has done this before" in outside.attempts[1].text
    assert len(set(jobs(cluster)) - set(before)) == 1
    table.same_bits(row, outside, outcome, "came back")


def test_the_way_to_the_cluster_is_cut_for_a_while(outside: ServedLab, cluster: Cluster, table: Table) -> None:
    """The client's, that is: the head's link, over which no worker's message goes, but the board's."""
    row = table.expect("the head's link cut for 25 s", "the client waits; the job goes on")

    def cut(attempt: Attempt) -> None:
        cluster.network.cut(cluster.nodes[0].host)
        try:
            attempt.wait_for_text("Trying again")
        finally:
            cluster.network.mend(cluster.nodes[0].host)

    attempt = outside.disturb(cut)
    assert attempt.process.returncode == 0, attempt.text
    assert "answers again" in attempt.text
    table.same_bits(row, outside, outside.outcome(), "waited, and went on")


def test_a_whole_pipeline_from_a_bare_repository(
    cluster: Cluster, servers: Servers, tmp_path: Path, table: Table
) -> None:
    """Its data from, and its results to, a DVC remote on S3; its version in MLflow on PostgreSQL; nothing elsewhere."""
    row = table.expect("pipelines.submit from a bare repository", "results in the remote, a version, nothing else")
    cluster.scale(2)
    name, project = "submitted", Project.clone(_new(tmp_path / "project"))
    project.set(**TINY, register__name=name)
    remote = f"s3://{BUCKET}/dvc-{name}"
    project.run("dvc", "remote", "add", "-q", "-d", "store", remote)
    project.run("dvc", "remote", "modify", "store", "endpointurl", servers.s3.environment["AWS_ENDPOINT_URL"])
    project.commit("a remote")
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(project.folder), str(bare)], check=True)
    shutil.rmtree(project.folder / ".git")
    folders = [node._folder / "tmp" for node in cluster.nodes if node.alive]
    before = {folder: {path.name for path in folder.iterdir()} for folder in folders}
    environment = (
        CLUSTER_SETTINGS
        | servers.mlflow.environment
        | {
            "RAY_ADDRESS": cluster.jobs,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": cluster.token,
            "PIPELINES__STORAGE__URI": f"s3://{BUCKET}/{name}",
            "PIPELINES__RAY__WORKERS": "2",
            "PIPELINES_CACHE": str(tmp_path / "cache"),
        }
    )
    submit = ("python", "-m", "pipelines.submit", "--repo", str(bare), "--rev", "main", "--commit-to", "results")
    done = project.start(*submit, **environment)
    said = done.communicate(timeout=800)[0]
    assert done.returncode == 0, said
    assert f"registered as models:/{name}/1" in said
    lock = subprocess.run(["git", "show", "results:dvc.lock"], cwd=bare, capture_output=True, text=True, check=True)
    assert all(f"\n  {stage}:" in lock.stdout for stage in ("prepare", "train", "evaluate", "register"))
    versions = servers.postgres.psql(f"select version from model_versions where name = '{name}'", "mlflow")
    assert versions == "1"
    fresh = tmp_path / "fresh"
    subprocess.run(["git", "clone", "-q", "-b", "results", str(bare), str(fresh)], check=True)
    Project(fresh).run("dvc", "pull", "-q", "evaluate", "train")
    assert (fresh / "results/train/model.safetensors").exists()
    left = {path for folder in folders for path in folder.iterdir() if path.name not in before[folder]}
    assert not [path for path in left if not path.name.startswith(CACHES)]
    row.seen = "the same"


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder
