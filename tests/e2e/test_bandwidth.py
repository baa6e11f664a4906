"""Limits of bandwidth, who goes first under them, and how many connections a load takes."""

import pathlib
import subprocess
import threading
import time
import typing

import pytest
import weightd
from models import even_model
from processes import Daemon, Nginx, binary, ending, shaped_server, wait_until

MIB = 1 << 20
RATE = 25_000_000
CONFIG = "sources:\n  bandwidth: 200Mb/s\n"


def attach(daemon: Daemon, url: str) -> None:
    """What a client does that needs a model."""
    weightd.attach(url, socket_dir=str(daemon.socket_dir), framework="np").close()


def preload(daemon: Daemon, url: str) -> subprocess.Popen[str]:
    """Begins to load a model that nobody waits for."""
    return subprocess.Popen(
        [binary("client/cli/weightctl"), "--socket-dir", str(daemon.socket_dir), "preload", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def loaded(daemon: Daemon, url: str) -> float:
    """The part of a model that has arrived."""
    for model in daemon.ctl_json("ls")["models"]:
        if model["model"] == url:
            progress = model.get("progress", {})
            total = int(progress.get("bytes_total", 0))
            return int(progress.get("bytes_done", 0)) / total if total else float(model["state"] == "RESIDENT")
    return 0.0


def test_loads_keep_the_limit_together(daemons: typing.Callable[..., Daemon], web: Nginx, files: pathlib.Path) -> None:
    daemon = daemons(CONFIG)
    urls = [web.url(even_model(files / f"{i}.safetensors", 16 * MIB, 4, seed=i).name) for i in range(3)]
    begin = time.monotonic()
    threads = [threading.Thread(target=attach, args=(daemon, url)) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begin > 0.85 * len(urls) * 16 * MIB / RATE


@pytest.mark.plain_only  # a slow look comes too late
def test_a_client_goes_before_a_preload(daemons: typing.Callable[..., Daemon], web: Nginx, files: pathlib.Path) -> None:
    daemon = daemons(CONFIG)
    slow, fast = (web.url(even_model(files / f"{i}.safetensors", 32 * MIB, 4, seed=i).name) for i in range(2))
    with ending([preload(daemon, slow)]) as (operator,):
        wait_until(lambda: loaded(daemon, slow) > 0, "the preload runs")
        attach(daemon, fast)
        assert 0 < loaded(daemon, slow) < 0.75  # both at once, without an order
        # It had its part all the while, and has all of it now.
        assert operator.wait(60) == 0


@pytest.mark.plain_only  # a slow look comes too late
def test_a_preload_that_a_client_joins_goes_first(
    daemons: typing.Callable[..., Daemon], web: Nginx, files: pathlib.Path
) -> None:
    daemon = daemons(CONFIG)
    joined, other = (web.url(even_model(files / f"{i}.safetensors", 32 * MIB, 4, seed=i).name) for i in range(2))
    with ending([preload(daemon, other), preload(daemon, joined)]) as operators:
        wait_until(lambda: loaded(daemon, joined) > 0 and loaded(daemon, other) > 0, "both run")
        attach(daemon, joined)
        assert loaded(daemon, other) < 0.7
        assert [operator.wait(60) for operator in operators] == [0, 0]


def connections_to(port: int) -> int:
    """How many are established (proc(5), /proc/net/tcp), seen from their clients."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


def most_connections(operator: subprocess.Popen[str], port: int) -> int:
    """That there were at once until the operator's command ended well."""
    most = 0
    end = time.monotonic() + 60
    while operator.poll() is None and time.monotonic() < end:
        most = max(most, connections_to(port))
    assert operator.wait(1) == 0
    return most


@pytest.mark.plain_only
def test_many_slow_connections_take_little_memory(daemon: Daemon, files: pathlib.Path) -> None:
    path = even_model(files / "m.safetensors", 400 * MIB, 10)
    with shaped_server(path, milliseconds=20, megabits=25) as port:
        uri = f"http://127.0.0.1:{port}/m.safetensors"
        # On a busy machine more of them may not look worth it; the next load begins with what the last one had.
        for _ in range(5):
            with ending([preload(daemon, uri)]) as (operator,):
                most = most_connections(operator, port)
            if most >= 24:
                break
            daemon.ctl("evict", uri)
        # Some may have been given up for new ones and not be closed yet.
        assert 24 <= most <= 40
        assert daemon.memory()["VmHWM"] - path.stat().st_size < 64 * MIB
