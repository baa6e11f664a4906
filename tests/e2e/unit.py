"""A stand-in for systemd where it runs weightd.service: what it hears (sd_notify(3)), stores
(FileDescriptorStoreMax=) and gives to the unit's next process (sd_listen_fds(3))."""

import array
import ctypes
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import threading
import types

from processes import ROOT, Daemon, wait_until

UNIT = ROOT / "deploy/systemd/weightd.service"
# As systemd does: descriptors from 3 on, in their order, and a process number that is the service's own.
LAUNCH = """
import fcntl, os, sys
count = int(sys.argv[1])
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 1000) for fd in sys.argv[2 : 2 + count]]
for number, fd in enumerate(fds):
    os.dup2(fd, 3 + number)
if count:
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}
os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count :])
"""
SYS_KCMP = 312  # x86-64
LIBC = ctypes.CDLL(None, use_errno=True)


def setting(key: str) -> str:
    """Of the unit as it is shipped, the last line of that key."""
    return re.findall(rf"^{re.escape(key)}=(.*)$", UNIT.read_text(), re.MULTILINE)[-1]


def is_same_open_file(one: int, other: int) -> bool:
    """kcmp(2), which systemd asks, too."""
    order = LIBC.syscall(SYS_KCMP, os.getpid(), os.getpid(), 0, one, other)
    assert order >= 0, os.strerror(ctypes.get_errno())
    return bool(order == 0)


class Unit(Daemon):
    """weightd as systemd's service. `stores` and `says` are how much it stores and says that it does, by default as the
    unit has it. A context manager."""

    def __init__(self, folder: pathlib.Path, config: str, stores: int | None = None, says: int | None = None) -> None:
        super().__init__(folder, config)
        self._stores = int(setting("FileDescriptorStoreMax")) if stores is None else stores
        self._says = int(setting("Environment").removeprefix("FDSTORE=")) if says is None else says
        self._lock = threading.Lock()
        self._stored: list[tuple[str, int]] = []
        self._messages: list[dict[str, str]] = []
        # What systemd would log and ignore.
        self.problems: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = str(folder / "notify")
        self._socket.bind(self._address)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._thread = threading.Thread(target=self._hear)

    def __enter__(self) -> "Unit":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.end()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._address)
        self._thread.join()
        self._socket.close()
        self.forget()

    def start(self, wait: bool = True) -> "Unit":
        """`wait`: until it says READY=1."""
        with self._lock:
            names, fds = [name for name, _ in self._stored], [fd for _, fd in self._stored]
            self._messages = []
        environment = {**os.environ, "NOTIFY_SOCKET": self._address, "FDSTORE": str(self._says)}
        environment["WATCHDOG_USEC"] = str(int(setting("WatchdogSec").removesuffix("s")) * 1_000_000)
        if names:
            environment["LISTEN_FDNAMES"] = ":".join(names)
        launch = [sys.executable, "-c", LAUNCH, str(len(fds)), *map(str, fds)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*launch, self.program, *self._arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=fds,
            )
        if wait:
            wait_until(lambda: self.said("READY") or self.process.poll() is not None, "the unit is ready")
            assert self.serves()
        return self

    def restart(self) -> None:
        """`systemctl restart`."""
        assert self.stop() == 0
        wait_until(lambda: self.said("STOPPING"), "it says that it stops")
        self.start()

    def fail(self) -> None:
        """SIGKILL, and Restart=on-failure."""
        self.kill()
        self.start()

    def forget(self) -> None:
        """Lets go of what it stores, as when the unit is stopped for good."""
        with self._lock:
            for _, fd in self._stored:
                os.close(fd)
            self._stored = []

    def said(self, key: str) -> bool:
        """Whether this process has."""
        with self._lock:
            return any(message.get(key) == "1" for message in self._messages)

    def names(self) -> list[str]:
        """Of what is stored, the oldest first."""
        with self._lock:
            return [name for name, _ in self._stored]

    def _hear(self) -> None:
        room = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(253 * 4)
        while True:
            text, ancillary, flags, _ = self._socket.recvmsg(4096, room, socket.MSG_CMSG_CLOEXEC)
            if not text:
                return
            fds, sender = array.array("i"), 0
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(data)
                elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    sender = struct.unpack("3i", data)[0]
            with self._lock:
                self._take(text.decode(), fds.tolist(), sender, flags)

    def _take(self, text: str, fds: list[int], sender: int, flags: int) -> None:
        message = dict(line.split("=", 1) for line in text.splitlines())
        self._messages.append(message)
        # NotifyAccess=main, which is what Type=notify has.
        if self.process is None or sender != self.process.pid:
            self._refuse(f"from process {sender}: {text!r}", fds)
        elif flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            self._refuse(f"too long: {text!r}", fds)
        elif message.get("FDSTOREREMOVE") == "1":
            for stored in [stored for stored in self._stored if stored[0] == message.get("FDNAME")]:
                self._stored.remove(stored)
                os.close(stored[1])
            if fds:
                self._refuse(f"a removal with descriptors: {text!r}", fds)
        elif message.get("FDSTORE") == "1":
            self._store(message, fds)
        elif message.get("BARRIER") == "1" and len(message) == 1 and len(fds) == 1:
            # Whose other end sees that all before is done.
            os.close(fds[0])
        elif fds:
            self._refuse(f"descriptors for nothing: {text!r}", fds)

    def _store(self, message: dict[str, str], fds: list[int]) -> None:
        name = message.get("FDNAME", "stored")
        if not re.fullmatch(r"[ -9;-~]{1,255}", name) or message.get("FDPOLL") != "0" or not fds:
            self._refuse(f"can't store as {message}", fds)
            return
        for fd in fds:
            if any(is_same_open_file(fd, stored) for _, stored in self._stored):
                os.close(fd)
            elif len(self._stored) >= self._stores:
                self._refuse(f"no room for {name}", [fd])
            else:
                self._stored.append((name, fd))

    def _refuse(self, why: str, fds: list[int]) -> None:
        self.problems.append(why)
        for fd in fds:
            os.close(fd)
