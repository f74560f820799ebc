"""Two machines with one registry and no lock in common: each a process with a project folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipelines.settings import Settings, TrackingSettings
from pipelines.tracking.champion import promotions
from pipelines.tracking.gated import decision_of
from pipelines.tracking.registry import versions
from pipelines.tracking.store import connect
from tests.pipelines.tracking.proxy import mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SETTLES = """
    import json, random, sys
    from pipelines.settings import load_settings
    from pipelines.tracking.gated import settle
    from pipelines.tracking.store import connect
    settings = load_settings()
    store, own = connect(settings, "model"), int(sys.argv[1])
    for k in random.Random(own).sample(range(12), 12):
        score = {"value": 30 - 2 * k - own, "value_se": 0.001, "images": 100}
        score["card"] = {"samples": {}, "reference": {}, "scoring": {}, "warnings": []}
        measured = {"metrics": {"fd_classifier": score}, "files": {}, "sampling": {}}
        tags = {f"measurement.{own}{k:063}": json.dumps(measured), "model.digest": f"{own} {k}", "weights": "ema"}
        tags["gate.asked"] = json.dumps({"bound": "off", "distance": "better"})
        made = store.client.create_model_version("model", f"{store.uri}/{own}", tags=tags)
        settle(store, settings, "model", int(made.version))
"""


REGISTERS = """
    import sys
    from pathlib import Path
    from pipelines.params import load_params
    from pipelines.register import register, results_in
    from pipelines.settings import load_settings
    for folder in map(Path, sys.argv[1:]):
        found = results_in(folder / "train", folder / "evaluate", folder / "sample", elsewhere=True)
        receipt, _ = register(load_params(), load_settings(), found)
        print(receipt.version)
"""


def at_once(code: str, uri: str, folder: Path, *arguments: list[object]) -> list[str]:
    """Run the code with each list of arguments, in processes with a project folder each; what they printed."""
    running = []
    for k, each in enumerate(arguments):
        project = folder / f"project {k}"
        project.mkdir()
        environment = os.environ | {"DVC_ROOT": str(project), "PIPELINES__TRACKING__URI": uri}
        command = [sys.executable, "-c", textwrap.dedent(code), *map(str, each)]
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    answers = [process.communicate(timeout=300) for process in running]
    for process, (_, errors) in zip(running, answers, strict=True):
        assert process.returncode == 0, errors
    return [printed for printed, _ in answers]


def test_the_best_of_all_is_champion_and_each_beat_the_one_before(workplace, tmp_path):
    """24 versions, each better or worse than another beyond doubt."""
    shutil.copy(workplace.folder / ".state/mlflow/mlflow.db", tmp_path / "shared.db")
    uri = f"sqlite:///{tmp_path}/shared.db"
    settings = Settings(tracking=TrackingSettings(uri=uri))
    store = connect(settings, "model")
    store.client.create_registered_model("model")
    at_once(SETTLES, uri, tmp_path, [0], [1])
    known = versions(store, "model")
    (champion,) = [version for version in known if "champion" in version.aliases]
    assert champion.model_digest == "1 11"
    records = promotions(known)
    assert champion.number == records[-1].version
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    assert [record.before for record in records[1:]] == [record.version for record in records[:-1]]
    promoted = {record.version: record.before for record in records}
    assert {v.number: decision_of(v)["against"] for v in known if decision_of(v)["champion"]} == promoted
    assert not any("gate.asked" in version.tags for version in known)


def test_one_model_is_one_version(workplace, tmp_path):
    """Registered by both at once, on a real server; each then registers one of its own."""
    for name, seed, total in (("both", 1, 2.0), ("first", 2, 1.9), ("second", 3, 1.8)):
        workplace.model(seed=seed, total=total)
        shutil.copytree(workplace.folder / "results", tmp_path / name)
    with mlflow_server(tmp_path) as port:
        uri = f"http://127.0.0.1:{port}"
        shared = tmp_path / "both"
        printed = at_once(REGISTERS, uri, tmp_path, [shared, tmp_path / "first"], [shared, tmp_path / "second"])
        known = versions(connect(Settings(tracking=TrackingSettings(uri=uri)), "ddpm-digits"), "ddpm-digits")
    assert [text.split()[0] for text in printed] == ["1", "1"]
    assert len({version.model_digest for version in known}) == len(known) == 3
    assert json.loads(known[0].tags["gate"])["champion"]
    assert [v.tags["bits_per_dim"] for v in known if "champion" in v.aliases] == ["1.8"]
