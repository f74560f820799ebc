"""From a version back to its commit: what is here, the checkout, and what keeps it from being the same."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from diffusion.models.saved import load_model
from pipelines import register
from pipelines.data.manifest import read_manifest
from pipelines.errors import CheckpointError, DataError, ParamsError, PipelineError, TrackingError
from pipelines.reproduce import tell
from pipelines.reproduction.checkout import check_out, environment, leading_elsewhere
from pipelines.reproduction.here import commit_check, data_check
from pipelines.reproduction.verifying import verified
from pipelines.runs.source import source_digest
from pipelines.settings import Settings
from pipelines.tracking.changes import changes
from pipelines.tracking.origin import Origin, origin_of
from pipelines.tracking.registry import Version, versions
from pipelines.tracking.store import connect
from tests.pipelines.repository import commit, git, write
from tests.pipelines.stage_inputs import prepared_digits, saved_model

pytestmark = pytest.mark.filterwarnings("ignore")

PARAMS = "import pathlib\ndef load_params():\n    return pathlib.Path('params.yaml').read_text()\n"
TRAIN = "def params_of_a_run(params):\n    return params\ndef code_of_a_step():\n    return []\n"
CODE = {
    "pipelines__params_dot_py": PARAMS,
    "pipelines__train_dot_py": TRAIN,
    "pipelines__runs__key_dot_py": "def run_key(params, data, code):\n    return f'{params.strip()} {data}'\n",
    "pipelines__tracking__lineage_dot_py": "def params_flat(params):\n    return {'seed': params.split()[-1]}\n",
    "diffusion__core_dot_py": "a = 1\n",
}
"""A project whose run key is its parameters and the data's digest."""


@pytest.fixture
def project(tmp_path):
    """With a changed params.yaml that was not committed."""
    folder = tmp_path / "project"
    cluster = "tracking:\n  uri: http://mlflow:5000\nstorage:\n  uri: null  # here\n"
    write(folder, params_dot_yaml="seed: 0\n", infra__cluster_dot_yaml=cluster, **CODE)
    commit(folder)
    write(folder, params_dot_yaml="seed: 1\n", diffusion__core_dot_py="a = 2\n")
    return folder


def origin(project: Path, **tags: str) -> Origin:
    """As `register` would keep it of the project now."""
    kept = project.with_name("kept")
    kept.mkdir()
    (kept / "params.yaml").write_bytes((project / "params.yaml").read_bytes())
    (kept / "changes.patch").write_bytes(changes(project).patch)
    facts = {
        "git.commit": git(project, "rev-parse", "HEAD"),
        "run.key": "seed: 1 d1",
        "data.digest": "d1",
        "params": json.dumps({"seed": "1"}),
        "training": json.dumps({"steps": 1}),
        "source.digest": source_digest([project / "diffusion", project / "pipelines"]),
    }
    return Origin(Version("m", 1, (), 0, "r", facts | tags), kept)


def test_a_checkout_is_as_it_was(project, tmp_path):
    kept, folder = origin(project), tmp_path / "again"
    write(project, params_dot_yaml="seed: 5\n")  # the project has gone on
    assert [str(check) for check in check_out(kept, project, folder, run_code=True) if not check.ok] == []
    assert (folder / "params.yaml").read_text() == "seed: 1\n"
    assert (folder / "diffusion/core.py").read_text() == "a = 2\n"
    assert (folder / "infra/cluster.yaml").read_text() == "tracking:\n  uri: null\nstorage:\n  uri: null  # here\n"


def test_code_from_the_registry_runs_only_when_asked_for(project, tmp_path):
    write(project, pipelines__params_dot_py=f"open({str(tmp_path / 'ran')!r}, 'w')\n{PARAMS}", notes_dot_md="mine\n")
    kept = origin(project)
    found = {check.what: check for check in check_out(kept, project, tmp_path / "read")}
    assert "diffusion/core.py, notes.md, params.yaml, pipelines/params.py" in found["patch"].says
    assert "--run-code" in str(found["patch"])
    assert found["code"].ok
    assert "run" not in found
    assert "+open(" in git(tmp_path / "read", "diff", "HEAD")
    assert not (tmp_path / "ran").exists()
    assert all(check.ok for check in check_out(kept, project, tmp_path / "again", run_code=True))
    assert (tmp_path / "ran").exists()


def test_a_patch_without_code_needs_no_leave(project, tmp_path):
    git(project, "checkout", "-q", "diffusion")
    write(project, README_dot_md="mine\n")
    assert all(check.ok for check in check_out(origin(project), project, tmp_path / "again"))
    write(project, infra__cluster_dot_yaml="ray:\n  address: elsewhere:6379\n")
    (tmp_path / "kept").rename(tmp_path / "earlier")
    assert "--run-code" in str(check_out(origin(project), project, tmp_path / "other")[0])


def test_a_patch_that_leads_out_of_the_clone_is_refused(project, tmp_path):
    outside = tmp_path / "profile"
    (project / "params.yaml").unlink()
    (project / "params.yaml").symlink_to(outside)
    outside.write_text("seed: 1\n")
    with pytest.raises(PipelineError, match=r"params.yaml a link to a place outside"):
        check_out(origin(project), project, tmp_path / "again", run_code=True)


def test_a_commit_on_no_branch_is_used_and_its_danger_told(project, tmp_path):
    commit(project)
    kept = origin(project)
    git(project, "reset", "-q", "--hard", "HEAD^")
    assert "git tag" in commit_check(kept, project).says
    assert all(check.ok for check in check_out(kept, project, tmp_path / "again", run_code=True))


def test_what_differs_is_told(project, tmp_path):
    kept = origin(project)
    (kept.folder / "changes.patch").unlink()  # code and parameters are those of the commit
    found = {check.what: check for check in check_out(kept, project, tmp_path / "again")}
    assert "commit and changes alone would have given another" in found["params.yaml"].says
    assert found["parameters"].ok  # as registered
    assert not found["code"].ok
    assert found["run"].ok


def test_another_run_is_told(project, tmp_path):
    found = {
        check.what: check
        for check in check_out(origin(project, **{"run.key": "x"}), project, tmp_path / "again", run_code=True)
    }
    assert "seed: 1 d1, wanted x" in found["run"].says


def test_a_commit_that_is_gone_names_the_ways_out(project, tmp_path):
    parent = git(project, "rev-parse", "HEAD")
    known = {"git.remote": "https://example.org/x", "git.parent": parent}
    kept = origin(project, **{"git.commit": "f" * 40}, **known)
    with pytest.raises(PipelineError, match=rf"git fetch https://example.org/x.*--at {parent[:12]}"):
        check_out(kept, project, tmp_path / "again")
    found = {check.what: check.ok for check in check_out(kept, project, tmp_path / "again", at=parent)}
    assert found["parameters"]
    assert not found["code"]


def test_bad_places(project, tmp_path):
    kept = origin(project)
    with pytest.raises(ParamsError, match="is not empty"):
        check_out(kept, project, kept.folder)
    with pytest.raises(PipelineError, match="is not a git repository"):
        check_out(kept, tmp_path, tmp_path / "again")
    (kept.folder / "changes.patch").write_text("--- a/nowhere\n+++ b/nowhere\n@@ -1 +1 @@\n-x\n+y\n")
    with pytest.raises(PipelineError, match="git apply"):
        check_out(kept, project, tmp_path / "again")
    (kept.folder / "params.yaml").unlink()
    left_out = {"git.left_out": json.dumps({"params.yaml": "it seems to hold a password or a key"})}
    without = replace(kept, version=replace(kept.version, tags=kept.version.tags | left_out))
    with pytest.raises(TrackingError, match=r"params.yaml of version 1 was not kept, since it seems to hold"):
        check_out(without, project, tmp_path / "other")
    adopted = replace(kept, version=replace(kept.version, tags=kept.version.tags | {"training": "{}"}))
    with pytest.raises(TrackingError, match="trained elsewhere"):
        check_out(adopted, project, tmp_path / "other")


def test_results_are_not_taken_from_a_cache_that_the_project_names(project, tmp_path, monkeypatch):
    """Committed or in the person's own configuration, a cache elsewhere holds the run that is to be made again."""
    from dvc.repo import Repo

    stage = "stages:\n  make:\n    cmd: echo again >> ran && echo 1 > out\n    deps: [params.yaml]\n    outs: [out]\n"
    write(project, dvc_dot_yaml=stage, _dot_gitignore="/out\n/ran\n")
    Repo.init(str(project), no_scm=True).close()
    write(project, _dot_dvc__config=f"[cache]\n    dir = {tmp_path / 'shared'}\n[core]\n    no_scm = true\n")
    monkeypatch.chdir(project)
    Repo().reproduce()
    check_out(origin(project), project, tmp_path / "again")
    monkeypatch.chdir(tmp_path / "again")
    Repo().reproduce()
    assert (tmp_path / "again/ran").exists()


def test_weights_and_images_are_read(project, tmp_path):
    """A flipped bit is no `yes`, whatever the descriptions beside it say."""
    results = tmp_path / "results"
    model, data = saved_model(results / "train"), prepared_digits(results / "prepare")
    write(tmp_path, results__evaluate__metrics_dot_json=json.dumps({"bits_per_dim": {"total": 1.0}}))
    tags = {"model.digest": load_model(model).digest, "data.digest": read_manifest(data).digest}
    version = origin(project, **tags).version
    found = verified(version, tmp_path, Settings())
    assert [(check.what, check.ok) for check in found] == [("data", True), ("weights", True), ("evaluation", False)]
    assert found[-1].says == "no measurement of it is registered"
    (shard,) = data.glob("train-*.npy")
    for path, error in ((shard, DataError), (model / "model.safetensors", CheckpointError)):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(error, match="damaged"):
            verified(version, tmp_path, Settings())
        path.write_bytes(whole)


def test_the_environment_leads_nowhere_else(monkeypatch):
    for name in ("PIPELINES__STORAGE", "pipelines__tracking__uri", "Pipelines__Storage__Uri", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PIPELINES__RAY__WORKERS", "2")
    found = environment()
    assert not leading_elsewhere(found)
    assert found["PIPELINES__RAY__WORKERS"] == "2"


def test_the_raw_images_are_linked_where_they_are_the_same(project, tmp_path):
    from dvc.repo import Repo

    from pipelines.reproduction.here import raw_digest

    Repo.init(str(project), no_scm=True).close()
    write(project, images__one_dot_png="1", images__two_dot_png="2", _dot_gitignore="images\n")
    params = json.dumps({"seed": "1", "data.source": "folder", "data.path": "images"})
    kept = origin(project, params=params)
    lock = {"stages": {"prepare": {"deps": [{"path": "images", "md5": raw_digest(project, project / "images")}]}}}
    (kept.folder / "dvc.lock").write_text(json.dumps(lock))
    assert data_check(kept, project).ok
    check_out(kept, project, tmp_path / "again")
    assert (tmp_path / "again/images/one.png").read_text() == "1"
    write(project, images__two_dot_png="3")
    assert "images is not what it was" in data_check(kept, project).says


def test_what_was_registered_is_what_is_used(workplace, monkeypatch, capsys):
    """The files of a version's origin: verified, and told where they are gone."""
    commit(workplace.folder)
    (workplace.folder / "params.yaml").write_text((workplace.folder / "params.yaml").read_text() + "# mine\n")
    workplace.model(seed=1)
    register.main()
    store = connect(workplace.settings, "ddpm-digits")
    (version,) = versions(store, "ddpm-digits")
    with origin_of(version, workplace.settings) as found:
        assert b"+# mine" in found.patch
        assert sha256(found.patch).hexdigest() == version.tags["git.patch.sha256"]
        assert (found.folder / "params.yaml").read_text().endswith("# mine\n")
        assert "torch==" in "\n".join(found.environment)
        monkeypatch.setattr("pipelines.reproduction.here.checks", lambda *_: [])
        tell(found)
    assert "python -m pipelines.reproduce models:/ddpm-digits/1 --checkout FOLDER" in capsys.readouterr().out
    (patch,) = workplace.folder.rglob("changes.patch")
    patch.write_bytes(patch.read_bytes().replace(b"mine", b"evil"))
    with pytest.raises(
        TrackingError, match=r"changes.patch of ddpm-digits version 1 is not the file that was registered"
    ):
        origin_of(version, workplace.settings).__enter__()
    store.client.delete_run(version.run_id)
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(TrackingError, match="mlflow runs restore --run-id"):
        origin_of(version, workplace.settings).__enter__()
    assert store.client.get_experiment(store.experiment_id).lifecycle_stage == "deleted"  # it was only read

    def told_after(statement):
        with closing(sqlite3.connect(workplace.folder / ".state/mlflow/mlflow.db")) as database, database:
            database.execute(statement)
        with pytest.raises(TrackingError) as error:
            origin_of(version, workplace.settings).__enter__()
        return str(error.value)

    assert "could not be used: no such table: runs" in told_after("ALTER TABLE runs RENAME TO away")
    told_after("ALTER TABLE away RENAME TO runs")
    assert "is gone for good" in told_after("DELETE FROM runs")
