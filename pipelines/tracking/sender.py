"""Sending a spool to MLflow while it grows, from a thread that a stage waits for only at its end, and not for long."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from math import inf

from pipelines.errors import TrackingError, first_line
from pipelines.settings import Settings
from pipelines.tracking.delivery import Delivery, PartlySent
from pipelines.tracking.leftovers import send_leftovers
from pipelines.tracking.loading import load_mlflow
from pipelines.tracking.refusals import CredentialsRefused, redact
from pipelines.tracking.spool import Spool

_FIRST_S, _EVERY_S = 3.0, 10.0
"""Loading MLflow and reaching it take longer than to send what has come since."""
_AGAIN_S, _SLOWEST_S = 3.0, 60.0
"""Between two attempts at a server that is away: at first, and at most."""
_AT_THE_END_S = 60.0
"""So long a stage waits for a server that takes what it is sent."""
_BEYOND_S = 2.0
"""And so much longer than a request's time-out for one that does not."""


class Sender:
    """A thread that sends a spool while it grows; another sends what earlier processes left, while the stage works."""

    def __init__(self, spool: Spool, settings: Settings) -> None:
        self.problem: str | None = "MLflow was not reached"
        """Why not everything is sent, if it is not."""
        self._delivery = Delivery(spool, settings)
        self._settings = settings
        self._over = threading.Event()
        self._failures = 0
        self._loaded = inf
        """When MLflow was, by the monotonic clock; a busy machine takes longer for that than a server to answer."""
        self._going_on = True
        """Whether to try again: not where the server refuses the credentials, nor once it is given up."""
        self._others_tried = False
        self._thread = threading.Thread(target=self._work, name="mlflow-sender", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Send what is left and stop. Bounded: a minute where MLflow takes it, else one time-out."""
        self._over.set()
        began = time.monotonic()
        patience = self._settings.tracking.timeout_s + _BEYOND_S
        while self._thread.is_alive():
            now = time.monotonic()
            if now > began + _AT_THE_END_S:
                self._give_up("MLflow is too slow")
                return
            if now > max(began, self._loaded, self._delivery.heard) + patience:
                self._give_up("MLflow does not answer")
                return
            self._thread.join(0.1)

    def _give_up(self, problem: str) -> None:
        """No further attempt: MLflow keeps its address in globals, which others in this process may set from now on."""
        self.problem, self._going_on = problem, False

    def _work(self) -> None:
        again, rest = True, min(_FIRST_S, _EVERY_S)
        while self._going_on and not self._over.wait(rest):
            self._try(again=again)
            again, rest = self._failures > 0, pause(self._failures)  # what the server refused is not for each time
        for attempt in range(self._settings.tracking.retries + 1):
            time.sleep(attempt and random.uniform(0.5, 1.5))
            if not self._going_on:
                return
            self._try(again=True)
            if not self._failures:
                return

    def _try(self, *, again: bool) -> None:
        """One attempt; after the first that succeeds what earlier processes left has its turn."""
        self._failures += 1
        try:
            load_mlflow()
            self._loaded = min(self._loaded, time.monotonic())
            self._delivery.run(again=again)
            self.problem, self._failures = None, 0
        except PartlySent as error:
            self.problem, self._failures = str(error), 0
        except TrackingError as error:
            self.problem = str(error)
            if isinstance(error, CredentialsRefused):
                self._going_on = False
        except Exception as error:  # the thread must not die in silence: what it did not send is kept
            self.problem = redact(first_line(error))
        if not (self._failures or self._others_tried or self._over.is_set()):
            self._others_tried = True
            threading.Thread(target=self._send_others, name="mlflow-leftovers", daemon=True).start()

    def _send_others(self) -> None:
        """Nobody waits for it: the one that it is at when the process ends is gone on with later."""
        with suppress(OSError):  # a full disk: a later stage tries again
            for _ in send_leftovers(self._settings):
                if self._over.is_set():
                    return


def pause(failures: int) -> float:
    """Seconds until the next attempt: longer with each that failed, and not the same for all who wait for a server."""
    if not failures:
        return _EVERY_S
    return min(_AGAIN_S * 2.0 ** min(failures, 10), _SLOWEST_S) * random.uniform(0.5, 1)
