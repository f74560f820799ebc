"""A spool's lines: what is damaged is seen, and never read as something else."""

import json
import random

from pipelines.tracking.lines import decode, encode, read_lines
from pipelines.tracking.mark import Mark, read_mark, write_mark

EVENTS = [{"metric": "loss", "step": step, "value": 1 / (step + 1), "time": 1_700_000_000_000} for step in range(40)]


def test_what_is_written_is_read_with_its_place(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(map(encode, EVENTS)))
    lines = list(read_lines(path))
    assert [line.event for line in lines] == EVENTS
    assert [line.at for line in lines] == [0, *(line.end for line in lines[:-1])]
    assert [line.event for line in read_lines(path, lines[7].at)] == EVENTS[7:]


def test_damage_is_seen_wherever_it_is(tmp_path):
    """Bytes changed, cut out or put in: each event is whole or missing."""
    path, draw = tmp_path / "a.jsonl", random.Random(0)
    whole = b"".join(map(encode, EVENTS))
    for _ in range(300):
        content = bytearray(whole)
        at = draw.randrange(len(content))
        match draw.randrange(4):
            case 0:
                content[at] ^= 1 << draw.randrange(8)
            case 1:
                del content[at : at + draw.randrange(1, 200)]
            case 2:
                content[at:at] = draw.randbytes(draw.randrange(1, 50))
            case 3:
                content[at : at + 100] = bytes(
                    len(content[at : at + 100])
                )  # as a machine that lost its power leaves it
        path.write_bytes(content)
        read = [line.event for line in read_lines(path)]
        kept = [event for event in read if event]
        assert kept == [event for event in EVENTS if event in kept]
        assert len(kept) < len(EVENTS) or {} in read
        assert len(kept) >= len(EVENTS) - 5


def test_a_digit_changed_inside_the_json_is_damage():
    line = encode({"metric": "loss", "step": 12, "value": 0.5, "time": 1})
    assert decode(line)["step"] == 12
    assert decode(line.replace(b"12", b"13")) == {}


def test_lines_without_checksums_are_of_before_and_are_read():
    assert decode(json.dumps(EVENTS[0]).encode() + b"\n") == EVENTS[0]
    assert decode(b'{"metric": "lo\n') == {}


def test_a_mark_is_of_one_server_and_of_no_more_than_there_is(tmp_path):
    path = tmp_path / "a.sent"
    nothing = read_mark(path, "http://me:secret@here", size=100)
    mark = Mark(nothing.server, "run", 80, (10, 20))
    write_mark(path, mark)
    assert read_mark(path, "http://me:secret@here", size=100) == mark
    assert "secret" not in path.read_text()
    assert read_mark(path, "http://elsewhere", size=100).offset == 0
    assert read_mark(path, "http://me:secret@here", size=79) == nothing  # the end of the spool was lost
    path.write_text("12 abc")  # as it was written before
    assert read_mark(path, "http://me:secret@here", size=100) == nothing
