"""Jobs on Kubernetes: RayJobs of the KubeRay operator, each with a Ray cluster of its own, through `kubectl`."""

from __future__ import annotations

import copy
import json
import os
import re
import selectors
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.backends import place
from pipelines.backends.backend import KEPT_S, AlreadyThere, State, Status, Submission, Unreachable
from pipelines.backends.text import decoded, gist
from pipelines.errors import ParamsError, PipelineError
from pipelines.project import workspace

_RAYJOBS = "rayjobs.ray.io"
_CODE = "/opt/diffusion"
"""Where the image has it (infra/docker/Dockerfile)."""
_CANCELLED = "diffusion-pipelines/cancelled"
"""Annotation of a job that we have suspended: one that others have suspended, Kueue for example, waits."""
_OURS = {"app.kubernetes.io/managed-by": "diffusion-pipelines"}
"""Label of the jobs that were submitted here."""
_REQUEST_S = 20.0
_ANSWER_S = 60.0
"""Of one kubectl with all its requests; a plugin that gets its credentials may hang, too."""
_SILENT_S = 60.0
"""A stream of logs that gives nothing for so long is opened anew: where a link is cut it would never end."""
_SERVER = re.compile(r"Error from server \((\w+)\): ")
_NO_ANSWER = {"InternalError", "ServerTimeout", "ServiceUnavailable", "Timeout", "TooManyRequests"}
_NO_SERVER = re.compile(
    "connect|refused|time-?d? ?out|deadline|no such host|reset by peer|handshake|EOF", re.IGNORECASE
)


class KubeRay:
    """Jobs in the namespace of a kustomization, of which each is the RayJob with another name and command."""

    def __init__(self, overlay: Path) -> None:
        self._overlay = overlay

    def __str__(self) -> str:
        return f"Kubernetes ({self._overlay})"

    @cached_property
    def place(self) -> str:
        """A namespace of the server that kubectl asks; on a pod that is its own cluster's."""
        context: dict[str, Any] = {}
        with suppress(_Refused):  # no kubeconfig
            context = json.loads(_kubectl("config", "view", "--minify", "-o", "json"))
        server = context["clusters"][0]["cluster"]["server"] if context else "https://localhost"
        usual = context["contexts"][0]["context"].get("namespace", "default") if context else ""
        namespace = self._template["metadata"].get("namespace", usual)
        return f"Kubernetes, {place.of_server(server)}, {namespace}"

    def submit(self, submission: Submission) -> None:
        """The code is the image's: from it the command brings what else it needs."""
        self._forget()
        job = copy.deepcopy(self._template)
        job["metadata"]["name"] = submission.name
        job["metadata"].setdefault("labels", {}).update(_OURS)
        job["spec"]["entrypoint"] = _entrypoint(submission)
        (head, *_) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
        head["env"] = _with(head.get("env", []), submission.environment)
        try:
            self._ask("create", "-f", "-", text=json.dumps(job))
        except _Refused as refused:
            if refused.reason == "AlreadyExists":
                raise AlreadyThere(f"{self} has a job {submission.name}") from None
            words = f"{self} did not take the job: {refused}"
            raise Unreachable(words) if refused.by_nobody else PipelineError(words) from None

    def attach(self, prefix: str) -> dict[str, Status]:
        """From the namespace's RayJobs."""
        try:
            jobs = self._listed(_RAYJOBS)
        except _Refused as refused:
            raise Unreachable(f"{self} does not list its jobs: {refused}") from None
        named = {job["metadata"]["name"]: job for job in jobs}
        return {name: _status(job) for name, job in named.items() if name.startswith(prefix)}

    def status(self, name: str) -> Status:
        """What the operator has written on the RayJob, and what one of its pods waits for."""
        try:
            job = json.loads(self._ask("get", _RAYJOBS, name, "-o", "json"))
        except _Refused as refused:
            if refused.reason == "NotFound" and f'{_RAYJOBS} "{name}"' in str(refused):
                return Status(State.MISSING)
            raise Unreachable(f"{self} does not say how job {name} is: {refused}") from None
        status, cluster = _status(job), job.get("status", {}).get("rayClusterName")
        if status.state is not State.WAITING or not cluster:
            return status
        pods = []
        with suppress(_Refused):
            pods = self._listed("pods", f"--selector=ray.io/cluster={cluster}")
        reasons = filter(None, map(_reason, pods))
        return replace(status, message=", ".join([status.message, *reasons][:2]))

    def logs(self, name: str, skip: int = 0) -> Iterator[str]:
        """Of the pod that follows the job on its cluster; it is gone with a job that is cancelled."""
        return decoded(self._pieces(name), skip)

    def cancel(self, name: str) -> None:
        """Its pods are deleted, and before they end the training saves (infra/kuberay/stage); the record stays."""
        if self.status(name).state not in (State.WAITING, State.RUNNING):
            return
        change = {"metadata": {"annotations": {_CANCELLED: "true"}}, "spec": {"suspend": True}}
        try:
            self._ask("patch", _RAYJOBS, name, "--type=merge", "-p", json.dumps(change))
        except _Refused as refused:
            words = f"{self} did not stop job {name}: {refused}"
            raise Unreachable(words) if refused.by_nobody else PipelineError(words) from None

    def _forget(self) -> None:
        """Delete records of jobs that have ended: the operator deletes what they ran on, and keeps them for ever."""
        with suppress(_Refused):
            ours = self._listed(_RAYJOBS, *(f"--selector={name}={value}" for name, value in _OURS.items()))
            statuses = {job["metadata"]["name"]: _status(job) for job in ours}
            until = time.time() - KEPT_S
            old = [
                name for name, status in statuses.items() if status.state.ended and (status.asked_at or until) < until
            ]
            if old:
                self._ask("delete", _RAYJOBS, "--wait=false", *old)

    @cached_property
    def _template(self) -> dict[str, Any]:
        """The RayJob of the kustomization."""
        from ruamel.yaml import YAML

        folder = workspace() / self._overlay
        try:
            text = _kubectl("kustomize", str(folder))
        except _Refused as refused:
            raise ParamsError(f"jobs.overlay {self._overlay} cannot be rendered: {refused}") from None
        objects = list(YAML(typ="safe", pure=True).load_all(text))
        jobs: list[dict[str, Any]] = [one for one in objects if one["kind"] == "RayJob"]
        if len(jobs) != 1:
            raise ParamsError(f"jobs.overlay {self._overlay} must have one RayJob, got {len(jobs)}")
        return jobs[0]

    @property
    def _namespace(self) -> list[str]:
        namespace = self._template["metadata"].get("namespace")
        return [f"--namespace={namespace}"] if namespace else []

    def _listed(self, *words: str) -> list[dict[str, Any]]:
        objects: list[dict[str, Any]] = json.loads(self._ask("get", *words, "-o", "json"))["items"]
        return objects

    def _ask(self, *words: str, text: str = "") -> str:
        return _kubectl(*self._namespace, f"--request-timeout={_REQUEST_S:g}s", *words, text=text)

    def _pieces(self, name: str) -> Iterator[bytes]:
        command = ["kubectl", *self._namespace, "logs", "--follow", f"job/{name}"]
        with (
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as job,
            selectors.DefaultSelector() as selector,
        ):
            assert job.stdout
            selector.register(job.stdout, selectors.EVENT_READ)
            try:
                while selector.select(_SILENT_S) and (piece := os.read(job.stdout.fileno(), 1 << 16)):
                    yield piece
            finally:
                job.kill()


class _Refused(Exception):
    """kubectl ended with an error; its words."""

    @property
    def reason(self) -> str | None:
        """The server's; None where the error is kubectl's own."""
        found = _SERVER.search(str(self))
        return found[1] if found else None

    @property
    def by_nobody(self) -> bool:
        """Whether there was no answer to the question."""
        return self.reason in _NO_ANSWER or (self.reason is None and bool(_NO_SERVER.search(str(self))))


def _kubectl(*words: str, text: str = "") -> str:
    """What kubectl prints, in bounded time.

    Raises:
        Unreachable: it does not end.
        _Refused: it fails.
        PipelineError: it is not here.
    """
    try:
        done = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True, timeout=_ANSWER_S)
    except FileNotFoundError:
        raise PipelineError("kubectl is not on PATH: jobs.backend kuberay wants it") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"kubectl {words[-1]} did not end within {_ANSWER_S:g} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise _Refused(lines[-1] if lines else f"kubectl ended with status {done.returncode}")
    return done.stdout


def _entrypoint(submission: Submission) -> str:
    """One command of plain words: two shells read it, the first on the pod that hands it to Ray."""
    odd = [word for word in submission.command if shlex.quote(word) != word]
    if odd:
        raise PipelineError(f"KubeRay takes commands of letters, digits and @%+=:,./-_ alone, got {odd[0]!r}")
    return " ".join(["env", "-C", _CODE, *submission.command])


def _with(variables: list[dict[str, Any]], more: Mapping[str, str]) -> list[dict[str, Any]]:
    """A container's variables with some replaced or added. `$(NAME)` in a value would be a reference, `$$` is a `$`."""
    ours = {name: {"name": name, "value": value.replace("$", "$$")} for name, value in more.items()}
    return list({**{one["name"]: one for one in variables}, **ours}.values())


def _status(job: Mapping[str, Any]) -> Status:
    there = job.get("status", {})
    phase, outcome = there.get("jobDeploymentStatus", ""), there.get("jobStatus", "")
    about = ", ".join(word for word in (phase, there.get("reason"), outcome, gist(there.get("message", ""))) if word)
    state = _state(phase, outcome, cancelled=_CANCELLED in job["metadata"].get("annotations", {}))
    asked_at = job["metadata"].get("creationTimestamp")
    return Status(state, about, datetime.fromisoformat(asked_at).timestamp() if asked_at else None)


def _reason(pod: Mapping[str, Any]) -> str:
    """Why a pod does not run; empty where Kubernetes gives no reason."""
    there, name = pod.get("status", {}), pod["metadata"]["name"]
    for one in (*there.get("initContainerStatuses", []), *there.get("containerStatuses", [])):
        waiting = one["state"].get("waiting", {})
        if "message" in waiting:  # else it is only being made
            return gist(f"{name}: {waiting['reason']}, {waiting['message']}")
    for one in there.get("conditions", []):
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return gist(f"{name}: {one.get('reason')}, {one.get('message')}")
    return ""


def _state(phase: str, outcome: str, *, cancelled: bool) -> State:
    """From what the operator says of the cluster (`phase`) and what Ray says of the job on it."""
    match phase:
        case "Complete":
            return {"SUCCEEDED": State.SUCCEEDED, "STOPPED": State.STOPPED}.get(outcome, State.FAILED)
        case "Failed" | "ValidationFailed":
            return State.FAILED
        case "Suspended":
            return State.STOPPED if cancelled else State.WAITING
        case "Suspending":
            return State.RUNNING
        case "Running":
            return State.WAITING if outcome in ("", "PENDING") else State.RUNNING
    return State.WAITING
