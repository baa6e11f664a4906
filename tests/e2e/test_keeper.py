"""The daemon beside weightd-keeper, each of which may come and go."""

import pathlib
import signal
import subprocess
import tempfile
import typing

import pytest
from loglines import line_of, lines_of
from processes import PATIENCE, Daemon, binary, wait_until


class Keeper:
    """weightd-keeper in a folder of its own, whose path is short enough for a socket."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Keeper":
        """Starts it and waits until it serves."""
        self._process = subprocess.Popen([binary("daemon/keeper/weightd-keeper"), "--dir", str(self.folder)])
        wait_until((self.folder / "keeper.sock").exists, "the keeper serves")
        return self

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns what it ended with."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(PATIENCE)


@pytest.fixture
def keeper() -> typing.Iterator[Keeper]:
    with tempfile.TemporaryDirectory(prefix="weightd-") as folder:
        keeper = Keeper(pathlib.Path(folder) / "keeper").start()
        yield keeper
        keeper.end()


def test_the_log_says_when_the_keeper_is_away_and_back(daemons: typing.Callable[..., Daemon], keeper: Keeper) -> None:
    daemon = daemons(f"keeper_dir: {keeper.folder}")
    assert not lines_of(daemon, "keeper.away")
    assert keeper.end() == 0
    away = line_of(daemon, "keeper.away")
    assert away["keeper"] == str(keeper.folder)
    assert away["error"] == "it hung up" and away["hint"]
    keeper.start()
    assert line_of(daemon, "keeper.back")["descriptors"] == 0
    assert keeper.end(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: len(lines_of(daemon, "keeper.away")) == 2, "it is away again")
    assert daemon.stop() == 0


def test_a_keeper_that_is_missing_changes_nothing(
    daemons: typing.Callable[..., Daemon], tmp_path: pathlib.Path
) -> None:
    daemon = daemons(f"keeper_dir: {tmp_path}/absent")
    assert "absent: No such file" in line_of(daemon, "keeper.away")["error"]
    assert daemon.serves()
    assert daemon.stop() == 0


def test_a_folder_that_others_may_change_is_not_trusted(daemons: typing.Callable[..., Daemon], keeper: Keeper) -> None:
    keeper.folder.chmod(0o777)
    daemon = daemons(f"keeper_dir: {keeper.folder}")
    assert "weightd-keeper make the folder" in line_of(daemon, "keeper.away")["hint"]
    keeper.folder.chmod(0o700)
    line_of(daemon, "keeper.back")
