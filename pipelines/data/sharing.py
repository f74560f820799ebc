"""Prepared images for machines that do not see their folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.data.manifest import MANIFEST, TABLE, read_manifest
from pipelines.data.thin import ORIGIN, origin_of, write_origin
from pipelines.depot.address import depot_of
from pipelines.depot.ref import Ref, put_folder
from pipelines.depot.shared import SharedFolder, is_shared, share, share_tree
from pipelines.depot.tree import Tree, measure
from pipelines.runs.manifest import FileEntry
from pipelines.settings import Settings

STREAMED = 64e6
"""Bytes from which on images do not wait until all of them are on a machine."""


def share_images(folder: Path, settings: Settings) -> SharedFolder:
    """Make the images be had from all machines of the cluster (`depot/shared.py`): small sets whole, large ones thin.

    Shards are not read where the depot has them: what they hold is known.

    Raises:
        DataError: the folder's files are missing, or not what its manifest says.
        StoreError: the depot does not answer.
    """
    if not is_shared(settings):
        return SharedFolder(folder)
    if origin_of(folder):
        return share(folder, [MANIFEST, TABLE, ORIGIN], settings)
    tree = tree_of_images(folder)
    shared = share_tree(folder, tree, settings)
    if tree.size < STREAMED:
        return shared
    assert shared.ref is not None
    return SharedFolder(folder, _put_thin(folder, shared.ref, settings), shared.stamp)


def is_prepared(folder: Path) -> bool:
    """Whether it is a folder of prepared images, and not a thin one."""
    return (folder / MANIFEST).exists() and (folder / TABLE).exists() and origin_of(folder) is None


def fetch(ref: Ref, folder: Path) -> None:
    """Bring a folder here; large sets of prepared images as a thin one, so that work on them begins at once.

    Raises:
        DataError: something is missing in the depot, or damaged.
        StoreError: the depot does not answer.
    """
    tree = ref.tree()
    if tree.size < STREAMED or not {MANIFEST, TABLE} <= tree.files.keys():
        ref.fetch(folder)
        return
    folder.mkdir(parents=True)
    for name in (MANIFEST, TABLE):
        ref.depot.fetch(tree.files[name], folder / name)
    write_origin(folder, ref)


def tree_of_images(folder: Path) -> Tree:
    """What the folder holds, as its manifest says; only the manifest is read.

    Raises:
        DataError: it is missing or damaged.
    """
    manifest = read_manifest(folder)
    shards = {shard.name: shard.entry(manifest.shape) for shard in manifest.shards}
    table = FileEntry((folder / TABLE).stat().st_size, manifest.table_sha256)
    return Tree(shards | {TABLE: table, MANIFEST: measure(folder / MANIFEST)})


def make_thin(folder: Path, into: Path, origin: Ref) -> None:
    """Make `into` a thin folder of the images of `folder`, whose shards are in a depot."""
    into.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, TABLE):
        shutil.copyfile(folder / name, into / name)
    write_origin(into, origin)


def _put_thin(folder: Path, whole: Ref, settings: Settings) -> Ref:
    with TemporaryDirectory() as thin:
        make_thin(folder, Path(thin), whole)
        return put_folder(depot_of(settings), Path(thin))
