"""A model in a GPU's memory: asking for it, checking what the daemon grants, mapping it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from weightd import _cuda, _frameworks
from weightd._deadline import Deadline
from weightd._restart import Lease
from weightd._segment import read_index
from weightd._session import Session
from weightd.errors import Error, error
from weightd.files import ModelFiles, open_files
from weightd.tensors import TensorInfo
from weightd.v1 import handles_pb2, tensor_index_pb2, weights_pb2

_MODES = {"shared": weights_pb2.DeviceRequest.SHARED, "private": weights_pb2.DeviceRequest.PRIVATE}
_IPC_HANDLE_BYTES = 64


class Place:
    """Where on this process's GPUs a model is wanted: what `attach` was told.

    Attributes:
        device: As torch names it, with a number: "cuda:0".
        mode: "shared" or "private".
        request: What is sent.
    """

    def __init__(self, device: str, mode: str, legacy: bool, driver: str | os.PathLike[str] | None) -> None:
        """Finds the GPU, retains its context. Raises DeviceError, or InvalidRequestError for other words."""
        kind, _, number = device.partition(":")
        if kind != "cuda" or not (number.isascii() and number.isdigit() and len(number) < 5):
            raise error("UNSUPPORTED", f"device {device!r}", hint='use "cpu", or a GPU by its number, as "cuda:0"')
        if mode not in _MODES:
            raise error("INVALID_ARGUMENT", f"unknown mode {mode!r}", hint='use "shared" or "private"')
        if legacy and mode != "shared":
            raise error("INVALID_ARGUMENT", "a legacy handle is of shared memory", hint='use mode="shared"')
        self.device = f"cuda:{int(number)}"
        self.mode = mode
        self.gpu = _cuda.Driver(os.fspath(driver or _cuda.LIBRARY)).gpu(int(number))
        self.request = weights_pb2.DeviceRequest(gpu_uuid=self.gpu.uuid, mode=_MODES[mode], legacy=legacy)


class DeviceBytes:
    """A tensor's bytes in a GPU's memory, for whatever reads `__cuda_array_interface__` (torch, cupy, numba).

    Keeps them mapped. What was uploaded was uploaded before: any stream may read it.

    Attributes:
        pointer: Address of the first byte on the GPU; the CPU can't read it.
        nbytes: How many there are.
    """

    def __init__(self, mapping: _cuda.Mapping, pointer: int, nbytes: int) -> None:
        self._mapping = mapping
        self.pointer = pointer
        self.nbytes = nbytes

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """One row of bytes. Never said to be read-only, which torch refuses."""
        address = self.pointer if self.nbytes else 0
        return {"shape": (self.nbytes,), "typestr": "|u1", "data": (address, False), "strides": None, "version": 3}

    def __len__(self) -> int:
        return self.nbytes

    def __repr__(self) -> str:
        return f"<weightd.DeviceBytes {self.nbytes} at {self.pointer:#x}>"


class DeviceSegment:
    """A model's bytes in a GPU's memory. As `HostSegment`.

    Attributes:
        nbytes: What they take there.
    """

    def __init__(self, mapping: _cuda.Mapping, offset: int, place: Place) -> None:
        self._mapping = mapping
        self._first = mapping.pointer + offset
        self.nbytes = mapping.nbytes
        self.device = place.device
        self.mode = place.mode

    def part(self, info: TensorInfo) -> DeviceBytes:
        """A tensor's bytes."""
        return DeviceBytes(self._mapping, self._first + info.offset, info.nbytes)

    raw = part

    def builder(self, framework: str) -> _frameworks.Builder:  # noqa: ARG002
        """What makes tensors of parts: torch has them on GPUs, nothing else that could be chosen does."""
        return _frameworks.device_builder(self.device)


def open_segment(
    uri: str, session: Session, directory: Path, grant: weights_pb2.Grant, place: Place, deadline: Deadline
) -> tuple[DeviceSegment, tensor_index_pb2.TensorIndex, ModelFiles]:
    """Claims the lease, checks and maps what comes. The session ends with the mapping; one's own copy needs none."""
    device = grant.device
    _check_grant(grant, place.request)
    handles = session.claim(grant.lease_id, deadline)
    end = session.close
    try:
        found = {handle.kind: (descriptor, handle.nbytes) for handle, descriptor in handles}
        if handles_pb2.Handle.TENSOR_INDEX not in found:
            raise _broken("the daemon sent no tensor index")
        index = read_index(*found[handles_pb2.Handle.TENSOR_INDEX])
        files = open_files(index, found)
        if index.device_bytes > device.nbytes - device.legacy_offset:
            raise _broken(f"the segment has {index.device_bytes} bytes by its index, the GPU memory {device.nbytes}")
        if place.request.legacy:
            mapping = place.gpu.open_legacy(device.legacy_handle, device.nbytes)
        else:
            descriptor, nbytes = found.get(handles_pb2.Handle.DEVICE_SEGMENT, (-1, 0))
            if nbytes != device.nbytes:
                raise _broken(f"the daemon sent {nbytes} bytes of GPU memory, and granted {device.nbytes}")
            mapping = place.gpu.import_memory(descriptor, nbytes, writable=place.mode == "private")
            if place.mode == "shared":
                end = Lease(session, directory, uri, index.revision, descriptor, place.request).close
    finally:
        for _, descriptor in handles:
            os.close(descriptor)
    if place.mode == "private":
        end()
    else:
        mapping.afterwards(end)
    return DeviceSegment(mapping, device.legacy_offset, place), index, files


def check_on_cpu(mode: str, legacy: bool) -> None:
    """What makes no sense without a GPU, whose memory nobody asked for then."""
    if legacy or mode not in _MODES:
        what = "a legacy handle without a GPU" if legacy else f"unknown mode {mode!r}"
        raise error("INVALID_ARGUMENT", what, hint='mode is "shared" or "private"; device="cuda:0" names a GPU')


def _check_grant(grant: weights_pb2.Grant, asked: weights_pb2.DeviceRequest) -> None:
    """Whether it is what was asked for."""
    device = grant.device
    if not grant.HasField("device"):
        raise _broken("the daemon granted host memory, not a GPU's")
    if device.gpu_uuid != asked.gpu_uuid or device.mode != asked.mode:
        raise _broken("the daemon granted another GPU or mode")
    if len(device.legacy_handle) != (_IPC_HANDLE_BYTES if asked.legacy else 0):
        raise _broken("the daemon granted another kind of handle")
    if device.legacy_offset >= device.nbytes or (device.legacy_offset and not asked.legacy):
        raise _broken("the daemon granted no GPU memory")


def _broken(message: str) -> Error:
    return error("INTERNAL", message, hint="check that daemon and weightd package fit together")
