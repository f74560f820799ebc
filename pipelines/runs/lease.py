"""A lock on S3: an object that its holder rewrites again and again, and that is free when nobody has for a while.

Nobody's clock is compared with another's. The challenger looks at the object, and again: if it changes, its holder is
alive; if it has not changed for the time to live, as the challenger's own clock measures it, the holder is taken for
dead and the object is replaced, on condition that it is still the same. The holder counts from the moment at which it
began its last successful rewriting, which is earlier than anyone can have seen it, and stops writing when the time to
live has passed, until it has rewritten the object once more. So clocks may differ and jump as they like.

A process that is frozen (SIGSTOP, a paused machine) between looking at its clock and sending a request sends that one
request late. `s3.py` makes it harmless: a file that does not fit the manifest is damage, and is skipped.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pipelines.errors import RunLocked, StoreError
from pipelines.runs.cell import Cell, Seen
from pipelines.runs.holder import Lock, holder, refusal, signature, tell

TTL_S = 30.0
"""Time to live of a lease that is not renewed, in seconds."""

_held: dict[str, list[Lease]] = {}
"""The leases of this process, by the place of their run."""


@contextmanager
def hold(cell: Cell, lock: Lock, place: str, wait_s: float) -> Iterator[None]:
    """Hold a lock of the run in `place` for the length of the block.

    Raises:
        RunLocked: another process holds it and renews it, and still does after `wait_s` seconds.
        StoreError: the server does not answer, or lacks conditional puts.
    """
    lease = Lease(cell, lock, place)
    lease.take(wait_s)
    leases = _held.setdefault(place, [])
    leases.append(lease)
    try:
        yield
    finally:
        leases.remove(lease)
        lease.release()


def refuse_if_lost(place: str) -> None:
    """To be called before anything is written to the run in `place`.

    Raises:
        RunLocked: this process held a lock of the run and has lost it.
    """
    for lease in _held.get(place, []):
        lease.refuse_if_lost()


def taken_over(place: str) -> str | None:
    """By whom a lock of the run in `place` that this process holds was taken over; None where none was."""
    return next((lease.lost_to for lease in _held.get(place, []) if lease.lost_to), None)


class Lease:
    """One holding of a lock, from `take` to `release`."""

    def __init__(self, cell: Cell, lock: Lock, place: str) -> None:
        self._cell, self._lock, self._place = cell, lock, place
        self._words = {**signature(lock), "ttl_s": cell.ttl_s, "token": secrets.token_hex(16)}
        self._beat = 0
        self._etag = ""
        self._renewed_at = 0.0
        self.lost_to: str | None = None
        """By whom it was taken over."""
        self._process = os.getpid()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {lock.file}", daemon=True)

    def take(self, wait_s: float) -> None:
        """Wait for the lock to be free and take it."""
        began, watched, since = time.monotonic(), "", 0.0
        while True:
            seen = self._cell.read()
            if seen is None or _is_free(seen) or self._is_mine(seen):
                taken = self._put(seen)
            elif seen.etag != watched:
                if watched and time.monotonic() - began >= wait_s:
                    raise refusal(self._place, self._lock, seen.content)
                if not watched:
                    tell(self._what_is_awaited(seen, wait_s))
                watched, since, taken = seen.etag, time.monotonic(), False
            else:
                taken = time.monotonic() - since >= self._ttl_of(seen) and self._put(seen)
            if taken:
                break
            time.sleep(min(1.0, self._cell.ttl_s / 15))
        self._thread.start()
        try:
            self._cell.check_server(self._content())
        except BaseException:
            self.release()
            raise

    def refuse_if_lost(self) -> None:
        """Raise RunLocked if this process may not write any more.

        Where the lease has run out this waits for as long again: a server that was away and is back lets it be renewed,
        and that shows that nobody has taken it meanwhile.
        """
        until = time.monotonic() + self._cell.ttl_s
        while self.lost_to is None and self._age() >= self._cell.ttl_s and time.monotonic() < until:
            time.sleep(0.05)
        if self.lost_to is not None:
            raise RunLocked(
                f"the run in {self._place} was taken over by {self.lost_to}, because this process had not renewed its "
                f"lock for {self._cell.ttl_s:g} s. It writes nothing any more; let the other one go on"
            )
        if (age := self._age()) >= self._cell.ttl_s:
            raise RunLocked(
                f"the lock of the run in {self._place} could not be renewed for {age:.0f} s (at most "
                f"{self._cell.ttl_s:g}), so another process may have taken it over, and nothing was written. Check the "
                "connection to the server, then run the stage again to go on from the newest checkpoint"
            )

    def _age(self) -> float:
        """Seconds since the last renewal began."""
        return _now() - self._renewed_at

    def release(self) -> None:
        """Let others in at once; if that fails, the lease runs out by itself."""
        if os.getpid() != self._process:  # a forked copy; the lock is its parent's
            return
        self._done.set()
        self._thread.join()
        if self.lost_to is None:
            with suppress(StoreError):
                self._cell.replace(self._content(free=True), self._etag)

    def _renew(self) -> None:
        """The thread."""
        while not self._done.wait(self._cell.ttl_s / 4):
            with suppress(StoreError):  # it is tried again, and the time to live runs on
                if not self._put(Seen(b"", self._etag)):
                    self._after_refusal()
            if self.lost_to is not None:
                tell(f"the run in {self._place} was taken over by {self.lost_to}; this process writes no more")
                return

    def _after_refusal(self) -> None:
        """The object is not what it was: it is another's, or ours from a put whose answer was lost."""
        seen = self._cell.read()
        if seen is None or self._is_mine(seen):  # none: a person has deleted it, and nobody has taken the lock since
            self._put(seen)
        else:
            self.lost_to = holder(seen.content)

    def _put(self, there: Seen | None) -> bool:
        """Write the object where it is still as it was seen; whether that is so."""
        asked = _now()
        self._beat += 1
        content = self._content()
        etag = self._cell.create(content) if there is None else self._cell.replace(content, there.etag)
        if etag is None:
            return False
        self._etag, self._renewed_at = etag, asked
        return True

    def _content(self, free: bool = False) -> bytes:
        """Other bytes each time, and so another ETag."""
        return (json.dumps({**self._words, "beat": self._beat, "free": free}, indent=2) + "\n").encode()

    def _is_mine(self, seen: Seen) -> bool:
        return bool(_parsed(seen).get("token") == self._words["token"])

    def _ttl_of(self, seen: Seen) -> float:
        """The time to live that its holder counts on, or ours if that is longer."""
        theirs = _parsed(seen).get("ttl_s")
        return max(self._cell.ttl_s, theirs) if isinstance(theirs, int | float) else self._cell.ttl_s

    def _what_is_awaited(self, seen: Seen, wait_s: float) -> str:
        ttl_s = self._ttl_of(seen)
        what = f"the run in {self._place} is {self._lock.holding} by {holder(seen.content)}"
        if wait_s > 0:
            return f"{what}; waiting up to {wait_s:.0f} s for its end, or {ttl_s:.0f} s if it shows no sign of life"
        return f"{what}; waiting up to {ttl_s:.0f} s for a sign of life from it"


def _parsed(seen: Seen) -> dict[str, Any]:
    try:
        content = json.loads(seen.content)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_free(seen: Seen) -> bool:
    return _parsed(seen).get("free") is True


def _now() -> float:
    """Seconds by a clock that never jumps, and that counts the time for which this machine was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
