"""From `storage.uri` to the depot below it."""

from __future__ import annotations

from pathlib import Path

from pipelines.depot.depot import Depot
from pipelines.depot.local import LocalDepot
from pipelines.depot.s3 import S3Depot
from pipelines.runs.address import place_at, place_of
from pipelines.settings import Settings

FOLDER = "depot"


def depot_of(settings: Settings) -> Depot:
    """The depot of this project.

    Raises:
        ParamsError: storage.uri is neither a folder nor s3://bucket/prefix.
    """
    return depot_at(f"{place_of(settings)}/{FOLDER}")


def depot_at(uri: str) -> Depot:
    """The depot in a folder or below s3://bucket/prefix.

    Raises:
        ParamsError: it is neither. The message leaves out what follows the scheme: it may hold a password.
    """
    place = place_at(uri)
    return LocalDepot(place) if isinstance(place, Path) else S3Depot(place)
