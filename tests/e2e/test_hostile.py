"""Clients that misbehave hurt only themselves."""

import array
import contextlib
import os
import pathlib
import random
import resource
import socket
import struct
import time
import typing

import pytest
import weightd
from loglines import line_of, lines_of
from models import small_model
from processes import Daemon, wait_until
from users import NOBODY, as_user
from weightd.v1 import handles_pb2
from wire import RawSession, close_all

Daemons = typing.Callable[..., Daemon]


@pytest.fixture
def model(daemon: Daemon, files: pathlib.Path) -> str:
    path = small_model(files / "m.safetensors")
    daemon.ctl("preload", str(path))
    return str(path)


def serves(daemon: Daemon, model: str) -> None:
    """A well-behaved client is served now."""
    weightd.attach(model, socket_dir=str(daemon.socket_dir), framework="np", timeout=20).close()


def connect(path: pathlib.Path, kind: int) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, kind)
    connection.connect(str(path))  # blocking: with a time limit, a full backlog is an error
    connection.settimeout(20)
    return connection


def test_garbage_on_both_sockets(daemon: Daemon, model: str) -> None:
    chance = random.Random(7)
    descriptors = daemon.descriptors()
    for name, kind in (("handles.sock", socket.SOCK_SEQPACKET), ("weightd.sock", socket.SOCK_STREAM)):
        for _ in range(200):
            with connect(daemon.socket_dir / name, kind) as connection:
                try:
                    for _ in range(chance.randrange(1, 4)):
                        connection.send(chance.randbytes(chance.randrange(1, 4000)))
                except OSError:
                    pass
    serves(daemon, model)
    wait_until(lambda: daemon.descriptors() <= descriptors + 4, "descriptors close")


def test_oversized_packets_end_only_their_session(daemon: Daemon, model: str) -> None:
    session = RawSession(daemon.socket_dir)
    session.channel_socket.send(b"x" * 100_000)
    session.channel_socket.recv(65536)  # a refusal or the end; never silence
    serves(daemon, model)
    session.close()


def test_a_client_that_never_reads_its_answers(daemon: Daemon, model: str) -> None:
    descriptors = daemon.descriptors()
    sessions = [RawSession(daemon.socket_dir) for _ in range(114)]
    for session in sessions:
        for _ in range(3):
            lease = session.acquire(model)
            try:
                session.channel_socket.setblocking(False)
                session.send_claim(lease)
            except OSError:
                pass
    serves(daemon, model)
    for session in sessions:
        session.close()
    wait_until(lambda: daemon.status()["leases"] == 0, "leases end")
    wait_until(lambda: daemon.descriptors() <= descriptors + 4, "descriptors close")


@pytest.mark.parametrize("name", ["handles.sock", "weightd.sock"])
def test_ten_thousand_connections(daemon: Daemon, model: str, name: str) -> None:
    kind = socket.SOCK_SEQPACKET if name == "handles.sock" else socket.SOCK_STREAM
    descriptors = daemon.descriptors()
    for _ in range(10_000):
        connect(daemon.socket_dir / name, kind).close()
    serves(daemon, model)
    wait_until(lambda: daemon.descriptors() <= descriptors + 4, "descriptors close")


def test_descriptors_sent_to_the_daemon_are_dropped(daemon: Daemon, model: str) -> None:
    descriptors = daemon.descriptors()
    session = RawSession(daemon.socket_dir)
    lease = session.acquire(model)
    rights = array.array("i", [0] * 100)
    for _ in range(50):
        try:
            session.channel_socket.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:
            break
    serves(daemon, model)
    assert daemon.descriptors() <= descriptors + 12
    session.close()
    assert lease


def lingering(sink: socket.socket) -> socket.socket:
    """A TCP socket whose close takes 30 seconds, for nobody reads what it sends."""
    stuck = socket.create_connection(sink.getsockname())
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
    stuck.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            stuck.send(bytes(1 << 16))
    return stuck


@pytest.mark.parametrize("name", ["handles.sock", "weightd.sock", "admin.sock"])
def test_a_socket_that_lingers_holds_nobody_up(daemon: Daemon, model: str, name: str) -> None:
    kind = socket.SOCK_SEQPACKET if name == "handles.sock" else socket.SOCK_STREAM
    with socket.create_server(("127.0.0.1", 0)) as sink, contextlib.ExitStack() as ours:
        for _ in range(4):
            connection = ours.enter_context(connect(daemon.socket_dir / name, kind))
            if kind == socket.SOCK_SEQPACKET:
                connection.recv(65536)
            stuck = lingering(sink)
            rights = array.array("i", [stuck.fileno()])
            try:
                connection.sendmsg([b"PRI"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            except PermissionError:  # since Linux 6.16
                stuck.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
            stuck.close()  # the daemon's copy is the last
        begin = time.monotonic()
        serves(daemon, model)
        daemon.status()
        assert time.monotonic() - begin < 10


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """One that no table has; `value` has fewer than 127 bytes, or 8000."""
    size = bytes([len(value)]) if len(value) < 127 else b"\x7f\xc1\x3d"
    return b"\0" + bytes([len(name)]) + name + size + value


HEADERS, RESET, SETTINGS, CONTINUATION, ACKNOWLEDGES, END_HEADERS = 1, 3, 4, 9, 1, 4
CALL = b"".join(
    header(name, value)
    for name, value in {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/weightd.v1.Weights/ListModels",
        b":authority": b"x",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }.items()
)


def calls_without_end() -> typing.Iterator[bytes]:
    """Calls whose requests never end."""
    for stream in range(1, 100_000, 2):
        yield frame(HEADERS, END_HEADERS, stream, CALL)


def calls_before_settings() -> typing.Iterator[bytes]:
    """The same, having acknowledged a limit of them before it was sent."""
    yield frame(SETTINGS, ACKNOWLEDGES, 0)
    yield from calls_without_end()


def headers_without_end() -> typing.Iterator[bytes]:
    """One call's headers that go on and on."""
    yield frame(HEADERS, 0, 1, CALL)
    for number in range(60_000):
        yield frame(CONTINUATION, 0, 1, header(b"x%d" % (number % 100), b"A" * 8000))


def calls_reset() -> typing.Iterator[bytes]:
    """Calls that are reset at once."""
    for stream in range(1, 200_000, 2):
        yield frame(HEADERS, END_HEADERS, stream, CALL) + frame(RESET, 0, stream, bytes(4))


@pytest.mark.plain_only  # sanitizers have a memory of their own
@pytest.mark.parametrize(
    "attack", [calls_without_end, calls_before_settings, headers_without_end, calls_reset], ids=lambda f: f.__name__
)
def test_one_connection_does_not_fill_memory(
    daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path, attack: typing.Callable[[], typing.Iterator[bytes]]
) -> None:
    daemon = daemons(
        f"listeners:\n  - {{name: own, directory: {tmp_path}/own}}\n  - {{name: pods, directory: {tmp_path}/pods}}\n"
    )
    model = small_model(files / "m.safetensors")
    daemon.ctl("preload", str(model))
    before = daemon.memory()["RssAnon"]
    with connect(tmp_path / "pods/weightd.sock", socket.SOCK_STREAM) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        with pytest.raises(OSError):  # it ends the connection
            for number, sent in enumerate(attack()):
                connection.sendall(sent)
                if number % 1000 == 0:
                    assert daemon.memory()["RssAnon"] < before + (200 << 20)
        weightd.attach(str(model), socket_dir=str(tmp_path / "own"), framework="np", timeout=20).close()
    weightd.attach(str(model), socket_dir=str(tmp_path / "pods"), framework="np", timeout=20).close()
    wait_until(lambda: daemon.memory()["RssAnon"] < before + (32 << 20), "what the attack took goes back")


def test_sessions_have_a_limit_and_others_go_on(daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "small"
    daemon = daemons(
        f"listeners:\n  - {{name: own, directory: {tmp_path}/own}}\n"
        f"  - {{name: small, directory: {folder}, max_sessions: 4}}\n"
    )
    path = small_model(files / "m.safetensors")
    sessions = [RawSession(folder) for _ in range(4)]
    with pytest.raises(weightd.Error):
        weightd.attach(str(path), socket_dir=str(folder), framework="np", timeout=5)
    weightd.attach(str(path), socket_dir=str(tmp_path / "own"), framework="np", timeout=20).close()
    for session in sessions:
        session.close()
    wait_until(lambda: daemon.status().get("sessions", 0) == 0, "sessions end")
    weightd.attach(str(path), socket_dir=str(folder), framework="np", timeout=20).close()


def lower_descriptors(daemon: Daemon, most: int) -> None:
    """Fewer for a daemon that runs, so that its plan is off."""
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (most, most))


def test_where_descriptors_are_few_operators_have_theirs(tmp_path: pathlib.Path, files: pathlib.Path) -> None:
    daemon = Daemon(tmp_path, before=("prlimit", "--nofile=1024:1024")).start()
    try:
        line = line_of(daemon, "descriptors.short")
        assert line["limit"] == 1024 < line["needed"]
        assert str(line["needed"]) in line["hint"] and "LimitNOFILE" in line["hint"]
        assert line["listener"] == "default" and line["max_connections"] < 512
        with contextlib.ExitStack() as flood:
            for name, kind, count in (
                ("weightd.sock", socket.SOCK_STREAM, 480),
                ("handles.sock", socket.SOCK_SEQPACKET, 150),
            ):
                for _ in range(count):
                    flood.enter_context(connect(daemon.socket_dir / name, kind))
            wait_until(lambda: lines_of(daemon, "audit.refused", method="Connect"), "connections are refused")
            daemon.ctl("preload", str(small_model(files / "m.safetensors")))
            assert daemon.status()["sessions"] == line["max_sessions"]
            assert daemon.descriptors() < 900
    finally:
        daemon.end()


def test_enough_descriptors_are_not_worth_a_line(daemon: Daemon) -> None:
    assert not lines_of(daemon, "descriptors.short")


@pytest.mark.plain_only  # UBSan takes a pipe to look at an object's type, and the object for a bad one if it gets none
def test_a_connection_for_which_no_descriptor_is_left_is_said(daemon: Daemon) -> None:
    lower_descriptors(daemon, daemon.descriptors() + 3)
    with contextlib.ExitStack() as flood:
        for name, kind in (("weightd.sock", socket.SOCK_STREAM), ("handles.sock", socket.SOCK_SEQPACKET)):
            for _ in range(5):
                flood.enter_context(connect(daemon.socket_dir / name, kind))
        line = line_of(daemon, "audit.refused", method="Connect")
    assert (line["listener"], line["uid"], line["outcome"]) == ("default", os.getuid(), "TOO_MANY_REQUESTS")
    assert "no descriptor left" in line["error"]


def test_one_user_leaves_sessions_to_others(
    daemons: Daemons, reachable: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    daemons(
        f"listeners:\n  - {{name: own, directory: {tmp_path}/own}}\n"
        f"  - {{name: shared, directory: {reachable}, mode: 0755, max_sessions: 4, access: {{attach: ['**']}}}}\n"
    )

    def greeting() -> str:
        with connect(reachable / "handles.sock", socket.SOCK_SEQPACKET) as connection:
            return str(handles_pb2.HandleReply.FromString(connection.recv(65536)).WhichOneof("kind"))

    ours = [RawSession(reachable) for _ in range(2)]
    with pytest.raises(weightd.Error, match="no session left for this user"):
        weightd.attach("any", socket_dir=str(reachable), timeout=5)
    assert as_user(NOBODY, greeting) == "hello"
    for session in ours:
        session.close()


def test_unclaimed_leases_end(daemons: Daemons, files: pathlib.Path) -> None:
    daemon = daemons("cache:\n  unclaimed_lease: 1s\n")
    session = RawSession(daemon.socket_dir)
    session.acquire(str(small_model(files / "m.safetensors")))
    assert daemon.status()["leases"] == 1
    wait_until(lambda: daemon.status().get("leases", 0) == 0, "the unclaimed lease ends")
    session.close()


def test_claiming_twice_and_what_was_released(daemon: Daemon, model: str) -> None:
    session = RawSession(daemon.socket_dir)
    lease = session.acquire(model)
    close_all(session.claim(lease) + session.claim(lease))
    from weightd.v1 import weights_pb2

    session.call("Release", weights_pb2.ReleaseRequest(lease_id=lease), weights_pb2.ReleaseResponse)
    session.send_claim(lease)
    reply, fds = session.receive()
    assert reply.HasField("failed") and not fds
    session.close()
    assert os.path.exists(daemon.socket_dir)
