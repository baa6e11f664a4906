"""Fixtures: the real daemon in a folder of its own, and a fake one that can lie."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import weightd
from weightd import _frameworks

from fake_daemon import FakeDaemon, Served, model

ROOT = Path(__file__).resolve().parents[3]
FAKE_CUDA = ROOT / "tests/fakes/fake_cuda"
sys.path.insert(0, str(FAKE_CUDA))

from fake_gpu import FakeGpu, rounded  # noqa: E402

from gpu_models import attach, torch_with_gpus  # noqa: E402, F401

GpuModel = Callable[[dict[str, torch.Tensor]], weightd.Model]
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


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake driver, with two GPUs of its own for these tests and the processes that they start."""
    os.environ["FAKE_CUDA_DIR"] = str(tmp_path_factory.mktemp("cuda"))
    os.environ["FAKE_CUDA_DEVICES"] = "2x256MiB"
    return fake_cuda_library()


@pytest.fixture
def gpu(library: Path) -> FakeGpu:
    return FakeGpu(str(library))


class Moves:
    """What was moved or copied by torch.Tensor's verbs: which verb, and the first element's address."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, int]] = []
        self.to_gpu: list[tuple[str, int]] = []
        for verb in ("to", "copy_", "clone", "cuda", "cpu"):
            patch.setattr(torch.Tensor, verb, self._watched(verb, getattr(torch.Tensor, verb)))

    def _watched(self, verb: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
            if not tensor.is_meta and "meta" not in arguments:
                self.seen.append((verb, tensor.data_ptr()))
            if "cuda:0" in arguments:
                self.to_gpu.append((verb, tensor.data_ptr()))
                return tensor.detach().view(tensor.shape)
            return real(tensor, *arguments, **options)

        return watched


@pytest.fixture
def gpu_model(
    fake: Callable[[dict[str, Served]], FakeDaemon], gpu: FakeGpu, library: Path, monkeypatch: pytest.MonkeyPatch
) -> GpuModel:
    """Gives a model in the fake GPU's memory. Its tensors are copies on the CPU, which torch has no GPU to deny."""

    def builder(_: str) -> _frameworks.Builder:
        build = _frameworks.builder("pt")
        kept: dict[int, memoryview] = {}

        def one(part: Any, info: weightd.TensorInfo) -> Any:
            if part.pointer not in kept:
                kept[part.pointer] = memoryview(bytearray(gpu.read(part.pointer, part.nbytes)))
            return build(kept[part.pointer], info)

        return one

    def attached(tensors: dict[str, torch.Tensor]) -> weightd.Model:
        types = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}
        content = {
            name: (types[t.dtype], list(t.shape), bytes(t.detach().contiguous().reshape(-1).view(torch.uint8).numpy()))
            for name, t in tensors.items()
        }
        served = model(content, format="pt")
        packed = b"".join(piece[2].ljust(-(-len(piece[2]) // 256) * 256) for _, piece in sorted(content.items()))
        served.device_bytes = rounded(len(packed))
        served.export = lambda: gpu.allocate(packed)
        directory = fake({"m": served}).directory
        return weightd.attach("m", socket_dir=directory, device="cuda:0", cuda_driver=library)

    monkeypatch.setattr(_frameworks, "device_builder", builder)
    return attached
