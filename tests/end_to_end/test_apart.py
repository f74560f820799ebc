"""Machines that share no folder: code, images and models travel, and the bits are those of one machine."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from pipelines.cluster.code import code_here
from pipelines.depot.tree import tree_of
from tests.conftest import SECRET
from tests.end_to_end.apart import can_hide, two_nodes
from tests.end_to_end.project import Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not can_hide(), reason="no namespace with mounts of its own: be root"),
]

SEEN = """
import json, os, sys, time
from pipelines.cluster.parallel import ray_map
from pipelines.cluster.session import ray_session
from pipelines.settings import load_settings

mark = sys.argv[1] + "/params.yaml"

def seen(_):
    import ray, pipelines
    time.sleep(2)
    return ray.get_runtime_context().get_node_id(), pipelines.__file__, os.path.exists(mark)

began = time.monotonic()
with ray_session(load_settings()):
    print("joined", time.monotonic() - began, file=sys.stderr)
    found = [one for _, one in ray_map(load_settings(), seen, range(4))]
    print("mapped", time.monotonic() - began, file=sys.stderr)
print(json.dumps(found))
"""

STREAMED = """
from pipelines.data import sharing
sharing.STREAMED = 0
from pipelines.stage import run
from pipelines.train import main
run(main)
"""


@pytest.fixture(scope="module")
def local(tiny):
    """What one machine makes of it."""
    tiny.run("dvc", "repro", "evaluate", PIPELINES__RAY__WORKERS="2")
    return tiny


@pytest.fixture(scope="module")
def project(local, tmp_path_factory):
    """Another copy, in which training begins anew."""
    folder = tmp_path_factory.mktemp("apart") / "project"
    shutil.copytree(local.folder, folder, ignore=shutil.ignore_patterns(".state", "train", "sample", "evaluate"))
    return Project(folder)


@pytest.fixture(scope="module")
def s3_environment(s3_server):
    return {
        "AWS_ENDPOINT_URL": s3_server.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture(scope="module")
def cluster(project, local, s3_environment, tmp_path_factory):
    """The first node sees the project."""
    folder = tmp_path_factory.mktemp("nodes")
    with two_nodes([project.folder, local.folder], folder, s3_environment) as nodes:
        yield nodes


def on(cluster, storage, address=None):
    return {
        **cluster.environment,
        "RAY_ADDRESS": address or cluster.address,
        "PIPELINES__STORAGE__URI": f"s3://runs/{storage}",
        "PIPELINES__RAY__WORKERS": "2",
    }


def seen(project, environment):
    """Of each node: whether it sees the project; all run what they were sent."""
    said = project.python("-c", SEEN, str(project.folder), **environment).text
    print(said)
    found = {node: (file, there) for node, file, there in json.loads(said.splitlines()[-1])}
    assert all("working_dir_files" in file for file, _ in found.values()), found
    return sorted(there for _, there in found.values())


def digest(project):
    return project.json("results/train/model.json")["digests"]["content"]


def tags(project, key):
    """The values of a tag of the project's runs in MLflow."""
    with closing(sqlite3.connect(project.folder / ".state/mlflow/mlflow.db")) as database:
        return {value for (value,) in database.execute("select value from tags where key = ?", [key])}


def test_the_second_node_sees_nothing_and_runs_the_code_that_was_sent(project, cluster):
    assert seen(project, on(cluster, "seen")) == [False, True]


def test_training_and_measures_end_in_the_bits_of_one_machine(project, local, cluster):
    assert not cluster.cache.exists()
    for stage in ("train", "sample", "evaluate"):
        said = project.python("-m", f"pipelines.{stage}", **on(cluster, "whole"))
        print(stage, said.seconds, said.text)
    assert digest(project) == digest(local)
    for file in ("sample/samples.npy", "evaluate/metrics.json", "evaluate/per_image.parquet"):
        there, here = (each.folder / "results" / file for each in (project, local))
        assert there.read_bytes() == here.read_bytes(), file
    assert tags(project, "code.shipped") == {tree_of(project.folder, code_here().files).digest}
    brought = {path.name for tree in cluster.cache.iterdir() if tree.is_dir() for path in tree.iterdir()}
    assert brought >= {"manifest.json", "images.parquet", "train-00000.npy", "model.safetensors"}


def test_images_that_stream_change_no_bit(project, local, cluster):
    shutil.rmtree(cluster.cache, ignore_errors=True)
    shutil.rmtree(project.folder / "results/train", ignore_errors=True)
    said = project.python("-c", STREAMED, **on(cluster, "streamed"))
    print(said.seconds, said.text)
    assert digest(project) == digest(local)
    assert any((tree / "depot.json").exists() for tree in cluster.cache.iterdir())


def test_a_driver_outside_of_a_cluster_that_sees_nothing(project, local, s3_environment, tmp_path):
    """Through Ray's client; neither node sees the project."""
    shutil.rmtree(project.folder / "results/train", ignore_errors=True)
    with two_nodes([project.folder, local.folder], tmp_path, s3_environment, both=True) as nodes:
        environment = on(nodes, "outside", nodes.client)
        assert seen(project, environment) == [False, False]
        said = project.python("-m", "pipelines.train", **environment)
    print(said.seconds, said.text)
    assert digest(project) == digest(local)
