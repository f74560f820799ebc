"""manifest.json: what is in a folder of prepared images, with a checksum of every file."""

from __future__ import annotations

from hashlib import file_digest, sha256
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.data.npy import header
from pipelines.data.sources import Shape
from pipelines.data.split import SplitName
from pipelines.data.thin import origin_of
from pipelines.depot.ref import lacking
from pipelines.depot.tree import Tree
from pipelines.errors import DataError
from pipelines.runs.digest import digest
from pipelines.runs.manifest import FileEntry

MANIFEST = "manifest.json"
TABLE = "images.parquet"


class Entry(BaseModel):
    """A part of the manifest: strict and frozen, as the parameters are."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Shard(Entry):
    """One file of images."""

    name: str
    split: SplitName
    count: int
    """Images in it."""
    sha256: str
    """Of the file."""

    def entry(self, shape: Shape) -> FileEntry:
        """What the file must be, if an image has this shape."""
        return FileEntry(len(header(self.count, shape)) + self.count * prod(shape), self.sha256)


class BadImage(Entry):
    """A file that was left out."""

    name: str
    """Below the source's root."""
    reason: str


class Manifest(Entry):
    """What the prepare stage made, from what."""

    format_version: Literal[1] = 1
    source: str
    """`data.source` of params.yaml."""
    parameters: dict[str, Any]
    """The sections `data` and `prepare` of params.yaml."""
    shape: Shape
    """Channels, height, width of every image."""
    levels: int
    """Pixels are in 0..levels-1."""
    classes: tuple[str, ...]
    """Names of the labels 0, 1, ..; empty if there are none."""
    counts: dict[SplitName, int]
    """Images per split."""
    shards: tuple[Shard, ...]
    """In the order of the images."""
    table_sha256: str
    """Of images.parquet."""
    images_sha256: str
    """Of the lines `split id label` of all images, in the order of the shards: the data, however cut into files."""
    read: int
    """Items of the source that were read: images + bad + duplicates."""
    bad: tuple[BadImage, ...]
    """Items that could not be used."""
    duplicates: int
    """Items left out because an earlier one has the same pixels."""
    conflicts: int
    """Those of them that carried another label."""
    enlarged: int
    """Images that were smaller than the prepared size."""
    ignored: dict[str, int]
    """Files that are no images by their name: suffix -> count."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that a result can depend on: pixels, labels, split and order, levels, classes.

        Not of file names, folders, shard sizes, times or library versions: equal images have equal digests anywhere.
        """
        return digest(
            {
                "format_version": self.format_version,
                "shape": self.shape,
                "levels": self.levels,
                "classes": self.classes,
                "images": self.images_sha256,
            }
        )

    @property
    def total(self) -> int:
        """Images in all splits."""
        return sum(self.counts.values())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read manifest.json.

    Raises:
        DataError: it is missing, damaged or of another format.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"no prepared images: {path} is missing; run `dvc repro prepare`") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise DataError(
            f"{path} is damaged or of another version ({where}: {problem['msg']}); run `dvc repro --force prepare`"
        ) from None


def verify(folder: Path) -> Manifest:
    """Read every file of the folder and compare its SHA-256 with the manifest's.

    Of shards that a thin folder has not here, the depot is asked whether it has them.

    Raises:
        DataError: naming every file that is missing or damaged.
        StoreError: the depot does not answer.
    """
    manifest, origin = read_manifest(folder), origin_of(folder)
    wanted = {shard.name: shard.sha256 for shard in manifest.shards} | {TABLE: manifest.table_sha256}
    elsewhere = {name for name in wanted if origin and name != TABLE and not (folder / name).exists()}
    problems = {name: _problem(folder / name, wanted[name]) for name in wanted if name not in elsewhere}
    if origin:
        entries = {each.name: each.entry(manifest.shape) for each in manifest.shards if each.name in elsewhere}
        problems |= dict.fromkeys(lacking(origin.depot, Tree(entries)).files, f"missing here and in {origin.uri}")
    wrong = [f"  {name}: {problem}" for name, problem in problems.items() if problem]
    if wrong:
        raise DataError(
            f"prepared images in {folder} are not what manifest.json says:\n"
            + "\n".join(wrong)
            + "\nRun `dvc repro --force prepare`"
        )
    return manifest


def _problem(path: Path, checksum: str) -> str | None:
    if not path.is_file():
        return "missing"
    return None if file_sha256(path) == checksum else "damaged (its SHA-256 differs)"


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file, read in blocks."""
    with path.open("rb") as file:
        return file_digest(file, sha256).hexdigest()
