"""Programs on a terminal, as a person sees them."""

import fcntl
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import typing

import pyte
from processes import PATIENCE

# Modes that terminals call private, as pyte keeps them.
ALTERNATE_SCREEN = 1049 << 5
CURSOR = 25 << 5


class Terminal:
    """A program whose input and output are a terminal of `columns` by `rows`. It ends with end()."""

    def __init__(
        self, command: list[str], columns: int = 100, rows: int = 30, environment: dict[str, str] | None = None
    ) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._master, self._slave = pty.openpty()
        self._resize(columns, rows)
        self.settings = termios.tcgetattr(self._slave)
        self.sent = b""

        def become_its_owner() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            # As a login shell has them: whoever runs the tests in the background may ignore these.
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)

        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=become_its_owner,
            env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(environment or {})},
        )

    def lines(self) -> list[str]:
        """What is on the screen now."""
        self._take(0.02)
        return [line.rstrip() for line in self._screen.display]

    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines()).rstrip()

    def waits_for(self, pattern: str, timeout: float = PATIENCE) -> str:
        """The screen once it has what `pattern` describes."""
        end = time.monotonic() + timeout
        while not re.search(pattern, text := self.text()):
            assert time.monotonic() < end, f"not within {timeout} s: {pattern}\n{text}"
        return text

    def resize(self, columns: int, rows: int) -> None:
        """As if the user dragged the window's corner."""
        self._take(0)
        self._screen.resize(rows, columns)
        self._resize(columns, rows)

    def type(self, keys: bytes) -> None:
        """Keys of the user."""
        os.write(self._master, keys)

    def exit_code(self) -> int:
        """Waits for the program's end."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self._take(0.02)
            assert time.monotonic() < end, f"it goes on:\n{self.text()}"
        self._take(0)
        return self.process.returncode

    def is_restored(self) -> bool:
        """Whether the terminal is as the program found it."""
        modes = self._screen.mode
        now = termios.tcgetattr(self._slave)
        return ALTERNATE_SCREEN not in modes and CURSOR in modes and now == self.settings

    def shows_the_other_screen(self) -> bool:
        """Whether the program draws on a screen of its own."""
        return ALTERNATE_SCREEN in self._screen.mode

    def end(self) -> None:
        """Whatever the program does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def _resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _take(self, patience: float) -> None:
        while select.select([self._master], [], [], patience)[0]:
            data = os.read(self._master, 1 << 16)
            self.sent += data
            self._stream.feed(data)
            patience = 0


def screen_in(page: pathlib.Path) -> str:
    """The screen that a page shows, in a block of its own language."""
    found = re.search(r"```screen\n(.*?)```", page.read_text(), re.DOTALL)
    assert found, f"{page} shows no screen"
    return typing.cast(str, found[1]).rstrip()
