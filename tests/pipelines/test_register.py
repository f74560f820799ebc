"""Registering: idempotent, gated, complete, and clean when the server is away."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines import compare, register, summary
from pipelines.errors import CheckpointError, TrackingError
from pipelines.tracking.fetch import chosen, known_versions
from pipelines.tracking.gated import decision_of
from pipelines.tracking.measurements import measurements
from pipelines.tracking.registry import versions
from pipelines.tracking.store import connect, quiet_mlflow
from tests.diffusion.models.test_saved_damage import edit

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


def check_numbers(version):
    """Those that decided, for a program: 1.9 against 2 bits/dim, and the same distance."""
    bound, distance = (check["numbers"] for check in decision_of(version)["checks"][-2:])
    assert {name: bound[name] for name in ("ours", "theirs", "gain", "pairs")} == {
        "ours": 1.9,
        "theirs": 2.0,
        "gain": 0.0,
        "pairs": 24,
    }
    assert bound["difference"] == pytest.approx(-0.1)
    assert 0 < bound["standard_error"] < 0.05
    assert bound["probability"] > 0.999
    assert (distance["difference"], distance["probability"], distance["pairs"]) == (0.0, 0.5, None)


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
    check_numbers(registered(workplace)[1])

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


def test_a_damaged_or_mislabelled_model_is_not_registered(workplace):
    """By its tensors, not by what model.json says of them: registered so, it could never be loaded."""
    workplace.model(seed=1)
    trained = workplace.folder / "results/train"
    tensors, description = trained / "model.safetensors", trained / "model.json"
    whole, text = tensors.read_bytes(), description.read_text()
    tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or not the file that model\.json"):
        register.main()
    tensors.write_bytes(whole)
    description.write_text(text[:-40])
    with pytest.raises(CheckpointError, match=r"model\.json is damaged"):
        register.main()
    description.write_text(text)
    edit(trained, digests=json.loads(text)["digests"] | {"content": "f" * 64})
    with pytest.raises(CheckpointError, match=r"describes model ffffffffffff, model\.safetensors is"):
        register.main()
    assert registered(workplace) == []
    assert not (workplace.folder / "results/register").exists()


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
