"""The CUDA driver, as far as mapping another process's GPU memory takes it: ctypes on its library, no toolkit.

Symbols are those that cuda.h maps its names to (CUDA 11.4 and later). Every call is made with the GPU's primary
context, which torch and the CUDA runtime use too, current in the calling thread, and puts back the one that was.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any

from weightd.errors import Error, error

LIBRARY = "libcuda.so.1"
# The first with cuDeviceGetUuid_v2, which tells MIG instances apart.
_OLDEST_VERSION = 11040
_UUID_BYTES, _IPC_HANDLE_BYTES = 16, 64

_POSIX_FILE_DESCRIPTOR = 1  # CU_MEM_HANDLE_TYPE_…
_LOCATION_DEVICE = 1  # CU_MEM_LOCATION_TYPE_…
_READ, _READ_WRITE = 1, 3  # CU_MEM_ACCESS_FLAGS_PROT_…
_LAZY_PEER_ACCESS = 1  # CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS

_OUT_OF_MEMORY, _NOT_INITIALIZED, _NO_DEVICE = 2, 3, 100
# What the driver says of the GPU as a whole, or of itself. As in common/cuda_driver.cc.
_DEVICE_ERRORS = (4, 34, 46, 100, 101, 214, 220, 802, 803, 810, 911)


class _Uuid(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * _UUID_BYTES)]


class _IpcHandle(ctypes.Structure):
    _fields_ = [("reserved", ctypes.c_ubyte * _IPC_HANDLE_BYTES)]


class _Access(ctypes.Structure):
    """CUmemAccessDesc."""

    _fields_ = [("location_type", c_int), ("location_id", c_int), ("flags", c_int)]


# CUdeviceptr and CUmemGenericAllocationHandle are 64-bit numbers, a CUcontext is a pointer.
_SYMBOLS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetUuid_v2": (POINTER(_Uuid), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxGetCurrent": (POINTER(c_void_p),),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuIpcOpenMemHandle_v2": (POINTER(c_ulonglong), _IpcHandle, c_uint),
    "cuIpcCloseMemHandle": (c_ulonglong,),
    "cuMemImportFromShareableHandle": (POINTER(c_ulonglong), c_void_p, c_int),
    "cuMemRelease": (c_ulonglong,),
    "cuMemAddressReserve": (POINTER(c_ulonglong), c_size_t, c_size_t, c_ulonglong, c_ulonglong),
    "cuMemAddressFree": (c_ulonglong, c_size_t),
    "cuMemMap": (c_ulonglong, c_size_t, c_size_t, c_ulonglong, c_ulonglong),
    "cuMemUnmap": (c_ulonglong, c_size_t),
    "cuMemSetAccess": (c_ulonglong, c_size_t, POINTER(_Access), c_size_t),
}


class Driver:
    """The functions of a driver's library. Raises DeviceError (DEVICE_NOT_VISIBLE) if this process can't use it."""

    def __init__(self, library: str) -> None:
        try:
            loaded = ctypes.CDLL(library)
            self._functions = {name: getattr(loaded, name) for name in _SYMBOLS}
        except (OSError, AttributeError) as failure:
            raise _not_visible(f"the CUDA driver can't be used: {failure}") from None
        for name, types in _SYMBOLS.items():
            self._functions[name].argtypes = types
            self._functions[name].restype = c_int
        version = c_int()
        self.call("cuDriverGetVersion", ctypes.byref(version))
        if version.value < _OLDEST_VERSION:
            raise _not_visible(f"the CUDA driver has version {version.value}, older than {_OLDEST_VERSION}")
        started = self.attempt("cuInit", 0)
        self._sees_none = started == _NO_DEVICE  # what it says of a process that CUDA_VISIBLE_DEVICES hides all from
        if not self._sees_none:
            self._check(started, "cuInit")

    def call(self, name: str, *arguments: Any) -> None:
        """Raises what its CUresult means: the one place where that becomes an exception."""
        self._check(self.attempt(name, *arguments), name)

    def attempt(self, name: str, *arguments: Any) -> int:
        """As `call`, but returns the CUresult: for ends, which nothing can be done about."""
        return int(self._functions[name](*arguments))

    def gpu(self, ordinal: int) -> Gpu:
        """The GPU that is number `ordinal` in this process."""
        count = c_int()
        if not self._sees_none:
            self.call("cuDeviceGetCount", ctypes.byref(count))
        if ordinal >= count.value:
            raise _not_visible(f"there is no cuda:{ordinal}: this process sees {count.value} GPUs")
        device, uuid = c_int(), _Uuid()
        self.call("cuDeviceGet", ctypes.byref(device), ordinal)
        self.call("cuDeviceGetUuid_v2", ctypes.byref(uuid), device.value)
        return Gpu(self, device.value, bytes(uuid.bytes))

    def _check(self, result: int, name: str) -> None:
        if result == 0:
            return
        message = f"{name}: {self._text('cuGetErrorName', result)} ({self._text('cuGetErrorString', result)})"
        if result == _OUT_OF_MEMORY:
            hint = "the GPU has no memory left for this: see nvidia-smi"
            raise error("DEVICE_MEMORY_SHORT", message, hint=hint)
        if result == _NOT_INITIALIZED:
            hint = "CUDA doesn't work in a fork of a process that used it: start workers with spawn"
            raise _not_visible(message, hint)
        reason = "DEVICE_UNAVAILABLE" if result in _DEVICE_ERRORS else "INTERNAL"
        raise error(reason, message, hint="see the kernel's log for Xid lines; a fresh process may do")

    def _text(self, function: str, result: int) -> str:
        text = c_char_p()
        if self.attempt(function, result, ctypes.byref(text)) or text.value is None:
            return str(result)
        return text.value.decode(errors="replace")


class Gpu:
    """One GPU of this process, and its primary context, retained until this and all Mappings of it have died.

    Attributes:
        uuid: Its 16 bytes, which name it in every process.
    """

    def __init__(self, driver: Driver, device: int, uuid: bytes) -> None:
        self.driver = driver
        self.uuid = uuid
        self._device = device
        context = c_void_p()
        driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._context = context.value
        _at_death(self, lambda: driver.attempt("cuDevicePrimaryCtxRelease_v2", device))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Its context is this thread's meanwhile."""
        before = c_void_p()
        self.driver.call("cuCtxGetCurrent", ctypes.byref(before))
        self.driver.call("cuCtxSetCurrent", self._context)
        try:
            yield
        finally:
            self.driver.attempt("cuCtxSetCurrent", before.value)

    def import_memory(self, descriptor: int, nbytes: int, *, writable: bool) -> Mapping:
        """Maps an allocation of `nbytes` bytes that another process exported. The caller closes the descriptor."""
        driver, handle, pointer = self.driver, c_ulonglong(), c_ulonglong()
        undo: list[tuple[Any, ...]] = []
        with self.current():
            try:
                driver.call("cuMemImportFromShareableHandle", ctypes.byref(handle), descriptor, _POSIX_FILE_DESCRIPTOR)
                undo.append(("cuMemRelease", handle.value))
                driver.call("cuMemAddressReserve", ctypes.byref(pointer), nbytes, 0, 0, 0)
                undo.append(("cuMemAddressFree", pointer.value, nbytes))
                driver.call("cuMemMap", pointer.value, nbytes, 0, handle.value, 0)
                undo.append(("cuMemUnmap", pointer.value, nbytes))
                access = _Access(_LOCATION_DEVICE, self._device, _READ_WRITE if writable else _READ)
                driver.call("cuMemSetAccess", pointer.value, nbytes, ctypes.byref(access), 1)
            except BaseException:
                for step in reversed(undo):
                    driver.attempt(*step)
                raise
        return Mapping(self, pointer.value, nbytes, list(reversed(undo)))

    def open_legacy(self, handle: bytes, nbytes: int) -> Mapping:
        """Maps an allocation of another process by its CUipcMemHandle."""
        pointer = c_ulonglong()
        with self.current():
            opened = _IpcHandle.from_buffer_copy(handle)
            self.driver.call("cuIpcOpenMemHandle_v2", ctypes.byref(pointer), opened, _LAZY_PEER_ACCESS)
        return Mapping(self, pointer.value, nbytes, [("cuIpcCloseMemHandle", pointer.value)])


class Mapping:
    """Memory of a GPU, mapped in this process until this dies. Each tensor over it keeps it.

    Attributes:
        pointer: Its first byte.
        nbytes: Its size.
    """

    def __init__(self, gpu: Gpu, pointer: int, nbytes: int, end: list[tuple[Any, ...]]) -> None:
        self.pointer = pointer
        self.nbytes = nbytes
        self._then: list[Callable[[], object]] = []
        _at_death(self, _Unmap(gpu, end, self._then))

    def afterwards(self, action: Callable[[], object]) -> None:
        """What is to be done once the memory is unmapped."""
        self._then.append(action)


class _Unmap:
    """Undoes a mapping. Runs in whichever thread dropped the last tensor."""

    def __init__(self, gpu: Gpu, end: list[tuple[Any, ...]], then: list[Callable[[], object]]) -> None:
        self._gpu, self._end, self._then = gpu, end, then

    def __call__(self) -> None:
        try:
            with self._gpu.current():
                # cuMemUnmap doesn't wait for kernels that still read, as cuMemFree does.
                self._gpu.driver.attempt("cuCtxSynchronize")
                for step in self._end:
                    self._gpu.driver.attempt(*step)
        except Error:
            pass  # this process's CUDA is broken: its end unmaps
        for action in self._then:
            action()


def _at_death(owner: object, action: Callable[[], object]) -> None:
    """Runs `action`, which may not refer to `owner`, when that dies; neither at the interpreter's end nor in a fork.

    When the interpreter ends, tensors are still in use, and the driver may be gone before the last of them: the
    process's end unmaps. A child of a fork must not touch its parent's CUDA.
    """
    process = os.getpid()

    def act() -> None:
        if os.getpid() == process:
            action()

    weakref.finalize(owner, act).atexit = False


def _not_visible(message: str, hint: str = "") -> Error:
    default = "is the GPU's driver installed, and does CUDA_VISIBLE_DEVICES (or the container) leave that GPU visible?"
    return error("DEVICE_NOT_VISIBLE", message, hint=hint or default)
