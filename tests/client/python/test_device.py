"""Models in a GPU's memory, on the fake driver: against a daemon that is good, or lies.

torch is a CPU build here, so what it would do with a GPU's memory is the part of a stand-in.
"""

from __future__ import annotations

import gc
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import weightd
from fake_gpu import FakeGpu, rounded
from weightd import _cuda, _frameworks
from weightd.serialization import Deserializer
from weightd.v1 import error_pb2, handles_pb2, weights_pb2

from conftest import FAKE_CUDA, ROOT, fake_cuda_library
from fake_daemon import FakeDaemon, Served, memfd, model

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


# What a model is.


def test_raw_bytes_lie_on_the_gpu(attach: Attach, gpu: FakeGpu) -> None:
    m = attach()
    assert (m.device, m.mode, m.framework) == ("cuda:0", "shared", "pt")
    assert "cuda:0" in repr(m)
    assert m.tensors["b"] == weightd.TensorInfo("BF16", (4,), 8, 256)
    for name, content in (("a", A), ("b", B), ("also", A)):
        raw = m.raw(name)
        assert isinstance(raw, weightd.DeviceBytes)
        assert (raw.nbytes, len(raw)) == (len(content), len(content))
        assert gpu.read(raw.pointer, raw.nbytes) == content
        assert raw.__cuda_array_interface__ == {
            "shape": (len(content),),
            "typestr": "|u1",
            "data": (raw.pointer, False),
            "strides": None,
            "version": 3,
        }
        with pytest.raises(TypeError):
            memoryview(raw)


def test_the_daemon_is_asked_for_this_gpu(attach: Attach, library: Path) -> None:
    for ordinal in (0, 1):
        gpu = FakeGpu(str(library), ordinal)
        attach(placed(gpu, TENSORS), device=f"cuda:{ordinal}", mode="private")
        asked = attach.daemon.asked.device  # type: ignore[attr-defined]
        assert (asked.gpu_uuid, asked.mode, asked.legacy) == (gpu.uuid(), weights_pb2.DeviceRequest.PRIVATE, False)


def test_none_is_the_cpu(attach: Attach) -> None:
    for device in (None, "cpu", torch.device("cpu")):
        m = attach(device=device)
        assert (m.device, bytes(m.raw("a"))) == ("cpu", A)


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


@pytest.mark.usefixtures("torch_with_gpus")
def test_torch_gets_one_array_a_tensor(attach: Attach, gpu: FakeGpu) -> None:
    tensors = TENSORS | {"e": ("F16", [0, 7], b""), "f4": ("F4", [2, 4], bytes(4)), "s": ("F32", [], A[4:8])}
    m = attach(placed(gpu, tensors), device="cuda:0")
    state = m.state_dict()
    assert state.keys() == {*tensors, "also"}
    assert state["also"] is state["a"]
    for name, kind, shape in (
        ("a", torch.float32, (2, 3)),
        ("b", torch.bfloat16, (4,)),
        ("f4", torch.float4_e2m1fn_x2, (2, 2)),
        ("s", torch.float32, ()),
    ):
        for tensor in (state[name], m[name]):
            assert (tensor.dtype, tensor.shape, tensor.device) == (kind, shape, "cuda:0")
            assert tensor.data_ptr() == m.raw(name).pointer
    nothing, device = state["e"]
    assert (nothing.dtype, nothing.shape, device) == (torch.float16, (0, 7), "cuda:0")


@pytest.mark.usefixtures("torch_with_gpus")
def test_a_copy_is_never_taken_for_the_bytes(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    m = attach()
    monkeypatch.setattr(torch, "as_tensor", lambda source, device: StandIn(source, device, moved=64))
    with pytest.raises(weightd.InternalError, match="copied"):
        m["a"]


def test_a_torch_without_gpus_is_told_so(attach: Attach) -> None:
    with pytest.raises(weightd.InvalidRequestError, match="without CUDA") as raised:
        attach()["a"]
    assert raised.value.reason == "UNSUPPORTED"


@pytest.mark.usefixtures("torch_with_gpus")
def test_types_without_a_torch_type_are_raw_only(attach: Attach, gpu: FakeGpu) -> None:
    m = attach(placed(gpu, {"t": ("F6_E2M3", [4], b"abc")}))
    with pytest.raises(weightd.InvalidRequestError, match="raw"):
        m["t"]
    assert gpu.read(m.raw("t").pointer, 3) == b"abc"


@pytest.mark.usefixtures("torch_with_gpus")
def test_a_deserializer_has_its_own_copy(fake: Start, gpu: FakeGpu, library: Path) -> None:
    daemon = fake({"m": placed(gpu, TENSORS)})
    with Deserializer("m", socket_dir=daemon.directory, device="cuda:0", cuda_driver=library) as tensors:
        assert tensors.model.mode == "private"
        assert tensors["a"].device == "cuda:0"


def test_the_readme(
    fake: Start,
    gpu: FakeGpu,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its lines run; the tensors are copies on the CPU, since this torch has no others."""
    page = (ROOT / "client/python/README.md").read_text()
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "cuda:0" in block)
    served = placed(gpu, {"pooler.weight": ("F32", [2, 3], A), "pooler.bias": ("F32", [2], A[:8])})
    del served.index.metadata["also"]
    monkeypatch.setenv("WEIGHTD_DIR", str(fake({"https://models.example/minilm/": served}).directory))
    monkeypatch.setattr(_cuda, "LIBRARY", library)

    def builder(_: str) -> _frameworks.Builder:
        build = _frameworks.builder("pt")
        return lambda part, info: build(memoryview(bytearray(gpu.read(part.pointer, part.nbytes))), info)

    monkeypatch.setattr(_frameworks, "device_builder", builder)
    network = torch.nn.ModuleDict({"pooler": torch.nn.Linear(3, 2)})
    exec(block, {"network": network})
    assert capsys.readouterr().out.startswith("cuda:0 shared ")
    assert torch.equal(network["pooler"].weight, torch.arange(6.0).reshape(2, 3))


# How long it lives.


def test_unmapped_before_the_lease_ends(attach: Attach, gpu: FakeGpu) -> None:
    free = gpu.free_bytes()
    m = attach()
    daemon: FakeDaemon = attach.daemon  # type: ignore[attr-defined]
    content = m.raw("b")
    m.close()
    m.close()
    daemon.wait_for_claimed(1)
    assert gpu.read(content.pointer, 8) == B
    assert gpu.free_bytes() < free
    with pytest.raises(weightd.ClosedError):
        m.raw("a")
    del content
    gc.collect()
    daemon.wait_for_claimed(0)
    assert gpu.free_bytes() == free


def test_a_private_copy_has_no_lease(attach: Attach, gpu: FakeGpu) -> None:
    free = gpu.free_bytes()
    m = attach(mode="private")
    attach.daemon.wait_for_claimed(0)  # type: ignore[attr-defined]
    pointer = m.raw("a").pointer
    assert gpu.write(pointer, B) == 0
    assert gpu.read(pointer, len(A)) == B + A[8:]
    assert gpu.free_bytes() < free
    del m
    gc.collect()
    assert gpu.free_bytes() == free


def test_the_bytes_outlive_the_daemon(attach: Attach, gpu: FakeGpu) -> None:
    m = attach()
    attach.daemon.close()  # type: ignore[attr-defined]
    assert gpu.read(m.raw("a").pointer, len(A)) == A


def test_the_callers_context_stays(attach: Attach, gpu: FakeGpu, library: Path) -> None:
    FakeGpu(str(library), 1).enter()
    before = gpu.current()
    m = attach()
    assert gpu.current() == before
    m.close()
    del m
    assert gpu.current() == before


IN_A_PROCESS = """
import atexit, gc, os, sys
sys.path.insert(0, sys.argv[3])
import weightd
from fake_gpu import FakeGpu
directory, library = sys.argv[1:3]
model = weightd.attach("m", socket_dir=directory, device="cuda:0", cuda_driver=library)
gpu = FakeGpu(library)
"""


def in_a_process(python: Python, daemon: FakeDaemon, script: str) -> str:
    done = python(IN_A_PROCESS + script, daemon.directory, fake_cuda_library(), FAKE_CUDA)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_exit_with_bytes_in_use(fake: Start, gpu: FakeGpu, python: Python) -> None:
    free = gpu.free_bytes()
    daemon = fake({"m": placed(gpu, TENSORS)})
    script = """
raw = model.raw("b")
atexit.register(lambda: print(gpu.read(raw.pointer, 8) == bytes(range(8))))
sys.modules["builtins"].kept = (raw, model)
cycle = [raw]
cycle.append(cycle)
"""
    assert in_a_process(python, daemon, script) == "True\n"
    daemon.wait_for_claimed(0)
    assert gpu.free_bytes() == free


def test_a_write_to_shared_memory_is_the_writers_end_only(fake: Start, gpu: FakeGpu, python: Python) -> None:
    daemon = fake({"m": placed(gpu, TENSORS)})
    script = """
raw = model.raw("a")
print(gpu.write(raw.pointer, b"x"))
del raw, model
gc.collect()
"""
    assert in_a_process(python, daemon, script) == "700\n"
    daemon.wait_for_claimed(0)
    gpu.free_bytes()  # this process's CUDA is well


def test_a_fork_leaves_the_gpu_alone(fake: Start, gpu: FakeGpu, python: Python) -> None:
    daemon = fake({"m": placed(gpu, TENSORS)})
    script = """
raw = model.raw("b")
pointer = raw.pointer
child = os.fork()
if child == 0:
    del raw, model
    gc.collect()
    try:
        weightd.attach("m", socket_dir=directory, device="cuda:0", cuda_driver=library)
    except weightd.DeviceError as failure:
        os._exit(7 if failure.reason == "DEVICE_NOT_VISIBLE" else 8)
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), gpu.read(pointer, 8) == bytes(range(8)))
"""
    assert in_a_process(python, daemon, script) == "7 True\n"
    daemon.wait_for_claimed(0)


# Legacy handles.

EXPORTER = """
import sys
sys.path.insert(0, sys.argv[2])
from fake_gpu import FakeGpu
print(FakeGpu(sys.argv[1]).legacy(bytes.fromhex(sys.argv[3])).hex(), flush=True)
sys.stdin.read()
"""


def test_legacy_handles(attach: Attach, gpu: FakeGpu, library: Path) -> None:
    content = A.ljust(256) + B
    command = [sys.executable, "-c", EXPORTER, str(library), str(FAKE_CUDA), content.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as exporter:
        assert exporter.stdin is not None
        assert exporter.stdout is not None
        handle = bytes.fromhex(exporter.stdout.readline())
        served = placed(gpu, TENSORS, legacy_handle=handle)
        m = attach(served, legacy=True)
        assert attach.daemon.asked.device.legacy  # type: ignore[attr-defined]
        assert gpu.read(m.raw("b").pointer, 8) == B
        del m
        gc.collect()
        attach.daemon.wait_for_claimed(0)  # type: ignore[attr-defined]

        served.change_grant = lambda grant: setattr(grant.device, "legacy_offset", 256)
        served.index.layout.pieces[1].device_offset = 0
        assert gpu.read(attach(served, legacy=True).raw("b").pointer, 8) == B
        exporter.stdin.close()


# What can be wrong.


@pytest.mark.parametrize("options", [{"mode": "both"}, {"legacy": True, "mode": "private"}, {"framework": "np"}])
def test_options_that_make_no_sense(attach: Attach, options: dict[str, object]) -> None:
    with pytest.raises(weightd.InvalidRequestError) as raised:
        attach(**options)
    assert raised.value.hint
    assert raised.value.model == "m"


def test_no_driver(attach: Attach) -> None:
    for absent in ("/nowhere/libcuda.so.1", "libc.so.6"):
        with pytest.raises(weightd.DeviceError, match="driver can't be used") as raised:
            attach(cuda_driver=absent)
        assert raised.value.reason == "DEVICE_NOT_VISIBLE"
        assert "driver" in raised.value.hint


def test_a_gpu_that_is_not_seen(attach: Attach, fake: Start, gpu: FakeGpu, python: Python, library: Path) -> None:
    with pytest.raises(weightd.DeviceError, match="sees 2 GPUs") as raised:
        attach(device="cuda:2")
    assert raised.value.reason == "DEVICE_NOT_VISIBLE"
    script = """
import os, sys, weightd
os.environ["CUDA_VISIBLE_DEVICES"] = sys.argv[3]
try:
    weightd.attach("m", socket_dir=sys.argv[1], device="cuda:0", cuda_driver=sys.argv[2], timeout=20)
    print("attached")
except weightd.DeviceError as failure:
    print(failure.reason, failure.message)
"""
    daemon = fake({"m": placed(FakeGpu(str(library), 1), TENSORS)})
    done = python(script, daemon.directory, library, "")
    assert done.stdout == "DEVICE_NOT_VISIBLE there is no cuda:0: this process sees 0 GPUs\n", done.stderr
    done = python(script, daemon.directory, library, "1")
    assert done.stdout == "attached\n", done.stderr
    assert daemon.asked.device.gpu_uuid == FakeGpu(str(library), 1).uuid() != gpu.uuid()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("DEVICE_UNAVAILABLE", weightd.DeviceError),
        ("DEVICE_MEMORY_SHORT", weightd.NoRoomError),
        ("PLACEMENT_DIFFERS", weightd.InvalidRequestError),
    ],
)
def test_the_daemons_errors(attach: Attach, gpu: FakeGpu, reason: str, kind: type[weightd.Error]) -> None:
    detail = error_pb2.ErrorDetail(reason=error_pb2.ErrorReason.Value(reason), message="no", hint="do")
    with pytest.raises(kind) as raised:
        attach(placed(gpu, TENSORS, claim_error=detail))
    assert (raised.value.reason, raised.value.hint) == (reason, "do")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("cuInit 1 SYSTEM_NOT_READY", "DEVICE_UNAVAILABLE"),
        ("cuInit 1 NOT_INITIALIZED", "DEVICE_NOT_VISIBLE"),
        ("cuDevicePrimaryCtxRetain 1 OUT_OF_MEMORY", "DEVICE_MEMORY_SHORT"),
        ("cuMemImportFromShareableHandle 1 INVALID_VALUE", "INTERNAL"),
        # The daemon's own mapping of what it exports is the first.
        ("cuMemAddressReserve 2 OUT_OF_MEMORY", "DEVICE_MEMORY_SHORT"),
        ("cuMemMap 2 OUT_OF_MEMORY", "DEVICE_MEMORY_SHORT"),
        ("cuMemSetAccess 2 OUT_OF_MEMORY", "DEVICE_MEMORY_SHORT"),
    ],
)
def test_the_drivers_errors_leave_nothing(attach: Attach, gpu: FakeGpu, fault: str, reason: str) -> None:
    free = gpu.free_bytes()
    faults = Path(os.environ["FAKE_CUDA_DIR"]) / "faults"
    faults.write_text(f"{fault}\n")
    try:
        with pytest.raises(weightd.Error, match=fault.split()[0]) as raised:
            attach()
    finally:
        faults.unlink()
    assert raised.value.reason == reason
    attach.daemon.wait_for_claimed(0)  # type: ignore[attr-defined]
    assert gpu.free_bytes() == free


def set_device(**fields: object) -> Callable[[weights_pb2.Grant], None]:
    def change(grant: weights_pb2.Grant) -> None:
        for name, value in fields.items():
            setattr(grant.device, name, value)

    return change


@pytest.mark.parametrize(
    "lie",
    [
        lambda grant: grant.ClearField("device"),
        set_device(gpu_uuid=bytes(16)),
        set_device(gpu_uuid=b""),
        set_device(mode=weights_pb2.DeviceRequest.PRIVATE),
        set_device(nbytes=0),
        set_device(nbytes=1 << 20),
        set_device(nbytes=1 << 40),
        set_device(legacy_offset=256),
        set_device(legacy_handle=bytes(64)),
    ],
)
def test_a_grant_that_lies(attach: Attach, gpu: FakeGpu, lie: Callable[[weights_pb2.Grant], object]) -> None:
    free = gpu.free_bytes()
    with pytest.raises(weightd.InternalError):
        attach(placed(gpu, TENSORS, change_grant=lie))
    attach.daemon.wait_for_claimed(0)  # type: ignore[attr-defined]
    assert gpu.free_bytes() == free


def no_segment(handles: handles_pb2.Handles, descriptors: list[int]) -> None:
    del handles.handles[0]
    os.close(descriptors.pop(0))


def no_index(handles: handles_pb2.Handles, descriptors: list[int]) -> None:
    del handles.handles[1]
    os.close(descriptors.pop(1))


def too_few(_: handles_pb2.Handles, descriptors: list[int]) -> None:
    os.close(descriptors.pop())


def host_memory(handles: handles_pb2.Handles, _: list[int]) -> None:
    handles.handles[0].kind = handles_pb2.Handle.HOST_SEGMENT


def garbage(_: handles_pb2.Handles, descriptors: list[int]) -> None:
    os.close(descriptors[0])
    descriptors[0] = memfd(bytes(4096))


@pytest.mark.parametrize("lie", [no_segment, no_index, too_few, host_memory, garbage])
def test_handles_that_lie(attach: Attach, gpu: FakeGpu, lie: Callable[..., None]) -> None:
    free = gpu.free_bytes()
    with pytest.raises(weightd.InternalError):
        attach(placed(gpu, TENSORS, change_handles=lie))
    attach.daemon.wait_for_claimed(0)  # type: ignore[attr-defined]
    assert gpu.free_bytes() == free


def test_more_memory_than_there_is(attach: Attach, gpu: FakeGpu) -> None:
    free = gpu.free_bytes()
    with pytest.raises(weightd.Error):
        attach(placed(gpu, TENSORS, device_bytes=64 << 20))
    attach.daemon.wait_for_claimed(0)  # type: ignore[attr-defined]
    assert gpu.free_bytes() == free


@pytest.mark.usefixtures("torch_with_gpus")
def test_an_index_larger_than_the_memory(attach: Attach, gpu: FakeGpu) -> None:
    served = placed(gpu, TENSORS)
    served.index.device_bytes = (2 << 20) + 1
    with pytest.raises(weightd.InternalError, match="by its index"):
        attach(served)
    served.index.device_bytes = 256
    m = attach(served)
    for use in (lambda: m["b"], lambda: m.raw("b"), m.state_dict):
        with pytest.raises(weightd.InternalError, match="does not fit"):
            use()
    assert gpu.read(m.raw("a").pointer, len(A)) == A
    served.index.layout.pieces[0].device_offset = 2**64 - 8
    with pytest.raises(weightd.InternalError, match="does not fit"):
        attach(served).raw("a")
