"""Bringing a folder to this machine beside the work that needs it: a process of its own does it, one per machine.

A thread would keep its process from ending until a file is there, and take turns with the training's own Python.

Run as a program it brings the folder of the depot named first with the digest named second; its standard input is held
open by the asker and says nothing. When it is closed, because the asker has ended, however it did, so does this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from pipelines.depot.cache import is_being_brought
from pipelines.depot.ref import Ref
from pipelines.errors import PipelineError
from pipelines.project import workspace

RETRY_S = 30.0
"""Between two tries of this process, where the depot does not answer or the disk is full."""
_NICE = 10
"""How far the work that needs the folder goes first."""


@dataclass(frozen=True)
class _Begun:
    process: subprocess.Popen[bytes]
    at: float


_begun: dict[Ref, _Begun] = {}
_looking = threading.Lock()


def bring(ref: Ref) -> None:
    """See to it that the folder is being brought here. Returns at once; to be called as long as it is not there."""
    with _looking:
        last = _begun.get(ref)
        if last and (last.process.poll() is None or time.monotonic() - last.at < RETRY_S):
            return
        if is_being_brought(ref.digest):
            return
        path = os.pathsep.join([str(workspace()), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "pipelines.depot.bring", ref.uri, ref.digest]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
        _begun[ref] = _Begun(process, time.monotonic())
        threading.Thread(target=_see_off, args=(process,), daemon=True).start()


def _see_off(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def main() -> None:
    """Bring it, or say why not."""
    os.nice(_NICE)
    threading.Thread(target=_end_with_asker, daemon=True).start()
    try:
        Ref(*sys.argv[1:]).here()
    except PipelineError as error:
        print(f"the folder is not brought here yet: {error}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_status) from None


def _end_with_asker() -> None:
    os.read(sys.stdin.fileno(), 1)  # unlike sys.stdin it holds no lock that this process would need to end
    os._exit(1)


if __name__ == "__main__":
    main()
