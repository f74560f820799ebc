"""A server that is away or breaks off, a disk that refuses: an error in bounded time that tells no secret."""

import resource
import signal
import time

import pytest

from pipelines.depot.depot import object_name
from pipelines.depot.local import LocalDepot
from pipelines.depot.ref import put_folder
from pipelines.depot.s3 import S3Depot
from pipelines.errors import StoreError
from pipelines.runs import s3_client
from pipelines.runs.manifest import FileEntry
from pipelines.runs.s3_client import Patience
from tests.conftest import SECRET
from tests.pipelines.depot.conftest import FILES
from tests.pipelines.runs.proxy import proxy

WEIGHTS = FileEntry.of(FILES["deep/er/weights.bin"])


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(s3_client, "PATIENCE", Patience(connect_s=1, read_s=1, attempts=2))


def everything(depot, folder, tmp_path):
    """Each thing that is asked of a depot, by name."""
    ref = put_folder(depot, folder)
    other = FileEntry.of(b"another")
    (tmp_path / "other").write_bytes(b"another")
    return {
        "has": lambda: depot.has(WEIGHTS),
        "put": lambda: depot.put(tmp_path / "other", other),
        "fetch": lambda: depot.fetch(WEIGHTS, tmp_path / "to"),
        "part": lambda: depot.part(WEIGHTS, 0, 9),
        "note": lambda: depot.note("name", b""),
        "new note": lambda: depot.note("name", b"", new=True),
        "noted": lambda: depot.noted("name"),
        "notes": lambda: depot.notes(""),
        "stored": lambda: depot.stored("objects/"),
        "remove": lambda: depot.remove("objects/none"),
        "here": ref.here,
    }


def test_a_server_that_is_down(own_s3_server, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(s3_client, "PATIENCE", Patience(connect_s=1, read_s=1, attempts=1))
    calls = everything(S3Depot("s3://runs/depot"), folder, tmp_path)
    own_s3_server.signal(signal.SIGKILL)
    own_s3_server.process.wait()
    match = rf"S3 at {own_s3_server.url} did not answer in time or broke off \(\w+\)\. Check AWS_ENDPOINT_URL"
    for name, call in calls.items():
        began = time.monotonic()
        with pytest.raises(StoreError, match=match) as caught:
            call()
        assert time.monotonic() - began < 10, name
        assert SECRET not in str(caught.value)
        assert str(caught.value).startswith("s3://runs/depot/")
        assert caught.value.__suppress_context__, "boto's own words may hold more than ours"


def test_answers_that_break_off_are_read_again(s3_depot, s3_server, folder, tmp_path, monkeypatch):
    put_folder(s3_depot, folder)
    cut = []

    def judge(method, path):
        if method == "GET" and object_name(WEIGHTS) in path:
            cut.append("cut" if len(cut) % 3 < 2 else None)
            return cut[-1]
        return None

    with proxy(s3_server.port, judge) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert s3_depot.part(WEIGHTS, 5, 9000) == FILES["deep/er/weights.bin"][5:9005]
        s3_depot.fetch(WEIGHTS, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == FILES["deep/er/weights.bin"]
    assert cut == ["cut", "cut", None] * 2


def test_answers_that_always_break_off_are_no_damage(s3_depot, s3_server, folder, tmp_path, monkeypatch):
    put_folder(s3_depot, folder)
    with proxy(s3_server.port, lambda method, path: "cut" if method == "GET" else None) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        for call in (lambda: s3_depot.part(WEIGHTS, 0, 9), lambda: s3_depot.fetch(WEIGHTS, tmp_path / "back")):
            with pytest.raises(StoreError, match=f"{object_name(WEIGHTS)} could not be .* in time or broke off"):
                call()
    assert not (tmp_path / "back").exists()


def test_a_new_note_whose_answer_is_lost_is_ours(s3_depot, s3_server, monkeypatch):
    lost = []

    def judge(method, path):
        if method == "PUT" and not lost:
            lost.append(path)
            return "lose"
        return None

    with proxy(s3_server.port, judge) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert s3_depot.note("jobs/1", b"same", new=True)
        assert not s3_depot.note("jobs/1", b"same", new=True)
    assert lost


def test_a_disk_that_refuses(local_depot, folder, tmp_path):
    ref = put_folder(local_depot, folder)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"could not be copied to .*: Not a directory"):
        local_depot.fetch(WEIGHTS, tmp_path / "file/to")
    with pytest.raises(StoreError, match=r"file/\.copy\.\w+\.tmp could not be"):
        ref.fetch(tmp_path / "file/copy")
    with pytest.raises(StoreError, match="could not be written: File exists"):
        LocalDepot(tmp_path / "file").note("name", b"")


def test_a_disk_without_room(depot, folder, tmp_path):
    """The system refuses more than 100 kB in a file, as it would where the disk is full."""
    put_folder(depot, folder)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"could not be copied to .*: File too large"):
            depot.fetch(WEIGHTS, tmp_path / "to")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir() if "to" in path.name] == []
