"""Of a long message one line."""

import pytest

from pipelines.backends.text import gist
from pipelines.report.progress import MARK

RAY = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("", ""),
        ("Job has not started yet.", "Job has not started yet."),
        (f"{RAY}one\ntwo\n", "Job entrypoint command failed with exit code 1: two"),
        (
            f"{RAY}begun\n{MARK}{{}}\nerror: no sheep\n{MARK}{{}}\nat the end\n\n",
            "Job entrypoint command failed with exit code 1: error: no sheep",
        ),
        (
            "runtime_env setup failed:\n\n  ERROR: Hashes differ\n  Expected a\n  Got b",
            "runtime_env setup failed: ERROR: Hashes differ",
        ),
    ],
)
def test_the_first_line_and_the_last_that_tells_of_an_error(message: str, said: str) -> None:
    assert gist(message) == said


def test_it_is_short() -> None:
    said = gist(RAY + "error: " + "x" * 20_000)
    assert len(said) == 300
    assert said.endswith("xx..")
