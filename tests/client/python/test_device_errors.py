"""Attaching to a GPU's memory where something is wrong: options, drivers, daemons that lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import weightd
from fake_gpu import FakeGpu
from weightd.v1 import error_pb2, handles_pb2, weights_pb2

from fake_daemon import memfd
from gpu_models import TENSORS, A, Attach, Python, Start, placed


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
