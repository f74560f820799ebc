"""The run's name changes with everything its result depends on."""

import re
from pathlib import Path

import pytest

from pipelines.runs import key as key_module
from pipelines.runs.key import digest, run_key, source_digest

PARAMS = {"seed": 0, "train": {"learning_rate": 0.002, "steps": 100, "clip_norm": None, "times": (1, 2)}}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "step.py").write_text("x = 1\n")
    return tmp_path / "code"


def test_digest_is_sha256_of_canonical_json():
    # printf '{"a":1,"b":[true,null]}' | sha256sum
    expected = "1cc69c7fa23616ca2ec3ee70d24390a6225c8832db8a4c814c7e0e7f942f8668"
    assert digest({"b": (True, None), "a": 1}) == expected


def test_key_is_short_and_depends_on_each_part(package, monkeypatch):
    key = run_key(PARAMS, "d1", [package])
    assert re.fullmatch("[0-9a-f]{16}", key)
    assert run_key(dict(reversed(PARAMS.items())), "d1", [package]) == key
    others = [
        run_key({**PARAMS, "seed": 1}, "d1", [package]),
        run_key({**PARAMS, "train": {**PARAMS["train"], "learning_rate": 0.001}}, "d1", [package]),
        run_key({**PARAMS, "train": {**PARAMS["train"], "clip_norm": 1.0}}, "d1", [package]),
        run_key({**PARAMS, "new": None}, "d1", [package]),
        run_key(PARAMS, "d2", [package]),
    ]
    (package / "step.py").write_text("x = 2\n")
    others.append(run_key(PARAMS, "d1", [package]))
    (package / "step.py").write_text("x = 1  # one\n")
    assert run_key(PARAMS, "d1", [package]) == key
    monkeypatch.setattr(key_module, "FORMAT_VERSION", key_module.FORMAT_VERSION + 1)
    others.append(run_key(PARAMS, "d1", [package]))
    assert len({key, *others}) == 1 + len(others)


def test_the_projects_own_packages_have_digests():
    import diffusion
    import pipelines

    packages = [Path(module.__path__[0]) for module in (diffusion, pipelines)]
    assert source_digest(packages) == source_digest(packages[::-1])
