"""A real Slurm of two machines, which are namespaces of this one: network, processes, host name and /tmp of their own.

The controller is on the first. The two are joined by a cable and by nothing else, so that Slurm needs no passwords. The
folder that it is started in is the file system that all machines see.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

MACHINES = ("one", "two")
ADDRESSES = {"one": "10.77.0.1", "two": "10.77.0.2"}
CONFIGURATION = """
ClusterName=test
SlurmctldHost=one({one})
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge=5
MessageTimeout=3
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1
NodeName=one NodeAddr={one} CPUs=2 RealMemory=2000
NodeName=two NodeAddr={two} CPUs=2 RealMemory=2000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
OWN_TMP = """
hostname {name}
mkdir -p /run/shared-{name} && mount --bind {folder} /run/shared-{name}
mount -t tmpfs tmpfs /tmp && mkdir -p {folder} && mount --move /run/shared-{name} {folder}
exec {program}
"""


@dataclass
class SlurmCluster:
    """Its programs are those of `folder`/bin, for PATH."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, machine: str, program: str = "slurmd") -> None:
        """A daemon of Slurm's, in the foreground; it ends with its machine."""
        lines = OWN_TMP.format(name=machine, folder=self.folder, program=f"{program} -D")
        spaces = ["--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = ["nsenter", f"--net=/run/netns/{self._network(machine)}", "unshare", *spaces, "bash", "-ec", lines]
        environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        with (self.folder / f"{program}-{machine}.out").open("ab") as log:
            daemon = subprocess.Popen(  # it needs its folder, and the tests' own may be hidden from it
                command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.daemons[f"{program} {machine}"] = daemon

    def kill(self, machine: str, program: str = "slurmd") -> None:
        """With all that runs on it, as if the power went."""
        daemon = self.daemons.pop(f"{program} {machine}")
        daemon.kill()
        daemon.wait()

    @property
    def controller(self) -> psutil.Process:
        """The process of slurmctld, to be frozen for example."""
        inside = psutil.Process(self.daemons["slurmctld one"].pid).children(recursive=True)
        return next(process for process in inside if process.name() == "slurmctld")

    def _network(self, machine: str) -> str:
        return f"slurm-{os.getpid()}-{machine}"

    def lay_cable(self) -> None:
        one, two = (self._network(machine) for machine in MACHINES)
        for network in (one, two):
            _ip("netns", "add", network)
        _ip("link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", two)
        for machine, network in zip(MACHINES, (one, two), strict=True):
            _ip("-n", network, "addr", "add", f"{ADDRESSES[machine]}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", network, "link", "set", device, "up")
            _ip("-n", network, "route", "add", "default", "dev", "cable")  # by which Ray finds its own address

    def write(self) -> None:
        """Its configuration, and its programs as they are called on this machine."""
        (self.folder / "state").mkdir()
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(folder=self.folder, **ADDRESSES))
        (self.folder / "bin").mkdir()
        for name in ("sbatch", "squeue", "scancel", "sinfo", "scontrol"):
            program = self.folder / "bin" / name
            space = f"/run/netns/{self._network('one')}"
            conf = self.folder / "slurm.conf"
            program.write_text(
                f'#!/bin/sh\nexec nsenter --net={space} env SLURM_CONF={conf} {shutil.which(name)} "$@"\n'
            )
            program.chmod(0o755)

    def wait_until_idle(self) -> None:
        for _ in range(300):
            done = subprocess.run([self.folder / "bin" / "sinfo", "-h", "-o", "%T %D"], capture_output=True, text=True)
            if done.stdout.split() == ["idle", "2"]:
                return
            time.sleep(0.1)
        raise RuntimeError(f"Slurm did not come up:\n{done.stdout}{done.stderr}")

    def stop(self) -> None:
        for daemon in self.daemons.values():
            daemon.kill()
            daemon.wait()
        for machine in MACHINES:
            subprocess.run(["ip", "netns", "del", self._network(machine)], stderr=subprocess.DEVNULL)


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """Yield one; the test is skipped where there cannot be any."""
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "ip", "nsenter", "unshare") if not shutil.which(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not on PATH: `apt-get install slurmctld slurmd slurm-client iproute2`")
    folder.mkdir(exist_ok=True)
    cluster = SlurmCluster(folder)
    try:
        cluster.lay_cable()
        cluster.write()
        cluster.start("one", "slurmctld")
        for machine in MACHINES:
            cluster.start(machine)
        cluster.wait_until_idle()
        yield cluster
    finally:
        cluster.stop()


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no namespace of networks can be made here: {done.stderr.strip()}")
