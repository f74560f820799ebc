"""What the prepare stage made: as a manifest, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from pipelines.data.collect import Collection, Record
from pipelines.data.manifest import Manifest, Shard
from pipelines.data.sources import Source
from pipelines.data.split import SplitName
from pipelines.params import Params

_LISTED = 20
"""Bad files that are named on the terminal; the manifest names all of them."""


@dataclass(frozen=True)
class Written:
    """What went to the disk."""

    splits: Mapping[SplitName, Sequence[Record]]
    """In the order in which the images are stored."""
    shards: Sequence[Shard]
    table_sha256: str


def manifest_of(params: Params, source: Source, collection: Collection, written: Written) -> Manifest:
    """The manifest of what was made from `source`."""
    side = min(source.shape[1:])
    return Manifest(
        source=source.name,
        parameters={"data": params.data.model_dump(), "prepare": params.prepare.model_dump()},
        shape=source.shape,
        levels=source.levels,
        classes=source.classes,
        counts={name: len(records) for name, records in written.splits.items()},
        shards=tuple(written.shards),
        table_sha256=written.table_sha256,
        images_sha256=_images_sha256(written.splits),
        read=len(source.items),
        bad=tuple(collection.bad),
        duplicates=collection.duplicates,
        conflicts=collection.conflicts,
        enlarged=sum(min(record.width, record.height) < side for record in collection.records.values()),
        ignored=dict(sorted(source.ignored.items())),
    )


def _images_sha256(splits: Mapping[SplitName, Sequence[Record]]) -> str:
    checksum = sha256()
    for name, records in splits.items():
        for record in records:
            checksum.update(f"{name} {record.id} {record.item.label}\n".encode())
    return checksum.hexdigest()


def summary(manifest: Manifest) -> str:
    """The manifest in a few lines: what there is, then what was left out, if anything."""
    C, H, W = manifest.shape
    counts = ", ".join(f"{name} {count}" for name, count in manifest.counts.items())
    classes = f"{len(manifest.classes)} classes" if manifest.classes else "no labels"
    lines = [f"prepared {manifest.total} images of {C}x{H}x{W}, {manifest.levels} levels, {classes}: {counts}"]
    if manifest.duplicates:
        also = f", {manifest.conflicts} of them under another label" if manifest.conflicts else ""
        lines.append(f"  left out as duplicates: {manifest.duplicates}{also} (the first name is kept)")
    if manifest.enlarged:
        lines.append(f"  enlarged, because smaller than {min(H, W)} pixels: {manifest.enlarged}")
    if manifest.ignored:
        kinds = ", ".join(f"{count} {kind}" for kind, count in manifest.ignored.items())
        lines.append(f"  ignored, because no images by their names: {kinds}")
    if manifest.bad:
        lines.append(f"  left out as bad: {len(manifest.bad)} of {manifest.read}")
        lines += [f"    {image.name}: {image.reason}" for image in manifest.bad[:_LISTED]]
        if len(manifest.bad) > _LISTED:
            lines.append(f"    and {len(manifest.bad) - _LISTED} more, listed in manifest.json")
    return "\n".join(lines)
