"""Nobody can change what others read: every way a client has, as root and as another user."""

import multiprocessing
import os
import pathlib
import typing

import pytest
from models import small_model
from processes import Daemon
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


def attack_as(uid: int, fds: list[int], answer: typing.Any) -> None:
    if uid:
        os.setgid(uid)
        os.setuid(uid)
    answer.send(attack(fds))


@pytest.mark.parametrize("uid", [0, 65534])
def test_every_way_to_change_a_segment_is_refused(daemon: Daemon, files: pathlib.Path, uid: int) -> None:
    if os.getuid() != 0:
        pytest.skip("becoming another user needs root")
    path = small_model(files / "m.safetensors")
    session = RawSession(daemon.socket_dir)
    fds = session.claim(session.acquire(str(path)))
    assert len(fds) == 2
    before = [os.pread(fd, 1 << 22, 0) for fd in fds]
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=attack_as, args=(uid, fds, theirs))
    child.start()
    assert ours.recv() == []
    child.join()
    assert [os.pread(fd, 1 << 22, 0) for fd in fds] == before
    close_all(fds)
    session.close()


def test_nobody_reaches_the_descriptors_of_the_daemon(daemon: Daemon) -> None:
    """The daemon holds the only way in until the seal, and its descriptors are closed to others."""
    if os.getuid() != 0:
        pytest.skip("what another user sees can only be tried as root")
    ours, theirs = multiprocessing.Pipe()

    def look() -> None:
        os.setgid(65534)
        os.setuid(65534)
        try:
            os.listdir(f"/proc/{daemon.pid}/fd")
            theirs.send("open")
        except PermissionError:
            theirs.send("closed")

    child = multiprocessing.get_context("fork").Process(target=look)
    child.start()
    assert ours.recv() == "closed"
    child.join()
