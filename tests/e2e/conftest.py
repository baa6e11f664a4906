"""Fixtures of the end-to-end tests."""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import typing

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from hub_models import Hub  # noqa: E402
from keepers import Keeper  # noqa: E402
from processes import INSTRUMENTED, ROOT, Daemon, Nginx, Reader  # noqa: E402
from shelves import Bucket, Folder, Moto, Rgw, S3Server, Shelf  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "plain_only: measures memory or moves gigabytes; not for sanitizers")


@pytest.fixture
def daemons(tmp_path: pathlib.Path) -> typing.Iterator[typing.Callable[..., Daemon]]:
    """Starts daemons, each in a folder of its own, and ends them."""
    started: list[Daemon] = []

    def start(
        config: str | None = None, socket_dir: pathlib.Path | None = None, wait: bool = True, run: bool = True
    ) -> Daemon:
        folder = tmp_path / f"d{len(started)}"
        folder.mkdir()
        daemon = Daemon(folder, config, socket_dir=socket_dir)
        started.append(daemon)
        return daemon.start(wait) if run else daemon

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
def keeper() -> typing.Iterator[Keeper]:
    """A weightd-keeper that serves."""
    # A short path: a socket's address has room for 107 bytes.
    with tempfile.TemporaryDirectory(prefix="weightd-") as folder, Keeper(pathlib.Path(folder) / "keeper") as keeper:
        yield keeper


@pytest.fixture
def files(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder for weight files."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> typing.Iterator[Hub]:
    """A stand-in hub, which the daemon takes for the one."""
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield server


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


@pytest.fixture(scope="module")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> typing.Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw"), memory_bytes=4 << 30) as server:
        yield server


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> typing.Iterator[Moto]:
    with Moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(params=["rgw", "moto"])
def server(request: pytest.FixtureRequest) -> S3Server:
    return typing.cast(S3Server, request.getfixturevalue(request.param))


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A name for a bucket of the test's own."""
    return f"b-{hashlib.md5(request.node.name.encode()).hexdigest()}"


@pytest.fixture
def shelf_with(
    server: S3Server, bucket: str, daemons: typing.Callable[..., Daemon], tmp_path: pathlib.Path
) -> typing.Iterator[typing.Callable[..., Bucket]]:
    """Gives the bucket, and a daemon that reaches it with these `credentials` or this `secret`."""
    shelves: list[Bucket] = []

    def make(**credentials: str) -> Bucket:
        shelves.append(Bucket(server, bucket, daemons, tmp_path, **credentials))
        return shelves[-1]

    yield make
    for shelf in shelves:
        shelf.end()


@pytest.fixture
def bucket_shelf(shelf_with: typing.Callable[..., Bucket]) -> Bucket:
    return shelf_with()


@pytest.fixture(params=["rgw", "moto", "nginx"])
def shelf(
    request: pytest.FixtureRequest, bucket: str, daemons: typing.Callable[..., Daemon], tmp_path: pathlib.Path
) -> typing.Iterator[Shelf]:
    if request.param == "nginx":
        shelf: Shelf = Folder(daemons, tmp_path)
    else:
        shelf = Bucket(request.getfixturevalue(request.param), bucket, daemons, tmp_path)
    yield shelf
    shelf.end()


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> typing.Callable[[str], pathlib.Path]:
    """Files of a release, written once."""
    made: dict[str, pathlib.Path] = {}

    def corpus(release: str) -> pathlib.Path:
        if release not in made:
            folder = tmp_path_factory.mktemp(f"tensorizer-{release}")
            folder.chmod(0o755)
            path = ROOT / ".venv" / "tensorizer" / release
            assert path.is_dir(), "run deploy/install_deps.sh: it fetches tensorizer's releases"
            subprocess.run(
                [sys.executable, str(pathlib.Path(__file__).parent / "write_tensors.py"), str(folder), release],
                env={**os.environ, "PYTHONPATH": str(path)},
                check=True,
                capture_output=True,
                text=True,
            )
            made[release] = folder
        return made[release]

    return corpus
