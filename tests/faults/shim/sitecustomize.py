"""Imported by every Python process of a disturbed run: faults that come from inside, as FAULT says.

jump 3600    the system's clock, as Python reads it, jumps by so many seconds every two seconds, to and fro
exit 57      each training worker ends without a word after update number 57
"""

import os
import sys
import threading
import time

_kind, _, _value = os.environ.get("FAULT", "").partition(" ")


def _jump(seconds: float) -> None:
    began, clock, clock_ns = time.monotonic(), time.time, time.time_ns

    def shift() -> float:
        return seconds if int(time.monotonic() - began) % 4 >= 2 else -seconds

    time.time = lambda: clock() + shift()
    time.time_ns = lambda: clock_ns() + int(shift() * 1e9)


def _exit_after(step: int) -> None:
    while not hasattr(sys.modules.get("pipelines.cluster.loop"), "Loop"):
        time.sleep(0.01)
    loop = sys.modules["pipelines.cluster.loop"].Loop
    real = loop._after_step

    def after_step(self, done, heard):  # type: ignore[no-untyped-def]
        real(self, done, heard)
        if done == step:
            time.sleep(0.2)  # the pulse has told of the step by then
            os._exit(9)

    loop._after_step = after_step


if _kind == "jump":
    _jump(float(_value))
elif _kind == "exit":
    threading.Thread(target=_exit_after, args=(int(_value),), daemon=True).start()
