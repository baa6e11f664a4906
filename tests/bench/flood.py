"""Attaches through one listener while another one is flooded: connections, garbage, calls.

.venv/bin/python tests/bench/flood.py [--rounds 15]

The same flood goes against a socket server that only takes connections and throws away what comes, so that what it
costs the machine is not laid at weightd's door. Each round measures both and an undisturbed run, in an order drawn
anew.
"""

import argparse
import collections
import contextlib
import pathlib
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import typing

sys.path += [str(pathlib.Path(__file__).parents[1] / "e2e"), str(pathlib.Path(__file__).parent)]

import measure  # noqa: E402
from models import even_model  # noqa: E402
from processes import Daemon, binary  # noqa: E402
from weightd.v1 import handles_pb2  # noqa: E402

MIB = 1 << 20
ATTACHES = 400  # a sample; its p99 is the fourth worst
CALLS = 50  # of one connection
OPEN_AT_ONCE = 8

LISTENERS = """
listeners:
  - {{name: calm, directory: {folder}/calm}}
  - {{name: flooded, directory: {folder}/flooded}}
"""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def calls(token: str) -> bytes:
    """What a gRPC client sends that lists the models CALLS times, on a connection of its own."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/weightd.v1.Weights/ListModels",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        "weightd-session": token,
    }
    # Literal fields that no table remembers (RFC 7541, section 6.2.2).
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    for i in range(CALLS):
        sent += frame(1, 4, 2 * i + 1, block) + frame(0, 1, 2 * i + 1, b"\0" * 5)
    return sent


def connection(folder: str, name: str) -> socket.socket:
    """To one of the two sockets."""
    kind = socket.SOCK_SEQPACKET if name == "handles.sock" else socket.SOCK_STREAM
    made = socket.socket(socket.AF_UNIX, kind)
    made.connect(f"{folder}/{name}")
    return made


def token_of(session: socket.socket) -> str:
    """Of a session that weightd greeted; the dummy greets nobody."""
    session.settimeout(0.5)
    try:
        return str(handles_pb2.HandleReply.FromString(session.recv(65536)).hello.session_token)
    except TimeoutError:
        return "0" * 32


def flood_calls(folder: str, listing: bytes) -> None:
    """Connection after connection full of calls, a few of them open at once so that calls are answered."""
    opened: collections.deque[socket.socket] = collections.deque()
    while True:
        with contextlib.suppress(OSError):
            opened.append(connection(folder, "weightd.sock"))
            opened[-1].sendall(listing)
            opened[-1].setblocking(False)
        if len(opened) > OPEN_AT_ONCE:
            with opened.popleft() as oldest, contextlib.suppress(OSError):
                while oldest.recv(65536):
                    pass


def flood_connections(folder: str) -> None:
    """Connections to both sockets, half of them with garbage."""
    chance = random.Random(7)
    while True:
        with contextlib.suppress(OSError), connection(folder, chance.choice(["handles.sock", "weightd.sock"])) as made:
            if chance.random() < 0.5:
                made.send(chance.randbytes(chance.randrange(1, 4000)))


def flood(folder: str, what: str) -> None:
    """Goes on until somebody ends this process."""
    with connection(folder, "handles.sock") as session:
        listing = calls(token_of(session))
        print("flooding", flush=True)
        if what == "calls":
            flood_calls(folder, listing)
        else:
            flood_connections(folder)


@contextlib.contextmanager
def flooding(folder: pathlib.Path) -> typing.Iterator[None]:
    """Two processes that flood the sockets in that folder."""
    processes = [
        subprocess.Popen([sys.executable, __file__, "--flood", str(folder), what], stdout=subprocess.PIPE)
        for what in ("calls", "connections")
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline(), "a flood ended before it began"
        yield
    finally:
        for process in processes:
            assert process.poll() is None, "a flood ended by itself"
            process.kill()
            process.communicate()


def p99(socket_dir: pathlib.Path, model: pathlib.Path) -> float:
    """Milliseconds, of attaches on one connection."""
    lines = subprocess.run(
        [binary("tests/bench/attach_latency"), str(socket_dir), str(model), str(ATTACHES)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return statistics.quantiles((float(line) / 1e3 for line in lines), n=100)[98]


@contextlib.contextmanager
def dummy(folder: pathlib.Path) -> typing.Iterator[None]:
    """The server that does nothing."""
    folder.mkdir()
    process = subprocess.Popen([binary("tests/bench/dummy_server"), str(folder)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the dummy ended"
        yield
    finally:
        process.kill()
        process.communicate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    parser.add_argument("--flood", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood:
        flood(*options.flood)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        model = even_model(folder / "m.safetensors", 16 * MIB, 16)
        daemon = Daemon(folder, LISTENERS.format(folder=folder)).start()
        daemon.ctl("preload", str(model))

        def sample(flooded: pathlib.Path | None) -> measure.Contender:
            def run() -> measure.Sample:
                with flooding(flooded) if flooded else contextlib.nullcontext():
                    return measure.Sample(p99(folder / "calm", model), 0)

            return run

        with dummy(folder / "dummy"):
            contenders = {
                "undisturbed": sample(None),
                "dummy flooded": sample(folder / "dummy"),
                "weightd flooded": sample(folder / "flooded"),
            }
            samples = measure.rounds(contenders, options.rounds, lambda: None)
        daemon.end()
    times = {name: [sample.wall for sample in taken] for name, taken in samples.items()}
    for name, taken in times.items():
        print(f"attach p99, {name:16} {statistics.median(taken):8.2f} ms [{min(taken):.2f}, {max(taken):.2f}]")
    reached = measure.verdict(
        "attach p99, another listener flooded against the dummy",
        2,
        times["weightd flooded"],
        times["dummy flooded"],
        at_least=False,
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
