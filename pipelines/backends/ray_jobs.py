"""Ray's job server, at http://HEAD:8265: whoever has its token can run commands on the cluster."""

from __future__ import annotations

import asyncio
import logging
import queue
import shlex
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipelines.backends.backend import AlreadyThere, State, Status, Submission, Unreachable
from pipelines.errors import PipelineError, first_line

Answer = TypeVar("Answer")

_ANSWER_S = 20.0
"""How long to wait for an answer; Ray's client would wait for ever where a link is cut."""
_UPLOAD_S = 300.0
_SILENT_S = 60.0
"""A stream of logs that gives nothing for so long is opened anew: where a link is cut it would never end."""
_STATES = {
    "PENDING": State.WAITING,
    "RUNNING": State.RUNNING,
    "SUCCEEDED": State.SUCCEEDED,
    "FAILED": State.FAILED,
    "STOPPED": State.STOPPED,
}


class RayJobs:
    """Jobs on a Ray cluster; their driver runs on its head."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")

    def __str__(self) -> str:
        return f"the Ray cluster at {_shown(self._address)}"

    def submit(self, submission: Submission) -> None:
        """Its code travels as the working directory, to the driver and to each worker."""

        def submit() -> None:
            self._client.submit_job(
                entrypoint=shlex.join(submission.command),
                submission_id=submission.name,
                runtime_env={"working_dir": str(submission.code), "env_vars": dict(submission.environment)},
            )

        try:
            self._ask(submit, _UPLOAD_S)
        except _Refused as refused:
            if "already" in str(refused):
                raise AlreadyThere(f"{self} has a job {submission.name}") from None
            raise PipelineError(f"{self} refused the job: {refused}") from None

    def attach(self, prefix: str) -> dict[str, Status]:
        """From its list of jobs."""
        jobs = self._ask(lambda: self._client.list_jobs())
        return {job.submission_id: _status(job) for job in jobs if (job.submission_id or "").startswith(prefix)}

    def status(self, name: str) -> Status:
        """What the job server knows; it forgets all jobs with its cluster."""
        try:
            return _status(self._ask(lambda: self._client.get_job_info(name)))
        except _Refused as refused:
            if "does not exist" in str(refused) or "404" in str(refused):
                return Status(State.MISSING)
            raise Unreachable(f"{self} does not say how job {name} is: {refused}") from None

    def logs(self, name: str, skip: int = 0) -> Iterator[str]:
        """Over a websocket, from a thread: the stream is asynchronous, and may hang where a link is cut."""
        pieces: queue.Queue[str | None] = queue.Queue()

        async def read() -> None:
            tail: AsyncIterator[str] = self._client.tail_job_logs(name)
            async for piece in tail:
                pieces.put(piece)

        def follow() -> None:
            try:
                asyncio.run(read())
            except Exception:  # a stream that breaks is one that ends
                logging.getLogger(__name__).debug("the log of %s broke off", name, exc_info=True)
            finally:
                pieces.put(None)

        threading.Thread(target=follow, name="job logs", daemon=True).start()
        while (piece := _next(pieces)) is not None:
            rest, skip = piece[skip:], max(0, skip - len(piece))
            if rest:
                yield rest

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

        logging.getLogger("ray").setLevel(logging.WARNING)
        return JobSubmissionClient(self._address)

    def _ask(self, question: Callable[[], Answer], limit_s: float = _ANSWER_S) -> Answer:
        """The answer, in bounded time.

        Raises:
            Unreachable: there is none.
            _Refused: it is an error of the job server's.
        """
        answer: Future[Answer] = Future()

        def ask() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=ask, name="ask the job server", daemon=True).start()
        try:
            return answer.result(limit_s)
        except TookTooLong:
            raise Unreachable(f"{self} did not answer within {limit_s:g} s; {_CHECK}") from None
        except (ConnectionError, OSError) as error:  # those of requests are OSErrors
            raise Unreachable(f"{self} does not answer ({type(error).__name__}); {_CHECK}") from None
        except RuntimeError as error:
            if any(word in str(error) for word in ("401", "403", "Unauthorized", "nauthenticated", "Authentication")):
                raise PipelineError(f"{self} refused the token, or wants one; {_TOKEN}") from None
            raise _Refused(_reason(error)) from None


class _Refused(Exception):
    """The job server answered with an error."""


_CHECK = "check ray.address (or RAY_ADDRESS) and the network"
_TOKEN = (
    "set RAY_AUTH_MODE=token and the cluster's token (RAY_AUTH_TOKEN, a file named by RAY_AUTH_TOKEN_PATH, or "
    "~/.ray/auth_token)"
)


def _next(pieces: queue.Queue[str | None]) -> str | None:
    try:
        return pieces.get(timeout=_SILENT_S)
    except queue.Empty:
        return None


def _status(job: Any) -> Status:
    return Status(_STATES[str(job.status.value)], job.message or "")


def _reason(error: Exception) -> str:
    """The sentence in an answer that may hold a traceback of the server's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if "already" in line or "does not exist" in line]
    return (said or lines or [first_line(error)])[-1][:300]


def _shown(address: str) -> str:
    """Without a name or password in it."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
