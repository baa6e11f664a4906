"""A stand-in on the way of packets and their descriptors, at which processes can be killed between any two of them."""

import pathlib
import select
import socket
import threading
import types
import typing

MOST_BYTES = 64 << 10
MOST_DESCRIPTORS = 16


class Packet(typing.NamedTuple):
    """One that passed."""

    # A number of its connection's.
    connection: int
    # From whoever connected, not to them.
    request: bool
    data: bytes
    # What it carried, until the next at(); nothing unless Relay.keeps.
    fds: tuple[int, ...]


class Relay:
    """Listens at `address` and passes each packet on to `target` or back, with the open files that it carries, one at a
    time: nothing moves while what is planned with at() happens. A context manager. SOCK_SEQPACKET only."""

    def __init__(
        self,
        address: pathlib.Path,
        target: pathlib.Path,
        keeps: typing.Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """`keeps`: packets whose open files it keeps open."""
        self._target = str(target)
        self._keeps = keeps
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(address))
        self._listener.listen()
        self._ended, self._end = socket.socketpair()
        # Each connection's end in both directions, and its number.
        self._peers: dict[socket.socket, socket.socket] = {}
        self._numbers: dict[socket.socket, int] = {}
        self._connections = 0
        self._clients: set[socket.socket] = set()
        # Those that wait for an answer.
        self._asking: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._passed: list[Packet] = []
        self._plan: tuple[int, typing.Callable[[], object]] | None = None
        # The connection at which the last action happened.
        self._acted: int | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._end.close()
        self._thread.join()
        for end in [*self._peers, self._listener, self._ended]:
            end.close()
        self._forget()
        if self._failure is not None and error is None:
            raise self._failure

    def at(self, number: int, action: typing.Callable[[], object]) -> None:
        """Forgets what has passed, and calls `action` once: before packet `number` (from 0) of those to come is passed
        on. A plan that is not due any more is forgotten."""
        with self._lock:
            self._forget()
            self._acted = None
            self._plan = (number, action)

    def happened(self) -> bool:
        """Whether the action has returned."""
        if self._failure is not None:
            raise self._failure
        with self._lock:
            return self._plan is None

    def answered(self) -> bool:
        """Whether nobody who is connected has asked last."""
        with self._lock:
            return not self._asking

    def passed(self, there: bool) -> list[Packet]:
        """Since the last at(), in their order, on the connection at which the action happened; or on all others."""
        with self._lock:
            return [packet for packet in self._passed if (packet.connection == self._acted) == there]

    def _forget(self) -> None:
        """What has passed."""
        for packet in self._passed:
            for fd in packet.fds:
                socket.close(fd)
        self._passed = []

    def _run(self) -> None:
        try:
            while True:
                ready, _, _ = select.select([self._ended, self._listener, *self._peers], [], [])
                if self._ended in ready:
                    return
                if self._listener in ready:
                    self._accept()
                for source in ready:
                    if source in self._peers:
                        self._pass_on(source)
        except BaseException as failure:  # Whoever waits for the action is to hear of it.
            self._failure = failure

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            server.connect(self._target)
        except OSError:
            # Nobody there: as an end that hangs up.
            client.close()
            server.close()
            return
        self._peers |= {client: server, server: client}
        self._connections += 1
        self._numbers |= dict.fromkeys((client, server), self._connections)
        self._clients.add(client)

    def _pass_on(self, source: socket.socket) -> None:
        fds: list[int] = []
        try:
            data, fds, flags, _ = socket.recv_fds(source, MOST_BYTES, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
            assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
            if data:
                self._act(self._numbers[source])
                socket.send_fds(self._peers[source], [data], fds)
        except OSError:
            data = b""
        if not data or not self._keeps(data):
            while fds:
                socket.close(fds.pop())
        if data:
            asks = source in self._clients
            with self._lock:
                self._passed.append(Packet(self._numbers[source], asks, data, tuple(fds)))
                (self._asking.add if asks else self._asking.discard)(source if asks else self._peers[source])
        else:
            self._hang_up(source)

    def _act(self, connection: int) -> None:
        with self._lock:
            if self._plan is None or len(self._passed) != self._plan[0]:
                return
            action = self._plan[1]
            self._acted = connection
        action()
        with self._lock:
            self._plan = None

    def _hang_up(self, end: socket.socket) -> None:
        """Both ends, as soon as one is."""
        for one in (end, self._peers.pop(end)):
            self._peers.pop(one, None)
            self._numbers.pop(one, None)
            self._clients.discard(one)
            with self._lock:
                self._asking.discard(one)
            one.close()
