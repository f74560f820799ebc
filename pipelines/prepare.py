"""The prepare stage: raw images to uint8 shards with labels, provenance and checksums, in results/prepare/."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.data.collect import check_bad_images, collect
from pipelines.data.dataset import open_split
from pipelines.data.describe import Written, manifest_of, summary
from pipelines.data.manifest import MANIFEST, TABLE, Manifest, file_sha256, write_manifest
from pipelines.data.shards import write_shards
from pipelines.data.sources import open_source
from pipelines.data.split import Fractions, divide
from pipelines.data.spool import Spool
from pipelines.data.table import write_table
from pipelines.params import Params, load_params
from pipelines.project import results
from pipelines.settings import load_settings
from pipelines.stage import outputs

PICTURE = "data.png"
_PICTURED = 64
"""Images in the picture."""


def prepare(params: Params, folder: Path) -> Manifest:
    """Read the images that `params` names and write them to `folder`: shards, images.parquet, manifest.json.

    Raises:
        DataError: there are no images, too many bad ones, or too few for a split.
        ParamsError: the source cannot give what the `prepare` section asks for.
    """
    from pipelines.report.progress import progress

    source, asked = open_source(params), params.prepare
    total = len(source.items)
    with Spool(folder, source.shape) as spool:
        with progress("preparing", total=total, unit="image") as bar:
            collection = collect(source, spool, bar.update)
        check_bad_images(collection.bad, total, asked)
        ids = divide(collection.records, Fractions(val=asked.val_fraction, test=asked.test_fraction))
        splits = {name: [collection.records[image_id] for image_id in ids[name]] for name in ids}
        shards = [
            shard
            for name, records in splits.items()
            for shard in write_shards(folder, name, [record.row for record in records], spool, asked.shard_size)
        ]
    write_table(folder, splits, asked.shard_size)
    manifest = manifest_of(params, source, collection, Written(splits, shards, file_sha256(folder / TABLE)))
    write_manifest(folder, manifest)
    return manifest


def draw(folder: Path) -> None:
    """A picture of the first training images (their order is as good as random)."""
    from pipelines.report.pictures import data_picture

    train = open_split(folder, "train")
    shown = np.arange(min(_PICTURED, len(train)))
    titles = None if train.labels is None else [train.classes[label] for label in train.labels[shown]]
    data_picture(train.read(shown), train.levels, folder / PICTURE, titles)


def main() -> None:
    """Prepare what params.yaml names, track it and print what came out."""
    from pipelines.tracking.machine import work
    from pipelines.tracking.run import stage_run

    params, settings = load_params(), load_settings()
    final = results("prepare")
    with work() as done, outputs(final) as folder:
        manifest = prepare(params, folder)
        draw(folder)
    with stage_run("prepare", params, settings, key=manifest.digest) as tracker:
        tracker.tags({"data.digest": manifest.digest})
        tracker.work("prepare", done, workers=1)
        tracker.metrics(0, {f"images_{name}": float(count) for name, count in manifest.counts.items()})
        tracker.metrics(0, {"prepare/images_per_second": sum(manifest.counts.values()) / done.seconds})
        tracker.artifact(final / MANIFEST)
        tracker.artifact(final / PICTURE)
    print(summary(manifest))


if __name__ == "__main__":
    from pipelines.remote.stage import run_stage

    run_stage(main)
