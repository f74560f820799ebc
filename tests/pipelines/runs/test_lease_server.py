"""What the lease asks of the server: conditions that hold, also where many come at once."""

import threading
import time

import pytest

from pipelines.errors import RunLocked, StoreError
from pipelines.runs import cell
from pipelines.runs.lock import RUN
from pipelines.runs.s3_client import Patience, client
from tests.pipelines.runs.proxy import proxy

TTL_S = 4.0


@pytest.fixture
def run(s3_run):
    return s3_run


def test_a_server_without_conditions_is_refused(run, monkeypatch):
    """As older servers do, it takes no notice of the headers."""

    def strip(model, params, **more):
        params["headers"].pop("If-None-Match", None)
        params["headers"].pop("If-Match", None)

    patience = Patience(2.5, 2.5, attempts=2)
    monkeypatch.setattr(cell, "client", lambda _: client(patience))
    client(patience).meta.events.register("before-call.s3.PutObject", strip)
    try:
        with pytest.raises(StoreError, match=r"ignores conditions on a put .*shared folder"):
            run.lock(RUN, 0, ttl_s=TTL_S).__enter__()
    finally:
        client(patience).meta.events.unregister("before-call.s3.PutObject", strip)


@pytest.mark.parametrize("left", [None, b'{"pid": 1, "token": "of a process that is dead"}'], ids=["free", "dead"])
def test_of_many_that_come_at_once_one_gets_it(run, raw, s3_server, monkeypatch, left):
    """The proxy hands one request at a time to the server, which itself compares and sets in two steps."""
    if left:
        raw.write("lock.json", left)
    inside, refused, most = [], [], []
    start = threading.Barrier(6)

    def compete(number):
        start.wait()
        try:
            with run.lock(RUN, 0, ttl_s=3.0):
                inside.append(number)
                most.append(len(inside))
                until = time.monotonic() + 60
                while len(refused) < 5 and time.monotonic() < until:
                    time.sleep(0.05)
                inside.remove(number)
        except RunLocked:
            refused.append(number)

    with proxy(s3_server.port, lambda method, path: None) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        threads = [threading.Thread(target=compete, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (most, len(refused)) == ([1], 5)
