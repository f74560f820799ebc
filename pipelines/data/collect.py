"""Go through a source once: keep each different image once, and list what cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipelines.data.manifest import BadImage
from pipelines.data.reading import Read, pillow_silenced, read_all
from pipelines.data.sources import Item, Source, Unreadable
from pipelines.data.spool import Spool
from pipelines.errors import DataError
from pipelines.sections import PrepareParams


@dataclass(frozen=True, slots=True)
class Record:
    """An image that is kept: what is known of it besides its pixels."""

    id: str
    """Hash of its content."""
    item: Item
    """The first, by name, of the items with this content."""
    width: int
    """Of the stored image, before preparation."""
    height: int
    mode: str
    """Pixel format of the stored image, in Pillow's words."""
    row: int
    """Where its pixels are in the spool."""


@dataclass
class Collection:
    """What a source held."""

    records: dict[str, Record] = field(default_factory=dict)
    """By id."""
    bad: list[BadImage] = field(default_factory=list)
    duplicates: int = 0
    """Items left out because an earlier one has the same content."""
    conflicts: int = 0
    """Those of them that carry another label than the one that is kept."""


def collect(source: Source, spool: Spool, on_read: Callable[[int], None]) -> Collection:
    """Read all items; the pixels go to `spool`, and `on_read` is told how many are done."""
    collection = Collection()
    with pillow_silenced():
        for done, (item, result) in enumerate(zip(source.items, read_all(source), strict=True), start=1):
            if isinstance(result, Unreadable):
                collection.bad.append(BadImage(name=item.name, reason=str(result)))
            elif result.id in collection.records:
                collection.duplicates += 1
                collection.conflicts += collection.records[result.id].item.label != item.label
            else:
                collection.records[result.id] = _record(item, result, spool)
            on_read(done)
    return collection


def _record(item: Item, read: Read, spool: Spool) -> Record:
    picture = read.picture
    return Record(read.id, item, picture.width, picture.height, picture.mode, spool.append(picture.pixels))


def check_bad_images(bad: list[BadImage], read: int, prepare: PrepareParams) -> None:
    """Apply the policy on files that are no usable images, of `read` files in all.

    Raises:
        DataError: the policy is `fail` and there are any, or too many for `skip`; the message lists every one.
    """
    if not bad or (prepare.bad_images == "skip" and len(bad) <= prepare.max_bad_fraction * read):
        return
    if prepare.bad_images == "skip":
        limit = f", which is more than prepare.max_bad_fraction ({prepare.max_bad_fraction:.2%}) allows"
        remedy = "Repair or remove them, or raise prepare.max_bad_fraction"
    else:
        limit = ""
        remedy = "Repair or remove them, or set prepare.bad_images: skip to leave them out"
    raise DataError(
        f"{len(bad)} of {read} files ({len(bad) / read:.2%}) cannot be used as images{limit}:\n"
        + "".join(f"  {image.name}: {image.reason}\n" for image in bad)
        + remedy
    )
