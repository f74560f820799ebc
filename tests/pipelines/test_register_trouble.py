"""Registering in a registry where something is gone, away or written by others, or after a killed process."""

import json
import shutil
import socket
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from pipelines import compare, register, remeasure
from pipelines.errors import TrackingError
from pipelines.settings import Settings, TrackingSettings
from pipelines.tracking.gated import judged
from pipelines.tracking.measurements import measurements
from pipelines.tracking.store import connect
from tests.pipelines.test_register import compared, receipt, registered

pytestmark = pytest.mark.filterwarnings("ignore")


def test_without_a_champion_the_last_one_is_to_be_beaten(workplace):
    """An alias that was deleted, or a version with it, makes no next version champion."""
    for seed, total in ((1, 2.0), (2, 1.9)):
        workplace.model(seed=seed, total=total)
        register.main()
    client = connect(workplace.settings, "ddpm-digits").client
    client.delete_registered_model_alias("ddpm-digits", "champion")
    workplace.model(seed=3, total=9.0)
    register.main()
    assert [v.aliases for v in registered(workplace)] == [("previous",), (), ()]
    *_, worse = registered(workplace)
    assert worse.tags["gate.reason"].startswith("bits/dim 9 against 1.9 of former champion 2: worse (P < 0.1%)")

    def found():
        return judged(worse, registered(workplace), workplace.params.register_.gate, workplace.settings)

    client.delete_model_version("ddpm-digits", "2")
    assert found().reason.startswith("bits/dim 9 against 2 of former champion 1: worse")
    client.delete_model_version("ddpm-digits", "1")
    client.create_model_version("ddpm-digits", "file:///elsewhere")
    now = found()
    assert (now.champion, now.reason) == (False, "there is no champion to compare with")
    alone = register.Receipt("ddpm-digits", 3, False, now.reason, "", "", now.comparable, against=now.against)
    assert register.told(alone, new=True).endswith(
        "to make it champion: python -m pipelines.promote models:/ddpm-digits/3 --reason TEXT"
    )


def test_a_server_that_is_away_leaves_no_receipt(workplace, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
    settings = Settings(tracking=TrackingSettings(uri=uri, timeout_s=1, retries=0))
    monkeypatch.setattr(register, "load_settings", lambda: settings)
    workplace.model()
    with pytest.raises(TrackingError, match=r"tracking\.uri") as error:
        register.main()
    assert "secret" not in str(error.value)
    assert not (workplace.folder / "results/register").exists()


def test_a_decision_that_a_killed_process_did_not_carry_out_is_carried_out(workplace, monkeypatch):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    workplace.model(seed=1)
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.tracking.gated.promote", killed)
        with pytest.raises(KeyboardInterrupt):
            register.main()
    assert [v.aliases for v in registered(workplace)] == [()]
    register.main()
    assert [v.aliases for v in registered(workplace)] == [("champion",)]
    assert json.loads(receipt(workplace))["decision"] == "the first version"

    client = connect(workplace.settings, "ddpm-digits").client
    client.delete_registered_model_alias("ddpm-digits", "champion")  # a person's decision
    register.main()
    assert [v.aliases for v in registered(workplace)] == [()]


def test_a_measurement_that_a_killed_process_added_is_judged(workplace, monkeypatch):
    workplace.model(seed=1, total=2.0)
    register.main()
    workplace.model(seed=2, total=2.5)
    register.main()
    workplace.model(seed=2, total=1.5)
    set_tag, made = MlflowClient.set_model_version_tag, []

    def killed(client, name, number, tag, value):
        made.append(tag)
        if len(made) == 3:
            raise KeyboardInterrupt
        set_tag(client, name, number, tag, value)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_model_version_tag", killed)
        with pytest.raises(KeyboardInterrupt):
            register.main()
    assert made[1].startswith("measurement.")
    register.main()
    assert [v.aliases for v in registered(workplace)] == [("previous",), ("champion",)]


def test_what_other_programs_wrote_into_tags_is_passed_over(workplace, monkeypatch, capsys):
    """The name of a measurement becomes a folder here: one that is no digest is none. What a later version of the code
    asks of the gate keeps only its own version waiting."""
    runs = workplace.folder / ".state/runs"
    runs.mkdir(parents=True)
    (runs / "checkpoint").write_text("dear")
    workplace.model(seed=1)
    register.main()
    client = connect(workplace.settings, "ddpm-digits").client
    for tag, value in (
        ("measurement.../runs", '{"metrics": {}, "files": {"x": "y"}}'),
        ("measurement.later", "3"),
        ("promotion.x", "nonsense"),
        ("promotion.y", '{"number": 1}'),
        ("took", "[]"),
        ("params", "{"),
    ):
        client.set_model_version_tag("ddpm-digits", "1", tag, value)
    client.create_model_version("ddpm-digits", "file:///elsewhere", tags={"gate.asked": '{"novel": 1}'})
    assert compared(monkeypatch=monkeypatch) == compare.INCOMPARABLE  # the second has no measurement
    workplace.model(seed=2, total=1.9)
    register.main()
    assert (runs / "checkpoint").read_text() == "dear"
    assert [v.aliases for v in registered(workplace)] == [("previous",), (), ("champion",)]
    unknown = "version 2 was registered with a gate that this code does not know (novel: Extra inputs"
    assert f"ddpm-digits version 2 still waits for the gate: {unknown}" in capsys.readouterr().err


def test_a_champion_whose_tables_are_gone_is_named_with_the_remedy_and_can_be_measured_again(workplace):
    workplace.model(seed=1, total=2.0)
    register.main()
    (version,) = registered(workplace)
    (known,) = measurements(version, workplace.settings)
    planned = (known.card("bits_per_dim"), *(known.card("fd_classifier")[name] for name in ("samples", "reference")))
    plan = SimpleNamespace(cards=lambda: planned)
    assert remeasure._is_known(version, plan, workplace.settings)

    shutil.rmtree(workplace.folder / ".state/registry")
    for folder in list((workplace.folder / ".state/mlflow/artifacts").rglob("measurements")):
        shutil.rmtree(folder)
    assert not remeasure._is_known(version, plan, workplace.settings)
    workplace.model(seed=2, total=1.9)
    with pytest.raises(TrackingError, match=r"version 1 .*run `python -m pipelines\.remeasure models:/ddpm-digits/1`"):
        register.main()
    assert [v.aliases for v in registered(workplace)] == [("champion",), ()]  # the second waits for the gate
