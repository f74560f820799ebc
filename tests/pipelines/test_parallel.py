"""Ray for the length of a block, and maps over its workers."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from pipelines.cluster.parallel import on_ray, ray_map, serial_map
from pipelines.cluster.session import ray_session
from pipelines.errors import DataError, TrainingError
from pipelines.project import workspace
from pipelines.settings import RaySettings, Settings

TWO = Settings(ray=RaySettings(workers=2, max_failures=1))


@pytest.fixture(scope="module")
def user_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def ray(user_home: Path) -> Iterator[ModuleType]:
    """One that was imported before, outside a session."""
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = True
    before = environment()
    with ray_session(TWO) as ray:
        yield ray
    assert not ray.is_initialized()
    assert environment() == before


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def test_the_session_is_private_and_bounded(ray: ModuleType) -> None:
    """Listening on the loopback address only, guarded by a token, with the object store of the settings."""
    there = ray.cluster_resources()
    assert {name for name in there if name.startswith("node:")} == {"node:__internal_head__", "node:127.0.0.1"}
    assert there["CPU"] >= 2
    assert there["object_store_memory"] == pytest.approx(256 * 2**20, rel=0.01)
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_nothing_is_written_into_the_users_home(ray: ModuleType, user_home: Path) -> None:
    assert list(user_home.iterdir()) == []


def test_workers_import_this_workspace_on_one_thread(ray: ModuleType) -> None:
    def seen(_: int) -> tuple[str, int, str]:
        import torch

        import pipelines

        return str(pipelines.__file__), torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]

    [(_, (file, threads, omp))] = ray_map(TWO, seen, [0])
    assert file == str(workspace() / "pipelines" / "__init__.py")
    assert (threads, omp) == (1, "1")


def test_a_task_computes_with_one_choice_of_kernels() -> None:
    """Also in this process, which has its own back after that."""

    def seen(_: object) -> tuple[object, ...]:
        mode, fill = torch.get_deterministic_debug_mode(), other.fill_uninitialized_memory
        return cudnn.deterministic, cudnn.benchmark, cudnn.conv.fp32_precision, mode, fill

    cudnn, other = torch.backends.cudnn, torch.utils.deterministic
    before = seen(None)
    assert list(serial_map(seen, [None])) == [(0, (True, False, "ieee", 2, False))]
    assert seen(None) == before == (False, False, "tf32", 0, True)


def test_a_session_within_a_session_uses_it(ray: ModuleType) -> None:
    with ray_session(TWO) as inner:
        assert inner is ray
    assert ray.is_initialized()


def test_results_come_in_order_although_tasks_end_in_another(ray: ModuleType, tmp_path: Path) -> None:
    seen = tmp_path / "the end of task 1 was seen"

    def task(item: int) -> int:
        while item == 0 and not seen.exists():
            time.sleep(0.01)
        return item * item

    done: list[int] = []

    def on_done(index: int) -> None:
        done.append(index)
        if index == 1:
            seen.touch()

    results = list(ray_map(TWO, task, range(6), on_done))
    assert results == [(i, i * i) for i in range(6)]
    assert sorted(done) == list(range(6))
    assert done.index(1) < done.index(0)


def test_items_are_taken_as_workers_become_free(ray: ModuleType) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = ray_map(TWO, abs, items())
    next(results)
    assert len(taken) <= 8
    results.close()


def test_arrays_travel_both_ways(ray: ModuleType) -> None:
    table = np.arange(100_000, dtype=np.float64)
    results = dict(ray_map(TWO, table.__getitem__, [slice(0, 3), slice(5, 6)]))
    assert results[0].tolist() == [0, 1, 2]
    assert results[1].tolist() == [5]


def test_an_error_keeps_its_type_and_message(ray: ModuleType) -> None:
    def fails(item: int) -> int:
        raise DataError(f"image {item} is broken")

    with pytest.raises(DataError, match=r"^image 7 is broken$"):
        list(ray_map(TWO, fails, [7]))


def test_a_worker_that_dies_is_replaced(ray: ModuleType, tmp_path: Path) -> None:
    def dies_once(item: int) -> int:
        mark = tmp_path / str(item)
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return item

    assert list(ray_map(TWO, dies_once, [3])) == [(0, 3)]


def test_a_worker_that_always_dies_is_an_error(ray: ModuleType) -> None:
    def dies(item: int) -> int:
        os._exit(1)

    with pytest.raises(TrainingError, match="the worker of task 0 died"):
        list(ray_map(Settings(ray=RaySettings(max_failures=0)), dies, [0]))


def test_a_gpu_that_is_not_there_is_an_error(ray: ModuleType) -> None:
    if ray.cluster_resources().get("GPU"):
        pytest.skip("there is a GPU")
    asked = Settings(ray=RaySettings(gpus_per_worker=1))
    with pytest.raises(TrainingError, match=r"each needs 1 CPU, 1 GPU .*, Ray has .* 0 GPU"):
        list(ray_map(asked, abs, [1]))


def test_nothing_to_do(ray: ModuleType) -> None:
    assert list(on_ray(TWO)(abs, [])) == []


def test_serial_map_is_the_same_without_ray() -> None:
    done: list[int] = []
    assert list(serial_map(abs, [-1, -2], done.append)) == [(0, 1), (1, 2)]
    assert done == [0, 1]


def test_serial_map_uses_one_thread() -> None:
    import torch

    before = torch.get_num_threads()
    assert list(serial_map(lambda _: torch.get_num_threads(), [0])) == [(0, 1)]
    assert torch.get_num_threads() == before


def _closed_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_a_machine_that_is_too_slow_for_ray_is_told_with_a_remedy() -> None:
    """The node's own wait, on a clock of 20 s a look; in a process of its own, with which what was started ends."""
    code = """
import itertools, time
from types import SimpleNamespace
from ray._private import node, services
from pipelines.cluster.session import ray_session
from pipelines.settings import Settings
from pipelines.stage import run

def not_yet(*_):
    raise RuntimeError("not yet")

def main():
    services.get_node = not_yet
    clock = itertools.count(0, 20)
    node.time = SimpleNamespace(**vars(time) | {"monotonic": lambda: next(clock)})
    with ray_session(Settings()):
        pass

run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=workspace(), capture_output=True, text=True)
    assert done.returncode == 1
    assert "The current node timed out during startup" in done.stderr
    assert "where the machine is overloaded, try again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:8265", "where a cluster takes jobs"),
        ("head", "must be HOST:6379"),
        ("head:port", "must be HOST:6379"),
        ("127.0.0.1:{port}", "does not answer: .*refused"),
        ("ray://127.0.0.1:{port}", "does not answer: .*refused"),
        ("[::1]:{port}", "does not answer"),
        ("localhost:{port}", "does not answer"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(address: str, message: str) -> None:
    address = address.format(port=_closed_port())  # closed now: at collection it would be minutes ago
    with (
        pytest.raises(TrainingError, match=message),
        ray_session(Settings(ray=RaySettings(address=address))),
    ):
        pass


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without one, with a home folder in which there may be one."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def reach(address: str, **settings: bool) -> None:
    with ray_session(Settings(ray=RaySettings(address=address, **settings))):
        pass


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://ada:hunter22@head:8265/", "ray.address is http://head:8265, where"),
        ("ada:hunter22@head:port", "got head:port"),
        ("ray://ada:h@n/ter22@localhost:{port}", "the Ray cluster at ray://localhost:"),
    ],
)
def test_a_password_in_an_address_is_not_shown(address: str, shown: str, no_token: Path) -> None:
    with pytest.raises(TrainingError, match=shown) as raised:
        reach(address.format(port=_closed_port()), insecure="localhost" in address)
    assert "ter22" not in str(raised.value)


@pytest.mark.parametrize("address", ["elsewhere.invalid:6379", "ray://elsewhere.invalid:10001"])
def test_a_cluster_elsewhere_is_joined_with_a_token_only(
    address: str, no_token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, asked = "no token is set: whoever reaches", "does not answer"
    with pytest.raises(TrainingError, match=refused):
        reach(address)
    with pytest.raises(TrainingError, match=asked):
        reach(address, insecure=True)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    with pytest.raises(TrainingError, match=refused):  # Ray would not show it
        reach(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(TrainingError, match=asked):
        reach(address)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    with pytest.raises(TrainingError, match=refused):
        reach(address)
    (no_token / ".ray").mkdir()
    (no_token / ".ray" / "auth_token").write_text("secret")
    with pytest.raises(TrainingError, match=asked):
        reach(address)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(no_token / "none"))
    with pytest.raises(TrainingError, match=refused):
        reach(address)
