"""One gRPC call on a connection of its own, over h2.

Not grpcio, whose threads and connections are the whole process's: a fork while any thread is in a call crashes or
hangs the child and breaks the call (seen with 1.85). Here a call is a socket that one thread reads, and nothing is left
of it afterwards; and importing costs less.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError, StreamClosedError

from weightd._deadline import Deadline
from weightd._sockets import broken, connect, lost
from weightd.errors import Error, error

_STREAM = 1
# The gRPC status of a call that the other side cancelled.
_CANCELLED = 1
_CANCELLED_BY_DAEMON = "the daemon cancelled the call"
# Far above any message that weightd sends.
_MAX_MESSAGE = 4 << 20
# What may be sent before the other side says that it takes more, less its headers (RFC 9113, section 6.9.2).
MAX_REQUEST = 65_000
_FRAME = 16_384  # RFC 9113, section 4.2

Headers = dict[str, str]


class CallFailed(Exception):
    """The server answered with a status other than OK."""

    def __init__(self, code: int, message: str, trailers: Headers) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.trailers = trailers


class Call:
    """A call whose answers are read by iterating, to the end. A context manager: leaving it early cancels the call.

    The request has at most MAX_REQUEST bytes.
    """

    def __init__(self, path: Path, method: str, request: bytes, metadata: Headers, deadline: Deadline) -> None:
        self._deadline = deadline
        self._buffer = bytearray()
        self._trailers: Headers = {}
        self._ended = False
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._socket = connect(path, socket.SOCK_STREAM, deadline)
        try:
            self._start(method, request, metadata)
        except OSError as failure:
            self._socket.close()
            if isinstance(failure, Error):
                raise
            raise lost(failure) from failure
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, ProtocolError):
            if not self._ended:
                self._http.reset_stream(_STREAM, ErrorCodes.CANCEL)
            self._http.close_connection()
            self._socket.sendall(self._http.data_to_send())
        self._socket.close()

    def __iter__(self) -> Iterator[bytes]:
        while not self._ended:
            self._receive()
            yield from self._messages()
        if self._buffer:
            raise broken("the daemon's last answer is cut")
        code = self._trailers.get("grpc-status", "")
        if not code.isdecimal():
            raise broken(f"the daemon ended a call without a status: {self._trailers}")
        if code != "0":
            message = unquote(self._trailers.get("grpc-message", ""))
            raise CallFailed(int(code), message, self._trailers)

    def _start(self, method: str, request: bytes, metadata: Headers) -> None:
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            "user-agent": "weightd-python",
            **metadata,
        }
        left = self._deadline.remaining()
        if left is not None:
            # At most eight digits.
            headers["grpc-timeout"] = f"{int(left * 1000) + 1}m" if left < 90_000 else f"{int(left)}S"
        self._http.initiate_connection()
        self._http.send_headers(_STREAM, headers.items())
        frame = b"\0" + len(request).to_bytes(4, "big") + request
        for begin in range(0, len(frame), _FRAME):
            part = frame[begin : begin + _FRAME]
            self._http.send_data(_STREAM, part, end_stream=begin + len(part) == len(frame))
        self._send()

    def _send(self) -> None:
        try:
            self._socket.settimeout(self._deadline.answer_seconds())
            self._socket.sendall(self._http.data_to_send())
        except TimeoutError:
            raise self._deadline.passed() from None

    def _receive(self) -> None:
        """Waits for bytes and takes in what they mean."""
        try:
            self._socket.settimeout(self._deadline.remaining())
            content = self._socket.recv(65536)
        except TimeoutError:
            raise self._deadline.passed() from None
        except OSError as failure:
            raise lost(failure) from failure
        if not content:
            raise lost(None)
        try:
            for event in self._http.receive_data(content):
                self._take(event)
        except StreamClosedError:
            # gRPC, when a deadline passes: it resets the stream, and may still send trailers on it.
            raise CallFailed(_CANCELLED, _CANCELLED_BY_DAEMON, self._trailers) from None
        except ProtocolError as failure:
            if "ConnectionState.CLOSED" in str(failure):
                # After a GOAWAY, which is how gRPC begins to shut down, h2 takes nothing more.
                raise error("SHUTTING_DOWN", "the daemon is shutting down", hint="try again in a moment") from None
            raise broken(f"the daemon's answer is not HTTP/2: {failure}") from failure
        # Of a peer that has closed, everything that it sent before is still to be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._send()

    def _take(self, event: object) -> None:
        if isinstance(event, DataReceived):
            self._buffer += event.data
            with suppress(StreamClosedError):  # the stream's end may have come with the same bytes
                self._http.acknowledge_received_data(event.flow_controlled_length, _STREAM)
        elif isinstance(event, ResponseReceived | TrailersReceived):
            self._trailers = _text(event.headers)
        elif isinstance(event, StreamEnded):
            self._ended = True
        elif isinstance(event, StreamReset) and event.error_code == ErrorCodes.CANCEL:
            raise CallFailed(_CANCELLED, _CANCELLED_BY_DAEMON, self._trailers)
        elif isinstance(event, StreamReset) and not self._ended:
            raise broken(f"the daemon broke the call off (HTTP/2 error {event.error_code})")
        elif isinstance(event, ConnectionTerminated) and event.error_code:
            raise _terminated(event)

    def _messages(self) -> Iterator[bytes]:
        while len(self._buffer) >= 5:
            length = int.from_bytes(self._buffer[1:5], "big")
            if self._buffer[0] or length > _MAX_MESSAGE:
                raise broken("the daemon's answer is compressed or too large")
            if len(self._buffer) < 5 + length:
                return
            message = bytes(self._buffer[5 : 5 + length])
            del self._buffer[: 5 + length]
            yield message


def _text(headers: object) -> Headers:
    assert isinstance(headers, list)
    return {str(name): str(value) for name, value in headers}


def _terminated(event: ConnectionTerminated) -> Error:
    return broken(f"the daemon ended the connection (HTTP/2 error {event.error_code})")
