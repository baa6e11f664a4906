"""A hub of models on loopback that answers as huggingface.co does, and a second server, its CDN."""

import dataclasses
import hashlib
import http.server
import json
import re
import threading
import typing
import urllib.parse


@dataclasses.dataclass
class Repository:
    """What a repository holds: commits, and which of them branches and tags name."""

    commits: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)
    refs: dict[str, str] = dataclasses.field(default_factory=dict)
    # None: anybody reads it.
    gated_for: set[str] | None = None


@dataclasses.dataclass
class Request:
    server: str
    path: str
    headers: dict[str, str]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def send(self, status: int, body: bytes = b"", **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_bytes(self, data: bytes, **fields: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not asked:
            self.send(200, data, Accept_Ranges="bytes", **fields)
            return
        begin, end = int(asked[1]), min(len(data), int(asked[2] or len(data)) + 1)
        if begin >= len(data):
            self.send(416, Content_Range=f"bytes */{len(data)}")
            return
        self.send(206, data[begin:end], Content_Range=f"bytes {begin}-{end - 1}/{len(data)}", **fields)

    def fail(self, status: int, code: str, message: str) -> None:
        self.send(status, json.dumps({"error": message}).encode(), X_Error_Code=code, X_Error_Message=message)


class Hub:
    """Files of at least `large` bytes are kept as large ones (LFS), with their SHA-256, and served by the CDN, at
    signed URLs, of which every other is over before it is used while `signatures_end` is set."""

    def __init__(self, large: int = 4096) -> None:
        self.large = large
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.requests: list[Request] = []
        # Called before each is answered.
        self.on_request: typing.Callable[[Request], None] = lambda _: None
        self.flip_bytes = False
        self.signatures_end = False
        # What each signature is good for; None: it is over.
        self._signed: dict[str, bytes | None] = {}
        self._lock = threading.Lock()
        self._servers: list[http.server.ThreadingHTTPServer] = []
        self.endpoint = self._serve("hub", self._answer)
        self.cdn = self._serve("cdn", self._bring)

    def _serve(self, name: str, answer: typing.Callable[[_Handler], None]) -> str:
        hub = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                request = Request(name, self.path, {key.lower(): value for key, value in self.headers.items()})
                hub.requests.append(request)
                hub.on_request(request)
                answer(self)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    def push(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        """A commit of these files, which the branch then names."""
        repository = self.repositories.setdefault(name, Repository())
        content = json.dumps({path: hashlib.sha256(data).hexdigest() for path, data in files.items()})
        commit = hashlib.sha1(f"{name} {len(repository.commits)} {content}".encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.refs[branch] = commit
        return commit

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def asked(self, server: str) -> list[Request]:
        return [request for request in self.requests if request.server == server]

    def _answer(self, handler: _Handler) -> None:
        # Escapes stay until it is taken apart: a revision's slashes are escaped.
        path = urllib.parse.urlsplit(handler.path).path
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        cached = re.fullmatch(r"/api/resolve-cache/models/([^/]+/[^/]+)/([^/]+)/(.+)", path)
        match = api or file or cached
        if not match:
            handler.fail(404, "", "Not found")
            return
        name, revision, *wanted = map(urllib.parse.unquote, match.groups())
        if name in self.renamed:
            handler.send(307, Location=handler.path.replace(name, self.renamed[name], 1))
            return
        token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
        repository = self.repositories.get(name)
        if repository is None:
            # Whoever is nobody isn't told whether it is private.
            handler.fail(404 if token else 401, "RepoNotFound", "Repository not found")
            return
        commit = revision if revision in repository.commits else repository.refs.get(revision)
        if commit is None:
            handler.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        files = repository.commits[commit]
        if api:
            answer = {
                "id": name,
                "modelId": name,
                "sha": commit,
                "gated": "auto" if repository.gated_for is not None else False,
                "private": False,
                "tags": [],
                "downloads": 0,
                "siblings": [{"rfilename": path} for path in files],
            }
            handler.send(200, json.dumps(answer).encode(), Content_Type="application/json")
            return
        if repository.gated_for is not None and token not in repository.gated_for:
            handler.fail(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted.")
            return
        if wanted[0] not in files:
            handler.fail(404, "EntryNotFound", "Entry not found")
            return
        self._resolve(handler, name, commit, wanted[0], files[wanted[0]], direct=cached is not None)

    def _resolve(self, handler: _Handler, name: str, commit: str, path: str, data: bytes, direct: bool) -> None:
        if len(data) >= self.large:
            digest = hashlib.sha256(data).hexdigest()
            handler.send(
                302,
                b"Found. Redirecting",
                Location=self._sign(data, digest),
                X_Repo_Commit=commit,
                X_Linked_Etag=f'"{digest}"',
                X_Linked_Size=str(len(data)),
                ETag='W/"redirect"',
            )
            return
        etag = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        if not direct:
            place = f"/api/resolve-cache/models/{name}/{commit}/{urllib.parse.quote(path)}"
            handler.send(307, Location=place, X_Repo_Commit=commit, X_Linked_Size=str(len(data)), ETag='W/"redirect"')
            return
        handler.send_bytes(data, ETag=f'"{etag}"', X_Repo_Commit=commit)

    def _sign(self, data: bytes, digest: str) -> str:
        with self._lock:
            signature = f"s{len(self._signed)}"
            over = self.signatures_end and len(self._signed) % 2 == 0
            self._signed[signature] = None if over else data
        return f"{self.cdn}/repos/{digest}?X-Amz-Signature={signature}"

    def _bring(self, handler: _Handler) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)
        with self._lock:
            data = self._signed.get(query.get("X-Amz-Signature", [""])[0])
        if data is None:
            handler.send(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
            return
        if self.flip_bytes:
            data = data[:-1] + bytes([data[-1] ^ 1])
        etag = hashlib.md5(data).hexdigest()
        handler.send_bytes(data, ETag=f"\"{etag}\"", Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
