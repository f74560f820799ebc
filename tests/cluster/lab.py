"""The train stage on a cluster: typed on its head, in a project that all machines see; its runs are there or on S3."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipelines.runs.s3 import S3Store
from tests.cluster.nodes import Cluster, Node
from tests.cluster.servers import Servers
from tests.conftest import BUCKET
from tests.end_to_end.project import Project
from tests.faults.harness import SETTINGS, FaultLab, copy_of

WORKERS = 3
CLUSTER_SETTINGS = SETTINGS | {
    "PIPELINES__RAY__WORKERS": str(WORKERS),
    "PIPELINES__RAY__HANG_TIMEOUT_S": "15",
    "PIPELINES__RAY__COLLECTIVE_TIMEOUT_S": "20",
}
PATIENCE_S = 480.0
"""How long an attempt may take to its end: four machines' Ray on few cores, and one that is gone is missed late."""


@dataclass(frozen=True)
class ProjectOn(Project):
    """A project whose commands are typed on a machine of a cluster."""

    node: Node
    address: str
    """Of the cluster."""

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """A command in the project's folder on that machine; it ends with the machine."""
        variables = self.environment() | self.node.environment | {"RAY_ADDRESS": self.address} | environment
        return subprocess.Popen(
            self.node.command(*command, folder=self.folder),
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def on_cluster(cluster: Cluster, base: Project, folder: Path) -> FaultLab:
    """A copy of a project, driven from the cluster's head."""
    lab = copy_of(base, folder)
    lab.project = ProjectOn(lab.project.folder, cluster.nodes[0], cluster.address)
    lab.settings, lab.patience_s = dict(CLUSTER_SETTINGS), PATIENCE_S
    return lab


def machine_of_rank_0(lab: FaultLab, cluster: Cluster) -> Node:
    """It holds the right to write the run, and its name is in the lock."""
    host = json.loads((lab.run / "writer.lock").read_text())["host"]
    (node,) = (node for node in cluster.nodes if node.name == host)
    return node


@dataclass(kw_only=True)
class ServedLab(FaultLab):
    """A lab whose runs are on S3 and whose numbers are in MLflow on PostgreSQL, under a name of its own.

    The environment of this process leads to S3 too.
    """

    servers: Servers
    name: str

    @classmethod
    def of(cls, lab: FaultLab, servers: Servers, name: str) -> ServedLab:
        """A lab of a cluster with its runs and numbers elsewhere."""
        lab.project.set(register__name=name)
        settings = {
            **lab.settings,
            **servers.mlflow.environment,
            "PIPELINES__STORAGE__URI": f"s3://{BUCKET}/{name}",
            "PIPELINES__RAY__HANG_TIMEOUT_S": "90",  # a save waits for its server
            "PIPELINES__RAY__COLLECTIVE_TIMEOUT_S": "120",
        }
        return cls(project=lab.project, settings=settings, patience_s=lab.patience_s, servers=servers, name=name)

    def store(self) -> S3Store:
        """The run's place; there is one."""
        (run,) = self._runs()
        return S3Store(f"s3://{BUCKET}/{run}")

    def saved_step(self) -> int:
        """Of the newest checkpoint; -1 if there is none."""
        names = self.store().names() if self._runs() else []
        return max((int(name.split("-")[1]) for name in names), default=-1)

    def _runs(self) -> list[str]:
        found = self.servers.s3.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.name}/", Delimiter="/")
        places = [each["Prefix"].rstrip("/") for each in found.get("CommonPrefixes", ())]
        return [place for place in places if not place.endswith("/depot")]

    def tracked(self) -> list[tuple[str, int, float]]:
        """Those of the stages before are where the template has them."""
        rows = self.servers.postgres.psql(
            "select key, step, value from metrics join runs using (run_uuid) join experiments using (experiment_id) "
            f"where experiments.name = '{self.name}'",
            "mlflow",
        )
        split = (row.split("|") for row in rows.splitlines())
        return [*super().tracked(), *((key, int(step), float(value)) for key, step, value in split)]
