"""Nobody can change what others read: every way a client has, as root and as another user."""

import os
import pathlib
import typing

import pytest
from models import small_model
from processes import Daemon
from users import NOBODY, as_user
from wire import RawSession, close_all


def attack(fds: list[int]) -> list[str]:
    """Tries every way to change the files; returns those that did not fail."""
    import ctypes
    import fcntl
    import mmap

    libc = ctypes.CDLL(None, use_errno=True)
    fallocate_punch_hole = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE

    def mapped(fd: int) -> None:
        mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE).close()

    def protected(fd: int) -> None:
        view = mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ)
        address = libc.mmap
        address.restype = ctypes.c_void_p
        begin = address(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_SHARED, fd, ctypes.c_long(0))
        failed = libc.mprotect(ctypes.c_void_p(begin), ctypes.c_size_t(4096), mmap.PROT_READ | mmap.PROT_WRITE)
        libc.munmap(ctypes.c_void_p(begin), ctypes.c_size_t(4096))
        view.close()
        if failed:
            raise OSError(ctypes.get_errno(), "mprotect")

    def punched(fd: int) -> None:
        if libc.fallocate(fd, fallocate_punch_hole, ctypes.c_long(0), ctypes.c_long(4096)):
            raise OSError(ctypes.get_errno(), "fallocate")

    ways: dict[str, typing.Callable[[int], object]] = {
        "write": lambda fd: os.pwrite(fd, b"x", 0),
        "map writable": mapped,
        "mprotect": protected,
        "truncate": lambda fd: os.ftruncate(fd, 0),
        "grow": lambda fd: os.ftruncate(fd, 1 << 30),
        "punch a hole": punched,
        "add seals": lambda fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL),
    }
    succeeded = []
    for fd in fds:
        doors = [fd]
        for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
            try:
                doors.append(os.open(f"/proc/self/fd/{fd}", flags))
            except OSError:
                pass
        for door in doors:
            for way, attempt in ways.items():
                try:
                    attempt(door)
                    succeeded.append(way)
                except (OSError, ValueError):
                    pass
        close_all(doors[1:])
    return succeeded


@pytest.mark.parametrize("uid", [os.getuid(), NOBODY])
def test_every_way_to_change_a_segment_is_refused(daemon: Daemon, files: pathlib.Path, uid: int) -> None:
    path = small_model(files / "m.safetensors")
    session = RawSession(daemon.socket_dir)
    fds = session.claim(session.acquire(str(path)))
    assert len(fds) == 2
    before = [os.pread(fd, 1 << 22, 0) for fd in fds]
    assert as_user(uid, lambda: attack(fds)) == []
    assert [os.pread(fd, 1 << 22, 0) for fd in fds] == before
    close_all(fds)
    session.close()


def test_nobody_reaches_the_descriptors_of_the_daemon(daemon: Daemon) -> None:
    """The daemon holds the only way in until the seal, and its descriptors are closed to others."""

    def look() -> str:
        try:
            os.listdir(f"/proc/{daemon.pid}/fd")
        except PermissionError:
            return "closed"
        return "open"

    assert as_user(NOBODY, look) == "closed"
