"""A web server of one object that fails as it is told."""

import http.server
import re
import socket
import ssl
import struct
import threading
import typing

Behaviour = typing.Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """One request; `server.behaviours` says how each body request fails, in turn, the last one forever."""

    protocol_version = "HTTP/1.1"
    server: "FaultServer"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.take_behaviour(self.wanted())(self)

    def wanted(self) -> tuple[int, int]:
        """The range asked for, half-open."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        size = len(self.server.data)
        if not match:
            return 0, size
        return int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)

    def answer(
        self,
        *,
        status: int | None = None,
        body: bytes | None = None,
        content_range: str | None = None,
        etag: str | None = None,
        length: int | None = None,
        headers: typing.Mapping[str, str] | None = None,
    ) -> None:
        """The right answer, but for what is given."""
        begin, end = self.wanted()
        ranged = "Range" in self.headers
        data = self.server.data[begin:end] if body is None else body
        self.send_response(status or (206 if ranged else 200))
        if ranged and (status or 206) == 206:
            self.send_header("Content-Range", content_range or f"bytes {begin}-{end - 1}/{len(self.server.data)}")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.send_header("ETag", etag or self.server.etag)
        self.send_header("Accept-Ranges", "bytes")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def cut(self, *, reset: bool) -> None:
        """Promises the whole range, sends half of it, ends the connection."""
        begin, end = self.wanted()
        self.answer(body=self.server.data[begin : (begin + end) // 2], length=end - begin)
        self.wfile.flush()
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def stall(self) -> None:
        """Sends half of the range and then nothing, until the client gives up."""
        begin, end = self.wanted()
        self.answer(body=self.server.data[begin : (begin + end) // 2], length=end - begin)
        self.wfile.flush()
        self.close_connection = True
        try:
            self.connection.recv(1)
        except OSError:
            pass


def right(handler: Handler) -> None:
    """No fault."""
    handler.answer()


class FaultServer(http.server.ThreadingHTTPServer):
    """Serves `data` at any path. `behaviours` apply to requests for more than the object's first 64 KiB only if
    `spare_small`: so that the look at the object succeeds and its transfer fails."""

    daemon_threads = True

    def __init__(
        self, data: bytes, behaviours: list[Behaviour], *, spare_small: bool = False, tls: tuple[str, str] | None = None
    ) -> None:
        self.data = data
        self.etag = '"v1"'
        self.requests = 0
        self._behaviours = list(behaviours)
        self._spare_small = spare_small
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self._tls = tls is not None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Clients that give up are what the tests want."""

    def take_behaviour(self, wanted: tuple[int, int]) -> Behaviour:
        """What the next request meets."""
        with self._lock:
            self.requests += 1
            if self._spare_small and wanted[1] - wanted[0] <= 1 << 16:
                return right
            return self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]

    def url(self) -> str:
        """The object."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.server_port}/m.safetensors"
