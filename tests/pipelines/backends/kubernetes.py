"""As much of Kubernetes' API as kubectl wants to create, show, list, change and delete RayJobs and to follow a job's
log."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pipelines.backends.backend import Submission

Object = dict[str, Any]

COMMAND = ("python", "-m", "pipelines.remote.run", "s3://depot/of-mine", "train-1")

KINDS = {"v1": {"pods": "Pod", "pods/log": "Pod"}, "batch/v1": {"jobs": "Job"}, "ray.io/v1": {"rayjobs": "RayJob"}}
VALIDATION = {
    "paths": {
        "/apis/ray.io/v1/namespaces/{namespace}/rayjobs/{name}": {
            "patch": {
                "x-kubernetes-group-version-kind": {"group": "ray.io", "version": "v1", "kind": "RayJob"},
                "parameters": [{"name": "fieldValidation", "in": "query"}],
                "responses": {},
            }
        }
    }
}


def group(name: str) -> Object:
    versions = [{"groupVersion": f"{name}/v1", "version": "v1"}]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def resources(version: str) -> Object:
    of = [
        {"name": name, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": ["get"]}
        for name, kind in KINDS[version].items()
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": of}


DISCOVERY: Object = {
    "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group("batch"), group("ray.io")]},
    "/api/v1": resources("v1"),
    "/apis/batch/v1": resources("batch/v1"),
    "/apis/ray.io/v1": resources("ray.io/v1"),
    "/openapi/v3": {"paths": {"apis/ray.io/v1": {"serverRelativeURL": "/openapi/v3/apis/ray.io/v1"}}},
    "/openapi/v3/apis/ray.io/v1": {"openapi": "3.0.0", "info": {"title": "KubeRay", "version": "v1"}} | VALIDATION,
}


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


def merge(into: Object, change: Object) -> None:
    """RFC 7386, but for nulls."""
    for key, value in change.items():
        if isinstance(value, dict):
            merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


class Cluster:
    """One namespace with its RayJobs and the log of each one's pod; it can be made to refuse or to be silent."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.jobs: dict[str, Object] = {}
        self.pods: dict[str, list[Object]] = {}
        """Of each job's Ray cluster."""
        self.logs: dict[str, list[bytes]] = {}
        self.refusal: Refusal | None = None
        """Of everything but discovery."""
        self.silent = threading.Event()
        self.seen: list[str] = []
        """What was asked: verb, path and query."""

    def says(self, name: str, phase: str, outcome: str = "", **more: str) -> None:
        """Write a RayJob's status, as the operator does."""
        self.jobs[name]["status"] = {"jobDeploymentStatus": phase, "jobStatus": outcome, **more}

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Object) -> Object:
        if path in DISCOVERY:
            found: Object = DISCOVERY[path]
            return found
        while self.silent.is_set():
            time.sleep(0.05)
        if self.refusal:
            raise self.refusal
        if path == f"/api/v1/namespaces/{self.namespace}":
            return {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": self.namespace}}
        place = re.fullmatch(rf"/apis?/(?:[\w.]+/)?v1/namespaces/{self.namespace}/(rayjobs|jobs|pods)(?:/(.*))?", path)
        if not place:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        match method, *place.groups():
            case "POST", "rayjobs", None:
                return self._create(body)
            case "GET", "rayjobs", None:
                jobs = [job for job in self.jobs.values() if _matches(job, query)]
                return {"kind": "RayJobList", "apiVersion": "ray.io/v1", "items": jobs}
            case "GET", "rayjobs", name:
                return self._job(name)
            case "PATCH", "rayjobs", name:
                merge(self._job(name), body)
                return self._job(name)
            case "DELETE", "rayjobs", name:
                self._job(name)
                return self.jobs.pop(name)
            case "GET", "jobs", name:
                return self._submitter(name, "batch/v1", "Job") | {
                    "spec": {"selector": {"matchLabels": {"job-name": name}}, "template": {}}
                }
            case "GET", "pods", None:
                label, _, name = query["labelSelector"][0].partition("=")
                pods = self.pods.get(name, []) if label == "ray.io/cluster" else [self._pod(name)]
                return {"kind": "PodList", "apiVersion": "v1", "items": pods}
            case "GET", "pods", name:
                return self._pod(name.removesuffix("-pod"))
        raise Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def _create(self, job: Object) -> Object:
        name = job["metadata"]["name"]
        if name in self.jobs:
            raise Refusal(409, "AlreadyExists", f'rayjobs.ray.io "{name}" already exists')
        if job["metadata"]["namespace"] != self.namespace:
            raise Refusal(404, "NotFound", f'namespaces "{job["metadata"]["namespace"]}" not found')
        self.jobs[name] = job
        return job

    def _job(self, name: str) -> Object:
        if name not in self.jobs:
            raise Refusal(404, "NotFound", f'rayjobs.ray.io "{name}" not found')
        return self.jobs[name]

    def _submitter(self, name: str, version: str, kind: str) -> Object:
        if name not in self.logs:
            raise Refusal(404, "NotFound", f'jobs.batch "{name}" not found')
        return {"kind": kind, "apiVersion": version, "metadata": {"name": name, "namespace": self.namespace}}

    def _pod(self, name: str) -> Object:
        pod = self._submitter(name, "v1", "Pod")
        pod["metadata"]["name"] = f"{name}-pod"
        containers = [{"name": "ray-job-submitter"}]
        ready = [{"type": "Ready", "status": "True"}]
        return pod | {"spec": {"containers": containers}, "status": {"phase": "Running", "conditions": ready}}

    def log(self, path: str) -> list[bytes] | None:
        """The pieces of a pod's log; None where `path` is none's. One that ends with b"" ends."""
        found = re.fullmatch(rf"/api/v1/namespaces/{self.namespace}/pods/(.*)-pod/log", path)
        return self.logs[found[1]] if found else None


def handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            cluster.seen.append(f"{self.command} {self.path}")
            if (pieces := cluster.log(address.path)) is not None:
                return self._stream(pieces)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                self._send(200, cluster.answer(self.command, address.path, parse_qs(address.query), _json(body)))
            except Refusal as refusal:
                about = {"reason": refusal.reason, "message": str(refusal), "code": refusal.code}
                self._send(refusal.code, {"kind": "Status", "apiVersion": "v1", "status": "Failure"} | about)

        do_POST = do_PATCH = do_DELETE = do_GET

        def _stream(self, pieces: list[bytes]) -> None:
            """As they come, each in a chunk of its own; the last has no bytes."""
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            sent = 0
            while True:
                while sent < len(pieces):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(pieces[sent]), pieces[sent]))
                    self.wfile.flush()
                    if not pieces[sent]:
                        return
                    sent += 1
                time.sleep(0.02)

        def _send(self, code: int, content: Object) -> None:
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _matches(job: Object, query: dict[str, list[str]]) -> bool:
    label, _, value = query.get("labelSelector", [""])[0].partition("=")
    return not label or job["metadata"].get("labels", {}).get(label) == value


def _json(body: bytes) -> Object:
    content: Object = json.loads(body) if body else {}
    return content


@contextmanager
def serve(cluster: Cluster, folder: Path) -> Iterator[tuple[Path, ThreadingHTTPServer]]:
    """Yield a kubeconfig that leads to it, and its server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(cluster))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    path = folder / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "me", "user": {}}],
                "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
                "current-context": "here",
            }
        )
    )
    try:
        yield path, server
    finally:
        cluster.silent.clear()
        server.shutdown()
        server.server_close()


def job(name: str = "train-1", **environment: str) -> Submission:
    return Submission(name, COMMAND, Path(), environment)
