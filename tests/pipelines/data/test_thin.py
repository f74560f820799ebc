"""Images without their shards: read at once, each compared with its id, and from this machine once they are here."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pipelines
from pipelines.data import sharing, streamed
from pipelines.data.dataset import open_split
from pipelines.data.manifest import read_manifest, verify
from pipelines.data.sharing import make_thin, share_images, tree_of_images
from pipelines.data.thin import ORIGIN
from pipelines.depot import bring as bring_module
from pipelines.depot.address import depot_of
from pipelines.depot.bring import bring
from pipelines.depot.cache import is_being_brought
from pipelines.depot.depot import object_name
from pipelines.depot.ref import put_folder, put_tree
from pipelines.depot.tree import tree_of
from pipelines.errors import DataError
from pipelines.prepare import prepare
from pipelines.settings import Settings
from tests.pipelines.depot import conftest as depots
from tests.pipelines.stage_inputs import changed

cache, depot, local_depot, s3_depot, raw = (
    getattr(depots, name) for name in ("cache", "depot", "local_depot", "s3_depot", "raw")
)  # the fixtures


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Digits in shards of 100."""
    folder = tmp_path_factory.mktemp("whole")
    prepare(changed("prepare", shard_size=100), folder)
    return folder


@pytest.fixture
def origin(depot, whole):
    return put_tree(depot, whole, tree_of_images(whole))


@pytest.fixture
def thin(origin, whole, tmp_path):
    make_thin(whole, tmp_path / "thin", origin)
    return tmp_path / "thin"


@pytest.fixture
def alone(monkeypatch):
    """Nothing is brought here beside the reading."""
    monkeypatch.setattr(streamed, "bring", lambda ref: None)


@pytest.fixture
def parts(depot, monkeypatch):
    """The requests for parts, as (start, length)."""
    made, part = [], type(depot).part
    monkeypatch.setattr(type(depot), "part", lambda self, *asked: (made.append(asked[1:]), part(self, *asked))[1])
    return made


def wait_for(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_a_manifest_says_is_what_the_folder_holds(whole):
    tree = tree_of_images(whole)
    assert tree == tree_of(whole, tree.files)


def test_the_same_images(whole, thin, alone, parts):
    for name in ("train", "val", "test"):
        here, there = open_split(whole, name), open_split(thin, name)
        order = np.random.default_rng(0).permutation(len(here))
        assert (there.ids, there.levels, there.shape) == (here.ids, here.levels, here.shape)
        assert np.array_equal(there.read(order[:60]), here.read(order[:60]))
    parts.clear()
    wanted = np.array([99, 100, 101, 102, 7, 103, 5, 6])
    assert np.array_equal(there.read(wanted), here.read(wanted))
    assert sorted(length // 64 for _, length in parts) == [1, 1, 2, 4], "neighbours in a shard come together"


def test_a_damaged_image_is_refused_and_the_others_are_read(whole, thin, alone, parts, raw):
    here, there, shard = open_split(whole, "train"), open_split(thin, "train"), read_manifest(whole).shards[0]
    assert (shard.split, shard.count) == ("train", 100)
    name = object_name(shard.entry((1, 8, 8)))
    content = bytearray(raw.read(name))
    content[-64 * 40] ^= 1
    raw.write(name, bytes(content))
    with pytest.raises(
        DataError, match=rf"{shard.name} in .* is damaged: 1 of the 2 images from 59 on .* delete {name}"
    ):
        there.read([59, 60])
    assert len(parts) == 2, "tried twice"
    others = [row for row in range(200) if row != 60]
    assert np.array_equal(there.read(others), here.read(others))


def test_an_image_that_comes_damaged_once_is_read_again(whole, thin, alone, depot, monkeypatch):
    made, part = [], type(depot).part
    monkeypatch.setattr(
        type(depot), "part", lambda self, *asked: (made.append(1), part(self, *asked) if made[1:] else bytes(64))[1]
    )
    assert np.array_equal(open_split(thin, "train").read([5]), open_split(whole, "train").read([5]))
    assert len(made) == 2


def test_shards_are_brought_and_then_read_from_here(whole, thin, origin, parts, raw, cache):
    there, here = open_split(thin, "train"), open_split(whole, "train")
    assert np.array_equal(there.read([3, 500]), here.read([3, 500]))
    assert len(parts) == 2
    wait_for((cache / origin.digest).exists)
    parts.clear()
    for name in raw.names():
        raw.delete(name)
    everything = np.arange(len(here))
    assert np.array_equal(there.read(everything), here.read(everything))
    assert np.array_equal(open_split(thin, "train").read(everything), here.read(everything))
    assert parts == []


def test_a_shard_is_read_from_here_as_soon_as_it_is_there(whole, thin, origin, alone, parts, cache):
    part = cache / f"{origin.digest}.part"
    part.mkdir(parents=True)
    split = open_split(thin, "train")
    split.read([150])
    shutil.copy(whole / "train-00001.npy", part)
    parts.clear()
    assert np.array_equal(split.read([150]), open_split(whole, "train").read([150]))
    shutil.copy(whole / "train-00000.npy", thin)
    open_split(thin, "train").read([0])
    assert parts == []


def test_one_process_of_a_machine_brings_it(origin, cache, monkeypatch):
    begun = []
    no_process = SimpleNamespace(wait=lambda: 0, poll=lambda: 0, stdin=io.BytesIO())
    popen = lambda command, **_: (begun.append(command), no_process)[1]  # noqa: E731
    monkeypatch.setattr(bring_module, "subprocess", SimpleNamespace(Popen=popen, PIPE=None))
    code = "import sys; from pipelines.depot import cache; cache.in_cache(sys.argv[1], lambda _: sys.stdin.read())"
    environment = {**os.environ, "PYTHONPATH": str(Path(pipelines.__path__[0]).parent)}
    other = subprocess.Popen([sys.executable, "-c", code, origin.digest], env=environment, stdin=subprocess.PIPE)
    wait_for(lambda: is_being_brought(origin.digest))
    bring(origin)
    assert begun == []
    other.kill()
    other.communicate()
    bring(origin)
    assert [command[-2:] for command in begun] == [[origin.uri, origin.digest]]


ASKER = """
import sys, time
from pipelines.depot import bring
from pipelines.depot.ref import Ref

bring.bring(Ref(*sys.argv[1:]))
print(next(iter(bring._begun.values())).process.pid, flush=True)
time.sleep(600)
"""


def test_the_bringing_ends_with_its_asker(own_s3_server, whole, cache):
    ref = put_folder(depot_of(Settings(storage={"uri": "s3://runs"})), whole)
    own_s3_server.signal(signal.SIGSTOP)
    environment = {**os.environ, "PYTHONPATH": str(Path(pipelines.__path__[0]).parent)}
    command = [sys.executable, "-c", ASKER, ref.uri, ref.digest]
    asker = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    bringing = Path("/proc") / asker.stdout.readline().strip()
    wait_for(lambda: is_being_brought(ref.digest))
    asker.kill()
    asker.wait()
    asker.stdout.close()
    ended = lambda: not bringing.exists() or "State:\tZ" in (bringing / "status").read_text()  # noqa: E731
    wait_for(ended, seconds=10)  # by itself it would wait for the server for minutes
    assert not is_being_brought(ref.digest)


def test_verify(whole, thin, raw):
    assert verify(thin) == verify(whole)
    shard = read_manifest(whole).shards[3]
    raw.write(object_name(shard.entry((1, 8, 8))), b"short")
    with pytest.raises(DataError, match=f"{shard.name}: missing here and in "):
        verify(thin)
    shutil.copy(whole / shard.name, thin)
    assert verify(thin) == verify(whole)
    (thin / shard.name).write_bytes(b"short")
    with pytest.raises(DataError, match=f"{shard.name}: damaged"):
        verify(thin)


def test_a_damaged_word_on_where_they_are(thin):
    (thin / ORIGIN).write_text('{"uri": "s3://bucket"}')
    with pytest.raises(DataError, match="is damaged: it should name a depot's uri and a digest"):
        open_split(thin, "train")


CLUSTER = {"ray": {"address": "somewhere:6379"}}


def test_without_a_cluster_or_storage_nothing_is_copied(whole, tmp_path):
    for settings in (Settings(), Settings(**CLUSTER), Settings(storage={"uri": str(tmp_path / "storage")})):
        shared = share_images(whole, settings)
        assert (shared.here(), shared.ref) == (whole, None)
    assert not (tmp_path / "storage").exists()


@pytest.mark.parametrize("thin", [False, True])
def test_images_for_other_machines(whole, cache, tmp_path, monkeypatch, thin):
    settings = Settings(**CLUSTER, storage={"uri": str(tmp_path / "storage")})
    monkeypatch.setattr(sharing, "STREAMED", 1e3 if thin else 1e9)
    seen = shutil.copytree(whole, tmp_path / "seen")
    split = open_split(share_images(seen, settings), "test")
    sent = bytes(ForkingPickler.dumps(split))
    assert len(sent) < 3000
    assert ForkingPickler.loads(sent).folder.here() == seen, "where it is seen it is taken"
    assert not cache.exists()
    shutil.rmtree(seen)  # as on a machine that does not see it
    for _ in range(2):
        there = ForkingPickler.loads(sent)
        assert (there.folder.here() / ORIGIN).exists() == thin
        assert np.array_equal(there.read(np.arange(90)), open_split(whole, "test").read(np.arange(90)))
        shutil.copytree(whole, seen, dirs_exist_ok=True, copy_function=shutil.copyfile)
        os.utime(seen / "manifest.json")  # an older state of it
    again = share_images(there.folder.here(), settings)
    assert again.ref is not None
    assert again.ref.tree().files.keys() >= {"manifest.json", "images.parquet"}
