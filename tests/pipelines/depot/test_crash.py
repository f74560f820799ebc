"""Killed at any moment, a put or a fetch leaves nothing that looks whole; the next one ends it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from pipelines.depot.address import depot_at
from pipelines.depot.depot import object_name
from pipelines.depot.ref import Ref
from pipelines.depot.tree import tree_of
from pipelines.errors import DataError
from tests.pipelines.depot.raw import Raw

KILLED = '''
"""The call in one child after the other, each killed when it has passed on so many bytes."""
import os, signal, sys
from pathlib import Path

from pipelines.depot import ref as ref_module, s3, stream
from pipelines.depot.address import depot_at

s3.PART = 5 << 20
stream.CHUNK = 1 << 20
ref_module._AT_ONCE = 1
uri, folder, to, call = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
passed = stream.Hashed._passed


def kill_after(limit):
    def watched(hashed, content):
        nonlocal limit
        limit -= len(content)
        if limit < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return passed(hashed, content)

    stream.Hashed._passed = watched


for number in range(100):
    at = f"{uri}/{number:03d}"
    if call == "fetch":
        done = ref_module.put_folder(depot_at(at), folder)
    if os.fork() == 0:
        kill_after(number * (2 << 20))
        done.fetch(to / f"{number:03d}") if call == "fetch" else ref_module.put_folder(depot_at(at), folder)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    assert status in (0, -signal.SIGKILL), status
    print(number, flush=True)
    if status == 0:
        break
'''


@pytest.fixture(params=["local", "s3"])
def uri(request, tmp_path):
    return str(tmp_path / "depots") if request.param == "local" else request.getfixturevalue("s3")


@pytest.fixture
def folder(tmp_path):
    """Of two files that travel in parts."""
    (tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        (tmp_path / "folder" / name).write_bytes(name.encode() * (6 << 20))
    return tmp_path / "folder"


def killed(uri, folder, tmp_path, call):
    """How many were killed."""
    (tmp_path / "to").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(pipelines.__path__[0]).parent)}
    command = [sys.executable, "-c", KILLED, uri, str(folder), str(tmp_path / "to"), call]
    done = subprocess.run(command, check=True, env=environment, timeout=300, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1])


def test_a_put_that_is_killed(uri, folder, tmp_path):
    count, tree = killed(uri, folder, tmp_path, "put"), tree_of(folder)
    assert count >= 5, "the folder has six times as much as one step"
    for number in range(count):
        depot = depot_at(f"{uri}/{number:03d}")
        with pytest.raises(DataError, match="is missing: it was never put there whole"):
            Ref(depot.uri, tree.digest).tree()
        whole = {object_name(entry) for entry in tree.files.values() if depot.has(entry)}
        assert whole == {name for name in Raw(depot.uri).names() if not name.endswith(".tmp")}
    Ref(f"{uri}/{count:03d}", tree.digest).fetch(tmp_path / "back")
    assert tree_of(tmp_path / "back") == tree


def test_a_fetch_that_is_killed(uri, folder, tmp_path):
    count = killed(uri, folder, tmp_path, "fetch")
    assert count >= 5
    assert [path.name for path in (tmp_path / "to").iterdir() if path.name[0] != "."] == [f"{count:03d}"]
    assert tree_of(tmp_path / f"to/{count:03d}") == tree_of(folder)
