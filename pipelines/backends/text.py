"""Texts of jobs: what one prints, from bytes that come in pieces, and the gist of a long message."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from pipelines.report.progress import MARK

_MOST = 300
"""Characters of a gist."""
_LOG = ", last available logs"
"""What Ray writes before a job's log."""


def decoded(pieces: Iterable[bytes], skip: int) -> Iterator[str]:
    """UTF-8 from the character `skip` on; a character may come in two pieces, and what is none becomes a mark."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        text = decoder.decode(piece)
        rest, skip = text[skip:], max(0, skip - len(text))
        if rest:
            yield rest


def gist(message: str) -> str:
    """One line of a message with a log below it: its first line, and the last that tells of an error, else the last."""
    lines = [line.strip() for line in message.split("\n") if not line.startswith(MARK)]
    first, *rest = [line for line in lines if line] or [""]
    first = first.partition(_LOG)[0]
    last = next((line for line in reversed(rest) if "error" in line.lower()), rest[-1] if rest else "")
    whole = f"{first.rstrip('.:')}: {last}" if last else first
    return whole if len(whole) <= _MOST else f"{whole[: _MOST - 2]}.."
