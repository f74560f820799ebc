"""A spool's file: one event a line, with a checksum before it. A damaged line is seen as such, whatever it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

Event = dict[str, Any]
"""`{"run": identity, "time": ms}`, `{"metric": name, "step": .., "value": .., "time": ms}`, `{"tags": ..}`,
`{"artifact": file}`, `{"end": status, "time": ms}`; empty for a line that is damaged."""


_json = json.JSONEncoder(allow_nan=False).encode
"""json.dumps would make an encoder for each line."""


@dataclass(frozen=True)
class Line:
    """An event and its place in the file."""

    at: int
    """Where it begins, in bytes."""
    end: int
    """Where the next one begins."""
    event: Event


def encode(event: Event) -> bytes:
    """The line of an event: CRC-32 of its JSON in hexadecimal, a blank, the JSON."""
    content = _json(event).encode()
    return b"%08x %b\n" % (crc32(content), content)


def decode(line: bytes) -> Event:
    """The event of a line; empty if it is damaged. Lines from before there were checksums begin with their JSON."""
    checksum, _, content = line.rstrip(b"\n").partition(b" ")
    if line.startswith(b"{"):
        content = line
    elif checksum != b"%08x" % crc32(content):
        return {}
    try:
        event = json.loads(content)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def read_lines(path: Path, start: int = 0) -> Iterator[Line]:
    """The lines from a place on; none where there is no file. One without its end is still being written."""
    if not path.exists():
        return
    with path.open("rb") as file:
        at = file.seek(start)
        for line in file:
            if line.endswith(b"\n"):
                yield Line(at, at + len(line), decode(line))
            at += len(line)


def drop_torn_line(path: Path) -> None:
    """A process that was killed while writing leaves half a line at the end."""
    if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
