"""What of a depot is taken away, and what of it something still leads to."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.data.thin import write_origin
from pipelines.depot.depot import Depot
from pipelines.depot.local import LocalDepot
from pipelines.depot.ref import Ref, put_folder
from pipelines.depot.s3 import S3Depot
from pipelines.errors import DataError
from pipelines.remote import prune as module
from pipelines.remote.names import Name
from pipelines.remote.prune import prune, unneeded
from pipelines.remote.request import Answer, Request, answer_note, request_note

DAYS, DAY_S = 30, 24 * 3600
FIRST, SECOND = Name("train-" + "0" * 16, 1), Name("train-" + "0" * 16, 2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINES_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["local", "s3"])
def depot(request: pytest.FixtureRequest, tmp_path: Path) -> Depot:
    if request.param == "local":
        return LocalDepot(tmp_path / "depot")
    return S3Depot(f"{request.getfixturevalue('s3')}/depot")


@pytest.fixture
def local(tmp_path: Path) -> LocalDepot:
    return LocalDepot(tmp_path / "depot")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was put is old."""
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: time.time() + 2 * DAYS * DAY_S))


def put(depot: Depot, folder: Path, **files: str) -> Ref:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return put_folder(depot, folder)


def ask(depot: Depot, name: Name, code: Ref, answer: Answer | None = None) -> None:
    request = Request("train", "0" * 16, {}, code, {"results/prepare": code}, {}, {}, 60, source="", place="here")
    depot.note(request_note(str(name)), request.encode(), new=True)
    if answer:
        depot.note(answer_note(str(name)), answer.encode())


def age(depot: LocalDepot, *, but: str = "") -> None:
    """All of it is as old as if it were put long ago, but for what has this in its name."""
    for path in depot.folder.rglob("*"):
        if path.is_file() and not (but and but in str(path)):
            os.utime(path, (0, 0))


def test_nothing_that_is_young(depot: Depot, tmp_path: Path) -> None:
    put(depot, tmp_path / "a", file="a")
    assert not unneeded(depot, DAYS)


@pytest.mark.usefixtures("later")
def test_what_is_old_goes_and_can_be_put_again(depot: Depot, tmp_path: Path) -> None:
    ref = put(depot, tmp_path / "a", one="a", two="b", three="b")
    ask(depot, FIRST, ref)
    ask(depot, SECOND, ref)
    these = unneeded(depot, DAYS)
    assert (these.jobs, len(these.folders), len(these.files), these.size) == ((FIRST,), 1, 2, 2)
    prune(depot, these)
    assert depot.notes("jobs/") == [request_note(str(SECOND))], "its number is not to be given twice"
    assert not depot.stored("objects/")
    with pytest.raises(DataError, match="is missing"):
        ref.tree()
    put_folder(depot, tmp_path / "a")
    ref.fetch(tmp_path / "copy")


@pytest.mark.usefixtures("later")
def test_what_a_job_at_work_reads_stays(depot: Depot, tmp_path: Path) -> None:
    ask(depot, FIRST, put(depot, tmp_path / "a", file="a"))
    put(depot, tmp_path / "b", file="b")
    these = unneeded(depot, DAYS, at_work={str(FIRST)})
    assert (these.jobs, len(these.folders), these.size) == ((), 1, 1)
    prune(depot, these)
    assert len(depot.stored("objects/")) == 1


def test_what_a_young_answer_names_stays_as_do_young_folders(local: LocalDepot, tmp_path: Path) -> None:
    outputs, kept, folder = (put(local, tmp_path / name, file=name) for name in ("outputs", "kept", "folder"))
    put(local, tmp_path / "old", file="old")
    ask(local, FIRST, outputs, Answer(0, "done", outputs, kept))
    age(local, but="answer.json")
    os.utime(local.folder / f"notes/trees/{folder.digest}.json")
    prune(local, unneeded(local, DAYS))
    for ref in (outputs, kept, folder):
        ref.fetch(tmp_path / f"copy of {ref.digest}")
    assert len(local.stored("objects/")) == 3


def test_files_of_a_folder_that_is_just_being_put_stay(local: LocalDepot, tmp_path: Path) -> None:
    ref = put(local, tmp_path / "a", file="a")
    local.remove(f"notes/trees/{ref.digest}.json")  # it is put last
    assert not unneeded(local, DAYS)


def test_shards_of_a_thin_folder_stay(local: LocalDepot, tmp_path: Path) -> None:
    whole = put(local, tmp_path / "whole", shard="images")
    (tmp_path / "thin").mkdir()
    write_origin(tmp_path / "thin", whole)
    thin = put_folder(local, tmp_path / "thin")
    age(local, but=thin.digest)
    prune(local, unneeded(local, DAYS))
    whole.fetch(tmp_path / "copy")


def test_what_is_damaged_keeps_nothing_and_stops_nothing(local: LocalDepot, tmp_path: Path) -> None:
    ref = put(local, tmp_path / "a", file="a")
    ask(local, FIRST, replace(ref, digest="0" * 64))
    local.note(answer_note(str(FIRST)), b"{")
    local.note("trees/" + "1" * 64 + ".json", b"{")
    for path in local.folder.glob("objects/*/*"):
        os.utime(path, (0, 0))
    os.utime(local.folder / f"notes/trees/{ref.digest}.json", (0, 0))
    these = unneeded(local, DAYS)
    assert (len(these.folders), len(these.files)) == (1, 1)
