"""A proxy before an S3 server that sees every request, and holds or answers those it is told to."""

import http.client
import http.server
import threading
import typing
import urllib.parse


class Request(typing.NamedTuple):
    """What a client asks for."""

    method: str
    key: str  # the path without the bucket, decoded
    query: dict[str, str]

    @property
    def part(self) -> int:
        """The part that it brings; 0 if it brings none."""
        return int(self.query.get("partNumber", 0)) if self.method == "PUT" else 0

    @property
    def makes_object(self) -> bool:
        """Whether an object becomes visible if it succeeds."""
        return (self.method == "PUT" and not self.query) or (self.method == "POST" and "uploadId" in self.query)


# Called for each request by a thread of its own. A status is the answer; None lets the request through.
Judge = typing.Callable[[Request], int | None]


class Handler(http.server.BaseHTTPRequestHandler):
    """One request: read as a whole, judged, passed on as it is, so that its signature stays valid."""

    protocol_version = "HTTP/1.1"
    server: "S3Proxy"

    def log_message(self, *_: object) -> None:
        pass

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        key = urllib.parse.unquote(url.path).lstrip("/").partition("/")[2]
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        status = self.server.take(Request(self.command, key, query))
        if status is not None:
            self.answer(status, [], b"")
            return
        upstream = http.client.HTTPConnection(self.server.upstream)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("expect", "connection"):
                upstream.putheader(name, value)
        upstream.endheaders(body)
        response = upstream.getresponse()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
        self.answer(response.status, kept, response.read(), response.headers.get("Content-Length"))
        upstream.close()

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, length: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        # The answer to a HEAD tells the length of a body that doesn't come.
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one


HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class S3Proxy(http.server.ThreadingHTTPServer):
    """Serves on a loopback port of its own from the constructor until close()."""

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        self.upstream = urllib.parse.urlsplit(endpoint).netloc
        self.requests: list[Request] = []
        self.judge: Judge = lambda _: None
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Clients that are killed are what the tests want."""

    def take(self, request: Request) -> int | None:
        """Notes a request and judges it."""
        with self._lock:
            self.requests.append(request)
        return self.judge(request)

    def parts(self) -> list[int]:
        """The parts that were brought, in the order of their requests."""
        with self._lock:
            return [request.part for request in self.requests if request.part]

    def close(self) -> None:
        """Ends it."""
        self.shutdown()
        self.server_close()
