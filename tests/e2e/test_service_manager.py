"""What systemd hears of the daemon, with a socket in its place."""

import fcntl
import os
import pathlib
import signal
import socket
import typing

import pytest
from processes import PATIENCE, Daemon, wait_until


@pytest.fixture
def manager(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> typing.Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield manager


def hear(manager: socket.socket) -> dict[str, str]:
    """The next message."""
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())


def test_is_ready_when_it_serves_lives_and_ends(
    daemons: typing.Callable[..., Daemon], manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    daemon = daemons("host: {budget: 64MiB}", wait=False)
    first = hear(manager)
    assert first["READY"] == "1" and "0.1 GiB" in first["STATUS"]
    assert daemon.serves()
    for _ in range(3):
        sign = hear(manager)
        assert sign["WATCHDOG"] == "1" and "loads running" in sign["STATUS"]

    os.kill(daemon.pid, signal.SIGSTOP)
    manager.settimeout(0.5)
    with pytest.raises(TimeoutError):  # after what it had said before
        while True:
            hear(manager)
    os.kill(daemon.pid, signal.SIGCONT)
    manager.settimeout(PATIENCE)
    assert hear(manager)["WATCHDOG"] == "1"

    assert daemon.stop() == 0
    while "STOPPING" not in (last := hear(manager)):
        assert last["WATCHDOG"] == "1"


def test_is_not_ready_while_another_has_the_folder(
    daemons: typing.Callable[..., Daemon], manager: socket.socket, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "held"
    folder.mkdir(mode=0o700)
    with (folder / "weightd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        daemon = daemons(socket_dir=folder, wait=False)
        wait_until(lambda: "folder.waiting" in daemon.log(), "the daemon waits for the folder")
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            hear(manager)
    manager.setblocking(True)
    manager.settimeout(PATIENCE)
    assert hear(manager)["READY"] == "1"
