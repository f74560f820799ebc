"""A version made with changes that nobody committed, checked out elsewhere, made again there: the same bits."""

import json

import pytest

from tests.end_to_end.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def registered(tiny: Project) -> Project:
    """Run with another seed than the committed one, and with a function that git does not know yet."""
    tiny.set(seed="7")
    (tiny.folder / "pipelines/extra.py").write_text('"""New."""\n')
    (tiny.folder / ".env").write_text("PASSWORD=do-not-keep-me\n")
    tiny.run("dvc", "repro")
    return tiny


def test_what_is_told_of_it(registered: Project):
    text = registered.python("-m", "pipelines.reproduce", "models:/ddpm-digits@champion").text
    assert "with changes" in text
    assert ".env (by its name it may hold a secret)" in text
    assert "do-not-keep-me" not in text
    assert "yes commit" in text


def test_a_checkout_gives_the_same_bits(registered: Project, tmp_path):
    again = Project(tmp_path / "again")
    checkout = ("-m", "pipelines.reproduce", "1", "--checkout")
    text = registered.python(*checkout, str(tmp_path / "read"), status=1).text
    assert "pipelines/extra.py" in text.split("Nothing of it was run")[0]
    text = registered.python(*checkout, str(again.folder), "--run-code").text
    assert "the same bits" in text, text
    assert (again.folder / "params.yaml").read_bytes() == (registered.folder / "params.yaml").read_bytes()
    assert (again.folder / "pipelines/extra.py").exists()
    assert not (again.folder / ".env").exists()

    with pytest.raises(AssertionError, match="run `dvc repro`"):
        registered.python("-m", "pipelines.reproduce", "1", "--verify", str(again.folder))
    state = _listing(registered.folder / ".state")
    output = again.run("dvc", "repro")
    assert "nothing to train" not in output.text  # really trained
    assert _listing(registered.folder / ".state") == state
    text = registered.python("-m", "pipelines.reproduce", "1", "--verify", str(again.folder)).text
    assert "NO" not in text

    path = again.folder / "results/evaluate/metrics.json"
    content = json.loads(path.read_text())
    content["bits_per_dim"]["total"] += 1e-9
    path.write_text(json.dumps(content))
    text = registered.python("-m", "pipelines.reproduce", "1", "--verify", str(again.folder), status=1).text
    assert "NO  evaluation   differs: bits_per_dim.total" in text


def test_an_experiment_in_a_temporary_copy_is_its_parent_commit_with_a_change(registered: Project, tmp_path):
    registered.run("dvc", "exp", "run", "--temp", "-S", "train.steps=25", "-S", "register.name=ddpm-temp")
    folder = tmp_path / "again"
    text = registered.python(
        "-m", "pipelines.reproduce", "models:/ddpm-temp/1", "--checkout", str(folder), "--run-code"
    ).text
    assert "the same bits" in text, text
    assert "steps: 25" in (folder / "params.yaml").read_text()


def _listing(folder):
    """Files with their times: what a run there would change."""
    found = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    return {
        path: time
        for path, time in found.items()
        if path.suffix not in (".lock", ".db") and "registry" not in path.parts
    }
