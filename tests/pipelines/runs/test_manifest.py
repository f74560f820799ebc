"""No byte of a manifest changes unnoticed, and other versions are told from damage."""

import json

import pytest

from pipelines.errors import CheckpointError
from pipelines.runs.manifest import FileEntry, Manifest

MANIFEST = Manifest({"step": 250, "final": False}, {"a.bin": FileEntry(3, "0" * 64), "b.json": FileEntry(0, "f" * 64)})


def test_round_trip():
    assert Manifest.decode(MANIFEST.encode()) == MANIFEST


def test_every_bit_counts():
    content = MANIFEST.encode()
    for place in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            with pytest.raises(CheckpointError, match=r"manifest\.json"):
                Manifest.decode(bytes(damaged))


def test_every_truncation_counts():
    content = MANIFEST.encode()
    for length in range(len(content)):
        with pytest.raises(CheckpointError, match="damaged"):
            Manifest.decode(content[:length])


@pytest.mark.parametrize(
    "values", [[], None, {}, {"format_version": 1}, {"format_version": 1, "facts": {}, "files": []}]
)
def test_other_json_is_damage(values):
    with pytest.raises(CheckpointError, match="damaged"):
        Manifest.decode(json.dumps(values).encode())


def test_another_version_is_named():
    later = {"format_version": 2, "facts": {}, "files": {"a": {"size": 1, "blake3": "00"}}}
    with pytest.raises(CheckpointError, match="format version 2; this code reads 1"):
        Manifest.decode(json.dumps(later).encode())


def test_a_manifest_cannot_point_outside_its_folder():
    outside = Manifest({}, {"../a.bin": FileEntry(0, "0" * 64)})
    with pytest.raises(CheckpointError, match="damaged"):
        Manifest.decode(outside.encode())
