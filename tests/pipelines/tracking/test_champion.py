"""The alias: it follows the last promotion, whoever moves it when, and people may move it too."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from pipelines import promote as command
from pipelines.errors import TrackingError
from pipelines.sections import GateParams
from pipelines.tracking.champion import promote, promotions
from pipelines.tracking.gated import settle
from pipelines.tracking.registry import versions
from pipelines.tracking.store import connect

pytestmark = pytest.mark.filterwarnings("ignore")

NAME = "model"


@pytest.fixture
def store(workplace):
    """A registry with four versions, of nothing."""
    made = connect(workplace.settings, NAME)
    made.client.create_registered_model(NAME)
    for number in range(1, 5):
        made.client.create_model_version(NAME, f"{made.uri}/{number}", tags={"model.digest": str(number)})
    return made


def aliases(store):
    return [version.aliases for version in versions(store, NAME)]


def by_hand(store, number, reason="because"):
    known = versions(store, NAME)
    return promote(store, known, known[number - 1], "person", reason)


def test_promotions_are_kept_and_the_last_champion_is_previous(store):
    for number in (1, 3, 2, 3):
        assert by_hand(store, number, f"reason {number}")
    assert aliases(store) == [(), ("previous",), ("champion",), ()]
    found = promotions(versions(store, NAME))
    assert [(p.number, p.version, p.before) for p in found] == [(1, 1, None), (2, 3, 1), (3, 2, 3), (4, 3, 2)]
    assert (found[-1].by, found[-1].reason) == ("person", "reason 3")


def test_a_process_that_was_held_up_does_not_undo_a_later_promotion(store):
    by_hand(store, 1)
    stale = versions(store, NAME)
    by_hand(store, 2)
    by_hand(store, 3)
    assert not promote(store, stale, stale[3], "gate", "decided long ago")
    assert aliases(store) == [(), ("previous",), ("champion",), ()]


def test_of_two_at_once_the_later_one_takes_its_record_back(store):
    """The first was told that it is champion, so the second, which was never compared with it, cannot be."""
    by_hand(store, 1)
    stale = versions(store, NAME)
    assert promote(store, stale, stale[2], "gate", "")
    assert not promote(store, stale, stale[1], "gate", "")
    assert aliases(store) == [("previous",), (), ("champion",), ()]
    assert [(p.number, p.version) for p in promotions(versions(store, NAME))] == [(1, 1), (2, 3)]


def test_a_decision_against_another_champion_is_not_carried_out(store):
    by_hand(store, 1)
    stale = versions(store, NAME)
    store.client.set_registered_model_alias(NAME, "champion", "4")
    assert not promote(store, stale, stale[1], "gate", "")
    assert aliases(store) == [(), (), (), ("champion",)]


def test_a_record_that_a_killed_process_left_does_not_count(store):
    """It had taken the number of another one, which became champion, and could not take it back."""
    by_hand(store, 1)
    stale = versions(store, NAME)
    by_hand(store, 3)
    record = {"number": 2, "before": 1, "by": "gate", "reason": "", "when": ""}
    for number in ("2", "4"):
        store.client.set_model_version_tag(NAME, number, "promotion.0002.0", json.dumps(record))
    assert promotions(versions(store, NAME))[-1].version == 3
    assert by_hand(store, 1)
    assert not promote(store, stale, stale[1], "gate", "")
    assert aliases(store) == [("champion",), (), ("previous",), ()]


def test_of_two_versions_of_one_model_the_later_one_is_withdrawn(store, workplace, capsys):
    """Two machines made one each; neither was measured here, which keeps nobody waiting but whose it is."""
    tags = {"model.digest": "5", "weights": "ema", "gate.asked": "{}"}
    for _ in range(2):
        store.client.create_model_version(NAME, f"{store.uri}/5", tags=tags)
    with pytest.raises(TrackingError, match="version 5 has no measurement"):
        settle(store, workplace.settings, NAME, 5)
    assert [version.number for version in settle(store, workplace.settings, NAME, 1)] == [1, 2, 3, 4, 5]
    assert "model version 5 still waits for the gate: version 5 has no measurement" in capsys.readouterr().err


def test_an_alias_that_a_person_moved_stays_until_the_next_promotion(store):
    by_hand(store, 1)
    by_hand(store, 2)
    store.client.set_registered_model_alias(NAME, "champion", "4")
    assert by_hand(store, 3)
    assert aliases(store) == [(), (), ("champion",), ("previous",)]
    assert promotions(versions(store, NAME))[-1].before == 4


@pytest.mark.slow
def test_two_processes_that_race_end_with_one_champion(store):
    """Each promotes two versions twenty times in turn; neither shares a lock file with the other."""
    code = """
        import sys
        from pipelines.tracking.champion import promote
        from pipelines.tracking.registry import versions
        from pipelines.tracking.store import Store, quiet_mlflow
        from pipelines.settings import Settings
        mlflow = quiet_mlflow(Settings())
        store = Store(mlflow.MlflowClient(tracking_uri=sys.argv[1], registry_uri=sys.argv[1]), sys.argv[1], "0")
        for k in range(20):
            known = versions(store, "model")
            promote(store, known, known[int(sys.argv[2]) + k % 2], "gate", "race")
    """
    running = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), store.uri, first], stderr=subprocess.PIPE)
        for first in ("0", "2")
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    known = versions(store, NAME)
    (champion,) = [version for version in known if "champion" in version.aliases]
    assert champion.number == promotions(known)[-1].version
    assert sum("previous" in version.aliases for version in known) == 1


def test_a_version_of_a_model_that_params_yaml_does_not_name(workplace, store, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["promote", f"models:/{NAME}/2", "--reason", "good"])
    command.main()
    assert f"{NAME} version 2 is champion" in capsys.readouterr().out
    assert aliases(store)[1] == ("champion",)


def test_the_command(workplace, store, capsys):
    def promoted(wanted, reason=None):
        return command.promote(NAME, wanted, reason, GateParams(), workplace.settings)

    assert promoted("2", "good") == (2, None)
    assert promoted("@champion", "again") == (2, 2)
    assert promoted("3", "better") == (3, 2)
    assert promoted("@previous", "rolled back") == (2, 3)
    assert aliases(store) == [(), ("champion",), ("previous",), ()]
    with pytest.raises(
        TrackingError, match=r"version 4 has no measurement: run `python -m pipelines\.remeasure models:/model/4`"
    ):
        promoted("4")
    with pytest.raises(TrackingError, match="model has no version 7; there are 1, 2, 3, 4, @champion, @previous"):
        promoted("7", "why not")
    *_, last = command.history(NAME, workplace.settings).splitlines()
    assert last.endswith("version 2 after 3, by the person: rolled back")
