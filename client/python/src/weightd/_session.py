"""The handle channel: one connection to handles.sock, which is the session and holds the lease.

The lease lives as long as the connection, whatever happens to the process; so nothing has to be sent to end it, and
ending it needs no lock, no thread and no call, and can be done from a finalizer.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from google.protobuf.message import DecodeError

from weightd._deadline import Deadline
from weightd._sockets import broken, connect, lost
from weightd.errors import Error, error
from weightd.v1 import error_pb2, handles_pb2

_MAX_PACKET = 64 * 1024
_MAX_DESCRIPTORS = 16
_PROTOCOL_VERSION = 1


class Session:
    """A session of its own, with at most one lease. `close` may be called from anywhere, any number of times."""

    token: str

    def __init__(self, directory: Path, deadline: Deadline) -> None:
        self._socket = connect(directory / "handles.sock", socket.SOCK_SEQPACKET, deadline)
        try:
            self.token = self._read_hello(deadline)
        except BaseException:
            self.close()
            raise

    def claim(self, lease_id: int, deadline: Deadline) -> list[tuple[handles_pb2.Handle, int]]:
        """The lease's handles, each with its descriptor, which the caller closes."""
        request = handles_pb2.HandleRequest(claim=handles_pb2.Claim(lease_id=lease_id))
        try:
            self._socket.settimeout(deadline.answer_seconds())
            self._socket.sendall(request.SerializeToString())
        except TimeoutError:
            raise deadline.passed() from None
        except OSError as failure:
            raise lost(failure) from failure
        reply, descriptors = self._receive(deadline)
        handles = list(reply.handles.handles)
        if reply.handles.lease_id != lease_id or len(handles) != len(descriptors):
            _close_all(descriptors)
            if reply.HasField("failed"):
                raise from_detail(reply.failed.error)
            raise broken("the daemon's answer to a claim has other handles than it should")
        return list(zip(handles, descriptors, strict=True))

    def lives(self) -> bool:
        """Whether the daemon still holds its end, as far as it has told; false in a forked child."""
        try:
            self._socket.settimeout(0)
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Ends the session and its lease; in a forked child, whose connection is closed already, does nothing."""
        self._socket.close()

    def _read_hello(self, deadline: Deadline) -> str:
        reply, descriptors = self._receive(deadline)
        _close_all(descriptors)
        if reply.HasField("failed"):
            raise from_detail(reply.failed.error)
        if not reply.HasField("hello"):
            raise broken("the daemon does not greet")
        if reply.hello.protocol_version > _PROTOCOL_VERSION:
            raise error(
                "UNSUPPORTED",
                f"weightd {reply.hello.daemon_version} speaks a newer protocol than this package",
                hint="update the weightd package",
            )
        return reply.hello.session_token

    def _receive(self, deadline: Deadline) -> tuple[handles_pb2.HandleReply, list[int]]:
        try:
            self._socket.settimeout(deadline.answer_seconds())
            packet, descriptors, flags, _ = socket.recv_fds(
                self._socket, _MAX_PACKET, _MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except TimeoutError:
            raise deadline.passed() from None
        except OSError as failure:
            raise lost(failure) from failure
        try:
            if not packet:
                raise lost(None)
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise broken("the daemon's answer was cut")
            return handles_pb2.HandleReply.FromString(packet), descriptors
        except BaseException as failure:
            _close_all(descriptors)
            if isinstance(failure, DecodeError):
                raise broken("the daemon's answer can't be read") from failure
            raise


def from_detail(detail: error_pb2.ErrorDetail) -> Error:
    """The exception for the daemon's description of an error."""
    try:
        reason = error_pb2.ErrorReason.Name(detail.reason)
    except ValueError:  # from a newer daemon
        reason = f"ERROR_REASON_{detail.reason}"
    return error(reason, detail.message, model=detail.model, hint=detail.hint)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
