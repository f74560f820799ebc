"""What goes along with a job, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.data.manifest import file_sha256
from pipelines.depot.local import LocalDepot
from pipelines.errors import DataError, ParamsError
from pipelines.measure import pretrained
from pipelines.measure.pretrained import Pretrained
from pipelines.measure.weights import Pinned
from pipelines.params import Params
from pipelines.project import workspace
from pipelines.remote.pack import request_of, settings_there
from pipelines.remote.run import lay_out
from pipelines.remote.work import passed_on
from pipelines.settings import JobSettings, Settings, StorageSettings, WeightsSettings
from tests.pipelines.stage_inputs import DIGITS


@pytest.fixture
def depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalDepot:
    monkeypatch.setenv("PIPELINES_CACHE", str(tmp_path / "cache"))
    return LocalDepot(tmp_path / "depot")


def changed(**sections: dict[str, object]) -> Params:
    """Those of the digits, but for these."""
    values = DIGITS.model_dump(mode="json", by_alias=True)
    return Params.model_validate(values | {name: values[name] | change for name, change in sections.items()})


def test_places_are_those_of_this_project() -> None:
    assert settings_there(Settings(storage=StorageSettings(uri="../runs")))["storage"]["uri"] == str(
        workspace().parent / "runs"
    )
    assert settings_there(Settings())["storage"]["uri"] == str(workspace() / ".state/runs")
    assert "weights" not in settings_there(Settings(weights=WeightsSettings(inception=Path("/weights/inception.pt"))))


@pytest.mark.parametrize("path", ["/data/images", "../images"])
def test_images_outside_of_the_project_are_refused(depot: LocalDepot, path: str) -> None:
    params = changed(data={"path": path})
    with pytest.raises(ParamsError, match=f"{path} is outside of the project"):
        request_of("prepare", params, Settings(), depot, "here")


def test_weights_of_a_network_from_elsewhere_go_along(
    depot: LocalDepot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own" / "inception.pt"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    network = Pretrained("inception", Pinned(file.name, "http://127.0.0.1:1/", file_sha256(file)), file)
    monkeypatch.setattr(pretrained, "find_pretrained", lambda name, settings: network)
    prepared = tmp_path / "project/results/prepare"
    prepared.mkdir(parents=True)
    (prepared / "data").write_text("images")
    for name in ("dvc.yaml", "params.yaml", "requirements.lock", "pipelines", "diffusion"):
        (tmp_path / "project" / name).symlink_to(workspace() / name)
    monkeypatch.setattr("pipelines.remote.pack.workspace", lambda: tmp_path / "project")
    monkeypatch.setattr("pipelines.remote.pack.code_names", lambda: ["params.yaml"])
    params = changed(reference={"extractor": "inception"}, sample={"count": 5000})
    request = request_of("reference", params, Settings(), depot, "here")
    lay_out(request, tmp_path / "there")
    there = Path(request.settings["weights"]["inception"])
    assert not there.is_absolute()
    assert (tmp_path / "there" / there).read_bytes() == b"weights"


def test_an_input_that_leads_out_of_the_project_is_refused(depot: LocalDepot, tmp_path: Path) -> None:
    from pipelines.depot.ref import put_folder
    from pipelines.remote.request import Request

    code = tmp_path / "code"
    code.mkdir()
    (code / "a").write_text("a")
    ref = put_folder(depot, code)
    request = Request("train", "0" * 16, {}, ref, {str(tmp_path / "out"): ref}, {}, {}, 60, source="", place="here")
    with pytest.raises(DataError, match="is no name of a file below a folder"):
        lay_out(request, tmp_path / "there")
    assert not (tmp_path / "out").exists()


def test_variables_that_hold_secrets_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pass@proxy:3128")
    assert passed_on(Settings(jobs=JobSettings(pass_on=("NCCL_DEBUG", "NOT_SET")))) == {"NCCL_DEBUG": "INFO"}
    with pytest.raises(ParamsError, match="HTTPS_PROXY") as refused:
        passed_on(Settings(jobs=JobSettings(pass_on=("HTTPS_PROXY",))))
    assert "pass@" not in str(refused.value)
