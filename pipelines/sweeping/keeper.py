"""`dvc repro` of one trial and its registration, kept by a process that ends it when whoever asked for it is gone.

Run as a program: its standard input is held open by the asker and says nothing. When it is closed, by intent or because
the asker was killed, the stage is asked to save and stop as by Ctrl-C; what has not ended in time is killed. The exit
status is printed at the end.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from pipelines.sweeping.place import Place

_WORK = "dvc repro && exec python -m pipelines.register"
"""DVC gives back what its cache has, a receipt too, and does not ask whether the registry still has the version."""


def main() -> None:
    """Be nobody's child, since Ray kills those of a worker that ends, and this must outlive it to stop the stage."""
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, set())  # Ray's workers block Ctrl-C, and so would all that they start
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    print(keep())


def keep() -> int:
    """Keep the trial in the folder named first; the second argument is how many seconds it may take to stop."""
    place, grace_s = Place(Path(sys.argv[1])), float(sys.argv[2])
    with place.lock.open("w") as lock, place.log.open("ab", buffering=0) as log:
        fcntl.flock(lock, fcntl.LOCK_EX)  # an earlier keeper may still be stopping its stage
        if place.outcome:
            return 0
        process = subprocess.Popen(
            ["sh", "-c", _WORK],
            cwd=place.project,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        threading.Thread(target=_stop_when_alone, args=(process, grace_s), daemon=True).start()
        status = process.wait()
        with suppress(ProcessLookupError):  # what DVC left behind, if it was killed itself
            os.killpg(process.pid, signal.SIGKILL)
        if status == 0:
            place.finish()
        return status


def _stop_when_alone(process: subprocess.Popen[bytes], grace_s: float) -> None:
    sys.stdin.buffer.read()
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(grace_s)
            return


if __name__ == "__main__":
    main()
