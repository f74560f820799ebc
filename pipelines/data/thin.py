"""Folders of prepared images without the images: manifest, table, and a word on where the shards are.

They open as other folders of prepared images do. Training then begins at once, on any machine, and reads single images
over the network while the shards are on their way (`streamed.py`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pipelines.depot.ref import Ref
from pipelines.errors import DataError

ORIGIN = "depot.json"


def write_origin(folder: Path, ref: Ref) -> None:
    """Say that the shards are in the depot."""
    (folder / ORIGIN).write_text(json.dumps(asdict(ref), indent=2) + "\n", encoding="utf-8")


def origin_of(folder: Path) -> Ref | None:
    """Where the shards are that `folder` lacks; None: it should lack none.

    Raises:
        DataError: what it says of that is damaged.
    """
    path = folder / ORIGIN
    try:
        return decode_origin(path.read_bytes())
    except FileNotFoundError:
        return None
    except DataError as error:
        raise DataError(f"{path} {error}") from None


def decode_origin(content: bytes) -> Ref:
    """Where the shards are, from what is in a thin folder's `ORIGIN`.

    Raises:
        DataError: it is damaged.
    """
    try:
        return Ref(**json.loads(content))
    except (ValueError, TypeError):
        raise DataError("is damaged: it should name a depot's uri and a digest; get the folder anew") from None
