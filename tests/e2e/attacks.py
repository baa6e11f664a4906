"""Ways to change what others read, for who holds the descriptors. Needs nothing but Python: tests carry it to wherever
they attack from."""

import ctypes
import fcntl
import mmap
import os
import signal
import typing

_PAGE = 4096
_FALLOC_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02
_MADV_REMOVE = 9
_PTRACE_ATTACH = 16

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p


def attack(fds: list[int]) -> list[str]:
    """Tries every way to change the files, through their descriptors and through new ones; gives those that worked."""
    succeeded = []
    for fd in fds:
        doors = [fd, *_reopened(fd)]
        for door in doors:
            succeeded += [way for way, attempt in _WAYS.items() if _works(attempt, door)]
        for door in doors[1:]:
            os.close(door)
    return succeeded


def reach(pid: int) -> list[str]:
    """Tries every way into another process; gives those that worked."""
    return [way for way, attempt in _WAYS_IN.items() if _works(attempt, pid)]


def _works(attempt: typing.Callable[[int], object], number: int) -> bool:
    try:
        attempt(number)
    except (OSError, ValueError):
        return False
    return True


def _reopened(fd: int) -> list[int]:
    try:
        os.fchmod(fd, 0o777)
    except OSError:
        pass
    doors = []
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
        try:
            doors.append(os.open(f"/proc/self/fd/{fd}", flags))
        except OSError:
            pass
    return doors


def _checked(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)


def _shared(fd: int) -> ctypes.c_void_p:
    address = _libc.mmap(None, ctypes.c_size_t(_PAGE), mmap.PROT_READ, mmap.MAP_SHARED, fd, ctypes.c_long(0))
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return ctypes.c_void_p(address)


def _map_writable(fd: int) -> None:
    mmap.mmap(fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE).close()


def _mprotect(fd: int) -> None:
    page = _shared(fd)
    try:
        _checked(_libc.mprotect(page, ctypes.c_size_t(_PAGE), mmap.PROT_READ | mmap.PROT_WRITE), "mprotect")
    finally:
        _libc.munmap(page, ctypes.c_size_t(_PAGE))


def _remove_pages(fd: int) -> None:
    page = _shared(fd)
    try:
        _checked(_libc.madvise(page, ctypes.c_size_t(_PAGE), _MADV_REMOVE), "madvise")
    finally:
        _libc.munmap(page, ctypes.c_size_t(_PAGE))


def _punch_hole(fd: int) -> None:
    holes = _FALLOC_KEEP_SIZE_AND_PUNCH_HOLE
    _checked(_libc.fallocate(fd, holes, ctypes.c_long(0), ctypes.c_long(_PAGE)), "fallocate")


def _write_privately(fd: int) -> None:
    """Of one's own map one may write to every page; works if the file has what was written."""
    before = os.pread(fd, 16, 0)
    with mmap.mmap(fd, _PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as private:
        private[:16] = bytes(byte ^ 0xFF for byte in before)
    if os.pread(fd, 16, 0) == before:
        raise OSError("the file is as it was")


_WAYS: dict[str, typing.Callable[[int], object]] = {
    "write": lambda fd: os.pwrite(fd, b"x", 0),
    "map writable": _map_writable,
    "mprotect": _mprotect,
    "truncate": lambda fd: os.ftruncate(fd, 0),
    "grow": lambda fd: os.ftruncate(fd, 1 << 30),
    "punch a hole": _punch_hole,
    "remove pages": _remove_pages,
    "write privately": _write_privately,
    "add seals": lambda fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL),
}


def _write_memory(pid: int) -> None:
    class Part(ctypes.Structure):
        _fields_: typing.ClassVar = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]

    ours = ctypes.create_string_buffer(8)
    local, remote = Part(ctypes.addressof(ours), 8), Part(_PAGE, 8)
    written = _libc.process_vm_writev(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    # An address that isn't mapped is EFAULT: then we were let in.
    if written < 0 and ctypes.get_errno() != 14:
        raise OSError(ctypes.get_errno(), "process_vm_writev")


_WAYS_IN: dict[str, typing.Callable[[int], object]] = {
    "signal": lambda pid: os.kill(pid, signal.SIGCONT),
    "descriptors": lambda pid: os.listdir(f"/proc/{pid}/fd"),
    "memory file": lambda pid: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)),
    "write to memory": _write_memory,
    "trace": lambda pid: _checked(_libc.ptrace(_PTRACE_ATTACH, pid, None, None), "ptrace"),
    "pidfd": lambda pid: os.close(os.pidfd_open(pid)),
}
