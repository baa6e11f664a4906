"""A proxy of one server at which things happen in the middle of a load."""

import re
import socket
import threading
import typing

PIECE = 64 << 10


class Gate:
    """Passes bytes to and from the server at `target` (host:port) on loopback, and counts those of its answers. What is
    planned with at() happens while everything else stands still. Ends with end()."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._lock = threading.Lock()
        self._passed = 0
        self._plans: list[tuple[int, typing.Callable[[], object]]] = []
        self._requests: list[str] = []
        self._statuses: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def at(self, nbytes: int, action: typing.Callable[[], object]) -> None:
        """Calls `action` once, after so many more bytes of answers have passed and before the next do."""
        with self._lock:
            self._plans.append((self._passed + nbytes, action))
            self._plans.sort(key=lambda plan: plan[0])

    def waits(self) -> int:
        """How many actions have not happened."""
        with self._lock:
            return len(self._plans)

    def requests(self) -> list[str]:
        """The heads of the requests so far."""
        with self._lock:
            return list(self._requests)

    def statuses(self) -> list[int]:
        """What the server answered so far."""
        with self._lock:
            return list(self._statuses)

    def end(self) -> None:
        """Takes no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for source, sink, take in ((client, server, self._take_request), (server, client, self._take_answer)):
                threading.Thread(target=self._pass_on, args=(source, sink, take), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket, take: typing.Callable[[bytes], None]) -> None:
        try:
            while data := source.recv(PIECE):
                take(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _take_request(self, data: bytes) -> None:
        with self._lock:
            self._requests.append(data.decode(errors="replace"))

    def _take_answer(self, data: bytes) -> None:
        with self._lock:
            if match := re.match(rb"HTTP/1\.[01] (\d+)", data):
                self._statuses.append(int(match[1]))
            self._passed += len(data)
            while self._plans and self._plans[0][0] <= self._passed:
                self._plans.pop(0)[1]()
