"""The daemon's side of a GPU, on the fake driver: makes memory, hands it out, and looks into what a client mapped."""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_char, c_int, c_ulonglong, c_void_p

GRANULARITY = 2 << 20


class _Properties(ctypes.Structure):
    """CUmemAllocationProp of exportable memory on a device."""

    _fields_ = (
        ("type", c_int),
        ("handle_types", c_int),
        ("location_type", c_int),
        ("location_id", c_int),
        ("win32", c_void_p),
        ("flags", ctypes.c_ubyte * 8),
    )


class _Access(ctypes.Structure):
    _fields_ = (("location_type", c_int), ("location_id", c_int), ("flags", c_int))


class FakeGpu:
    """The GPU that is number `ordinal`, in this process."""

    def __init__(self, library: str, ordinal: int = 0) -> None:
        self._driver = ctypes.CDLL(library)
        self._device = c_int()
        self._context = c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", byref(self._device), ordinal)
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)

    def uuid(self) -> bytes:
        found = (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGetUuid_v2", byref(found), self._device)
        return bytes(found)

    def allocate(self, content: bytes) -> int:
        """The descriptor of an allocation with these bytes, of whole granules; nothing else holds it."""
        nbytes = rounded(len(content))
        handle, pointer, descriptor = c_ulonglong(), c_ulonglong(), c_int(-1)
        self.enter()
        self._call("cuMemCreate", byref(handle), c_ulonglong(nbytes), byref(_Properties(1, 1, 1, self._device.value)),
                   c_ulonglong(0))  # fmt: skip
        self._call("cuMemAddressReserve", byref(pointer), c_ulonglong(nbytes), c_ulonglong(0), c_ulonglong(0),
                   c_ulonglong(0))  # fmt: skip
        self._call("cuMemMap", pointer, c_ulonglong(nbytes), c_ulonglong(0), handle, c_ulonglong(0))
        access = _Access(1, self._device.value, 3)
        self._call("cuMemSetAccess", pointer, c_ulonglong(nbytes), byref(access), c_ulonglong(1))
        assert self.write(pointer.value, content) == 0
        self._call("cuMemExportToShareableHandle", byref(descriptor), handle, 1, c_ulonglong(0))
        self._call("cuMemUnmap", pointer, c_ulonglong(nbytes))
        self._call("cuMemAddressFree", pointer, c_ulonglong(nbytes))
        self._call("cuMemRelease", handle)
        return descriptor.value

    def legacy(self, content: bytes) -> bytes:
        """The legacy handle of an allocation with these bytes, which this process keeps."""
        pointer, handle = c_ulonglong(), (ctypes.c_ubyte * 64)()
        self.enter()
        self._call("cuMemAlloc_v2", byref(pointer), c_ulonglong(rounded(len(content))))
        assert self.write(pointer.value, content) == 0
        self._call("cuIpcGetMemHandle", byref(handle), pointer)
        return bytes(handle)

    def read(self, pointer: int, nbytes: int) -> bytes:
        """What is mapped there."""
        content = (c_char * nbytes)()
        self.enter()
        self._call("cuMemcpyDtoH_v2", content, c_ulonglong(pointer), c_ulonglong(nbytes))
        return bytes(content)

    def write(self, pointer: int, content: bytes) -> int:
        """The CUresult of a write there."""
        self.enter()
        return int(self._driver.cuMemcpyHtoD_v2(c_ulonglong(pointer), content, c_ulonglong(len(content))))

    def enter(self) -> None:
        """Its context is this thread's from here on."""
        self._call("cuCtxSetCurrent", self._context)

    def current(self) -> int | None:
        """The context that this thread has."""
        context = c_void_p()
        self._call("cuCtxGetCurrent", byref(context))
        return context.value

    def free_bytes(self) -> int:
        """Of the GPU, for all its processes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.enter()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    def _call(self, name: str, *arguments: object) -> None:
        result = getattr(self._driver, name)(*arguments)
        assert result == 0, f"{name}: {result} (pid {os.getpid()})"


def rounded(nbytes: int) -> int:
    """To whole granules, at least one."""
    return max(1, -(-nbytes // GRANULARITY)) * GRANULARITY
