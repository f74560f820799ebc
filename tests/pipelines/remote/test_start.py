"""Which job does some work, after all that can have become of the last one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipelines.backends.backend import State, Status, Submission
from pipelines.depot.local import LocalDepot
from pipelines.depot.ref import put_folder
from pipelines.errors import DataError, RunLocked
from pipelines.remote.names import Name, first, parse
from pipelines.remote.request import Answer, Request, answer_note, request_note
from pipelines.remote.start import answer_of, job_for
from pipelines.runs.digest import sha256_hex

WORK = "train-" + "0" * 16
FIRST, SECOND = Name(WORK, 1), Name(WORK, 2)


@dataclass
class Known:
    """A backend that knows of jobs what it is told."""

    states: dict[str, State] = field(default_factory=dict)
    submitted: list[Submission] = field(default_factory=list)
    place: str = "here"

    def submit(self, submission: Submission) -> None:
        self.submitted.append(submission)

    def attach(self, prefix: str) -> dict[str, Status]:
        return {name: Status(state) for name, state in self.states.items() if name.startswith(prefix)}

    def status(self, name: str) -> Status:
        return Status(self.states.get(name, State.MISSING))

    def logs(self, name: str, skip: int = 0) -> Iterator[str]:
        return iter(())

    def cancel(self, name: str) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINES_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def depot(tmp_path: Path) -> LocalDepot:
    return LocalDepot(tmp_path / "depot")


@pytest.fixture
def request_(depot: LocalDepot, tmp_path: Path) -> Request:
    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").write_text("1")
    ref = put_folder(depot, code)
    return Request("train", "0" * 16, {"steps": 10}, ref, {}, {"ray": {"workers": 2}}, {}, 60, source="a", place="here")


def asked(depot: LocalDepot, request: Request, answer: Answer | None = None) -> None:
    """Job 1 was asked for; perhaps something came of it."""
    depot.note(request_note(str(FIRST)), request.encode(), new=True)
    if answer:
        depot.note(answer_note(str(FIRST)), answer.encode())


def test_the_first_job_is_told_the_digest_of_its_request(depot: LocalDepot, request_: Request) -> None:
    backend = Known()
    name, answer = job_for(request_, depot, backend, {"A": "b"})
    assert (name, answer) == (first(WORK, depot), None)
    (submission,) = backend.submitted
    content = depot.noted(request_note(str(name)))
    assert content
    assert submission.command[-2:] == (str(name), sha256_hex(content))
    assert submission.environment == {"A": "b"}


def test_the_same_work_for_another_depot_is_another_job(depot: LocalDepot, request_: Request, tmp_path: Path) -> None:
    """The backend would take the one for the other, which leaves nothing in this depot."""
    backend, other = Known(), LocalDepot(tmp_path / "other")
    name, _ = job_for(request_, other, backend, {})
    backend.states[str(name)] = State.RUNNING
    another, _ = job_for(request_, depot, backend, {})
    assert [each.name for each in backend.submitted] == [str(name), str(another)]
    assert another != name
    backend.states[str(another)] = State.RUNNING
    for place, expected in ((depot, another), (other, name)):
        assert job_for(request_, place, backend, {}) == (expected, None)
    assert parse(str(name)) == name
    assert name.next.work == name.work


def test_a_job_that_never_began_begins_under_its_name(depot: LocalDepot, request_: Request) -> None:
    asked(depot, replace(request_, git={"commit": "another"}))
    backend = Known()
    assert job_for(request_, depot, backend, {}) == (FIRST, None)
    content = depot.noted(request_note(str(FIRST)))
    assert content
    assert backend.submitted[0].command[-1] == sha256_hex(content)


@pytest.mark.parametrize("change", [{"params": {"steps": 20}}, {"settings": {"ray": {"workers": 3}}}, {"source": "b"}])
def test_one_that_never_began_and_was_asked_for_something_else_is_left_alone(
    depot: LocalDepot, request_: Request, change: dict[str, object]
) -> None:
    asked(depot, request_)
    other, backend = replace(request_, **change), Known()
    assert job_for(other, depot, backend, {}) == (SECOND, None)
    content = depot.noted(request_note(str(SECOND)))
    assert content
    assert Request.decode(content) == other


@pytest.mark.parametrize("state", [State.WAITING, State.RUNNING])
def test_a_job_at_work_is_come_back_to_whatever_an_earlier_part_of_it_has_answered(
    depot: LocalDepot, request_: Request, state: State
) -> None:
    """As where Slurm puts a job that has saved back into its queue."""
    asked(depot, request_, Answer(75, "saved"))
    backend = Known({str(FIRST): state})
    assert job_for(request_, depot, backend, {}) == (FIRST, None)
    with pytest.raises(RunLocked, match="is at work on the same run with other parameters"):
        job_for(replace(request_, params={"steps": 20}), depot, backend, {})
    assert not backend.submitted


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.MISSING])
def test_what_a_job_has_done_is_taken_for_the_same_code_alone(
    depot: LocalDepot, request_: Request, state: State
) -> None:
    answer = Answer(0, "done", request_.code)
    asked(depot, replace(request_, place="there", settings={}), answer)
    backend = Known({str(FIRST): state})
    assert job_for(request_, depot, backend, {}) == (FIRST, answer)
    assert job_for(request_, depot, Known(backend.states), {}, useless={FIRST}) == (SECOND, None)


def test_outputs_of_other_code_are_made_anew(depot: LocalDepot, request_: Request) -> None:
    asked(depot, request_, Answer(0, "done", request_.code))
    assert job_for(replace(request_, source="b"), depot, Known({str(FIRST): State.SUCCEEDED}), {}) == (SECOND, None)


def test_a_job_that_another_backend_was_given_is_told_of(
    depot: LocalDepot, request_: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(depot, replace(request_, place="the cluster of before"))
    assert job_for(request_, depot, Known(), {}) == (SECOND, None)
    assert f"job {FIRST} was given to the cluster of before" in capsys.readouterr().err


@pytest.mark.parametrize("state", [State.WAITING, State.RUNNING])
def test_a_job_is_come_back_to_by_another_address_of_its_backend(
    depot: LocalDepot, request_: Request, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    """As through a tunnel from another machine."""
    asked(depot, replace(request_, place="this by another address"))
    backend = Known({str(FIRST): state})
    assert job_for(request_, depot, backend, {}) == (FIRST, None)
    with pytest.raises(RunLocked, match="is at work on the same run with other parameters"):
        job_for(replace(request_, params={"steps": 20}), depot, backend, {})
    assert not backend.submitted
    assert "which is not asked" not in capsys.readouterr().err


def test_a_job_that_failed_by_another_address_is_followed_by_another(
    depot: LocalDepot, request_: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(depot, replace(request_, place="this by another address"))
    assert job_for(request_, depot, Known({str(FIRST): State.FAILED}), {}) == (SECOND, None)
    assert "which is not asked" not in capsys.readouterr().err


@pytest.mark.parametrize("name", [b"", b"a/b", b"\xff"])
def test_a_damaged_name_of_the_depot_is_told(depot: LocalDepot, request_: Request, name: bytes) -> None:
    depot.note("name", name)
    with pytest.raises(DataError, match=r"the name of .* is damaged"):
        job_for(request_, depot, Known(), {})


@pytest.mark.parametrize("damaged", [request_note, answer_note])
def test_damaged_notes_are_no_end_of_the_work(depot: LocalDepot, request_: Request, damaged: object) -> None:
    asked(depot, request_, Answer(0, "done", request_.code))
    depot.note(damaged(str(FIRST)), b"{")  # type: ignore[operator]
    assert job_for(request_, depot, Known({str(FIRST): State.SUCCEEDED}), {}) == (SECOND, None)


def test_an_answer_that_was_taken_back(depot: LocalDepot) -> None:
    depot.note(answer_note(str(FIRST)), b"")
    assert answer_of(depot, FIRST) is None
