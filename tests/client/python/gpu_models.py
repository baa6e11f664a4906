"""Models in a fake GPU's memory, as a daemon that is good or lies has them."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import weightd
from fake_gpu import FakeGpu, rounded

from fake_daemon import FakeDaemon, Served, model

Start = Callable[[dict[str, Served]], FakeDaemon]
Python = Callable[..., "subprocess.CompletedProcess[str]"]
Attach = Callable[..., weightd.Model]

A, B = struct.pack("<6f", *range(6)), bytes(range(8))
TENSORS: dict[str, tuple[str, list[int], bytes]] = {"a": ("F32", [2, 3], A), "b": ("BF16", [4], B)}


def placed(gpu: FakeGpu, tensors: dict[str, tuple[str, list[int], bytes]], **changes: object) -> Served:
    """A model that the daemon has in that GPU's memory, one copy for each claim."""
    served = model(tensors, format="pt", also=next(iter(tensors)))
    content = b"".join(
        bytes_of.ljust(-(-len(bytes_of) // 256) * 256) for _, (_, _, bytes_of) in sorted(tensors.items())
    )
    served.device_bytes = rounded(len(content))
    served.export = lambda: gpu.allocate(content)
    for name, value in changes.items():
        setattr(served, name, value)
    return served


@pytest.fixture
def attach(fake: Start, gpu: FakeGpu, library: Path) -> Attach:
    """Attaches to the only model of a daemon, which `attach.daemon` then is."""

    def call(served: Served | None = None, **options: Any) -> weightd.Model:
        call.daemon = fake({"m": served or placed(gpu, TENSORS)})  # type: ignore[attr-defined]
        options = {"device": "cuda:0", "cuda_driver": library, **options}
        return weightd.attach("m", socket_dir=call.daemon.directory, **options)  # type: ignore[attr-defined]

    return call


class StandIn:
    """What torch makes of an object with `__cuda_array_interface__`: keeps it, and knows the address."""

    def __init__(self, source: Any, device: str, moved: int = 0) -> None:
        self.source, self.device, self.moved = source, device, moved
        self.dtype: Any = torch.uint8
        self.shape: tuple[int, ...] = source.__cuda_array_interface__["shape"]

    def data_ptr(self) -> int:
        pointer: int = self.source.__cuda_array_interface__["data"][0]
        return pointer + self.moved

    def view(self, what: Any) -> StandIn:
        if isinstance(what, torch.dtype):
            self.dtype = what
        else:
            self.shape = what
        return self


@pytest.fixture
def torch_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(torch, "as_tensor", lambda source, device: StandIn(source, device))
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, device: (empty(shape, dtype=dtype, device="meta"), device))
