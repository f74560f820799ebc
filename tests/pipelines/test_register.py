"""Registering: idempotent, gated, complete, and clean when the server is away."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines import compare, register, summary
from pipelines.errors import TrackingError
from pipelines.settings import Settings, TrackingSettings
from pipelines.tracking.fetch import chosen, known_versions
from pipelines.tracking.gate import Decision, decide, differing_fields
from pipelines.tracking.registry import Version, champion, versions
from pipelines.tracking.store import connect, quiet_mlflow

pytestmark = pytest.mark.filterwarnings("ignore")


def registered(place):
    store = connect(place.settings, "ddpm-digits")
    return versions(store, "ddpm-digits")


def receipt(place):
    return (place.folder / "results/register/receipt.json").read_bytes()


def test_versions_gate_and_comparison(workplace, capsys):
    digest = workplace.model(seed=1, total=2.0)
    register.main()
    first = receipt(workplace)
    register.main()
    assert receipt(workplace) == first
    (version,) = registered(workplace)
    assert version.aliases == ("champion",)
    assert version.model_digest == digest == json.loads(first)["model_digest"]
    assert version.evaluation["bits_per_dim"]["total"] == 2.0
    assert version.tags["data.digest"] == "d" * 64
    assert version.tags["fd_classifier"] == "3.5"
    assert version.params["train.steps"] == str(workplace.params.train.steps)

    workplace.model(seed=2, total=1.9)
    register.main()
    workplace.model(seed=3, total=1.95)
    register.main()
    workplace.model(seed=4, total=1.0, split="val")
    register.main()
    assert [v.aliases for v in registered(workplace)] == [(), ("champion",), (), ()]
    assert "better by 0.1000" in registered(workplace)[1].tags["gate.reason"]
    assert "not better" in registered(workplace)[2].tags["gate.reason"]
    assert "another split" in registered(workplace)[3].tags["gate.reason"]

    capsys.readouterr()
    compare.show(registered(workplace), "ddpm-digits")
    printed = capsys.readouterr().out
    assert "2 champion" in printed
    assert "3.50 (3.30 to 3.70)" in printed
    assert "of real images" in printed
    assert "measured with another bits_per_dim.split" in printed
    assert [[v.number for v in group] for group in compare.by_card(registered(workplace))] == [[1, 2, 3], [4]]
    with pytest.raises(TrackingError, match=r"no version 9; there are 1, 2, 3, 4, @champion"):
        chosen(registered(workplace), "9", "ddpm-digits")
    assert [chosen(registered(workplace), text, "ddpm-digits").number for text in ("@champion", "1")] == [2, 1]

    connect(workplace.settings, "ddpm-digits").client.delete_registered_model("ddpm-digits")
    register.main()
    assert [v.aliases for v in registered(workplace)] == [("champion",)]

    summary.main()
    printed = capsys.readouterr().out
    assert "1.0000" in printed
    assert "4.0875" in printed
    assert "version 1" in printed


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


def test_the_gate():
    card = {"split": "test", "model_digest": "a"}
    current = Version(
        "m", 3, ("champion",), 0, {"evaluation": json.dumps({"bits_per_dim": {"total": 2.0, "card": card}})}
    )
    assert champion([current]) is current
    better = {"total": 1.5, "card": card | {"model_digest": "b"}}
    assert decide(better, None, 0.0) == Decision(True, "the first version")
    assert decide(better, current, 0.4).champion
    assert not decide(better, current, 0.5).champion  # it must gain more than that
    assert not decide(better | {"card": card | {"split": "val"}}, current, 0.0).champion
    assert differing_fields({"a": {"b": 1, "model_digest": 1}}, {"a": {"b": 2, "model_digest": 2}}) == ["a.b"]


def test_a_decision_that_a_killed_process_did_not_carry_out_is_carried_out(workplace, monkeypatch):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    workplace.model(seed=1)
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.tracking.registry._carry_out", killed)
        with pytest.raises(KeyboardInterrupt):
            register.main()
    assert [v.aliases for v in registered(workplace)] == [()]
    register.main()
    assert [v.aliases for v in registered(workplace)] == [("champion",)]

    client = connect(workplace.settings, "ddpm-digits").client
    client.delete_registered_model_alias("ddpm-digits", "champion")  # a person's decision
    register.main()
    assert [v.aliases for v in registered(workplace)] == [()]


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
