"""What clients do when the daemon was away: for a restart, an upgrade, or because it crashed."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from weightd._acquire import acquire
from weightd._deadline import Deadline
from weightd._session import Session
from weightd.errors import Error
from weightd.v1 import handles_pb2, weights_pb2

# How long a daemon may be away where nobody says how long to wait.
_RESTART_SECONDS = 30.0
_FIRST_DELAY, _LONGEST_DELAY = 0.02, 0.5
# Of the time there is, what the last try has.
_LAST_TRY = 0.05
_AWAY = ("DAEMON_UNREACHABLE", "SHUTTING_DOWN", "SESSION_INVALID")
# What the next daemon says that doesn't have a revision, or not for us: it won't have the same memory later.
_GONE = ("MODEL_NOT_RESIDENT", "MODEL_NOT_FOUND", "NOT_ALLOWED")
# A lease that came back is not worth a longer wait.
_RENEWAL_SECONDS = 10.0

# Folders in which this process has seen a daemon.
_seen: set[Path] = set()


_T = TypeVar("_T")


class Waiting:
    """What an attach has seen of the load that it waits for."""

    def __init__(self) -> None:
        self.loads = False

    def note(self) -> None:
        """Some daemon told how far the load is."""
        self.loads = True


def patiently(call: Callable[[], _T], directory: Path, deadline: Deadline, waiting: Waiting) -> _T:
    """What `call` returns, tried again while the daemon of that folder was there and is not.

    A load that may only be joined, since an operator has to begin it, ended with its daemon: it is waited for, too.
    """
    end = 0.0
    delay = _FIRST_DELAY
    joined = told = False
    while True:
        waiting.loads = False
        outcome = _outcome(call)
        if not isinstance(outcome, Error):
            return outcome
        away = outcome.reason in _AWAY and _was_there(directory)
        if not away and not (joined and outcome.reason == "NOT_ALLOWED"):
            raise outcome
        if away and (waiting.loads or not end):
            joined = joined or waiting.loads
            end = time.monotonic() + _RESTART_SECONDS
            delay = _FIRST_DELAY
        left = _left(deadline, end, away) - _LAST_TRY
        if left <= 0:
            raise outcome
        if delay == _LONGEST_DELAY and not told:
            told = True
            _tell(directory, outcome)
        time.sleep(min(delay, left))
        delay = min(2 * delay, _LONGEST_DELAY)


def _tell(directory: Path, failure: Error) -> None:
    import logging  # seldom needed

    logging.getLogger("weightd").warning("waiting for the daemon of %s to come back: %s", directory, failure.message)


def _outcome(call: Callable[[], _T]) -> _T | Error:
    try:
        return call()
    except Error as failure:
        return failure


def saw_daemon(directory: Path) -> None:
    """Says that a daemon of that folder answered."""
    _seen.add(directory)


def _was_there(directory: Path) -> bool:
    """A daemon that ends, and be it by SIGKILL, leaves its lock."""
    return directory in _seen or (directory / "weightd.lock").exists() or (directory / "handles.sock").exists()


def _left(deadline: Deadline, end: float, away: bool) -> float:
    """Seconds for further tries. Whoever says how long to wait means the daemon, not those who use it."""
    try:
        left = deadline.remaining()
    except Error:
        return 0
    restart = end - time.monotonic()
    if left is None:
        return restart
    return left if away else min(left, restart)


class Lease:
    """What a session holds for a segment that this process has mapped. `close` may be called any number of times."""

    def __init__(
        self,
        session: Session,
        directory: Path,
        model: str,
        revision: str,
        segment: int,
        device: weights_pb2.DeviceRequest | None = None,
    ) -> None:
        """Of the segment of which `segment` is a descriptor, which stays the caller's; on a GPU if `device` says so.

        That two descriptors of a GPU's memory are of different memory a driver may not tell; then a lease on the same
        revision there has to do.
        """
        self._session = session
        self._directory = directory
        self._model = model
        self._revision = revision
        self._file = _identity(segment)
        self._device = device
        self._closed = False
        self._lost = False
        self._renewing = threading.Lock()
        _leases.add(self)

    def close(self) -> None:
        """Ends it, from anywhere."""
        self._closed = True
        self._session.close()

    @property
    def on_gpu(self) -> bool:
        """Whether it is on a GPU's memory."""
        return self._device is not None

    def ended(self, directory: Path) -> bool:
        """Whether it ended with the daemon of that folder, and the next one may have the segment."""
        return directory == self._directory and not self._closed and not self._lost and not self._session.lives()

    def renew(self, deadline: Deadline) -> None:
        """If it ended with its daemon, and the next one has the segment: a lease of that one.

        Nothing is mapped again. If the next one does not have it the bytes stay good, and nobody counts them.
        """
        if not self._renewing.acquire(blocking=False):
            return
        try:
            if self.ended(self._directory):
                try:
                    self._renew(deadline)
                except Error as failure:
                    self._lost = failure.reason in _GONE
        finally:
            self._renewing.release()

    def _renew(self, deadline: Deadline) -> None:
        session = Session(self._directory, deadline)
        try:
            grant = acquire(
                self._directory, session.token, self._model, {}, self._device, deadline, _ignore, self._revision
            )
            handles = session.claim(grant.lease_id, deadline)
            kind = handles_pb2.Handle.HOST_SEGMENT if self._device is None else handles_pb2.Handle.DEVICE_SEGMENT
            found = [_identity(fd) for handle, fd in handles if handle.kind == kind]
            for _, descriptor in handles:
                os.close(descriptor)
            if found == [self._file]:
                self._session, session = session, self._session
            else:
                self._lost = True
        finally:
            session.close()
        if self._closed:  # meanwhile
            self._session.close()


_leases: weakref.WeakSet[Lease] = weakref.WeakSet()


def renew_leases(directory: Path, deadline: Deadline) -> None:
    """Takes leases again that ended with an earlier daemon of that folder.

    Those on host memory before it returns, and by the deadline. For one on a GPU's memory a daemon may have to wait
    for a worker, and so nobody waits for that.
    """
    ended = [lease for lease in list(_leases) if lease.ended(directory)]
    on_gpus = [lease for lease in ended if lease.on_gpu]
    if on_gpus:
        threading.Thread(target=_renew_all, args=(on_gpus, None), daemon=True).start()
    _renew_all([lease for lease in ended if not lease.on_gpu], deadline)


def _renew_all(leases: list[Lease], until: Deadline | None) -> None:
    try:
        left = None if until is None else until.remaining()
    except Error:
        return
    deadline = Deadline(_RENEWAL_SECONDS if left is None else min(left, _RENEWAL_SECONDS))
    for lease in leases:
        lease.renew(deadline)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _ignore(_: object) -> None:
    """Progress of what is resident is none."""


# A child's leases stay its parent's.
os.register_at_fork(after_in_child=_leases.clear)
