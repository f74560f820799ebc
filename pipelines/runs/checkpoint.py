"""Checkpoints of a run: the state after a step, from which training goes on to the same bits.

A run is in a `Store` (`store.py`): a folder or a prefix on S3. A checkpoint is committed or not there (`commit.py`,
`s3.py`), verified by its manifest alone (`manifest.py`), and named by its step (`layout.py`). Saving and pruning take
one writer at a time (`lock.py`); reading takes no lock.
"""

from pipelines.runs.prune import prune
from pipelines.runs.read import Checkpoint, Skipped, checkpoint_at, newest_checkpoint
from pipelines.runs.save import save_checkpoint

__all__ = ["Checkpoint", "Skipped", "checkpoint_at", "newest_checkpoint", "prune", "save_checkpoint"]
