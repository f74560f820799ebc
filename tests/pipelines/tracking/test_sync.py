"""`python -m pipelines.sync`: what waits, what was sent, and whether something still waits."""

import sys

import pytest

from pipelines import sync
from pipelines.settings import Settings
from pipelines.tracking import leftovers, sender
from pipelines.tracking.run import identity as run_identity
from pipelines.tracking.run import stage_run
from pipelines.tracking.sender import pause
from pipelines.tracking.spool import Spool, spool_folder
from pipelines.tracking.store import connect
from tests.pipelines.tracking.proxy import free_port

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def command(workplace, monkeypatch):
    """The command, with the settings that the test wants."""

    def run(settings: Settings, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["sync", *arguments])
        monkeypatch.setattr(sync, "load_settings", lambda: settings)
        try:
            sync.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


@pytest.fixture
def away() -> Settings:
    return Settings.model_validate(
        {"tracking": {"uri": f"http://me:secret@127.0.0.1:{free_port()}", "timeout_s": 1, "retries": 0}}
    )


def leave(workplace, *keys: str, steps: int = 3) -> None:
    for key in keys:
        spool = Spool.open(run_identity("train", workplace.params, key))
        for step in range(steps):
            spool.metric("loss", step, 0.5)
        spool.end("FINISHED")
        spool.close()


def test_it_lists_and_sends_run_by_run(workplace, command, capsys):
    leave(workplace, "a", "b")
    names = sorted(path.stem for path in spool_folder().glob("*.jsonl"))
    assert command(workplace.settings, "--list") == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: 1 fact, 3 numbers" for name in names]
    assert command(workplace.settings) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: sent" for name in names]
    assert command(workplace.settings, "--list") == 0
    assert capsys.readouterr().out == "nothing waits to be sent to MLflow\n"
    assert command(workplace.settings) == 0
    assert capsys.readouterr().out == "nothing waits to be sent to MLflow\n"
    store = connect(workplace.settings, workplace.params.register_.name)
    assert len(store.client.search_runs([store.experiment_id], "tags.stage = 'train'")) == 2


def test_a_server_that_is_away_is_not_asked_for_each_run(workplace, command, away, capsys, monkeypatch):
    leave(workplace, "a", "b", "c")
    asked = []
    run = leftovers.Delivery.run
    monkeypatch.setattr(leftovers.Delivery, "run", lambda self: (asked.append(self), run(self)))
    assert command(away) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(asked) == 2
    assert all(": 1 fact, 3 numbers not sent (" in line for line in lines)
    assert "not tried" in lines[2]
    assert last == "not all is in MLflow; it is kept: run this again when the reasons above are gone"
    assert "secret" not in "".join(lines)


def test_a_spool_that_cannot_be_read_does_not_keep_the_others(workplace, command, capsys):
    leave(workplace, "a", "b", "c")
    first = sorted(spool_folder().glob("*.jsonl"))[0]
    first.write_text('{"run": {"of": "a later version"}}\n')
    assert command(workplace.settings) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "not sent (TypeError" in lines[0]
    assert [line.rsplit(" ", 1)[1] for line in lines[1:3]] == ["sent", "sent"]


def test_a_spool_that_does_not_say_whose_it_is_is_kept_and_told(workplace, command, capsys):
    leave(workplace, "a")
    (path,) = spool_folder().glob("*.jsonl")
    path.write_bytes(b"x" + path.read_bytes())
    assert command(workplace.settings) == 1
    assert "its beginning is damaged" in capsys.readouterr().out
    assert path.exists()


def test_several_that_do_not_say_it_do_not_keep_the_others(workplace, command, capsys):
    leave(workplace, "a", "b", "c", "d")
    for path in sorted(spool_folder().glob("*.jsonl"))[:3]:
        path.write_bytes(b"x" + path.read_bytes())
    assert command(workplace.settings) == 1
    lines = capsys.readouterr().out.splitlines()
    assert ["its beginning is damaged" in line for line in lines[:4]] == [True, True, True, False]
    assert lines[3].endswith(": sent")


def test_a_stage_at_work_is_left_alone(workplace, command, away, capsys):
    with stage_run("train", workplace.params, away, key="k") as tracker:
        tracker.metrics(1, {"loss": 0.5})
        capsys.readouterr()
        assert command(workplace.settings) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert line.endswith(": a stage is at work on it and sends it")
    assert command(workplace.settings, "--list") == 0
    assert "1 fact, 1 number" in capsys.readouterr().out


def test_attempts_become_rarer_and_do_not_coincide(monkeypatch):
    assert pause(0) == sender._EVERY_S
    drawn = {pause(3) for _ in range(50)}
    assert len(drawn) > 40
    assert 4 * sender._AGAIN_S <= min(drawn) < max(drawn) <= 8 * sender._AGAIN_S
    assert max(pause(1000) for _ in range(50)) <= 60
