"""Models in a GPU's memory, on the fake driver: against a daemon that is good, or lies.

torch is a CPU build here, so what it would do with a GPU's memory is the part of a stand-in.
"""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import weightd
from fake_gpu import FakeGpu
from weightd import _cuda, _frameworks
from weightd.serialization import Deserializer
from weightd.v1 import weights_pb2

from conftest import FAKE_CUDA, ROOT, fake_cuda_library
from fake_daemon import FakeDaemon
from gpu_models import TENSORS, A, Attach, B, Python, StandIn, Start, placed

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
