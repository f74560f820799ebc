"""MLflow is loaded by several threads of a stage at once."""

import subprocess
import sys

CODE = """
import threading
from pipelines.tracking.loading import load_mlflow
parts = [(), ("models", "pyfunc"), ("types.schema",), ("store.tracking.sqlalchemy_store",)]
failed = []

def load(names):
    try:
        load_mlflow(*names)
    except BaseException as error:
        failed.append(repr(error))

threads = [threading.Thread(target=load, args=(names,)) for names in parts]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(120)
assert not failed, failed
"""


def test_threads_that_load_it_at_once_do_not_wait_for_each_other():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
