"""Loading MLflow, by one thread at a time: its modules import one another in circles, so that two threads which load
parts of it at once may each wait for the other, and one of them fails with a `_DeadlockError`."""

from __future__ import annotations

import importlib
import threading
import warnings
from types import ModuleType

ONE_AT_A_TIME = threading.RLock()
"""Held while parts of MLflow are loaded."""


def load_mlflow(*parts: str) -> ModuleType:
    """The module `mlflow`, with these parts of it: `models`, `pyfunc` ..

    Nothing imports it otherwise while a thread may be sending.
    """
    with ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in ("entities", "exceptions", "tracking", *parts):
            importlib.import_module(f"mlflow.{part}")
        return importlib.import_module("mlflow")
