"""Jobs of a Slurm cluster, submitted and watched on a machine that has its programs and the cluster's file system."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.backends import place
from pipelines.backends.backend import State, Status, Submission, Unreachable
from pipelines.backends.folder import JobFolder, forget, names_of_jobs
from pipelines.errors import PipelineError
from pipelines.project import workspace

_TEMPLATE = "infra/slurm/train.sbatch"
_ANSWER_S = 60.0
"""How long to wait for a program of Slurm's, which itself gives the controller up after about 10 s for each try."""
_AWAY = re.compile("unable to contact|connection|timed out|zero bytes", re.IGNORECASE)
_UNSURE = re.compile("timed out|zero bytes", re.IGNORECASE)
"""The controller may have taken the job all the same."""
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT"),
}


@dataclass(frozen=True)
class Slurm:
    """Each job is `infra/slurm/train.sbatch` with a folder of its own. Slurm forgets a job minutes after its end, and
    may keep no accounts, so the exit status is left in the folder."""

    folder: Path
    """On the file system that the cluster's machines share."""
    options: tuple[str, ...] = ()
    """Of sbatch; they win over those in the script."""

    def __str__(self) -> str:
        return "Slurm"

    @property
    def place(self) -> str:
        """This folder, from whichever machine it is seen."""
        return f"Slurm, {place.of_shared_folder(self.folder)}"

    def submit(self, submission: Submission) -> None:
        """The environment goes along as it does with any sbatch, and on no command line."""
        forget(self.folder, self.attach(""))
        job = self._job(submission.name)
        variables = {
            "PROJECT": str(job.code),
            "PROGRAMS": str(Path(sys.executable).parent),
            "COMMAND": shlex.join(job.command(submission.command)),
        }
        ours = ["--export=ALL", f"--job-name={submission.name}", f"--output={job.log}", "--open-mode=append"]
        ours.append(f"--chdir={job.log.parent}")  # the folder that this is called in may be seen by no other machine
        script = str(workspace() / _TEMPLATE)
        with job.make(submission.code):
            try:
                _ask("sbatch", *self.options, *ours, script, environment={**submission.environment, **variables})
            except _Refused as refused:
                if not _UNSURE.search(str(refused)):
                    job.remove()
                raise _error(f"Slurm did not take the job: {refused}") from None

    def attach(self, prefix: str) -> dict[str, Status]:
        """Those that have a folder."""
        return self._statuses(names_of_jobs(self.folder, prefix))

    def status(self, name: str) -> Status:
        """By Slurm's list while it has the job, then by its exit status."""
        return self._statuses([name])[name] if self._job(name).there else Status(State.MISSING)

    def logs(self, name: str, skip: int = 0) -> Iterator[str]:
        """Its file."""
        return self._job(name).follow(skip)

    def cancel(self, name: str) -> None:
        """One that runs is asked to save and leave, as `scancel` itself would not give it the time."""
        there = self._known([name]).get(name)
        if there is None or there.state in _ENDED:
            return
        self._job(name).cancel()
        how = ["--batch", "--signal=USR2"] if there.state == "RUNNING" else []
        try:
            _ask("scancel", *how, there.number)
        except _Refused as refused:
            if self.status(name).state in (State.WAITING, State.RUNNING):
                raise _error(f"Slurm did not stop job {there.number}: {refused}") from None

    def _job(self, name: str) -> JobFolder:
        return JobFolder((self.folder / name).absolute())

    def _statuses(self, names: Sequence[str]) -> dict[str, Status]:
        starting = {name for name in names if self._job(name).held}  # before Slurm is asked, which will know them then
        known = self._known(names)
        found = {name: self._status(name, known.get(name), starting=name in starting) for name in names}
        return {name: replace(status, asked_at=self._job(name).asked_at) for name, status in found.items()}

    def _known(self, names: Sequence[str]) -> dict[str, _Known]:
        """Those that wait, run, or ended a moment ago; by their folders, as another project's may have the same names.

        Raises:
            Unreachable: Slurm does not say.
        """
        if not names:
            return {}
        ours = {str(self._job(name).path): name for name in names}
        options = ["--me", "--states=all", "--noheader", "--format=%A|%T|%r|%Z", f"--name={','.join(names)}"]
        try:
            lines = _ask("squeue", *options).splitlines()
        except _Refused as refused:
            raise Unreachable(f"Slurm does not say how its jobs are: {refused}") from None
        rows = (line.split("|", 3) for line in lines)
        return {ours[folder]: _Known(number, state, why) for number, state, why, folder in rows if folder in ours}

    def _status(self, name: str, there: _Known | None, *, starting: bool) -> Status:
        job = self._job(name)
        if job.exit_status == 0:  # Ray may take a minute more to end on all machines
            return Status(State.SUCCEEDED)
        if there is None:
            missing = "Slurm has no such job, and it left no exit status"
            return Status(State.WAITING) if starting else job.end(missing)
        about = f"Slurm's job {there.number}: {there.state}" + (f", {there.reason}" if there.reason != "None" else "")
        if there.state in _ENDED:
            return job.end(about, stopped=there.state == "CANCELLED")
        return Status(State.WAITING if there.state in _WAITING else State.RUNNING, about)


@dataclass(frozen=True)
class _Known:
    """What Slurm knows of a job."""

    number: str
    state: str
    reason: str


class _Refused(Exception):
    """A program of Slurm's ended with an error; its words."""


def _error(words: str) -> PipelineError:
    return Unreachable(words) if _AWAY.search(words) else PipelineError(words)


def _ask(program: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What a program of Slurm's prints, in bounded time.

    Raises:
        Unreachable: it does not end.
        _Refused: it fails, or is not here.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
        )
    except FileNotFoundError:
        raise _Refused(f"{program} is not on PATH; jobs.backend slurm wants a machine with Slurm's programs") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"Slurm's {program} did not end within {_ANSWER_S:g} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise _Refused("; ".join(lines[-2:]) or f"{program} ended with status {done.returncode}")
    return done.stdout
