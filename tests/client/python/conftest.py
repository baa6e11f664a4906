"""Fixtures: the real daemon in a folder of its own, and a fake one that can lie."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fake_daemon import FakeDaemon, Served

ROOT = Path(__file__).resolve().parents[3]
FAKE_CUDA = ROOT / "tests/fakes/fake_cuda"
sys.path.insert(0, str(FAKE_CUDA))
PATIENCE = 60.0


def daemon_binary() -> Path:
    """WEIGHTD_BIN, else what tests/run.sh built, else what Bazel built last."""
    built = ROOT / ".build" / os.environ.get("WEIGHTD_BUILD", "opt") / "daemon/weightd"
    for candidate in (os.environ.get("WEIGHTD_BIN"), built, ROOT / "bazel-bin/daemon/weightd"):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    pytest.fail("no weightd binary: build it (bazel build --config=opt //daemon:weightd) or set WEIGHTD_BIN")


def fake_cuda_library() -> Path:
    """The fake CUDA driver: WEIGHTD_FAKE_CUDA, else what tests/run.sh built, else what Bazel built last."""
    name = "tests/fakes/fake_cuda/libfake_cuda.so"
    built = ROOT / ".build" / os.environ.get("WEIGHTD_BUILD", "opt") / name
    for candidate in (os.environ.get("WEIGHTD_FAKE_CUDA"), built, ROOT / "bazel-bin" / name):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    pytest.fail("no fake CUDA driver: bazel build --config=opt //tests/fakes/fake_cuda:libfake_cuda.so")


class Daemon:
    """A weightd process."""

    def __init__(self, socket_dir: Path) -> None:
        self.socket_dir = socket_dir
        self.process = subprocess.Popen([daemon_binary(), "--socket-dir", socket_dir], stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while not self._serves():
            assert self.process.poll() is None, "the daemon ended"
            assert time.monotonic() < end, "the daemon does not serve"

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def _serves(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket_dir / "admin.sock")) == 0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """The real daemon with default settings."""
    started = Daemon(tmp_path / "run")
    yield started
    started.kill()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Callable[[dict[str, Served]], FakeDaemon]]:
    """Starts a fake daemon with the models it is given."""
    started: list[FakeDaemon] = []

    def start(models: dict[str, Served]) -> FakeDaemon:
        folder = tmp_path / f"fake{len(started)}"
        folder.mkdir()
        started.append(FakeDaemon(folder, models))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script in a fresh interpreter with warnings as errors; its arguments are sys.argv[1:]."""

    def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return run
