"""From settings to a backend."""

from pathlib import Path

import pytest

from pipelines.backends.choose import backend_of
from pipelines.backends.kuberay import KubeRay
from pipelines.backends.local import Local
from pipelines.backends.ray_jobs import RayJobs
from pipelines.backends.slurm import Slurm
from pipelines.errors import ParamsError, TrainingError
from pipelines.settings import Settings


def chosen(backend: str | None = None, address: str | None = None, **jobs: object) -> object:
    return backend_of(Settings(jobs={"backend": backend, **jobs}, ray={"address": address}))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("address", [None, "auto", "head:6379", "ray://head:10001"])
def test_by_default_stages_run_where_dvc_starts_them(address: str | None) -> None:
    assert chosen(address=address) is None


def test_jobs_of_this_machine_and_of_slurm_are_in_the_projects_state(project: Path) -> None:
    assert chosen("local") == Local(project / ".state" / "jobs" / "local")
    options = ("--nodes=4", "--gpus-per-node=8")
    assert chosen("slurm", sbatch=options) == Slurm(project / ".state" / "jobs" / "slurm", options)


def test_a_job_server_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t" * 32)
    for backend in (None, "ray"):
        found = chosen(backend, "https://me:secret@head:8265/")
        assert isinstance(found, RayJobs)
        assert str(found) == "the Ray cluster at https://head:8265"


def test_rays_client_must_not_be_led_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """To where nobody has looked whether a token is asked for."""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265/")
    assert chosen(address="http://127.0.0.1:8265")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://me:secret@elsewhere:8265")
    with pytest.raises(ParamsError, match=r"but RAY_API_SERVER_ADDRESS, .*, is http://elsewhere:8265: unset it"):
        chosen(address="http://127.0.0.1:8265")
    assert chosen("local")


@pytest.mark.parametrize("address", ["https://head:8265", "http://10.0.0.7:8265", "http://[fd00::7]:8265"])
def test_one_on_another_machine_wants_a_token(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(TrainingError, match="no token is set"):
        chosen(address=address)
    assert backend_of(Settings(ray={"address": address, "insecure": True}))
    assert chosen(address="http://127.0.0.1:8265")


@pytest.mark.parametrize(
    ("backend", "address"), [(None, "http://ada:hunter22@head:8265"), ("ray", "ray://ada:hunter22@head:1")]
)
def test_a_password_in_an_address_is_not_shown(
    backend: str | None, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises((TrainingError, ParamsError)) as raised:
        chosen(backend, address)
    assert "//head:" in str(raised.value)
    assert "hunter22" not in str(raised.value)


def test_kubernetes_by_its_kustomization(project: Path) -> None:
    found = chosen("kuberay", overlay="infra/kuberay/overlays/dev/stage")
    assert isinstance(found, KubeRay)
    assert str(found) == "Kubernetes (infra/kuberay/overlays/dev/stage)"


@pytest.mark.parametrize(
    ("backend", "address", "why"),
    [
        ("slurm", "http://head:8265", r"jobs\.backend is slurm, but ray\.address is a job server"),
        ("local", "https://head:8265", "is local, but"),
        ("ray", None, "wants the cluster's job server"),
        ("ray", "ray://head:10001", "got ray://head:10001"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(backend: str, address: str | None, why: str) -> None:
    with pytest.raises(ParamsError, match=why):
        chosen(backend, address)


def test_only_a_job_server_installs_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen("ray", "http://127.0.0.1:8265", environment="lock")
    with pytest.raises(ParamsError, match=r"jobs\.environment is lock, .* not local"):
        chosen("local", environment="lock")
