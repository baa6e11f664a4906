"""Fixtures of the end-to-end tests."""

import os
import pathlib
import sys
import tempfile
import typing

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from processes import INSTRUMENTED, Daemon, Nginx, Reader  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "plain_only: measures memory or moves gigabytes; not for sanitizers")


@pytest.fixture
def daemons(tmp_path: pathlib.Path) -> typing.Iterator[typing.Callable[..., Daemon]]:
    """Starts daemons, each in a folder of its own, and ends them."""
    started: list[Daemon] = []

    def start(config: str | None = None, socket_dir: pathlib.Path | None = None, wait: bool = True) -> Daemon:
        folder = tmp_path / f"d{len(started)}"
        folder.mkdir()
        daemon = Daemon(folder, config, socket_dir=socket_dir)
        started.append(daemon)
        return daemon.start(wait)

    yield start
    for daemon in started:
        daemon.end()
        if INSTRUMENTED:
            assert "Sanitizer" not in daemon.log(), daemon.log()[-6000:]


@pytest.fixture
def daemon(daemons: typing.Callable[..., Daemon]) -> Daemon:
    """A daemon with default settings."""
    return daemons()


@pytest.fixture
def files(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder for weight files."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def reachable() -> typing.Iterator[pathlib.Path]:
    """A folder that every user can enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


@pytest.fixture
def web(tmp_path: pathlib.Path, files: pathlib.Path) -> typing.Iterator[Nginx]:
    """Serves `files`."""
    server = Nginx(tmp_path / "nginx", files)
    yield server
    server.end()


@pytest.fixture
def readers() -> typing.Iterator[typing.Callable[[Daemon], Reader]]:
    """Starts client processes and ends them."""
    started: list[Reader] = []

    def start(daemon: Daemon) -> Reader:
        reader = Reader(daemon.socket_dir)
        started.append(reader)
        return reader

    yield start
    for reader in started:
        if reader.process.poll() is None:
            reader.kill()
