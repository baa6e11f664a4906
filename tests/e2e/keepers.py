"""weightd-keeper as a process, and what anybody of its user may ask of it."""

import os
import pathlib
import signal
import socket
import subprocess
import types

from processes import PATIENCE, binary, wait_until


class Keeper:
    """The real weightd-keeper in a folder of its own."""

    def __init__(self, folder: pathlib.Path, program: str | None = None) -> None:
        """`program`: of another build."""
        self.folder = folder
        self._program = program or binary("daemon/keeper/weightd-keeper")
        self.config = f"keeper_dir: {folder}\n"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Keeper":
        self.process = subprocess.Popen([self._program, "--dir", str(self.folder)])
        # Some tests kill it as soon as it greets somebody.
        wait_until(lambda: self.serves() or self._killed(), "the keeper serves")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0

    def _connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.settimeout(PATIENCE)
        peer.connect(str(self.folder / "keeper.sock"))
        assert peer.recv(4096).startswith(b"KEEPER=1")
        return peer

    def _killed(self) -> bool:
        return self.process is not None and self.process.poll() == -signal.SIGKILL

    def serves(self) -> bool:
        """Whether it takes connections."""
        try:
            self._connect().close()
        except OSError:
            return False
        return True

    def names(self) -> list[str]:
        """What its descriptors are called, the oldest first."""
        names = []
        for name, fd in self.take():
            names.append(name)
            os.close(fd)
        return names

    def take(self) -> list[tuple[str, int]]:
        """Descriptors of what it holds, by name, which the caller closes."""
        taken = []
        with self._connect() as peer:
            peer.send(b"FDLIST=1")
            while True:
                text, fds, _, _ = socket.recv_fds(peer, 4096, 1, socket.MSG_CMSG_CLOEXEC)
                fields = dict(line.split("=", 1) for line in text.decode().splitlines())
                if "END" in fields:
                    return taken
                taken.append((fields["FDNAME"], *fds))

    def store(self, name: str, fd: int) -> None:
        """As a daemon does."""
        with self._connect() as peer:
            socket.send_fds(peer, [f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0".encode()], [fd])
            assert peer.recv(4096).strip() == b"OK=1"

    def remove(self, name: str) -> None:
        """As a daemon does."""
        with self._connect() as peer:
            peer.send(f"FDSTOREREMOVE=1\nFDNAME={name}".encode())
            assert peer.recv(4096).strip() == b"OK=1"

    def memory(self) -> int:
        """What it has of its own, in bytes."""
        assert self.process is not None
        lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
