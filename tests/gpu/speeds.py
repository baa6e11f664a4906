"""The figures: each from interleaved rounds on this machine, as a ratio where there is something to compare with."""

import contextlib
import functools
import importlib.util
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time
import typing

import measure
from claims import torch_is_missing
from processes import Daemon, wait_until
from results import Report
from setting import GIB, HERE, MIB, Peer, Setting

CONNECTIONS = (4, 16)  # of who reads the object without loading it


def speed(nbytes: int, seconds: list[float]) -> str:
    """The median as GB/s."""
    return f"{nbytes / statistics.median(seconds) / 1e9:.1f} GB/s"


def milliseconds(*seconds: list[float]) -> list[float]:
    """Their sums by round."""
    return [1e3 * sum(parts) for parts in zip(*seconds, strict=True)]


def copies(setting: Setting, report: Report) -> None:
    """The worker's ring against the bus; registering against the ring."""
    nbytes = setting.large_mib * MIB
    found = setting.program("gpu_figures", "copies", setting.driver, setting.large_mib, setting.rounds)
    bus = speed(nbytes, found["bus"])
    report.ratio("ring", found["bus"], found["ring"], f"{speed(nbytes, found['ring'])} of {bus}")
    report.ratio("registered", found["ring"], found["registered"], speed(nbytes, found["registered"]))
    report.ratio("registered_copy", found["ring"], found["registered_copy"], speed(nbytes, found["registered_copy"]))


def registration(setting: Setting, report: Report) -> None:
    """cuMemHostRegister by page size."""
    found = setting.program("gpu_figures", "registration", setting.driver, setting.small_mib, setting.rounds)
    for key, pages in (("register_small", "small_pages"), ("register_huge", "huge_pages")):
        report.value(key, [setting.small_mib * MIB / seconds / 1e9 for seconds in found[pages]])


def mapping(setting: Setting, report: Report) -> None:
    """What a client's attach has the driver do."""
    for key, gib in zip(("1", "40"), setting.mapped_gib, strict=False):
        mib = gib * GIB // MIB or setting.small_mib
        found = setting.program("gpu_figures", "mapping", setting.driver, mib, setting.rounds)
        unmap = statistics.median(milliseconds(found["unmap"]))
        report.value(f"import_{key}", milliseconds(found["import"]), f"{mib} MiB")
        report.value(f"map_{key}", milliseconds(found["reserve"], found["map"]))
        report.value(f"set_access_{key}", milliseconds(found["set_access"]), f"unmap: {unmap:.3g} ms")
    if len(setting.mapped_gib) < 2:
        report.leave_out("mapping 40 GiB: the GPU has no room")


def attach(setting: Setting, report: Report) -> None:
    """To a model that is there."""
    model = str(setting.small)
    with setting.daemon() as daemon, setting.peers(daemon, 1) as (peer,):
        daemon.ctl("preload", model, "--gpu", "0")
        found = setting.program(
            "attach_figures", daemon.socket_dir, model, setting.driver, "shared", 2 * setting.rounds
        )
        report.value("attach_cpp", milliseconds(found["attach"]), f"a model of {setting.small_mib} MiB")
        seconds = peer.ask("attaches", model=model, mode="shared", count=2 * setting.rounds)["seconds"]
        report.value("attach_python", milliseconds(seconds), f"a model of {setting.small_mib} MiB")


def private_copies(setting: Setting, report: Report) -> None:
    """Beside raw copies of as many bytes, in the same process."""
    model, nbytes = str(setting.large), setting.large_mib * MIB
    with setting.daemon() as daemon:
        daemon.ctl("preload", model, "--gpu", "0")
        for key, ceiling in (("private_device", "on_device"), ("private_host", "bus")):
            found = setting.program(
                "attach_figures", daemon.socket_dir, model, setting.driver, "private", setting.rounds
            )
            detail = f"{speed(nbytes, found['attach'])} of {speed(nbytes, found[ceiling])}"
            report.ratio(key, found[ceiling], found["attach"], detail)
            if key == "private_device":
                daemon.ctl("evict", model, "--gpu", "0")


@contextlib.contextmanager
def served(folder: pathlib.Path) -> typing.Iterator[int]:
    """The port that a folder's files are served on."""
    command = [sys.executable, str(HERE / "file_server.py"), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.stdin.close()


def read_range(port: int, name: str, begin: int, end: int) -> None:
    """Fetches bytes and forgets them."""
    buffer = bytearray(MIB)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        request = f"GET /{name} HTTP/1.1\r\nHost: x\r\nRange: bytes={begin}-{end - 1}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        received = 0
        while count := connection.recv_into(buffer):
            received += count
    if received < end - begin:
        raise RuntimeError(f"{received} of {end - begin} bytes of {name}")


def read_object(port: int, name: str, nbytes: int, connections: int) -> measure.Sample:
    """What the source gives to who only reads."""
    step = -(-nbytes // connections)
    begin = time.monotonic()
    threads = [
        threading.Thread(target=read_range, args=(port, name, first, min(nbytes, first + step)))
        for first in range(0, nbytes, step)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return measure.Sample(time.monotonic() - begin, 0)


def load_object(daemon: Daemon, peer: Peer, url: str) -> measure.Sample:
    """A first attach on the GPU; afterwards the node has nothing of it again."""
    seconds = peer.ask("attach", model=url)["seconds"]
    peer.ask("release")
    evicted(daemon, url)
    return measure.Sample(seconds, 0)


def object_to_gpu(setting: Setting, report: Report) -> None:
    """From a web server whose files are in memory, to tensors on the GPU; nothing of it is on the node before."""
    path, nbytes = setting.large, setting.large_mib * MIB
    raw = setting.program("gpu_figures", "copies", setting.driver, setting.large_mib, 3)
    bus = statistics.median(raw["bus"])
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(served(path.parent))
        url = f"http://127.0.0.1:{port}/{path.name}"
        placement = "    placement:\n      gpus: [0]\n      gpu_only: true\n"
        daemons = {
            "object": stack.enter_context(setting.daemon()),
            "object_gpu_only": stack.enter_context(
                setting.daemon(f"models:\n  - name: gpu-only\n    uri: {url}\n{placement}")
            ),
        }
        contenders: dict[str, measure.Contender] = {
            f"read x{count}": functools.partial(read_object, port, path.name, nbytes, count) for count in CONNECTIONS
        }
        for key, daemon in daemons.items():
            (peer,) = stack.enter_context(setting.peers(daemon, 1))
            contenders[key] = functools.partial(load_object, daemon, peer, url)
        samples = measure.rounds(contenders, setting.rounds + 1, lambda: None)
        seconds = {name: [sample.wall for sample in taken[1:]] for name, taken in samples.items()}
        source = measure.best(samples, [name for name in samples if name not in daemons])
        ceiling = [max(bus, taken) for taken in seconds[source]]
        slower = f"the source, {source}" if statistics.median(ceiling) > bus else "the bus"
        for key in daemons:
            detail = f"{speed(nbytes, seconds[key])} of {speed(nbytes, ceiling)}, {slower}"
            report.ratio(key, ceiling, seconds[key], detail)


def evicted(daemon: Daemon, uri: str) -> None:
    """Takes it off the node, as soon as the daemon has seen that its client let go."""
    wait_until(lambda: daemon.ctl("evict", uri, check=False).returncode == 0, f"{uri} is evicted", 30)


def against_safetensors(setting: Setting, report: Report) -> None:
    """Both end with torch tensors on the GPU; weightd has the model in host memory, safetensors its file in memory."""
    missing = torch_is_missing() or ("" if importlib.util.find_spec("safetensors") else "there is no safetensors")
    if missing:
        report.leave_out(f"safetensors' own load to CUDA: {missing}")
        return
    path, nbytes = str(setting.large), setting.large_mib * MIB
    with setting.daemon() as daemon, setting.peers(daemon, 1) as (peer,):
        daemon.ctl("preload", path, "--gpu", "0")
        found = peer.ask("against_safetensors", model=path, path=path, count=setting.rounds)
        theirs = speed(nbytes, found["safetensors"])
        report.ratio("safetensors", found["safetensors"], found["private"], f"theirs: {theirs}")
        report.ratio("safetensors_shared", found["safetensors"], found["shared"])


SPEEDS: dict[str, typing.Callable[[Setting, Report], None]] = {
    "copies": copies,
    "attach": attach,
    "private_copies": private_copies,
    "object": object_to_gpu,
    "safetensors": against_safetensors,
    "mapping": mapping,
    "registration": registration,
}
