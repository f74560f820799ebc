"""What names the place of jobs."""

import socket
from pathlib import Path

import pytest

from pipelines.backends.local import Local
from pipelines.backends.ray_jobs import RayJobs
from pipelines.backends.slurm import Slurm


def test_folders_of_two_projects_or_of_two_machines_are_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Path("/one/.state/jobs"), Path("/two/.state/jobs")
    places = {backend.place for backend in (Local(one), Local(two), Slurm(one), Slurm(two))}
    assert Slurm(one, ("--nodes=4",)).place in places
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    places |= {backend.place for backend in (Local(one), Local(two), Slurm(one), Slurm(two))}
    assert len(places) == 8
    assert Local(one).place == "another:/one/.state/jobs"


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "http://localhost:8265", "https://[::1]:8265"])
def test_a_job_server_that_another_machine_reaches_by_another_address(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = RayJobs(address).place
    assert here == RayJobs(f"{address}/").place
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert RayJobs(address).place != here


def test_a_job_server_is_one_place_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = RayJobs("https://me:secret@head:8265").place
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert mine == RayJobs("https://you@head:8265/").place == "Ray, https://head:8265"
    assert mine != RayJobs("https://head:8266").place
