"""The list of a project's jobs."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from pipelines.backends.backend import Submission
from pipelines.backends.local import Local
from pipelines.depot.address import depot_of
from pipelines.jobs import show
from pipelines.remote.request import Answer, answer_note, request_note
from pipelines.settings import Settings
from tests.pipelines.backends.conftest import end_of

FAILED = Answer(1, "error: [/data] is not there: name it in params.yaml, or bring it there, and run it again")
JOBS = {
    "evaluate-00000000000000bb-1": (70, "exit 3", None),
    "reference-00000000000000dd-1": (400, "exit 1", FAILED.encode()),
    "train-00000000000000cc-2": (4000, "exit 0", Answer(0).encode()[:-9]),
    "sample-00000000000000aa-1": (100_000, "exit 0", Answer(0).encode()),
}


def test_it_fits_a_narrow_terminal_and_has_the_newest_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    settings, local = Settings(storage={"uri": str(tmp_path / "runs")}), Local(tmp_path / "jobs")
    depot = depot_of(settings)
    (tmp_path / "code").mkdir()
    for name, (ago, command, answer) in JOBS.items():
        depot.note(request_note(name), b"{}")
        if answer:
            depot.note(answer_note(name), answer)
        local.submit(Submission(name, ("sh", "-c", command), tmp_path / "code"))
        end_of(local, name)
        os.utime(local.folder / name / "lock", (time.time() - ago,) * 2)
    depot.note(request_note("train-00000000000000cc-1"), b"{}")
    show(settings, local)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [re.split(r" *│ *", line.strip("│ ")) for line in lines if re.match("│ [a-z]", line)]
    assert rows == [
        ["evaluate-00000000000000bb-1", "1 min", "failed", "exit status 3"],
        ["reference-00000000000000dd-1", "7 min", "failed", "error: [/data] is not"],
        ["train-00000000000000cc-2", "1 h", "succeeded", "damaged"],
        ["sample-00000000000000aa-1", "1 d", "succeeded", "its outputs are there"],
        ["train-00000000000000cc-1", "", "forgotten"],
    ]
