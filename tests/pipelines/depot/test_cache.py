"""A machine's cache: brought once, by one process; kept while it is used; nobody else's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pipelines
from pipelines.depot import cache as cache_module
from pipelines.depot.cache import cache_folder
from pipelines.depot.ref import put_folder
from pipelines.errors import DataError

HERE = """
import os, sys, time
from pathlib import Path
from pipelines.depot import local
from pipelines.depot.ref import Ref

uri, digest, log, wait_s = sys.argv[1:]
fetch = local.LocalDepot.fetch
def slow(depot, entry, target):
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(float(wait_s))
    fetch(depot, entry, target)
local.LocalDepot.fetch = slow
print(Ref(uri, digest).here(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ref(local_depot, folder):
    return put_folder(local_depot, folder)


@pytest.fixture
def elsewhere(ref, tmp_path):
    """Processes that use the folder until they are ended."""
    running = []

    def start(wait_s: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HERE, ref.uri, ref.digest, str(tmp_path / "log"), str(wait_s)]
        environment = {**os.environ, "PYTHONPATH": str(Path(pipelines.__path__[0]).parent)}
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def fetches(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().split() if (tmp_path / "log").exists() else []


def wait_for(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_two_processes_bring_it_once(ref, elsewhere, tmp_path, cache):
    both = [elsewhere(0.3), elsewhere(0.3)]
    assert {process.stdout.readline().strip() for process in both} == {str(cache / ref.digest)}
    assert len(fetches(tmp_path)) == 4, "each of the files once"
    assert len(set(fetches(tmp_path))) == 1, "by one of the processes"


def test_who_is_killed_while_bringing_it_leaves_no_folder(ref, elsewhere, tmp_path, cache):
    first = elsewhere(60)
    wait_for(lambda: len(fetches(tmp_path)) == 4)
    second = elsewhere(0)
    time.sleep(0.2)
    assert not (cache / ref.digest).exists()
    first.send_signal(signal.SIGKILL)
    assert second.stdout.readline().strip() == str(cache / ref.digest)
    assert fetches(tmp_path)[4:] == [str(second.pid)] * 4
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [ref.digest]


def test_what_was_brought_before_a_kill_is_not_brought_again(ref, folder, cache, monkeypatch):
    brought = []
    fetch = type(ref.depot).fetch
    monkeypatch.setattr(
        type(ref.depot), "fetch", lambda depot, entry, to: (brought.append(to.name), fetch(depot, entry, to))
    )
    ref.fill(cache / f"{ref.digest}.part")
    (cache / f"{ref.digest}.part/empty").unlink()
    brought.clear()
    ref.here()
    assert brought == ["empty"]


def make_old(cache: Path) -> None:
    long_ago = time.time() - 15 * 24 * 3600
    for lock in cache.glob("*.lock"):
        os.utime(lock, (long_ago, long_ago))


def test_what_was_not_used_for_long_goes_unless_it_is_in_use(ref, local_depot, folder, elsewhere, cache):
    user = elsewhere(0)
    user.stdout.readline()
    others = [put_folder(local_depot, folder, [name]) for name in ("empty", "model.json", "twice")]
    others[0].here()
    make_old(cache)
    others[1].here()
    assert (cache / ref.digest).exists(), "another process uses it"
    assert (cache / others[0].digest).exists(), "this process uses it"
    user.kill()
    user.wait()
    (cache / f"{ref.digest}.part").mkdir()
    others[2].here()
    assert not list(cache.glob(f"{ref.digest}*[!k]")), "the folder and what was begun of it"
    assert (cache / others[0].digest).exists()
    assert ref.here() == cache / ref.digest, "and can be brought again"


def test_a_use_makes_it_young(ref, local_depot, folder, elsewhere, cache):
    for _ in range(2):
        user = elsewhere(0)
        user.stdout.readline()
        user.kill()
        user.wait()
    make_old(cache)
    user = elsewhere(0)
    user.stdout.readline()
    user.kill()
    user.wait()
    put_folder(local_depot, folder, ["empty"]).here()
    assert (cache / ref.digest).exists()


def test_the_users_own_folder_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.delenv("PIPELINES_CACHE")
    monkeypatch.setattr(cache_module.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = cache_folder()
    assert folder == tmp_path / f"pipelines-{os.geteuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o770)
    with pytest.raises(DataError, match="is not a folder of this user's own with mode 700"):
        cache_folder()
    folder.chmod(0o700)
    folder.rename(tmp_path / "another")
    folder.symlink_to(tmp_path / "another")
    with pytest.raises(DataError, match="is not a folder of this user's own with mode 700"):
        cache_folder()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_users_own_folder_is_not_somebody_elses(tmp_path, monkeypatch):
    monkeypatch.delenv("PIPELINES_CACHE")
    monkeypatch.setattr(cache_module.tempfile, "gettempdir", lambda: str(tmp_path))
    os.chown(cache_folder(), 12345, -1)
    with pytest.raises(DataError, match="is not a folder of this user's own with mode 700"):
        cache_folder()
