"""A keeper and a daemon of different users: neither trusts the other, and operators are told what to do."""

import os
import pathlib
import shutil
import socket
import tempfile
import typing

import pytest
from keepers import Keeper
from loglines import line_of
from models import small_model
from processes import Daemon, binary
from users import NOBODY, as_user

AS_THE_DAEMONS_USER = "run weightd-keeper as the daemon's user"


def first_words(path: pathlib.Path) -> bytes:
    """What is said at once to who connects there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(20)
        peer.connect(str(path))
        return peer.recv(4096)


def test_the_keeper_lets_only_its_own_user_in(keeper: Keeper) -> None:
    path = keeper.folder / "keeper.sock"
    assert (keeper.folder.stat().st_mode & 0o7777, path.stat().st_mode & 0o7777) == (0o700, 0o600)
    # As if nothing of that held.
    for way, mode in ((keeper.folder.parent, 0o711), (keeper.folder, 0o711), (path, 0o666)):
        way.chmod(mode)
    assert as_user(NOBODY, lambda: first_words(path)).startswith(b"ERROR=NOT_ALLOWED")
    assert first_words(path).startswith(b"KEEPER=1")


def test_a_daemon_trusts_no_keeper_of_another_user(daemons: typing.Callable[..., Daemon], files: pathlib.Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="weightd-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as impostor,
    ):
        impostor.bind(f"{folder}/keeper.sock")
        # Whoever listens is who the kernel says that the peer is (unix(7), SO_PEERCRED).
        as_user(NOBODY, impostor.listen)
        daemon = daemons(f"keeper_dir: {folder}\n")
        away = line_of(daemon, "keeper.away")
        assert str(NOBODY) in away["error"] and away["hint"] == AS_THE_DAEMONS_USER
        daemon.ctl("preload", str(small_model(files / "m.safetensors")))
        impostor.settimeout(20)
        peer, _ = impostor.accept()
        with peer:
            peer.settimeout(20)
            assert peer.recv(4096) == b"", "it was told nothing"


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_a_daemon_is_told_that_the_keeper_is_of_another_user(keeper: Keeper) -> None:
    keeper.folder.parent.chmod(0o711)
    with tempfile.TemporaryDirectory(prefix="weightd-") as name:
        folder = pathlib.Path(name)
        identity = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        daemon = Daemon(folder, keeper.config, before=("setpriv", *identity))
        # That user has no way to the build's folder.
        daemon.program = shutil.copy(binary("daemon/weightd"), folder / "weightd")
        os.chown(folder, NOBODY, NOBODY)
        try:
            daemon.start()
            assert "weightd-keeper runs as another user" in line_of(daemon, "keeper.away")["hint"]
        finally:
            daemon.end()
