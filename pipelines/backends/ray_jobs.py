"""Ray's job server, at http://HEAD:8265: whoever has its token can run commands on the cluster."""

from __future__ import annotations

import asyncio
import logging
import queue
import shlex
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pipelines.backends import place
from pipelines.backends.backend import AlreadyThere, State, Status, Submission, Unreachable
from pipelines.backends.text import gist
from pipelines.cluster.token import shown
from pipelines.errors import PipelineError, first_line

Answer = TypeVar("Answer")

_ANSWER_S = 20.0
"""How long to wait for an answer; Ray's client would wait for ever where a link is cut."""
_UPLOAD_S = 300.0
_STARTING_S = 60.0
"""How long a cluster may be without a place for a driver: one that was just started is."""
_SILENT_S = 60.0
"""A stream of logs that gives nothing for so long is opened anew: where a link is cut it would never end."""
_PIP = ["--require-hashes", "--disable-pip-version-check", "--no-cache-dir"]
_STATES = {
    "PENDING": State.WAITING,
    "RUNNING": State.RUNNING,
    "SUCCEEDED": State.SUCCEEDED,
    "FAILED": State.FAILED,
    "STOPPED": State.STOPPED,
}


class RayJobs:
    """Jobs on a Ray cluster; their driver runs on its head."""

    def __init__(self, address: str, lock: Path | None = None) -> None:
        """Args:
        address: http://HEAD:8265
        lock: packages with their hashes that each machine of the cluster installs for the job.
        """
        self._address = address.rstrip("/")
        self._lock = lock

    def __str__(self) -> str:
        return f"the Ray cluster at {shown(self._address)}"

    @property
    def place(self) -> str:
        """The job server's address."""
        return f"Ray, {place.of_server(self._address)}"

    def submit(self, submission: Submission) -> None:
        """Its code travels as the working directory, to the driver and to each worker."""

        def submit() -> None:
            self._client.submit_job(
                entrypoint=shlex.join(submission.command),
                submission_id=submission.name,
                runtime_env=self._environment(submission),
            )

        until = time.monotonic() + _STARTING_S
        while True:
            try:
                return self._ask(submit, _UPLOAD_S)
            except _Refused as refused:
                if f"submission_id {submission.name} already exists" in refused.answer:
                    raise AlreadyThere(f"{self} has a job {submission.name}") from None
                if "try again later" not in str(refused) or time.monotonic() > until:
                    raise PipelineError(f"{self} refused the job: {refused}") from None
            time.sleep(1)

    def _environment(self, submission: Submission) -> dict[str, Any]:
        given = {"working_dir": str(submission.code), "env_vars": dict(submission.environment)}
        if self._lock is None:
            return given
        lines = self._lock.read_text().splitlines()
        packages = [line for line in lines if line.strip() and not line.strip().startswith("#")]
        return given | {"pip": {"packages": packages, "pip_install_options": _PIP}}

    def attach(self, prefix: str) -> dict[str, Status]:
        """From its list of jobs."""
        try:
            jobs = self._ask(lambda: self._client.list_jobs())
        except _Refused as refused:
            raise Unreachable(f"{self} does not list its jobs: {refused}") from None
        return {job.submission_id: _status(job) for job in jobs if (job.submission_id or "").startswith(prefix)}

    def status(self, name: str) -> Status:
        """What the job server knows; it forgets all jobs with its cluster. A job is missing where it says so itself: a
        proxy, or a dashboard that is starting, answers with 404 too."""
        try:
            return _status(self._ask(lambda: self._client.get_job_info(name)))
        except _Refused as refused:
            if f"status code 404: Job {name} does not exist" in refused.answer:
                return Status(State.MISSING)
            raise Unreachable(f"{self} does not say how job {name} is: {refused}") from None

    def logs(self, name: str, skip: int = 0) -> Iterator[str]:
        """Over a websocket, from a thread: the stream is asynchronous, and may hang where a link is cut."""
        with _reading(lambda: self._client.tail_job_logs(name)) as pieces:
            while isinstance(piece := _next(pieces), str):
                rest, skip = piece[skip:], max(0, skip - len(piece))
                if rest:
                    yield rest
            if piece is not None:
                raise piece

    def cancel(self, name: str) -> None:
        """SIGTERM, and after RAY_JOB_STOP_WAIT_TIME_S of the cluster's head (3 s where it is not set) SIGKILL."""
        try:
            self._ask(lambda: self._client.stop_job(name))
        except _Refused as refused:
            if self.status(name).state not in (State.MISSING, State.STOPPED, State.FAILED, State.SUCCEEDED):
                raise PipelineError(f"{self} did not stop job {name}: {refused}") from None

    @cached_property
    def _client(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        client = JobSubmissionClient(self._address)
        for part in ("job.sdk", "dashboard_sdk"):  # they tell of each upload and each end of a stream
            logging.getLogger(f"ray.dashboard.modules.{part}").setLevel(logging.WARNING)
        return client

    def _ask(self, question: Callable[[], Answer], limit_s: float | None = None) -> Answer:
        """The answer, in bounded time.

        Raises:
            Unreachable: there is none.
            _Refused: it is an error of the job server's.
        """
        from ray.exceptions import AuthenticationError

        answer: Future[Answer] = Future()
        limit_s = limit_s or _ANSWER_S

        def ask(answer: Future[Answer]) -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)
            finally:
                del answer  # its error knows this frame, and all below, with an open connection

        threading.Thread(target=ask, args=(answer,), name="ask the job server", daemon=True).start()
        try:
            return answer.result(limit_s)
        except TookTooLong:
            raise Unreachable(f"{self} did not answer within {limit_s:g} s; {_CHECK}") from None
        except (ConnectionError, OSError) as error:  # those of requests are OSErrors
            raise Unreachable(f"{self} does not answer ({type(error).__name__}); {_CHECK}") from None
        except AuthenticationError:
            raise PipelineError(f"{self} refused the token, or wants one; {_TOKEN}") from None
        except RuntimeError as error:
            raise _Refused(error) from None
        finally:
            del answer  # as above


class _Refused(Exception):
    """The job server answered with an error: in a sentence, and all of it."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__(_reason(error))
        self.answer = str(error)


_CHECK = "check ray.address (or RAY_ADDRESS) and the network"
_TOKEN = (
    "set RAY_AUTH_MODE=token and the cluster's token (RAY_AUTH_TOKEN, a file named by RAY_AUTH_TOKEN_PATH, or "
    "~/.ray/auth_token)"
)


@contextmanager
def _reading(stream: Callable[[], AsyncIterator[str]]) -> Iterator[queue.Queue[str | Exception | None]]:
    """What comes on a stream, and None at its end, while the block lasts; then its connection is closed."""
    from aiohttp import ClientError

    pieces: queue.Queue[str | Exception | None] = queue.Queue()

    async def read() -> None:
        async for piece in stream():
            pieces.put(piece)

    loop = asyncio.new_event_loop()
    reading = loop.create_task(read())

    def follow() -> None:
        end: Exception | None = None
        try:
            loop.run_until_complete(reading)
        except (ClientError, OSError, RuntimeError, asyncio.CancelledError):
            pass  # one that breaks is one that ends
        except Exception as error:
            end = error
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        pieces.put(end)

    threading.Thread(target=follow, name="job logs", daemon=True).start()
    try:
        yield pieces
    finally:
        with suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(reading.cancel)


def _next(pieces: queue.Queue[str | Exception | None]) -> str | Exception | None:
    try:
        return pieces.get(timeout=_SILENT_S)
    except queue.Empty:
        return None


def _status(job: Any) -> Status:
    asked_at = job.start_time / 1000 if job.start_time else None
    return Status(_STATES[str(job.status.value)], gist(job.message or ""), asked_at)


def _reason(error: Exception) -> str:
    """The sentence in an answer that may hold a traceback of the server's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if "already" in line or "does not exist" in line]
    return (said or lines or [first_line(error)])[-1][:300]
