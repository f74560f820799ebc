"""Which model a folder holds, by its tensors: what its files say of themselves is not taken for it."""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import CheckpointError

_TENSORS = "model.safetensors"


def content_of(folder: Path) -> str:
    """The content digest of the tensors in the folder, computed from them, after the file was compared with model.json.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    from safetensors.torch import load_file

    from diffusion.models.description import Description
    from diffusion.models.digest import content_digest
    from diffusion.models.sealed import check_intact

    try:
        check_intact(folder / _TENSORS, Description.read(folder).sha256, "model.json")
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return content_digest(load_file(folder / _TENSORS))
