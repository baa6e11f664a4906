"""A node with GPUs: the fake driver, in a folder of its own that the daemon and its clients share."""

import hashlib
import json
import os
import pathlib
import subprocess
import tempfile
import typing

from models import expected
from processes import ROOT, Daemon, Reader, binary, wait_until

MIB = 1 << 20
# The size of a GPU page: device memory is counted in these.
GRANULE = 2 * MIB


class GpuNode:
    """As many GPUs as `devices` says ("2x256MiB"). Sets the environment that processes started from here inherit."""

    def __init__(self, devices: str) -> None:
        # Device memory is files there.
        self._folder = tempfile.TemporaryDirectory(prefix="weightd-gpus-", dir="/dev/shm")
        self.folder = pathlib.Path(self._folder.name)
        self.driver = binary("tests/fakes/fake_cuda/libfake_cuda.so")
        self._before = {name: os.environ.get(name) for name in ("FAKE_CUDA_DIR", "FAKE_CUDA_DEVICES")}
        os.environ |= {"FAKE_CUDA_DIR": str(self.folder), "FAKE_CUDA_DEVICES": devices}
        # No sanitizer's: clients are Python processes, which can't load what is instrumented.
        os.environ["WEIGHTD_TEST_DRIVER"] = str(ROOT / ".build/opt/tests/fakes/fake_cuda/libfake_cuda.so")

    def close(self) -> None:
        """Puts the environment back."""
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        self._folder.cleanup()

    def config(self, budget: str = "100%", ring: str = "16MiB", rest: str = "") -> str:
        """A daemon's config for this node."""
        gpu = f"gpu:\n  driver: {self.driver}\n  budget: {budget}\n  reserve: 0\n  ring: {ring}\n"
        return gpu + rest

    @staticmethod
    def uuid(index: int) -> str:
        """Of the GPU that is number `index` on the node."""
        return f"GPU-fa4ec0da-0000-4000-8000-{index:012x}"

    def state(self, index: int = 0) -> dict[str, typing.Any]:
        """What is alive on that GPU: live_bytes, live_allocations, created_allocations, processes."""
        printed = subprocess.run(
            [binary("tests/fakes/fake_cuda/fake_cuda_state"), str(self.folder)],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        nothing = {"live_bytes": 0, "live_allocations": 0, "created_allocations": 0, "processes": []}
        state: dict[str, typing.Any] = json.loads(printed).get(str(index), nothing)
        return state

    def await_live(self, allocations: int, index: int = 0) -> None:
        """Until so many allocations are alive there."""
        wait_until(lambda: self.state(index)["live_allocations"] == allocations, f"{allocations} allocations live")

    def break_calls(self, *faults: str) -> None:
        """What goes wrong from now on (tests/fakes/fake_cuda/README.md); nothing: all is well again."""
        written = self.folder / "faults.new"
        written.write_text("".join(f"{fault}\n" for fault in faults))
        written.rename(self.folder / "faults")


def digest_of(path: pathlib.Path) -> str:
    """What a reader that is right says."""
    digest = hashlib.sha256()
    for _, content in sorted(expected(path).items()):
        digest.update(content)
    return digest.hexdigest()


def right(reader: Reader, path: pathlib.Path) -> bool:
    """Whether the model that it attached has the file's bytes."""
    return bool(reader.ask("digest")["digest"] == digest_of(path))


def on_gpu(
    readers: typing.Callable[[Daemon], Reader], daemon: Daemon, model: object, device: str = "cuda:0", **options: object
) -> Reader:
    """A client that has attached."""
    reader = readers(daemon)
    reader.ask("attach", model=str(model), device=device, **options)
    return reader
