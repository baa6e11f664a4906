"""Connections to the daemon, and what a fork does with them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import weakref
from pathlib import Path

from weightd._deadline import Deadline
from weightd.errors import Error, error

_open: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def connect(path: Path, kind: socket.SocketKind, deadline: Deadline) -> socket.socket:
    """A connection that a forked child drops without a word: the parent goes on as if nothing had happened."""
    connection = socket.socket(socket.AF_UNIX, kind)
    _open.add(connection)
    try:
        # A timeout of Python's makes the socket non-blocking, and then a full backlog is an error and not a wait.
        seconds = deadline.answer_seconds()
        # At least one microsecond: none at all would mean for ever.
        wait = struct.pack("ll", int(seconds), max(1, int(seconds % 1 * 1e6)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        connection.connect(os.fspath(path))
    except BlockingIOError:
        connection.close()
        raise deadline.passed() from None
    except OSError as failure:
        connection.close()
        raise _unreachable(path, failure) from failure
    except BaseException:
        connection.close()
        raise
    return connection


def lost(failure: OSError | None) -> Error:
    """The exception for a connection that ended."""
    cause = f": {failure.strerror}" if failure else ""
    return error(
        "DAEMON_UNREACHABLE",
        f"the daemon ended the connection{cause}",
        hint="it is stopping, or this user has, or makes, as many connections as the listener allows: try again in a"
        " moment",
    )


def broken(message: str) -> Error:
    """The exception for an answer that breaks the protocol."""
    return error("INTERNAL", message, hint="check that daemon and weightd package fit together")


def _unreachable(path: Path, failure: OSError) -> Error:
    if failure.errno in (errno.EACCES, errno.EPERM):
        return error(
            "NOT_ALLOWED",
            f"{path}: {failure.strerror}",
            hint="this user may not use this socket folder: give it a listener in the daemon's config",
        )
    if failure.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
        return error(
            "DAEMON_UNREACHABLE",
            f"no daemon at {path.parent}: {failure.strerror}",
            hint=f"start one (weightd --socket-dir {path.parent}), or name the folder of one that runs"
            " with socket_dir= or WEIGHTD_DIR; in a container, mount the folder of a listener there",
        )
    # An OSError without a number: the path is longer than a socket's name can be (107 bytes).
    return error("DAEMON_UNREACHABLE", f"{path}: {failure.strerror or failure}")


def _drop_after_fork() -> None:
    # A child that kept the session's connection would keep the lease alive after its parent's end.
    for connection in list(_open):
        connection.close()


os.register_at_fork(after_in_child=_drop_after_fork)
