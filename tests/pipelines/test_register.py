"""Registering: idempotent, gated, complete, and clean when the server is away."""

import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from pipelines import compare, register, remeasure, summary
from pipelines.errors import TrackingError
from pipelines.settings import Settings, TrackingSettings
from pipelines.tracking.fetch import chosen, known_versions
from pipelines.tracking.measurements import measurements
from pipelines.tracking.registry import versions
from pipelines.tracking.store import connect, quiet_mlflow

pytestmark = pytest.mark.filterwarnings("ignore")


def registered(place):
    store = connect(place.settings, "ddpm-digits")
    return versions(store, "ddpm-digits")


def receipt(place):
    return (place.folder / "results/register/receipt.json").read_bytes()


def compared(*arguments, monkeypatch):
    """Run the command; its exit status."""
    monkeypatch.setattr("sys.argv", ["compare", *arguments])
    with pytest.raises(SystemExit) as end:
        compare.main()
    return end.value.code


def test_versions_gate_and_comparison(workplace, capsys, monkeypatch):
    digest = workplace.model(seed=1, total=2.0)
    register.main()
    first = receipt(workplace)
    register.main()
    assert receipt(workplace) == first
    (version,) = registered(workplace)
    assert version.aliases == ("champion",)
    assert version.model_digest == digest == json.loads(first)["model_digest"]
    (measured,) = measurements(version, workplace.settings)
    assert measured.content["bits_per_dim"]["total"] == 2.0
    assert len(measured.per_image) == 24
    assert version.tags["data.digest"] == "d" * 64
    assert version.tags["fd_classifier"] == "3.5"
    assert version.params["train.steps"] == str(workplace.params.train.steps)

    workplace.model(seed=2, total=1.9)
    register.main()
    workplace.model(seed=3, total=1.89)
    register.main()
    workplace.model(seed=4, total=1.0, times=4000)
    register.main()
    assert [v.aliases for v in registered(workplace)] == [("previous",), ("champion",), (), ()]
    reasons = [v.tags["gate.reason"] for v in registered(workplace)]
    assert reasons[0] == "the first version"
    assert reasons[1].startswith("bits/dim 1.9 against 2 of champion 1: better (P > 99.9%); fd_classifier 3.5 against")
    assert reasons[2].startswith("bits/dim 1.89 against 1.9 of champion 2: not distinguishable")
    assert "not comparable with champion 2, measured with another times (no measurement brings" in reasons[3]

    assert not json.loads(receipt(workplace))["measurable"]
    assert "remeasure" not in capsys.readouterr().out
    assert compared(monkeypatch=monkeypatch) == compare.INCOMPARABLE
    printed = capsys.readouterr().out
    assert "2 champion" in printed
    assert "(3.30 to 3.70)" in printed
    assert "of real images" in printed
    assert "4 cannot be compared with 1 previous and 2 champion and 3" in printed
    assert "times follows from the model" in printed
    assert "remeasure" not in printed
    assert compared("2", "3", monkeypatch=monkeypatch) == 0
    assert compared("@champion", "1", monkeypatch=monkeypatch) == compare.WORSE
    with pytest.raises(TrackingError, match=r"no version 9; there are 1, 2, 3, 4, @previous, @champion"):
        chosen(registered(workplace), "9", "ddpm-digits")
    assert [chosen(registered(workplace), text, "ddpm-digits").number for text in ("@champion", "1")] == [2, 1]

    connect(workplace.settings, "ddpm-digits").client.delete_registered_model("ddpm-digits")
    register.main()
    assert [v.aliases for v in registered(workplace)] == [("champion",)]

    capsys.readouterr()
    summary.main()
    printed = capsys.readouterr().out
    assert "1.0000" in printed
    assert "4.0875" in printed
    assert "version 1" in printed


def test_a_model_that_is_measured_anew_is_no_new_version(workplace, capsys):
    workplace.model(seed=1, total=2.0)
    register.main()
    workplace.model(seed=2, total=2.5)
    register.main()
    workplace.model(seed=2, total=1.5)
    register.main()
    first, second = registered(workplace)
    assert [m.content["bits_per_dim"]["total"] for m in measurements(second, workplace.settings)] == [1.5, 2.5]
    assert (first.aliases, second.aliases) == (("previous",), ("champion",))  # the gate judges by the newest
    register.main()
    assert "nothing to do" in capsys.readouterr().out.splitlines()[-1]


def test_an_evaluation_of_another_model_is_not_registered(workplace):
    workplace.model(seed=1)
    path = workplace.folder / "results/evaluate/metrics.json"
    content = json.loads(path.read_text())
    content["bits_per_dim"]["card"]["model_digest"] = "f" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(TrackingError, match="results/evaluate measured model ffffffffffff"):
        register.read_results()


def test_missing_results_name_the_remedy(workplace):
    with pytest.raises(TrackingError, match="dvc repro"):
        register.read_results()


def test_an_empty_registry_says_so(workplace):
    with pytest.raises(TrackingError, match="no versions of nothing-here"):
        known_versions(workplace.settings, "nothing-here")


def test_looking_for_versions_writes_nothing(workplace):
    """A name that is mistyped leaves no experiment on the server, and a deleted one stays deleted."""
    client = connect(workplace.settings, "ddpm-digits").client
    client.delete_experiment(client.get_experiment_by_name("ddpm-digits").experiment_id)
    for name in ("ddpm-digits", "typo"):
        with pytest.raises(TrackingError, match=f"no versions of {name}"):
            known_versions(workplace.settings, name)
    assert client.get_experiment_by_name("typo") is None
    assert client.get_experiment_by_name("ddpm-digits").lifecycle_stage == "deleted"


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


def test_what_other_programs_wrote_into_tags_is_passed_over(workplace, monkeypatch):
    """The name of a measurement becomes a folder here: one that is no digest is none."""
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
    client.create_model_version("ddpm-digits", "file:///elsewhere", tags={"gate.pending": "none"})
    assert compared(monkeypatch=monkeypatch) == compare.INCOMPARABLE  # the second has no measurement
    workplace.model(seed=2, total=1.9)
    register.main()
    assert (runs / "checkpoint").read_text() == "dear"
    assert [v.aliases for v in registered(workplace)] == [("previous",), (), ("champion",)]


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


def test_two_registrations_at_once_make_one_version(workplace):
    workplace.model(seed=1)
    settings, found = workplace.settings, register.read_results()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: register.register(workplace.params, settings, found), range(2)))
    assert sorted(new for _, new in results) == [False, True]
    assert [(v.number, v.aliases) for v in registered(workplace)] == [(1, ("champion",))]


def test_the_summary_says_when_the_results_stand_in_another_registry(workplace, monkeypatch, capsys, tmp_path):
    workplace.model(seed=1)
    register.main()
    summary.main()
    assert "does not hold" not in capsys.readouterr().out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    summary.main()
    assert "does not hold ddpm-digits version 1: run `python -m pipelines.register`" in capsys.readouterr().out


def test_a_loaded_version_draws_with_the_weights_that_were_evaluated(workplace):
    mlflow = quiet_mlflow(workplace.settings)
    asked = []
    for weights in ("ema", "raw"):
        workplace.model(seed=1, weights=weights)
        register.main()
        number = registered(workplace)[-1].number
        loaded = mlflow.pyfunc.load_model(f"models:/ddpm-digits/{number}")
        asked.append(loaded.unwrap_python_model().saved.net.tail.bias.sum().item())
    assert asked[0] != asked[1]
