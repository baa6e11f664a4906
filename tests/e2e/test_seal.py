"""Nobody can change what others read: every way a client has, as root and as another user."""

import os
import pathlib

import pytest
from attacks import attack
from models import small_model
from processes import Daemon
from users import NOBODY, as_user
from wire import RawSession, close_all


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
