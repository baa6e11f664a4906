"""What systemd hears of the daemon and keeps for it, with a stand-in in its place."""

import contextlib
import fcntl
import os
import pathlib
import signal
import socket
import time
import typing

import pytest
import weightd
from loglines import lines_of
from models import even_model, small_model
from processes import INSTRUMENTED, PATIENCE, Daemon, Nginx, Reader, wait_until
from shelves import same
from unit import Unit, setting


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


@pytest.fixture
def units(tmp_path: pathlib.Path) -> typing.Iterator[typing.Callable[..., Unit]]:
    """Starts weightd as systemd does."""
    with contextlib.ExitStack() as stack:

        def start(**options: typing.Any) -> Unit:
            folder = tmp_path / "unit"
            folder.mkdir()
            unit = stack.enter_context(Unit(folder, "cache: {revalidate: never}\n", **options))
            return unit.start()

        yield start


def resident(unit: Unit) -> dict[str, bool]:
    """Models by the last part of their names, and whether an earlier process loaded them."""
    models = unit.ctl_json("ls").get("models", [])
    return {model["model"].rsplit("/", 1)[-1]: bool(model.get("readopted")) for model in models}


def test_the_unit_stores_as_many_as_it_says() -> None:
    assert setting("Environment") == f"FDSTORE={setting('FileDescriptorStoreMax')}"
    assert setting("Type") == "notify"
    assert setting("Restart") == "on-failure"


def test_a_units_next_process_has_the_models_at_once(
    units: typing.Callable[..., Unit],
    web: Nginx,
    files: pathlib.Path,
    readers: typing.Callable[[Daemon], Reader],
) -> None:
    unit = units()
    url = web.url(even_model(files / "m.safetensors", 32 << 20, 8).name)
    client = readers(unit)
    client.ask("attach", model=url)
    digest = client.ask("digest")
    wait_until(lambda: len(unit.names()) == 3, "its descriptors are stored")
    names, requests = sorted(unit.names()), wait_until(lambda: web.requests("m.safetensors"), "it was read")
    for again in (unit.fail, unit.restart, unit.fail, unit.restart):
        begin = time.monotonic()
        again()
        assert time.monotonic() - begin < (PATIENCE if INSTRUMENTED else 2)
        assert resident(unit) == {"m.safetensors": True}
        assert sorted(unit.names()) == names
        assert client.ask("digest") == digest
        newcomer = readers(unit)
        newcomer.ask("attach", model=url)
        assert newcomer.ask("digest") == digest
        newcomer.end()
    assert web.requests("m.safetensors") == requests
    client.end()
    unit.ctl("evict", url)
    wait_until(lambda: not unit.names(), "all is let go of")
    assert unit.problems == []


def test_a_unit_that_was_stopped_for_good_begins_anew(units: typing.Callable[..., Unit], files: pathlib.Path) -> None:
    unit = units()
    path = small_model(files / "m.safetensors")
    unit.ctl("preload", str(path))
    wait_until(lambda: len(unit.names()) == 3, "its descriptors are stored")
    assert unit.stop() == 0
    unit.forget()
    unit.start()
    assert resident(unit) == {}
    unit.ctl("preload", str(path))
    unit.restart()
    assert resident(unit) == {"m.safetensors": True}


# What the unit says is what systemd stores, or, where an operator changed only one of them, it isn't.
@pytest.mark.parametrize("says", [4, 100])
def test_what_systemd_has_no_room_for_is_loaded_again(
    units: typing.Callable[..., Unit], files: pathlib.Path, says: int
) -> None:
    unit = units(stores=4, says=says)
    paths = [small_model(files / f"{seed}.safetensors", seed) for seed in (1, 2)]
    for path in paths:
        unit.ctl("preload", str(path))
    wait_until(lambda: len(unit.names()) == 4, "the store is full")
    if says == 4:
        wait_until(lambda: len(lines_of(unit, "keeper.refused")) == 2, "the daemon says what isn't stored")
        assert "FileDescriptorStoreMax" in lines_of(unit, "keeper.refused")[0]["hint"]
    else:
        wait_until(lambda: len(unit.problems) == 2, "systemd says what it doesn't store")
    unit.fail()
    assert resident(unit) == {"1.safetensors": True}
    (line,) = lines_of(unit, "model.not_readopted")
    assert "not there" in line["error"]
    wait_until(lambda: len(unit.names()) == 3, "what is of no use is let go of")
    for path in paths:
        with weightd.attach(str(path), socket_dir=unit.socket_dir, timeout=60, framework="np") as model:
            assert same(model, path)
        unit.ctl("evict", str(path))
    wait_until(lambda: not unit.names(), "all is let go of")
