"""A web server of the files of one folder, on loopback, for machines that have none: sendfile and ranges, a thread for
each connection. file_server.py FOLDER prints its port, and ends when its standard input does."""

import http.server
import os
import pathlib
import re
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = "HTTP/1.1"
    folder = pathlib.Path()

    def do_HEAD(self) -> None:
        path = self.folder / pathlib.Path(self.path.partition("?")[0]).name
        if not path.is_file():
            self.send_error(404)
            return
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            begin, end = 0, size
            if asked:
                begin, end = int(asked[1]), min(size, int(asked[2]) + 1 if asked[2] else size)
            if asked and begin >= end:
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - begin))
            self.send_header("ETag", f'"{size}"')
            self.end_headers()
            while self.command == "GET" and begin < end:
                begin += os.sendfile(self.connection.fileno(), file.fileno(), begin, end - begin)

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Server(http.server.ThreadingHTTPServer):
    """Takes many connections at once."""

    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is none."""


def main() -> None:
    Handler.folder = pathlib.Path(sys.argv[1])
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
