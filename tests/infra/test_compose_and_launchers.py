"""The compose file, and the files of Ray's launcher against Ray's own validator."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.conftest import INFRA, run, tool

COMPOSE = INFRA / "mlflow" / "compose.yaml"


def check_compose(path: Path) -> int:
    return run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", path).returncode


def test_the_compose_file_is_valid_and_a_planted_error_is_rejected(tmp_path: Path) -> None:
    assert check_compose(COMPOSE) == 0
    bad = tmp_path / "compose.yaml"
    for right, wrong in {"depends_on:": "depend_on:", "read_only: true": "read_only: [true]"}.items():
        text = COMPOSE.read_text()
        assert right in text
        bad.write_text(text.replace(right, wrong))
        assert check_compose(bad) == 1


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_only_the_server_is_reached_and_only_from_this_machine() -> None:
    ports = {name: service.get("ports") for name, service in services().items()}
    assert {name for name, open_ports in ports.items() if open_ports} == {"server"}
    assert all(str(port).startswith("127.0.0.1:") for port in ports["server"])
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert networks["inside"] == {"internal": True}
    assert {name for name, service in services().items() if "outside" in service["networks"]} == {"server"}


def test_services_are_hardened_and_take_secrets_as_files() -> None:
    for name, service in services().items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable or "SECRET" in variable or "KEY" in variable:
                assert variable.endswith("_FILE"), (name, variable)
                assert value.removeprefix("/run/secrets/") in service["secrets"], (name, variable)


def test_the_files_it_names_are_there_or_made() -> None:
    content = yaml.safe_load(COMPOSE.read_text())
    assert all((INFRA / "mlflow" / config["file"]).is_file() for config in content["configs"].values())
    made = (INFRA / "mlflow" / "make-secrets.sh").read_text()
    assert all(Path(secret["file"]).name in made for secret in content["secrets"].values())
    assert "/secrets/" in (INFRA / "mlflow" / ".gitignore").read_text().splitlines()


def test_the_folders_that_it_mounts_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    """Docker would make them root's, and the containers may not write there."""
    shutil.copy(INFRA / "mlflow" / "make-secrets.sh", tmp_path)
    others = {"BACKUP_FOLDER": str(tmp_path / "elsewhere")}
    for environment in ({}, others, others):
        done = run("./make-secrets.sh", cwd=tmp_path, env=os.environ | environment)
        assert done.returncode == 0, done.stderr
        assert (f"export OWNER={os.getuid()} " in done.stdout) == (os.getuid() != 1000)
    mounts = [mount for name in ("s3", "backup") for mount in services()[name]["volumes"]]
    for folder in (*re.findall(r":-\./(\w+)\}:", " ".join(mounts)), "secrets", "elsewhere"):
        made = (tmp_path / folder).stat()
        assert (made.st_uid, made.st_mode & 0o777) == (os.getuid(), 0o700), folder
    assert len(mounts) == 2


def launcher(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((INFRA / "ray" / f"{name}.yaml").read_text())
    return content


def check_launcher(config: dict[str, Any]) -> None:
    """What `ray up` does before it speaks to a cloud."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(json.loads(json.dumps(config))))


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_rays_validator_takes_the_launcher_files_and_rejects_planted_errors(name: str) -> None:
    from jsonschema import ValidationError

    check_launcher(launcher(name))
    with pytest.raises(ValidationError, match="idle_timeout"):
        check_launcher(launcher(name) | {"idle_timeout": 5})
    with pytest.raises(ValidationError, match="'many' is not"):
        check_launcher(launcher(name) | {"max_workers": "many"})
    with pytest.raises(ValueError, match="head_node_type"):
        check_launcher(launcher(name) | {"head_node_type": "none"})


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_clusters_in_the_cloud_ask_for_a_token_and_have_spot_workers(name: str) -> None:
    config = launcher(name)
    options = " ".join(config["docker"]["run_options"])
    token = "/opt/ray/auth_token"
    assert f"RAY_AUTH_MODE=token -e RAY_AUTH_TOKEN_PATH={token}" in options
    assert config["file_mounts"] == {token: "~/.ray/auth_token"}
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])
    worker = config["available_node_types"]["gpu"]["node_config"]
    spot = {"aws": ("InstanceMarketOptions", {"MarketType": "spot"}), "gcp": ("scheduling", {"preemptible": True})}[
        name
    ]
    assert spot[1] == worker[spot[0]] or spot[1] in worker[spot[0]]
    assert f"WORKERS=[1,{config['available_node_types']['gpu']['max_workers']}]" in options


def test_the_scripts_that_the_launchers_call_are_in_the_image() -> None:
    for name in ("aws", "gcp"):
        for command in launcher(name)["head_setup_commands"]:
            inside = next(word for word in command.split() if word.startswith("/opt/diffusion/"))
            assert (INFRA.parent / inside.removeprefix("/opt/diffusion/")).is_file()


def test_every_manifest_is_named_by_its_kustomization() -> None:
    for folder in [path.parent for path in INFRA.rglob("kustomization.yaml")]:
        named = (folder / "kustomization.yaml").read_text()
        files = [path for path in folder.glob("*.yaml") if path.name not in ("kustomization.yaml", "compose.yaml")]
        assert [path for path in files if path.name not in named] == []
