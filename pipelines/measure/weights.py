"""The files of networks that were trained elsewhere: given or downloaded once, and never another one.

A file is taken only if its SHA-256 is the one that is written down here, and if nobody else but root can exchange it
afterwards.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from pipelines.data.manifest import file_sha256
from pipelines.errors import CheckpointError
from pipelines.report.progress import progress

_BLOCK = 1 << 20
_MB = 1e6


@dataclass(frozen=True)
class Pinned:
    """A file by its content."""

    name: str
    url: str
    sha256: str


INCEPTION = Pinned(
    "inception-2015-12-05.pt",
    # of clean-fid, cleanfid/downloads_helper.py; the SHA-256 is in crowsonkb/k-diffusion, k_diffusion/evaluation.py
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)
CLIP = Pinned(
    "ViT-B-32.pt",
    # of openai/CLIP, clip/clip.py, whose addresses hold the SHA-256
    "https://openaipublic.azureedge.net/clip/models/"
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
)


@dataclass(frozen=True)
class Weights:
    """A pinned file and where it may lie."""

    pinned: Pinned
    setting: str
    """That names a file, for messages: `weights.inception`."""
    given: Path | None
    """What it names."""
    cache: Path
    """Where the file is kept otherwise."""
    timeout_s: float = 30
    """How long the server may be silent."""

    def find(self) -> Path:
        """The file that is given, or the one in the cache, downloaded if it is not there yet.

        Raises:
            CheckpointError: it is missing, another one, or where others may exchange it; it cannot be downloaded.
        """
        if self.given is not None:
            if not self.given.is_file():
                raise CheckpointError(f"{self.setting} names {self.given}, and there is no such file; {self._remedy}")
            return verified(self.given, self.pinned, f"name another file in {self.setting}")
        path = self.cache / self.pinned.name
        if not path.exists():
            self._download(path)
        return verified(path, self.pinned)

    @property
    def _remedy(self) -> str:
        return (
            f"fetch {self.pinned.url} on a machine that can, and name the file in {self.setting} of infra/cluster.yaml "
            f"or in PIPELINES__{self.setting.replace('.', '__').upper()}"
        )

    def _download(self, path: Path) -> None:
        """To a name of its own first: what stands at `path` is whole and the right one."""
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(self.cache)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=self.cache)
        try:
            with os.fdopen(handle, "wb") as file:
                digest, size = sha256(), 0
                for block in self._blocks():
                    file.write(block)
                    digest.update(block)
                    size += len(block)
            if digest.hexdigest() != self.pinned.sha256:
                raise CheckpointError(
                    f"{self.pinned.url} gave {size:,} bytes with the SHA-256 {digest.hexdigest()[:12]}.., wanted "
                    f"{self.pinned.sha256[:12]}..: it is cut short or another file; try again later, or {self._remedy}"
                )
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)

    def _blocks(self) -> Iterator[bytes]:
        try:
            with urlopen(self.pinned.url, timeout=self.timeout_s) as answer:
                total = int(answer.headers.get("Content-Length") or 0)
                with progress(f"downloading {self.pinned.name}", round(total / _MB), unit="MB") as bar:
                    done = 0
                    while block := answer.read(_BLOCK):
                        yield block
                        done += len(block)
                        bar.update(round(done / _MB))
        except (OSError, HTTPException) as error:
            raise CheckpointError(
                f"{self.pinned.name} could not be downloaded ({error or type(error).__name__}); {self._remedy}"
            ) from error


def verified(path: Path, pinned: Pinned, remedy: str = "remove it") -> Path:
    """The file itself, with links followed, after it was compared with its SHA-256.

    Args:
        remedy: for the message, where it is another one.

    Raises:
        CheckpointError: it is another one, or others may exchange it.
    """
    file = path.resolve()
    _check_private(file)
    if (found := file_sha256(file)) != pinned.sha256:
        raise CheckpointError(
            f"{file} is not {pinned.name}: its SHA-256 is {found[:12]}.., wanted {pinned.sha256[:12]}..; {remedy}"
        )
    return file


def _check_private(place: Path) -> None:
    """Refuse a file or folder that others may write to or put something into, or a way there that others may change.

    Others are all but this user and root, who may own the file and the folders above it. Above them a folder with the
    sticky bit, such as /tmp, is as good as one of one's own.
    """
    near = {place, place.parent} if place.is_file() else {place}
    open_to_others = []
    for each in (place, *place.parents):
        status = each.stat()
        if status.st_uid not in (0, os.geteuid()):
            raise CheckpointError(
                f"{each} belongs to another user (uid {status.st_uid}), who could exchange the weights kept there: "
                "copy them into a folder of your own"
            )
        writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if writable and (each in near or not status.st_mode & stat.S_ISVTX):
            open_to_others.append(str(each))
    if open_to_others:
        raise CheckpointError(
            f"others may write to {' and '.join(open_to_others)}, where weights are kept: "
            f"`chmod go-w {' '.join(open_to_others)}`, or keep them elsewhere"
        )
