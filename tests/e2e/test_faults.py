"""What servers do wrong: a clear typed error or an unseen retry, never a wrong byte, never a hang."""

import gzip
import hashlib
import pathlib
import subprocess
import time
import typing

import pytest
import weightd
from fault_server import Behaviour, FaultServer, Handler, right
from models import even_model, expected
from processes import PATIENCE, Daemon

MIB = 1 << 20
CONFIG = "sources:\n  http:\n    stall_timeout: 1s\n    attempts: 3\n    chunk: 1MiB\n    connections: 2\n"


@pytest.fixture
def daemon(daemons: typing.Callable[..., Daemon]) -> Daemon:
    return daemons(CONFIG)


@pytest.fixture
def path(files: pathlib.Path) -> pathlib.Path:
    return even_model(files / "m.safetensors", 4 * MIB, 4)


def fails(status: int) -> Behaviour:
    return lambda handler: handler.answer(status=status, body=b"secret inner words")


def outcome(daemon: Daemon, path: pathlib.Path, server: FaultServer) -> str:
    """ "right", "wrong bytes", or the reason of the error; within the patience."""
    begin = time.monotonic()
    try:
        with weightd.attach(server.url(), socket_dir=str(daemon.socket_dir), framework="np", timeout=PATIENCE) as model:
            digest, truth = hashlib.sha256(), hashlib.sha256()
            for name, data in sorted(expected(path).items()):
                digest.update(model.raw(name))
                truth.update(data)
            return "right" if digest.digest() == truth.digest() else "wrong bytes"
    except weightd.Error as error:
        assert "secret inner words" not in str(error)
        assert error.hint
        return error.reason
    finally:
        assert time.monotonic() - begin < PATIENCE
        server.shutdown()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (fails(404), "MODEL_NOT_FOUND"),
        (fails(403), "SOURCE_DENIED"),
        (fails(401), "SOURCE_DENIED"),
        (fails(500), "SOURCE_UNAVAILABLE"),
        (fails(503), "SOURCE_UNAVAILABLE"),
    ],
)
def test_refusals(daemon: Daemon, path: pathlib.Path, fault: Behaviour, reason: str) -> None:
    assert outcome(daemon, path, FaultServer(path.read_bytes(), [fault])) == reason


@pytest.mark.parametrize(
    "fault",
    [fails(500), fails(503), fails(429), lambda h: h.cut(reset=True), lambda h: h.cut(reset=False), Handler.stall],
    ids=["500", "503", "429", "reset", "short", "stall"],
)
def test_what_passes_is_retried_unseen(daemon: Daemon, path: pathlib.Path, fault: Behaviour) -> None:
    assert outcome(daemon, path, FaultServer(path.read_bytes(), [fault, right], spare_small=True)) == "right"


@pytest.mark.parametrize(
    "fault",
    [lambda h: h.cut(reset=True), lambda h: h.cut(reset=False), Handler.stall],
    ids=["reset", "short", "stall"],
)
def test_what_does_not_pass_is_a_typed_error(daemon: Daemon, path: pathlib.Path, fault: Behaviour) -> None:
    server = FaultServer(path.read_bytes(), [fault], spare_small=True)
    # Every attempt brings half of what was missing; either it ends as an error, or the bytes are right.
    assert outcome(daemon, path, server) in {"SOURCE_UNAVAILABLE", "right"}


def wrong_range(handler: Handler) -> None:
    begin, end = handler.wanted()
    handler.answer(content_range=f"bytes {begin + 8}-{end + 7}/{len(handler.server.data)}")


def wrong_total(handler: Handler) -> None:
    begin, end = handler.wanted()
    handler.answer(content_range=f"bytes {begin}-{end - 1}/{len(handler.server.data) + 8}")


def whole_for_range(handler: Handler) -> None:
    handler.answer(status=200, body=handler.server.data)


def zipped(handler: Handler) -> None:
    begin, end = handler.wanted()
    handler.answer(body=gzip.compress(handler.server.data[begin:end], 1), headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        (wrong_range, {"SOURCE_PROTOCOL"}),
        (wrong_total, {"SOURCE_CHANGED"}),
        (whole_for_range, {"SOURCE_PROTOCOL", "right"}),
        (zipped, {"SOURCE_PROTOCOL"}),
    ],
)
def test_answers_that_break_the_protocol(
    daemon: Daemon, path: pathlib.Path, fault: Behaviour, reasons: set[str]
) -> None:
    assert outcome(daemon, path, FaultServer(path.read_bytes(), [fault], spare_small=True)) in reasons


def test_object_replaced_once_is_read_anew(daemon: Daemon, path: pathlib.Path, files: pathlib.Path) -> None:
    newer = even_model(files / "newer", 4 * MIB, 4, seed=9)
    server = FaultServer(path.read_bytes(), [right], spare_small=True)

    def replaced(handler: Handler) -> None:
        handler.server.data, handler.server.etag = newer.read_bytes(), '"v2"'
        handler.answer()

    server._behaviours = [right, replaced, right]
    assert outcome(daemon, newer, server) == "right"


def test_object_that_keeps_changing(daemon: Daemon, path: pathlib.Path) -> None:
    def changing(handler: Handler) -> None:
        handler.server.etag = f'"v{handler.server.requests}"'
        handler.answer()

    assert outcome(daemon, path, FaultServer(path.read_bytes(), [changing])) == "SOURCE_CHANGED"


def test_redirects(daemon: Daemon, path: pathlib.Path) -> None:
    target = FaultServer(path.read_bytes(), [right])

    def elsewhere(handler: Handler) -> None:
        handler.answer(status=302, body=b"", headers={"Location": target.url()})

    assert outcome(daemon, path, FaultServer(b"", [elsewhere])) == "right"

    def loop(handler: Handler) -> None:
        handler.answer(status=302, body=b"", headers={"Location": handler.server.url()})

    assert outcome(daemon, path, FaultServer(b"", [loop])) == "SOURCE_PROTOCOL"
    target.shutdown()


def test_bad_certificate(daemon: Daemon, path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
         "-days", "2", "-subj", "/CN=elsewhere"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    server = FaultServer(path.read_bytes(), [right], tls=(certificate, key))
    assert outcome(daemon, path, server) == "SOURCE_UNAVAILABLE"
    assert server.requests == 0


def test_deadline_of_the_client(daemon: Daemon, path: pathlib.Path) -> None:
    server = FaultServer(path.read_bytes(), [Handler.stall], spare_small=True)
    begin = time.monotonic()
    with pytest.raises(weightd.Error) as caught:
        weightd.attach(server.url(), socket_dir=str(daemon.socket_dir), timeout=0.5)
    assert caught.value.reason == "DEADLINE", caught.value
    assert time.monotonic() - begin < 5
    server.shutdown()


def test_the_last_waiter_that_leaves_stops_the_load(daemon: Daemon, path: pathlib.Path) -> None:
    from processes import wait_until

    server = FaultServer(path.read_bytes(), [Handler.stall], spare_small=True)
    with pytest.raises(weightd.Error):
        weightd.attach(server.url(), socket_dir=str(daemon.socket_dir), timeout=0.5)
    wait_until(lambda: not daemon.status().get("loads_running"), "the load stops")
    assert int(daemon.status()["host"].get("loading", 0)) == 0
    server.shutdown()
