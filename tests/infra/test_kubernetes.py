"""The manifests for Kubernetes, as kustomize renders them, against the schemas of Kubernetes and of KubeRay."""

import copy
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.settings import RaySettings
from tests.infra.conftest import INFRA, ROOT, SHARED, run, tool

RENDERED = [
    "kuberay/overlays/dev",
    "kuberay/overlays/dev/job",
    "kuberay/overlays/dev/stage",
    "kuberay/overlays/prod",
    "kuberay/overlays/prod/job",
    "kuberay/overlays/prod/stage",
    "mlflow",
]


@cache
def render(folder: str) -> tuple[dict[str, Any], ...]:
    """The objects that `kubectl apply -k` would send."""
    done = run(tool("kubectl"), "kustomize", INFRA / folder)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in it."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


def validate(objects: list[dict[str, Any]], folder: Path) -> tuple[int, str]:
    """Exit status and output of kubernetes-validate."""
    path = folder / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    done = run(tool("kubernetes-validate"), "--strict", path)
    return done.returncode, done.stdout + done.stderr


def core(folder: str) -> list[dict[str, Any]]:
    return [copy.deepcopy(one) for one in render(folder) if not one["apiVersion"].startswith("ray.io/")]


@pytest.mark.parametrize("folder", ["kuberay/overlays/dev", "kuberay/overlays/prod", "mlflow"])
def test_kubernetes_own_objects_are_valid(folder: str, tmp_path: Path) -> None:
    status, output = validate(core(folder), tmp_path)
    assert status == 0, output


def test_planted_errors_are_rejected(tmp_path: Path) -> None:
    objects = core("mlflow")
    pod = next(one for one in objects if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    for key, wrong in {"securityContex": {}, "terminationGracePeriodSeconds": "soon"}.items():
        pod[key] = wrong
        assert validate(objects, tmp_path)[0] == 1
        del pod[key]
    assert validate(objects, tmp_path)[0] == 0


def strict(schema: Any) -> Any:
    """A structural schema that refuses keys which it does not name, as the API server does under strict validation."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    elif "properties" in schema and schema.get("type") == "object":
        closed.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    return closed


@cache
def definition(kind: str) -> dict[str, Any]:
    """KubeRay's schema of a kind; the test is skipped where it is absent."""
    path = SHARED / f"ray.io_{kind.lower()}s.yaml"
    if not path.exists():
        pytest.skip(f"{path.name} of KubeRay is not in {SHARED}")
    content = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(path.read_text()).get_single_data()  # a tenth of the time
    found = next(one for one in content["spec"]["versions"] if one["name"] == "v1")["schema"]["openAPIV3Schema"]
    schema: dict[str, Any] = strict(found)
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def errors(one: dict[str, Any]) -> list[str]:
    from jsonschema import Draft202012Validator

    return [
        f"{error.json_path}: {error.message}"
        for error in Draft202012Validator(definition(one["kind"])).iter_errors(one)
    ]


def ray_objects() -> list[dict[str, Any]]:
    return [one for folder in RENDERED for one in render(folder) if one["apiVersion"].startswith("ray.io/")]


def test_kuberays_objects_are_valid() -> None:
    objects = ray_objects()
    assert sorted(one["kind"] for one in objects) == ["RayCluster"] * 2 + ["RayJob"] * 4
    assert [error for one in objects for error in errors(one)] == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("spec", "backofLimit"), 3),
        (("spec", "backoffLimit"), "many"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "password"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplica"), 3),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "volumeMount"), []),
    ],
    ids=lambda value: str(value[-1]) if isinstance(value, tuple) else "",
)
def test_planted_errors_in_kuberays_objects_are_rejected(path: tuple[Any, ...], wrong: Any) -> None:
    job = copy.deepcopy(next(one for one in ray_objects() if one["kind"] == "RayJob"))
    place: Any = job
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = wrong
    assert len(errors(job)) == 1


def cluster_specs() -> list[dict[str, Any]]:
    return [one["spec"].get("rayClusterSpec", one["spec"]) for one in ray_objects()]


def test_what_every_cluster_has() -> None:
    for spec in cluster_specs():
        assert spec["rayVersion"] == version("ray")
        assert spec["authOptions"]["mode"] == "token"
        assert spec["enableInTreeAutoscaling"]
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            pod = group["template"]["spec"]
            mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
            (shared,) = [one for one in pod["volumes"] if one.get("emptyDir", {}).get("medium") == "Memory"]
            assert mounts[shared["name"]] == "/dev/shm"
            assert int(group["rayStartParams"]["object-store-memory"]) <= amount(shared["emptyDir"]["sizeLimit"])


def amount(text: str) -> int:
    """Bytes."""
    return int(text[:-2]) * {"Mi": 2**20, "Gi": 2**30}[text[-2:]]


def test_a_job_and_a_standing_cluster_have_the_same_pods() -> None:
    for place in ("dev", "prod"):
        job = render(f"kuberay/overlays/{place}/job")[0]["spec"]["rayClusterSpec"]
        cluster = next(one for one in render(f"kuberay/overlays/{place}") if one["kind"] == "RayCluster")["spec"]
        assert cluster["gcsFaultToleranceOptions"]["redisAddress"] == "gcs-store:6379"
        assert job == {key: value for key, value in cluster.items() if key != "gcsFaultToleranceOptions"}


def groups(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods of a cluster: the head's and each kind of worker's."""
    return [group["template"]["spec"] for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]]


def test_whoever_runs_all_stages_sees_the_projects_volume() -> None:
    for folder in RENDERED:
        for one in render(folder):
            if one["kind"] in ("RayCluster", "RayJob") and not folder.endswith("stage"):
                for pod in groups(one["spec"].get("rayClusterSpec", one["spec"])):
                    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
                    assert mounts["project"] == "/project"


def test_a_job_is_tried_again_and_ends_its_cluster() -> None:
    for place in ("dev", "prod"):
        spec = render(f"kuberay/overlays/{place}/job")[0]["spec"]
        assert spec["backoffLimit"] > 0
        assert spec["shutdownAfterJobFinishes"]


@pytest.mark.parametrize("place", ["dev", "prod"])
def test_a_stage_is_a_job_without_the_volume_that_is_tried_once_and_saves(place: str) -> None:
    stage = render(f"kuberay/overlays/{place}/stage")[0]["spec"]
    job = render(f"kuberay/overlays/{place}/job")[0]["spec"]
    assert stage["backoffLimit"] == 0
    assert stage["shutdownAfterJobFinishes"]  # else it could not be suspended
    for ours, theirs in zip(groups(stage["rayClusterSpec"]), groups(job["rayClusterSpec"]), strict=True):
        (container,) = ours["containers"]
        names = {mount["name"] for mount in container["volumeMounts"]}
        assert names == {volume["name"] for volume in ours["volumes"]} == {"shm", "tmp"}
        assert "initContainers" not in ours
        (script,) = container.pop("lifecycle")["preStop"]["exec"]["command"]
        here = INFRA.parent / script.removeprefix("/opt/diffusion/")
        assert os.access(here, os.X_OK)
        kept = {"image", "env", "envFrom", "ports", "resources", "securityContext"}
        assert {key: container[key] for key in kept & set(container)} == {
            key: theirs["containers"][0][key] for key in kept & set(theirs["containers"][0])
        }
        assert ours["terminationGracePeriodSeconds"] > RaySettings().grace_s


def test_entrypoints_get_through_the_shell_of_the_pod_that_submits_them(tmp_path: Path) -> None:
    """KubeRay writes them unquoted behind `ray job submit .. --` into a line of bash."""
    (tmp_path / "ray").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "ray").chmod(0o755)
    for entrypoint in {one["spec"]["entrypoint"] for one in ray_objects() if one["kind"] == "RayJob"}:
        line = f"if true ; then ray job submit --no-wait -- {entrypoint} ; fi"
        done = run("bash", "-c", line, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert done.stdout.split()[4:] == entrypoint.split()


def test_gpus_are_in_production_alone() -> None:
    for place, gpus in {"prod": {"1"}, "dev": set[str]()}.items():
        job = render(f"kuberay/overlays/{place}/job")[0]
        assert {amounts["nvidia.com/gpu"] for amounts in walk(job) if "nvidia.com/gpu" in amounts} == gpus
        assert ("0" if place == "dev" else "1") == settings(place)["PIPELINES__RAY__GPUS_PER_WORKER"]


def settings(place: str) -> dict[str, str]:
    found = next(one for one in render(f"kuberay/overlays/{place}") if one["metadata"]["name"] == "diffusion-settings")
    data: dict[str, str] = found["data"]
    return data


@pytest.mark.parametrize("place", ["dev", "prod"])
def test_the_settings_are_settings(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.settings import load_settings

    for name, value in settings(place).items():
        monkeypatch.setenv(name, value)
    loaded = load_settings()
    assert isinstance(loaded.ray.workers, tuple)
    job = render(f"kuberay/overlays/{place}/job")[0]["spec"]["rayClusterSpec"]
    assert loaded.ray.workers[1] == job["workerGroupSpecs"][0]["maxReplicas"]


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, pod, container) of all."""
    for folder in RENDERED:
        for one in render(folder):
            for pod in walk(one):
                for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
                    yield f"{folder} {one['kind']} {container['name']}", pod, container


def test_nothing_runs_as_root_or_writes_into_its_image() -> None:
    names = []
    for name, pod, container in containers():
        names.append(name)
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        security = container["securityContext"]
        assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True), name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert container["resources"]["limits"]["memory"], name
    assert len(names) >= 17


def test_images_are_pinned_to_a_version() -> None:
    for name, _, container in containers():
        assert re.search(r":\d+\.\d+[\w.-]*$", container["image"]), name


def test_there_are_no_secrets_in_the_manifests() -> None:
    for folder in RENDERED:
        assert not [one for one in render(folder) if one["kind"] == "Secret"]
        values = [
            one["value"]
            for one in walk(list(render(folder)))
            if re.search("PASSWORD|SECRET|TOKEN", str(one.get("name", "")))
            if "value" in one
        ]
        assert all(str(value).startswith("/secrets/") for value in values), values


def test_the_backup_script_on_the_cluster_is_the_tested_one() -> None:
    found = next(one for one in render("mlflow") if one["metadata"]["name"].startswith("mlflow-backup-"))
    assert found["data"]["backup.sh"] == (INFRA / "mlflow" / "backup.sh").read_text()


def test_the_manifests_say_the_version_of_mlflow_that_is_locked() -> None:
    locked = re.search(r"^mlflow==([\d.]+)", (INFRA / "mlflow" / "requirements.lock").read_text(), re.MULTILINE)
    here = re.search(r"^mlflow==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked
    assert here
    assert locked[1] == here[1]
    images = {container["image"] for _, _, container in containers() if "mlflow" in container["image"]}
    assert images == {f"ghcr.io/example/diffusion-mlflow:{locked[1]}"}
