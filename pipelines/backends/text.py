"""What a job prints, from bytes that come in pieces."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator


def decoded(pieces: Iterable[bytes], skip: int) -> Iterator[str]:
    """UTF-8 from the character `skip` on; a character may come in two pieces, and what is none becomes a mark."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        text = decoder.decode(piece)
        rest, skip = text[skip:], max(0, skip - len(text))
        if rest:
            yield rest
