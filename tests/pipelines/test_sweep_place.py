"""The copies that a sweep's trials run in: found again while nothing differs, and never of an earlier state."""

import fcntl
import json
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from pipelines.params import load_params
from pipelines.settings import Settings, TrackingSettings
from pipelines.sweep import forget_lost
from pipelines.sweeping.place import Outcome, Place, places_of
from pipelines.sweeping.space import Trial
from pipelines.tracking.store import connect
from tests.pipelines.repository import commit, write

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    write(folder, dvc_dot_yaml="stages: {}\n", infra__cluster_dot_yaml="storage: {uri: s3://wrong}\n")
    write(folder, images__one_dot_png="1", diffusion__a_dot_py="a = 1\n", pipelines__b_dot_py="b = 1\n")
    write(folder, _dot_gitignore="/images\n")
    shutil.copy2(ROOT / "params.yaml", folder)
    Repo.init(str(folder), no_scm=True).close()
    commit(folder)
    monkeypatch.setattr("pipelines.sweeping.place.workspace", lambda: folder)
    return folder


def trial(seed=1):
    changes = [f"seed={seed}", "data.source=folder", "data.path=images"]
    return Trial({"seed": seed, "data.source": "folder", "data.path": "images"}, load_params(changes=changes))


def places(*seeds, uri=None):
    return places_of([trial(seed) for seed in seeds], Path("sweep"), Settings(tracking=TrackingSettings(uri=uri)))


def test_a_trial_is_found_again_only_while_all_that_it_depends_on_is_the_same(project):
    first, second = places(1, 2)
    assert first != second
    write(project, infra__cluster_dot_yaml="ray: {workers: 2}\n", README_dot_md="new\n")
    assert places(1) == [first]
    assert places(1, uri="http://localhost:5000") != [first]
    for name, content in (("images/two.png", "2"), ("dvc.yaml", "stages:\n"), ("diffusion/a.py", "a = 2\n")):
        before = places(1)
        (project / name).write_text(content)
        assert places(1) != before, name


def test_an_unfinished_copy_gets_what_was_changed_since_then(project, tmp_path):
    place = Place(tmp_path / "trial")
    place.prepare(trial(), project, "cache")
    (place.project / "results").mkdir()
    write(project, infra__cluster_dot_yaml="storage: {uri: s3://right}\n")
    with place.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as what still stops there does
        place.prepare(trial(), project, "cache")
        assert "wrong" in (place.project / "infra/cluster.yaml").read_text()
    commit(project)
    place.prepare(trial(), project, "cache")
    assert "right" in (place.project / "infra/cluster.yaml").read_text()
    assert (place.project / "images/one.png").read_text() == "1"
    assert "seed: 1" in (place.project / "params.yaml").read_text()


@pytest.mark.filterwarnings("ignore")
def test_a_trial_whose_version_was_deleted_is_not_finished(workplace, tmp_path):
    store = connect(workplace.settings, "m")
    store.client.create_registered_model("m")
    for _ in range(2):
        store.client.create_model_version("m", f"{store.uri}/somewhere")
    trials = [Place(tmp_path / name) for name in ("kept", "lost", "elsewhere", "never")]
    for place, name, version in zip(trials, ("m", "m", "emptied"), (1, 2, 1), strict=False):
        write(place.project, results__register__receipt_dot_json=json.dumps({"name": name, "version": version}))
        place.finish()
    store.client.delete_model_version("m", "2")
    forget_lost(trials, workplace.settings)
    assert [place.outcome for place in trials] == [Outcome("m", 1), None, None, None]
