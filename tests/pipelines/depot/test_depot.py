"""Files and folders go in and come out as they were, or with an error that names what is wrong."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.reduction import ForkingPickler
from threading import Barrier

import pytest

from pipelines.depot import s3 as s3_module
from pipelines.depot.address import depot_at, depot_of
from pipelines.depot.depot import object_name
from pipelines.depot.ref import Ref, put_folder
from pipelines.depot.tree import tree_of
from pipelines.errors import DataError, ParamsError, StoreError
from pipelines.project import state
from pipelines.runs.manifest import FileEntry
from pipelines.settings import Settings
from tests.conftest import SECRET
from tests.pipelines.depot.conftest import FILES

WEIGHTS = FileEntry.of(FILES["deep/er/weights.bin"])


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_back(depot, folder, tmp_path):
    ref = ForkingPickler.loads(bytes(ForkingPickler.dumps(put_folder(depot, folder))))
    assert ref == Ref(depot.uri, tree_of(folder).digest)
    ref.fetch(tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(ref.here()) == FILES
    with pytest.raises(DataError, match="is there already"):
        ref.fetch(tmp_path / "copy")
    some = put_folder(depot, folder, ["empty"])
    some.fetch(tmp_path / "some")
    assert contents(tmp_path / "some") == {"empty": b""}


def test_what_is_there_is_not_put_again(depot, folder, raw):
    put_folder(depot, folder)
    assert [name.partition("/")[0] for name in raw.names()] == ["notes"] + ["objects"] * 3, "equal files are one object"
    raw.write(object_name(WEIGHTS), bytes(WEIGHTS.size))
    (folder / "empty").write_bytes(b"other")
    put_folder(depot, folder)
    assert raw.read(object_name(WEIGHTS)) == bytes(WEIGHTS.size)
    assert depot.has(FileEntry.of(b"other"))
    raw.write(object_name(WEIGHTS), b"short")
    assert not depot.has(WEIGHTS)
    put_folder(depot, folder)
    assert raw.read(object_name(WEIGHTS)) == FILES["deep/er/weights.bin"]


def test_a_file_that_changes_is_not_stored(depot, folder, raw):
    for content in (b"shorter", bytes(WEIGHTS.size)):
        (folder / "deep/er/weights.bin").write_bytes(content)
        with pytest.raises(DataError, match=r"weights\.bin has changed"):
            depot.put(folder / "deep/er/weights.bin", WEIGHTS)
        assert raw.names() == []


def test_what_killed_processes_left_a_day_ago_goes(local_depot, folder):
    put_folder(local_depot, folder, ["empty"])
    [empty] = local_depot.folder.glob("objects/*/*")
    old, new = (empty.with_name(f".{name}.tmp") for name in ("old", "new"))
    for left in (old, new):
        left.write_bytes(b"")
    os.utime(old, (0, 0))
    empty.unlink()
    put_folder(local_depot, folder, ["empty"])
    assert sorted(empty.parent.iterdir()) == sorted([new, empty])


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:], "is damaged: it has 255744 bytes"),
        (lambda content: content[:-1], "is damaged: it has 255743 bytes"),
        (lambda content: content + b"x", "is damaged: it has 255745 bytes"),
        (None, "is missing"),
    ],
    ids=["flipped", "short", "long", "missing"],
)
def test_what_is_damaged_never_appears(depot, folder, raw, tmp_path, cache, damage, match):
    ref, name = put_folder(depot, folder), object_name(WEIGHTS)
    (tmp_path / "to").mkdir()
    for call in (lambda: depot.fetch(WEIGHTS, tmp_path / "to/file"), lambda: ref.fetch(tmp_path / "to/copy"), ref.here):
        if damage:
            raw.write(name, damage(FILES["deep/er/weights.bin"]))
        elif name in raw.names():
            raw.delete(name)
        with pytest.raises(DataError, match=rf"{name} {match}"):
            call()
    assert list((tmp_path / "to").iterdir()) == []
    assert not (cache / ref.digest).exists()


def test_what_is_damaged_is_discarded_so_that_it_can_be_put_anew(depot, folder, raw, tmp_path):
    ref, name = put_folder(depot, folder), object_name(WEIGHTS)
    raw.write(name, bytes(WEIGHTS.size))
    with pytest.raises(DataError, match="is damaged"):
        ref.fetch(tmp_path / "copy")
    assert name not in raw.names()
    depot.discard(WEIGHTS)
    assert put_folder(depot, folder) == ref
    ref.fetch(tmp_path / "copy")
    assert (tmp_path / "copy/deep/er/weights.bin").read_bytes() == FILES["deep/er/weights.bin"]


def test_a_damaged_or_missing_manifest_of_a_folder_is_found(depot, folder, raw):
    ref = put_folder(depot, folder)
    name = f"notes/trees/{ref.digest}.json"
    raw.write(name, raw.read(name).replace(b"twice", b"tWice"))
    with pytest.raises(DataError, match="is damaged: its manifest has another SHA-256"):
        ref.here()
    raw.delete(name)
    with pytest.raises(DataError, match="is missing"):
        ref.here()


def test_a_part_of_a_file(depot, folder, raw):
    put_folder(depot, folder)
    assert depot.part(WEIGHTS, 300, 20) == FILES["deep/er/weights.bin"][300:320]
    with pytest.raises(DataError, match=f"{object_name(WEIGHTS)} is damaged: it has 4 bytes from 255740 on"):
        depot.part(WEIGHTS, 255740, 5)
    with pytest.raises(DataError, match=f"{object_name(WEIGHTS)} is damaged: it has 0 bytes from 300000 on"):
        depot.part(WEIGHTS, 300000, 5)
    raw.delete(object_name(WEIGHTS))
    with pytest.raises(DataError, match=f"{object_name(WEIGHTS)} is missing"):
        depot.part(WEIGHTS, 0, 5)


def test_notes(depot):
    assert depot.noted("jobs/1/spec.json") is None
    assert depot.notes("") == []
    assert depot.note("jobs/1/spec.json", b"a", new=True)
    assert not depot.note("jobs/1/spec.json", b"b", new=True)
    assert depot.noted("jobs/1/spec.json") == b"a"
    assert depot.note("jobs/1/spec.json", b"c")
    depot.note("jobs/10/spec.json", b"d")
    depot.note("other", b"e")
    assert depot.noted("jobs/1/spec.json") == b"c"
    assert depot.notes("jobs/") == ["jobs/1/spec.json", "jobs/10/spec.json"]
    assert depot.notes("jobs/1/") == ["jobs/1/spec.json"]
    with pytest.raises(DataError, match="is no name of a file"):
        depot.note("../objects/ab/abc", b"")


def test_notes_are_looked_for_where_their_prefix_is(local_depot, monkeypatch):
    for name in ("trees/one.json", "jobs/train-1/request.json", "jobs/train-2/request.json", "jobs/sample-1/a"):
        local_depot.note(name, b"{}")
    looked = []

    def listen(real, path):
        looked.append(str(path).partition("/notes/")[2])
        return real(path)

    for call in ("listdir", "scandir"):
        monkeypatch.setattr(os, call, partial(listen, getattr(os, call)))
    assert local_depot.notes("jobs/train-") == ["jobs/train-1/request.json", "jobs/train-2/request.json"]
    assert sorted(set(looked)) == ["jobs", "jobs/train-1", "jobs/train-2"]
    assert local_depot.notes("jobs/nobody/") == local_depot.notes("trees/one.json/") == []


@pytest.mark.parametrize("new", [False, True])
def test_a_note_is_on_the_disk_before_its_name_is(local_depot, monkeypatch, new):
    """A name that stands for nothing would be taken for ever."""
    path, synced = local_depot.folder / "notes/jobs/1", []

    def listen(descriptor, real=os.fsync):
        synced.append((os.fstat(descriptor).st_ino, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", listen)
    local_depot.note("jobs/1", b"a", new=new)
    assert (path.stat().st_ino, False) in synced
    assert synced[-1] == (path.parent.stat().st_ino, True)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "no disk")))
    with pytest.raises(StoreError, match="could not be written: no disk"):
        local_depot.note("jobs/2", b"a", new=new)
    assert local_depot.notes("jobs/") == ["jobs/1"]


def test_of_several_that_ask_for_a_new_note_one_writes_it(depot):
    depot.note("other", b"")
    for turn in range(20):
        at_once = Barrier(8)

        def ask(number, turn=turn, at_once=at_once):
            at_once.wait()
            return depot.note(f"jobs/{turn}", b"%d" % number, new=True)

        with ThreadPoolExecutor(8) as pool:
            wrote = list(pool.map(ask, range(8)))
        assert sum(wrote) == 1
        assert depot.noted(f"jobs/{turn}") == b"%d" % wrote.index(True)


def test_large_files_travel_in_parts(s3_depot, tmp_path, monkeypatch):
    monkeypatch.setattr(s3_module, "PART", 5 << 20)
    content = bytes(range(251)) * 50_000
    (tmp_path / "large").write_bytes(content)
    entry, made = FileEntry.of(content), []
    events = s3_module.client().meta.events
    hear = lambda model, **_: made.append(model.name)  # noqa: E731
    events.register("before-call.s3", hear)
    s3_depot.put(tmp_path / "large", entry)
    s3_depot.fetch(entry, tmp_path / "back")
    events.unregister("before-call.s3", hear)
    assert (tmp_path / "back").read_bytes() == content
    assert (made.count("UploadPart"), made.count("GetObject")) == (3, 3)


def test_addresses(tmp_path):
    assert depot_at("s3://bucket/some/depot/").uri == "s3://bucket/some/depot"
    assert depot_at(str(tmp_path)).uri == str(tmp_path)
    assert depot_of(Settings(storage={"uri": "s3://bucket/runs"})).uri == "s3://bucket/runs/depot"
    assert depot_of(Settings(storage={"uri": str(tmp_path)})).uri == str(tmp_path / "depot")
    assert depot_of(Settings()).uri == str(state() / "runs" / "depot")
    with pytest.raises(ParamsError, match="must be s3://bucket/prefix and nothing else") as caught:
        depot_at(f"s3://me:{SECRET}@bucket/runs")
    assert SECRET not in str(caught.value)
