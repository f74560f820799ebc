"""Pairs of workers of which one is frozen: `python frozen.py FOLDER`, for test_frozen.py.

Each pair trains in another mode over gloo and tells where it is. A board hears them as it would in a cluster, and
FOLDER/found.json says by mode who hangs, and where the other one was.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from queue import Empty
from typing import Any

import gang
import torch
import torch.distributed as dist

from diffusion.training import overlap
from pipelines.cluster import pulse
from pipelines.cluster.board import Board
from pipelines.cluster.pulse import Beat, Pulse
from pipelines.cluster.watchdog import hanging

LIMIT_S = 2.0
FROZEN = 1
MODES = {"strict": 2**20, "overlapped": 500, "fast": 2**20}
"""With the size of a bucket."""


def train(mode: str, rank: int, folder: Path, beats: Any) -> None:
    """Until this process is ended."""
    torch.set_num_threads(1)
    overlap.BUCKET = MODES[mode]
    dist.init_process_group("gloo", init_method=f"file://{folder / mode}", rank=rank, world_size=2)
    trainer = gang.make_trainer("fast" if mode == "fast" else "strict", rank, 2, dropout=0.0)
    worker = Pulse()
    with worker.beating(rank, "here", beats.put):
        while True:
            trainer.step()
            worker.step = trainer.state.step


def hear(board: Board, beats: Any) -> list[Beat]:
    """Pass on what the workers have told."""
    heard = []
    try:
        while True:
            heard.append(beats.get(timeout=0.05))
            board.beat(heard[-1])
    except Empty:
        return heard


def main() -> None:
    importlib.import_module("torch._dynamo")  # DDP wants it
    pulse.EVERY_S = 0.2
    context, folder = multiprocessing.get_context("fork"), Path(sys.argv[1])
    boards = {mode: Board() for mode in MODES}
    beats = {mode: context.Queue() for mode in MODES}
    pairs = {
        mode: [context.Process(target=train, args=(mode, rank, folder, beats[mode]), daemon=True) for rank in (0, 1)]
        for mode in MODES
    }
    for process in (process for pair in pairs.values() for process in pair):
        process.start()
    waiting = set(MODES)
    while waiting:  # for those whose first steps are done
        for mode in list(waiting):
            if any(beat.step >= 3 for beat in hear(boards[mode], beats[mode])):
                waiting.discard(mode)
                os.kill(pairs[mode][FROZEN].pid or 0, signal.SIGSTOP)
    until = time.monotonic() + 2 * LIMIT_S
    while time.monotonic() < until:
        for mode in MODES:
            hear(boards[mode], beats[mode])
    found = {}
    for mode, board in boards.items():
        signs = board.report().signs
        stuck = {rank: sign.moved_s > LIMIT_S for rank, sign in signs.items()}
        hangs = [sign.beat.rank for sign in hanging(signs, LIMIT_S)]
        found[mode] = {"hangs": hangs, "stuck": stuck, "other": asdict(signs[1 - FROZEN].beat)}
    (folder / "found.json").write_text(json.dumps(found))
    for process in (process for pair in pairs.values() for process in pair):
        process.kill()
        process.join()


if __name__ == "__main__":
    main()
