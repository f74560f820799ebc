"""Networks that were trained elsewhere, as clean-fid uses them: Inception and CLIP."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.depot.shared import SharedFolder, is_shared, share_tree
from pipelines.depot.tree import Tree
from pipelines.errors import ParamsError
from pipelines.measure.weights import CLIP, INCEPTION, Pinned, Weights, verified
from pipelines.project import home, state
from pipelines.runs.manifest import FileEntry
from pipelines.sections import DIMENSIONS
from pipelines.settings import Settings, load_settings

PretrainedName = Literal["inception", "clip"]
PRETRAINED: tuple[PretrainedName, ...] = get_args(PretrainedName)
Picture = NDArray[np.uint8]
"""(H, W, 3)."""

_RESIZE = {
    "inception": "each channel by Pillow's bicubic filter to 299x299, not rounded (clean-fid's mode `clean`)",
    "clip": "by Pillow's bicubic filter to a shorter side of 224, rounded, the centre cropped (clean-fid's)",
}


@dataclass(frozen=True)
class Pretrained:
    """Such a network. Its file is read and compared once per process."""

    name: PretrainedName
    pinned: Pinned
    file: Path
    """On this machine."""
    folder: SharedFolder | None = None
    """The file's folder as other machines have it; None: all see the file."""
    batch_size: ClassVar[int] = 32
    worth_workers: ClassVar[int] = 500
    worth_a_gpu: ClassVar[bool] = True

    @property
    def here(self) -> Path:
        """The file on this machine.

        Raises:
            DataError, StoreError: it cannot be brought here.
        """
        return self.folder.here() / self.file.name if self.folder else self.file

    @property
    def features(self) -> int:
        """Their number."""
        return DIMENSIONS[self.name]

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return self.pinned.sha256

    @property
    def tree(self) -> Tree:
        """The file alone, of its folder."""
        return Tree({self.file.name: FileEntry(self.file.stat().st_size, self.pinned.sha256)})

    @property
    def resize(self) -> str:
        """What is done to the size of the images, for the card."""
        return _RESIZE[self.name]

    def from_levels(self, images: NDArray[np.uint8], levels: int) -> Tensor:
        """(n, 3, side, side), float in 0..255, for images (n, C, H, W) in 0..levels-1."""
        return self.from_pictures(pictures_of(images, levels))

    def from_pictures(self, pictures: Sequence[Picture]) -> Tensor:
        """The same for pictures (H, W, 3) of any size."""
        resize = _resizer(self.name)
        resized = np.stack([np.asarray(resize(picture)) for picture in pictures])
        return torch.from_numpy(resized).permute(0, 3, 1, 2).float()

    def on(self, device: str) -> Any:
        """The network there; loaded at the first call in this process."""
        return _opened(self, device)

    def shared(self, settings: Settings) -> Pretrained:
        """The same for tasks on all machines of the cluster.

        Raises:
            DataError, StoreError: its file cannot be put where they have it from.
        """
        if not is_shared(settings):
            return self
        return replace(self, folder=share_tree(self.file.parent, self.tree, settings))


Finder = Callable[[PretrainedName], Pretrained]


def find_pretrained(name: PretrainedName, settings: Settings | None = None) -> Pretrained:
    """The network whose file the settings name, or the one in the cache.

    Raises:
        CheckpointError: the file is missing, another one, or where others may exchange it; it cannot be downloaded.
        ParamsError: CLIP without the package that reads it.
    """
    places = (settings or load_settings()).weights
    pinned, given = (INCEPTION, places.inception) if name == "inception" else (CLIP, places.clip)
    if name == "clip":
        _check_installed()  # before anything is downloaded
    cache = home() / places.cache if places.cache else state() / "weights"
    weights = Weights(pinned, f"weights.{name}", home() / given if given else None, cache)
    return Pretrained(name, pinned, weights.find())


def pictures_of(images: NDArray[np.uint8], levels: int) -> Sequence[Picture]:
    """Images (n, C, H, W) in 0..levels-1 as they would come from 8-bit files: rounded, grey tripled."""
    bytes_ = np.rint(images * (255 / (levels - 1))).astype(np.uint8)
    coloured = np.repeat(bytes_, 3, axis=1) if images.shape[1] == 1 else bytes_
    return list(coloured.transpose(0, 2, 3, 1))


@lru_cache(maxsize=2)
def _opened(network: Pretrained, device: str) -> Any:
    file = verified(network.here, network.pinned)
    with _without_farewell():
        return _inception(file, device) if network.name == "inception" else _clip(file, device)


@lru_cache(maxsize=2)
def _resizer(name: PretrainedName) -> Callable[[Picture], NDArray[Any]]:
    if name == "clip":
        return _clean_fid_clip().img_preprocess_clip  # type: ignore[no-any-return]
    from cleanfid.resize import build_resizer

    return build_resizer("clean")  # type: ignore[no-any-return]


def _inception(file: Path, device: str) -> Any:
    from cleanfid.inception_torchscript import InceptionV3W

    with TemporaryDirectory() as folder:
        (Path(folder) / INCEPTION.name).symlink_to(file)  # the only name that it takes
        return InceptionV3W(folder, download=False).to(device).eval()


def _clip(file: Path, device: str) -> Any:
    return _clean_fid_clip().CLIP_fx(str(file), device)


@contextmanager
def _without_farewell() -> Iterator[None]:
    """torch.jit is on its way out, and both files are in its format."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
        yield


def _check_installed() -> None:
    if find_spec("open_clip") is None:
        raise ParamsError(
            "the extractor `clip` needs the package open_clip_torch, which is not installed: "
            "`uv pip install -e '.[clip]'` in this project's environment"
        )


@lru_cache(maxsize=1)
def _clean_fid_clip() -> Any:
    """clean-fid's module for CLIP, on open_clip.

    It asks for OpenAI's own package `clip`, which needs a part of setuptools that is gone. open_clip reads the same
    file into the same network.
    """
    _check_installed()
    stand_in = ModuleType("clip")
    stand_in.load = _load_clip  # type: ignore[attr-defined]
    before = sys.modules.get("clip")
    sys.modules["clip"] = stand_in
    try:
        from cleanfid import clip_features
    finally:
        if before is None:
            del sys.modules["clip"]
        else:
            sys.modules["clip"] = before
    return clip_features


def _load_clip(file: str, device: str) -> tuple[Any, None]:
    import open_clip

    return open_clip.load_openai_model(file, precision="fp32", device=device), None
