"""From descriptors to bytes: checks what the daemon sent, and maps it."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from google.protobuf.message import DecodeError

from weightd import _frameworks
from weightd.errors import Error, error
from weightd.tensors import TensorInfo
from weightd.v1 import tensor_index_pb2

# Not in the standard library's fcntl and mmap of every version that is supported.
_F_GET_SEALS = 1034
_F_SEAL_SEAL, _F_SEAL_SHRINK, _F_SEAL_GROW = 1, 2, 4
_F_SEAL_WRITE, _F_SEAL_FUTURE_WRITE = 8, 16
_MAP_NORESERVE = 0x4000

# Versions of TensorIndex up to this one are understood.
_INDEX_VERSION = 1
# A protobuf message can't be larger.
_MAX_INDEX_BYTES = 2**31 - 1


class HostSegment:
    """A model's bytes in this process's memory. Mapped until the last part dies.

    Attributes:
        device: As torch names it.
        mode: How writes are kept from others: "private", page by page.
    """

    device = "cpu"
    mode = "private"

    def __init__(self, segment: mmap.mmap) -> None:
        self._bytes = memoryview(segment)

    def part(self, info: TensorInfo) -> memoryview:
        """A tensor's bytes."""
        return self._bytes[info.offset : info.offset + info.nbytes]

    def raw(self, info: TensorInfo) -> memoryview:
        """A tensor's bytes, read-only."""
        return self.part(info).toreadonly()

    def builder(self, framework: str) -> _frameworks.Builder:
        """What makes tensors of parts."""
        return _frameworks.builder(framework)


def read_index(descriptor: int, nbytes: int) -> tensor_index_pb2.TensorIndex:
    """Reads the TensorIndex out of its sealed file of at least `nbytes` bytes. The caller closes the descriptor."""
    _check_sealed(descriptor, nbytes, "tensor index")
    if nbytes > _MAX_INDEX_BYTES:
        raise _unsafe(f"the tensor index has {nbytes} bytes")
    content = bytearray()
    while len(content) < nbytes:
        content += os.pread(descriptor, nbytes - len(content), len(content))
    try:
        index = tensor_index_pb2.TensorIndex.FromString(bytes(content))
    except DecodeError as failure:
        raise _unsafe("the tensor index can't be read") from failure
    if index.version > _INDEX_VERSION:
        raise error(
            "UNSUPPORTED",
            f"the tensor index has version {index.version}; this package knows {_INDEX_VERSION}",
            hint="update the weightd package",
        )
    return index


def map_segment(descriptor: int, nbytes: int) -> mmap.mmap:
    """Maps a sealed segment. Lives, with a descriptor of its own, until the last view of it dies.

    Private and writable: a write gets a page of its own and is seen by nobody else, and frameworks that dislike
    read-only memory work. Where strict overcommit accounting refuses that much private memory: shared and read-only.
    The kernel puts maps of shared memory of 2 MiB or more on 2 MiB boundaries, which huge pages need.
    """
    _check_sealed(descriptor, nbytes, "segment")
    if nbytes == 0:  # nothing but empty tensors
        return mmap.mmap(-1, mmap.PAGESIZE)
    try:
        return mmap.mmap(
            descriptor,
            nbytes,
            flags=mmap.MAP_PRIVATE | _MAP_NORESERVE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
        )
    except OSError as failure:
        if failure.errno != errno.ENOMEM:
            raise _unmappable(failure) from failure
    return map_sealed(descriptor, nbytes, "segment")


def map_sealed(descriptor: int, nbytes: int, what: str) -> mmap.mmap:
    """Maps the first `nbytes` bytes, more than 0, of a sealed file read-only, with a descriptor of its own."""
    _check_sealed(descriptor, nbytes, what)
    try:
        return mmap.mmap(descriptor, nbytes, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    except OSError as failure:
        raise _unmappable(failure) from failure


def _check_sealed(descriptor: int, nbytes: int, what: str) -> None:
    """Makes sure that nobody can change the bytes or cut the file (which would be a SIGBUS) while it is mapped."""
    try:
        seals = fcntl.fcntl(descriptor, _F_GET_SEALS)
    except OSError as failure:
        raise _unsafe(f"the {what} is not a memfd: {failure.strerror}") from failure
    size_and_seals = _F_SEAL_SHRINK | _F_SEAL_GROW | _F_SEAL_SEAL
    writes = _F_SEAL_WRITE | _F_SEAL_FUTURE_WRITE
    if seals & size_and_seals != size_and_seals or not seals & writes:
        raise _unsafe(f"the {what} is not sealed (seals {seals:#x})")
    size = os.fstat(descriptor).st_size
    if size < nbytes:
        raise _unsafe(f"the {what} has {size} bytes and should have {nbytes}")


def _unsafe(message: str) -> Error:
    return error("INTERNAL", message, hint="this is a bug of the daemon: nothing was mapped")


def _unmappable(failure: OSError) -> Error:
    return error(
        "HOST_MEMORY_SHORT",
        f"the segment can't be mapped: {failure.strerror}",
        hint="look at this process's address space limit (ulimit -v) and its number of maps",
    )
