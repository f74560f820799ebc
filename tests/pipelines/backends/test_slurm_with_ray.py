"""A job on two machines of a real Slurm, with Ray itself on both."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.backends.backend import State
from pipelines.backends.slurm import Slurm
from tests.pipelines.backends.conftest import Make, end_of, until
from tests.pipelines.backends.slurm_cluster import MACHINES, SlurmCluster, slurm_cluster

pytestmark = [pytest.mark.root, pytest.mark.slow]

SAVES = """
import json, os, signal, socket, sys, time
from pathlib import Path
import ray

@ray.remote(num_cpus=1)
class Worker:
    def where(self):
        return socket.gethostname()

ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
machines = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
workers = [Worker.options(scheduling_strategy=strategy(node, soft=False)).remote() for node in machines]
names = lambda: sorted(ray.get([worker.where.remote() for worker in workers], timeout=60))
wish = []
signal.signal(signal.SIGTERM, lambda *_: wish.append(True))  # Ray has taken it for itself
Path("begun").write_text(json.dumps(names()))
while not wish:
    time.sleep(0.1)
Path("saved").write_text(json.dumps(names()))
sys.exit(75)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path / "shared") as cluster:
        yield cluster


def test_a_job_has_ray_on_all_its_machines_and_they_are_there_while_it_saves(
    cluster: SlurmCluster, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(cluster.folder / "bin"), prepend=os.pathsep)
    slurm = Slurm(cluster.folder / "jobs", ("--nodes=2", "--gpus-per-node=0"))
    slurm.submit(make("one", SAVES, PIPELINES__RAY__GPUS_PER_WORKER="0"))
    code = cluster.folder / "jobs" / "one" / "code"
    until(lambda: (code / "begun").exists() and (code / "begun").read_text(), 240)
    assert json.loads((code / "begun").read_text()) == list(MACHINES)
    slurm.cancel("one")
    assert end_of(slurm, "one", 120) == (State.STOPPED, "exit status 75")
    assert json.loads((code / "saved").read_text()) == list(MACHINES)
    assert list((code / ".state").iterdir()) == []  # the token is gone
