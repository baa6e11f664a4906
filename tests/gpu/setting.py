"""What the steps of the GPU suite work with: the driver, sizes that this machine has room for, models, daemons."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import typing

import checksum
import models
from processes import Daemon, Reader, binary

MIB = 1 << 20
GIB = 1 << 30
HERE = pathlib.Path(__file__).parent
TENSORS = 16

Rows = dict[str, list[float]]


class Peer(Reader):
    """A client process (peer.py). Its first answer is that its context is made."""

    def __init__(self, socket_dir: pathlib.Path, driver: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "peer.py"), str(socket_dir), driver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where and how large."""

    driver: str
    scratch: pathlib.Path  # in memory
    rounds: int
    small_mib: int  # of the model of the claims
    large_mib: int  # of the model whose copies are timed
    mapped_gib: tuple[int, ...]  # of memory that is mapped for the figures of mapping

    @functools.cached_property
    def small(self) -> pathlib.Path:
        """A model, made when it is first asked for."""
        return self._model(self.small_mib)

    @functools.cached_property
    def large(self) -> pathlib.Path:
        """Another."""
        return self._model(self.large_mib)

    def _model(self, mib: int) -> pathlib.Path:
        path = self.scratch / "models" / f"{mib}.safetensors"
        if not path.exists():
            made = models.even_model(path.with_suffix(".part"), mib * MIB, TENSORS)
            made.rename(path)
        return path

    @contextlib.contextmanager
    def daemon(self, extra: str = "") -> typing.Iterator[Daemon]:
        """One in a folder of its own, which may load any file; killed at the end if it is not gone."""
        folder = self.scratch / f"daemon-{os.getpid()}-{len(list(self.scratch.iterdir()))}"
        folder.mkdir()
        budget = 2 * (self.small_mib + self.large_mib) + 256
        config = (
            f"host:\n  budget: {budget}MiB\ngpu:\n  driver: {self.driver}\n  budget: 80%\n  reserve: 64MiB\n" + extra
        )
        daemon = Daemon(folder, config).start()
        try:
            yield daemon
        finally:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.kill()

    @contextlib.contextmanager
    def peers(self, daemon: Daemon, count: int) -> typing.Iterator[list[Peer]]:
        """So many clients of it, killed at the end."""
        started = [Peer(daemon.socket_dir, self.driver) for _ in range(count)]
        try:
            for peer in started:
                peer.answer()
            yield started
        finally:
            for peer in started:
                peer.kill()

    def program(self, name: str, *arguments: object) -> Rows:
        """Runs a program of this folder; what it measured, by round."""
        command = [binary(f"tests/gpu/{name}"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stderr.strip()[-400:]}")
        rounds = [json.loads(line) for line in done.stdout.splitlines()]
        return {key: [found[key] for found in rounds] for key in rounds[0]}


def expected_sum(path: pathlib.Path) -> str:
    """What peers find if they have the file's bytes."""
    return checksum.of_all({name: checksum.of_bytes(content) for name, content in models.expected(path).items()})


def memory_of(name: str) -> int:
    """MemTotal, MemAvailable, … in bytes."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
