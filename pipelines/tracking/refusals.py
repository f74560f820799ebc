"""What MLflow, the network and the database say when they refuse, for a person: no credentials, one line, a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError

from pipelines.errors import TrackingError
from pipelines.settings import Settings
from pipelines.tracking.loading import load_mlflow

_OWN_ERROR = re.compile(r"too many (5\d\d|429) error responses|failed with error code (5\d\d)")
_NOT_MLFLOW = (
    "ENDPOINT_NOT_FOUND",
    "not in a valid JSON format",
    "failed with error code 404",
    "failed with error code 405",
)
_NO_ANSWER = {
    "Connection refused": "is not there: nobody listens at its address",
    "timed out": "did not answer within tracking.timeout_s",
    "Connection aborted": "closed the connection without an answer",
    "Failed to resolve": "is not known to the network by this name",
}
"""What urllib3 says, and what that means."""


class CredentialsRefused(TrackingError):
    """The server does not let this user in: asking again is no use before a person has changed something."""


@contextmanager
def tracking_errors(settings: Settings) -> Iterator[None]:
    """MLflow's and the network's errors as TrackingError, with credentials taken out of their text."""
    import requests
    from sqlalchemy.exc import SQLAlchemyError

    mlflow_error: type[Exception] = load_mlflow().exceptions.MlflowException
    try:
        yield
    except (mlflow_error, requests.RequestException, SQLAlchemyError, OSError, JSONDecodeError) as error:
        where = "the embedded MLflow store" if settings.tracking.uri is None else "the MLflow server (tracking.uri)"
        kind = CredentialsRefused if status(error) in (401, 403) else TrackingError
        raise kind(f"{where} could not be used: {explained(error)}") from error


def status(error: Exception) -> int | None:
    """The HTTP status of an answer, as far as MLflow tells it; None where there was no answer, or no HTTP."""
    import requests
    from mlflow.exceptions import MlflowException, RestException

    if isinstance(error, requests.RequestException):
        return None if error.response is None else error.response.status_code
    if found := _OWN_ERROR.search(str(error)):
        return int(found[1] or found[2])
    if isinstance(error, MlflowException) and (isinstance(error, RestException) or "error code" in str(error)):
        return int(error.get_http_status_code())
    return None


def refused(error: Exception) -> bool:
    """Whether MLflow has read what it was given and will not have it; else it may have it later, or have it already."""
    said = status(error)
    if said is None:  # of the embedded store
        return invalid(error)
    return said == 500 or (400 <= said < 500 and said not in (401, 403, 408, 429))


def invalid(error: Exception) -> bool:
    """Whether MLflow itself says that what it was given cannot be: it would take something else."""
    return getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE"


def answered(error: Exception) -> bool:
    """Whether somebody answered, be it to refuse; a request of MLflow's own that was not says so."""
    return status(error) is not None or "API request to" not in str(error)


def explained(error: Exception) -> str:
    """What an error says first, and what can be done about it where that is known."""
    said, text = status(error), first_line(error)
    if said in (401, 403):
        return (
            f"it refuses these credentials ({said}: {text}); check the user, password or token in tracking.uri, "
            "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, and what they may do"
        )
    if any(sign in text for sign in _NOT_MLFLOW):
        return f"what answers there is no MLflow server, or lacks what is asked for ({text.split('.')[0]}); check it"
    if found := _OWN_ERROR.search(text):
        return f"it answers {found[1] or found[2]}; its log says why"
    return next((f"it {said}" for sign, said in _NO_ANSWER.items() if sign in text), text)


def first_line(error: Exception) -> str:
    """What an error says first, without credentials; its kind where it says nothing. A database speaks for itself."""
    of_database = getattr(error.__cause__ or error, "orig", None)
    lines = redact(str(of_database or error)).splitlines()
    return lines[0] if lines else type(error).__name__


def redact(text: str) -> str:
    """`text` without user names and passwords in addresses. A password may hold any sign but white space, so all up to
    the last @ counts as one."""
    return re.sub(r"(\w+://)\S+@", r"\1***@", text)
