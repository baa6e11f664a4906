"""`weightctl watch` on a terminal: what it shows, and that it leaves the terminal as it was."""

import os
import pathlib
import re
import signal
import typing

import pytest
from models import even_model
from processes import ROOT, Daemon, Nginx, Reader, binary, wait_until
from terminal import Terminal, screen_in

Daemons = typing.Callable[..., Daemon]
Readers = typing.Callable[[Daemon], Reader]
Watch = typing.Callable[..., Terminal]
MIB = 1 << 20
PAGE = ROOT / "README.md"


@pytest.fixture
def watch() -> typing.Iterator[Watch]:
    """Starts `weightctl watch` on terminals, and ends it."""
    started: list[Terminal] = []

    def start(daemon: Daemon, *arguments: str, environment: dict[str, str] | None = None, **size: int) -> Terminal:
        command = [binary("client/cli/weightctl"), "--socket-dir", str(daemon.socket_dir), "watch", *arguments]
        started.append(Terminal(command, environment=environment, **size))
        return started[-1]

    yield start
    for terminal in started:
        terminal.end()


@pytest.fixture
def node(daemons: Daemons, web: Nginx, files: pathlib.Path) -> Daemon:
    """A node with two models in its config, whose loads take their time."""
    even_model(files / "mini/model.safetensors", MIB, 4)
    even_model(files / "llama/model.safetensors", 64 * MIB, 8)
    return daemons(f"""
host:
  budget: 160MiB
sources:
  bandwidth: 5MB/s
models:
  - name: mini
    uri: {web.url("mini/model.safetensors")}
  - name: llama
    uri: {web.url("llama/model.safetensors")}
""")


def work(daemon: Daemon, reader: Reader) -> None:
    """A pinned model that a client holds, and a load that goes on."""
    daemon.ctl("preload", "mini", "--pin")
    reader.ask("attach", model="mini")
    daemon.ctl("preload", "llama", "--no-wait")


def structure(screen: str) -> list[str]:
    """What stays the same from one run to the next."""
    lines = []
    for line in screen.splitlines():
        if event := re.match(r"\d\d:\d\d:\d\d  (\w+) (\S+)", line):
            lines.append(f"event {event[1]} {event[2]}")
            continue
        line = re.sub(r"\[[^\]]*\]", "[bar]", line)
        line = re.sub(r"up (\d+\w ?)+", "up T", line)
        line = re.sub(r"(\d+[dhms] ?)+left", "T left", line)
        line = re.sub(r"\d\d:\d\d:\d\dZ", "TZ", line)
        line = re.sub(r"\d+(\.\d+)? ([KMG]i)?B\b", "S", line)
        line = re.sub(r"\d+%", "P", line)
        line = re.sub(r"weightd \S+", "weightd V", line)
        lines.append(re.sub(r"\s+", " ", line).strip())
    return lines


def test_a_load_in_progress_is_seen(node: Daemon, watch: Watch, readers: Readers) -> None:
    terminal = watch(node, columns=100, rows=16)
    terminal.waits_for(r"MODELS \(0\)")
    assert terminal.shows_the_other_screen()
    work(node, readers(node))
    screen = terminal.waits_for(r"\n\S*llama\S* +\[▓{8,} *\] +\d+%  (\d+\w ?)+left  \S+ MiB/s")
    assert re.search(r"\nhost  \[█▓+ +\]  \S+ MiB of 160 MiB  █ resident 1.0 MiB  ▓ loading \S+ MiB", screen), screen
    assert re.search(r"\nmini +resident +1.0 MiB +1  pinned\n", screen), screen
    assert re.search(r"\n\d\d:\d\d:\d\d  load_started llama", screen), screen
    assert re.search(r"\n\d\d:\d\d:\d\d  lease_granted mini lease \d+", screen), screen
    assert structure(screen) == structure(screen_in(PAGE)), f"{PAGE} shows another screen than\n{screen}"

    terminal.resize(40, 12)
    narrow = terminal.waits_for(r"(?s)\A(?!.*left  \S+ MiB/s).*\nhost  \[█▓* +\]  \S+ MiB of 160 MiB\nMODELS")
    assert max(len(line) for line in narrow.splitlines()) <= 40
    assert re.search(r"\n\S*llama +\[▓+ *\] +\d+%", narrow), narrow
    terminal.resize(100, 16)
    terminal.waits_for(r"load_finished llama")
    terminal.waits_for(r"\nllama +resident +64 MiB")

    terminal.type(b"q")
    assert terminal.exit_code() == 0
    assert terminal.is_restored()


def test_more_models_than_fit(daemon: Daemon, watch: Watch, files: pathlib.Path) -> None:
    for i in range(12):
        daemon.ctl("preload", str(even_model(files / f"model-{i:02}.safetensors", 4096, 1, seed=i)))
    terminal = watch(daemon, columns=80, rows=14)
    screen = terminal.waits_for(r"MODELS \(12\)")
    assert re.search(r"\nand \d more\n", screen), screen
    terminal.resize(80, 40)
    terminal.waits_for(r"model-11.safetensors")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_restore_the_terminal(daemon: Daemon, watch: Watch, stop: signal.Signals) -> None:
    terminal = watch(daemon)
    terminal.waits_for(r"MODELS \(0\)")
    assert not terminal.is_restored()
    if stop == signal.SIGINT:
        terminal.type(b"\x03")
    else:
        terminal.process.send_signal(stop)
    assert terminal.exit_code() == 0
    assert terminal.is_restored()


def test_a_pause_gives_the_terminal_back(daemon: Daemon, watch: Watch) -> None:
    terminal = watch(daemon)
    terminal.waits_for(r"MODELS \(0\)")
    terminal.process.send_signal(signal.SIGTSTP)
    os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED | os.WNOWAIT)
    terminal.text()
    assert terminal.is_restored()
    terminal.process.send_signal(signal.SIGCONT)
    wait_until(lambda: terminal.text() and terminal.shows_the_other_screen(), "it draws again")


def test_a_daemon_that_comes_back_is_found(daemon: Daemon, watch: Watch, files: pathlib.Path) -> None:
    terminal = watch(daemon)
    terminal.waits_for(r"MODELS \(0\)")
    daemon.stop()
    terminal.waits_for(r"\nno answer since \S+: ")
    daemon.start()
    terminal.waits_for(r"\A(?!.*\nno answer)(?s:.*)MODELS \(0\)")
    daemon.ctl("preload", str(even_model(files / "m.safetensors", 4096, 1)))
    terminal.waits_for(r"load_finished \S*m.safetensors")


def test_a_daemon_that_stays_away_ends_it(daemon: Daemon, watch: Watch) -> None:
    terminal = watch(daemon, "--timeout", "0.3")
    terminal.waits_for(r"MODELS \(0\)")
    daemon.stop()
    assert terminal.exit_code() == 69
    assert terminal.is_restored()
    assert "weightctl: the daemon has not answered for 1s" in terminal.text()


def test_plain_terminals_get_plain_characters(daemon: Daemon, watch: Watch) -> None:
    terminal = watch(daemon, environment={"LC_ALL": "C", "NO_COLOR": "1"})
    assert "host  [      " in terminal.waits_for(r"MODELS \(0\)")
    # Neither a colour (SGR) nor a byte that is not ASCII.
    assert not re.search(rb"\x1b\[[0-9;]*m", terminal.sent)
    assert terminal.sent.isascii()


@pytest.mark.parametrize("how", [{"arguments": ("--events",)}, {"environment": {"TERM": "dumb"}}])
def test_lines_where_nothing_is_to_be_drawn(
    daemon: Daemon, watch: Watch, files: pathlib.Path, how: dict[str, typing.Any]
) -> None:
    path = even_model(files / "m.safetensors", 4096, 1)
    terminal = watch(daemon, *how.get("arguments", ()), environment=how.get("environment"))

    def tells() -> bool:
        daemon.ctl("preload", str(path))
        daemon.ctl("evict", str(path))
        return "evicted file:///" in terminal.text()

    wait_until(tells, "the events arrive")
    assert b"\x1b" not in terminal.sent


def test_no_daemon_leaves_the_terminal_alone(daemon: Daemon, watch: Watch) -> None:
    daemon.stop()
    terminal = watch(daemon)
    assert terminal.exit_code() == 69
    assert b"\x1b" not in terminal.sent
