"""Spools of another machine, taken in here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.errors import DataError
from pipelines.tracking.lines import encode
from pipelines.tracking.received import take_in
from pipelines.tracking.spool import Spool, spool_folder

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


def elsewhere(spool: Spool, folder: Path) -> Path:
    """The spool as another machine has it, which is not here any more."""
    spool.close()
    shutil.copytree(spool_folder(), folder)
    shutil.rmtree(spool_folder())
    return folder


def there(spool: Spool) -> list[dict[str, object]]:
    return [event for event in spool.events() if "run" not in event]


def test_all_of_it_is_here_once_with_the_times_it_was_told_at(spool: Spool, tmp_path: Path) -> None:
    spool.metrics(1, {"loss": 0.5})
    spool.tags({"workers": "2"})
    (tmp_path / "curve.png").write_bytes(b"a picture")
    spool.artifact(tmp_path / "curve.png")
    spool.end("FINISHED")
    identity, told, began = spool.identity, there(spool), next(iter(spool.events()))["time"]
    folder = elsewhere(spool, tmp_path / "there")
    take_in(folder)
    here = Spool.open(identity)
    assert there(here) == told
    assert here.identity == identity
    assert here.began_ms == began
    assert (here.files / "curve.png").read_bytes() == b"a picture"
    here.close()
    take_in(folder)
    again = Spool.open(identity)
    assert [event for event in there(again) if "metric" in event] == [event for event in told if "metric" in event]
    again.close()


def test_what_is_known_here_stays_and_what_is_new_comes_after(spool: Spool, tmp_path: Path) -> None:
    identity = spool.identity if spool.path.exists() else None
    spool.metrics(1, {"loss": 0.5})
    spool.metrics(2, {"loss": 0.4})
    identity = identity or spool.identity
    folder = elsewhere(spool, tmp_path / "there")
    here = Spool.open(identity)
    here.metrics(1, {"loss": 0.7})
    here.close()
    take_in(folder)
    after = Spool.open(identity)
    values = [(event["step"], event["value"]) for event in there(after) if "metric" in event]
    assert values == [(1, 0.7), (2, 0.4)]
    after.close()


def test_a_spool_whose_beginning_is_damaged_is_left_out(spool: Spool, tmp_path: Path) -> None:
    spool.metrics(1, {"loss": 0.5})
    folder = elsewhere(spool, tmp_path / "there")
    (path,) = folder.glob("*.jsonl")
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(first.replace(b"train", b"brain") + b"\n" + rest)
    take_in(folder)
    assert not list(spool_folder().glob("*.jsonl"))


@pytest.mark.parametrize(
    ("stage", "artifact"), [("../../train", "a.png"), ("/tmp/train", "a.png"), ("train", "/etc/hostname")]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, stage: str, artifact: str) -> None:
    run = {"experiment": "e", "pipeline": "p", "stage": stage, "key": "k", "params": {}, "tags": {}}
    lines = [encode({"run": run, "time": 1}), encode({"artifact": artifact})]
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(DataError, match="is no name of a file below a folder"):
        take_in(tmp_path / "there")
    assert not list(spool_folder().rglob("hostname"))
