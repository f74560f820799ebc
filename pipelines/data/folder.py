"""A folder of images, searched with all its sub-folders, as a source.

Images that lie in sub-folders have the first one's name as their class, and the classes are numbered in the order of
their names. Images that all lie directly in the folder have no labels. Names that begin with a dot are left alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipelines.data.images import SUFFIXES, decode
from pipelines.data.listing import Listing, list_files
from pipelines.data.sources import Item, Picture, Shape, Unreadable
from pipelines.errors import DataError, ParamsError
from pipelines.project import home, workspace
from pipelines.sections import PrepareParams


@dataclass(frozen=True)
class Folder:
    """The images below `root` as a `Source`."""

    root: Path
    shape: Shape
    paths: tuple[str, ...]
    """Of the files, relative to `root`, one per item."""
    items: tuple[Item, ...]
    classes: tuple[str, ...]
    ignored: Counter[str]
    name: ClassVar[str] = "folder"
    levels: ClassVar[int] = 256

    def read(self, index: int) -> Picture:
        try:
            content = (self.root / self.paths[index]).read_bytes()
        except OSError as error:
            raise Unreadable(f"cannot be opened: {error.strerror}") from None
        return decode(content, self.shape)


def open_folder(path: str, prepare: PrepareParams) -> Folder:
    """List the images below `path`, relative to the project or absolute.

    Raises:
        ParamsError: no image size is given.
        DataError: the folder is missing or holds no images, or some images have a class folder and some have not.
    """
    if prepare.image_size is None:
        raise ParamsError(
            "prepare.image_size: null keeps the size of digits; for data.source: folder give the side of the square "
            "images in pixels, for example 64"
        )
    root, listing = _find(path)
    if not listing.files:
        raise DataError(_no_images(root, listing))
    classes = _classes(root, listing.files)
    items = tuple(Item(_printable(file), _label(file, classes)) for file in listing.files)
    shape = (prepare.channels, prepare.image_size, prepare.image_size)
    return Folder(root, shape, listing.files, items, tuple(map(_printable, classes)), listing.ignored)


def _find(path: str) -> tuple[Path, Listing]:
    """The folder with its files: below the workspace, or else below the project that the workspace is a copy of.

    Such a copy has none of the files that git ignores, but may have their folder.
    """
    places = list(dict.fromkeys(root / path for root in (workspace(), home())))
    if found := [(place, list_files(place, SUFFIXES)) for place in places if place.is_dir()]:
        return next((each for each in found if each[1].files), found[0])
    if places[0].exists():
        raise DataError(f"data.path: {places[0]} is a file; unpack it and name the folder of images")
    raise DataError(f"data.path: there is no folder {places[0]}; make it and put images there, or change data.path")


def _classes(root: Path, files: tuple[str, ...]) -> dict[str, int]:
    """Class folder -> label; empty if all files lie directly in the root."""
    loose = [file for file in files if "/" not in file]
    names = sorted({file.split("/")[0] for file in files if "/" in file})
    if loose and names:
        raise DataError(
            f"{root}: {len(loose)} images lie directly in the folder ({_some(loose)}) and {len(files) - len(loose)} in "
            f"sub-folders ({_some(names)}). Sub-folders are classes, so move all images into sub-folders, or none"
        )
    return {name: label for label, name in enumerate(names)}


def _label(file: str, classes: dict[str, int]) -> int | None:
    return classes[file.split("/")[0]] if classes else None


def _no_images(root: Path, listing: Listing) -> str:
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(listing.ignored.items())) or "nothing"
    return f"{root} holds no images: found {found}; images end in {' '.join(sorted(SUFFIXES))} (or in capitals)"


def _some(names: list[str]) -> str:
    return ", ".join(map(_printable, names[:3])) + (", .." if len(names) > 3 else "")


def _printable(name: str) -> str:
    """A file name that is not UTF-8 with its odd bytes written out, so that any file can hold it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
