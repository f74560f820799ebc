"""A Ray for the length of a block: started on this machine, or the running cluster that the settings name.

A bare `ray.init()` would join any cluster it finds on the machine, listen on all network interfaces and write a token
under the user's home. Here a started Ray listens on 127.0.0.1, accepts only a token that lives in this process and its
children, and ends with the block.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from pipelines.cluster.code import runtime_environment, write_package
from pipelines.cluster.knock import knock
from pipelines.cluster.token import refuse_without_token, shown
from pipelines.errors import TrainingError
from pipelines.project import workspace
from pipelines.settings import Settings

_MEBIBYTE = 2**20
_REFUSALS = (OSError, RuntimeError, ValueError)


@contextmanager
def ray_session(settings: Settings) -> Iterator[ModuleType]:
    """Yield the `ray` module, connected.

    Where `settings.ray.address` is null, Ray is started on this machine and stopped at the end, also after an error;
    else the cluster there is joined and left. Within another session the block uses that one. Workers run the code of
    this workspace (DVC may run a stage in a copy of the project), which a cluster is sent, and use one thread each.

    Raises:
        TrainingError: Ray does not start, the cluster does not answer, or it is elsewhere and no token is set.
    """
    address = settings.ray.address
    _check(address, settings.ray.insecure)
    with _environment(_for_all() if address else _for_own_ray()):
        import ray

        if ray.is_initialized():
            yield ray
            return
        try:
            if address:
                _connect(ray, address)
            else:
                _start(ray, settings)
            _silence()
            yield ray
        finally:
            ray.shutdown()


def _check(address: str | None, insecure: bool) -> None:
    """Refuse an address that is not a cluster's; Ray itself would go on knocking for a quarter of an hour."""
    if address is None or address == "auto":
        return
    if address.startswith(("http://", "https://")):
        raise TrainingError(
            f"ray.address is {shown(address)}, where a cluster takes jobs, and this is none: name the stage in "
            "jobs.stages, or give HOST:6379 to join the cluster from one of its machines, or null to run here "
            "(RAY_ADDRESS wins)"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise TrainingError(f"ray.address must be HOST:6379 or ray://HOST:10001, got {shown(address)}")
    refuse_without_token(address, host, insecure=insecure)
    try:
        knock(host.strip("[]"), int(port))
    except OSError as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> TrainingError:
    return TrainingError(
        f"the Ray cluster at {shown(address)} does not answer: {error}. Check ray.address (or RAY_ADDRESS) and, where "
        "the cluster asks for a token, RAY_AUTH_MODE and RAY_AUTH_TOKEN; without an address Ray starts on this machine"
    )


def _start(ray: ModuleType, settings: Settings) -> None:
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False  # ray took it from the environment when it was imported, perhaps before
    try:
        ray.init(
            address="local",
            num_cpus=_cpus(settings),
            object_store_memory=settings.ray.object_store_mb * _MEBIBYTE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # so bare is what Ray raises when the machine is too slow for it
        reason = str(error).rstrip(".")
        raise TrainingError(
            f"Ray did not start on this machine: {reason}; where the machine is overloaded, try again "
            "when it is less so; Ray's logs are in /tmp/ray/session_latest/logs"
        ) from error


def _connect(ray: ModuleType, address: str) -> None:
    """Join the cluster and send it the code of this workspace, which its machines need not see."""
    with TemporaryDirectory() as folder:
        package = Path(folder) / "code.zip"
        write_package(package)
        environment = runtime_environment(package, _FOR_WORKERS)
        try:
            ray.init(address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
        except (*_REFUSALS, ray.exceptions.RayError) as error:
            raise _no_answer(address, error) from error


def _silence() -> None:
    """Ray prints a paragraph for each process that dies, whatever it is told of logs; who needs it is told by us."""
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


_FOR_WORKERS = {"OMP_NUM_THREADS": "1"}


def _for_all() -> dict[str, str]:
    """Environment variables of every session."""
    paths = [str(workspace()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **_FOR_WORKERS,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns of a default that will change
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _for_own_ray() -> dict[str, str]:
    """Those of a Ray started here; its processes inherit them, which is faster than a runtime environment."""
    return {
        **_for_all(),
        "RAY_AUTH_TOKEN": _token(),  # with a token in the environment Ray writes none into the home folder
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too: listen on 127.0.0.1 only
    }


@cache
def _token() -> str:
    """One token per process: Ray reads it once."""
    return secrets.token_hex(32)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the block; afterwards they and what Ray added itself are as before."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        added = (name for name in os.environ if name.startswith("RAY_") or name == "PYTHONBREAKPOINT")
        for name in {*variables, *added}:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


def _cpus(settings: Settings) -> int | None:
    """CPUs that a Ray started here counts with: more than the machine has, if that many workers are asked for."""
    most = settings.ray.most_workers
    return None if most is None else max(os.cpu_count() or 1, math.ceil(most * settings.ray.cpus_per_worker))
