"""What names the place of jobs."""

import socket
from pathlib import Path

import pytest

from pipelines.backends.local import Local
from pipelines.backends.ray_jobs import RayJobs
from pipelines.backends.slurm import Slurm


def test_folders_of_two_projects_or_of_two_machines_are_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Path("/one/.state/jobs"), Path("/two/.state/jobs")
    places = {Local(one).place, Local(two).place}
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    places |= {Local(one).place, Local(two).place}
    assert len(places) == 4
    assert Local(one).place == "another:/one/.state/jobs"


def test_a_folder_that_several_machines_see_is_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from two machines of a Slurm cluster on which one may log in."""
    one = Slurm(tmp_path / "one").place
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    (tmp_path / "also").symlink_to(tmp_path / "one")
    assert Slurm(tmp_path / "also", ("--nodes=4",)).place == one
    assert Slurm(tmp_path / "two").place != one


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
