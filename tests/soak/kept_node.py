"""What restarts.py and upgrade.py share: a daemon with a keeper, models on a web server, and clients, each a process
that says what it saw when its standard input ends."""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import typing
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from keepers import Keeper  # noqa: E402
from models import even_model  # noqa: E402
from processes import Daemon, Nginx  # noqa: E402

MIB = 1 << 20
MODELS = 4

Seen = dict[str, typing.Any]
Client = subprocess.Popen[str]


class KeptNode:
    """The models are not loaded yet, and the daemon not started."""

    def __init__(self, folder: pathlib.Path, config: str, tensors: int, keeper: str | None = None) -> None:
        """`tensors`: of each model; `keeper`: a program of another build."""
        files = folder / "files"
        files.mkdir(parents=True)
        self._clients: list[Client] = []
        self.web = Nginx(folder / "nginx", files)
        self.expected = {}
        for number in range(MODELS):
            path = even_model(files / f"{number}.safetensors", 8 * MIB, tensors, seed=number)
            self.expected[self.web.url(path.name)] = checksums(path)
        (folder / "expected.json").write_text(json.dumps(self.expected))
        self._folder = folder
        self.keeper = Keeper(folder / "keeper", keeper).__enter__()
        self.daemon = Daemon(folder, self.keeper.config + config)

    def preload(self) -> None:
        """All of them, which stay."""
        for url in self.expected:
            self.daemon.ctl("preload", "--pin", url)

    def start_client(self, script: str, *arguments: object, package: pathlib.Path | None = None) -> Client:
        """`package`: of another build's Python client."""
        paths = {} if package is None else {"PYTHONPATH": str(package)}
        file = pathlib.Path(__file__).with_name(script)
        all_arguments = (self.daemon.socket_dir, *arguments, self._folder / "expected.json")
        client = subprocess.Popen(
            [sys.executable, file, *map(str, all_arguments)],
            env={**os.environ, **paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._clients.append(client)
        return client

    def leases(self) -> int:
        return int(self.daemon.status().get("leases", 0))

    def end_clients(self) -> list[Seen]:
        """What each has seen, in the order in which they were started."""
        for client in self._clients:
            assert client.stdin is not None
            client.stdin.close()
        seen = []
        for client in self._clients:
            assert client.stdout is not None
            seen.append(json.loads(client.stdout.read()))
            assert client.wait(60) == 0
        return seen

    def end(self) -> None:
        for client in self._clients:
            client.kill()
        with contextlib.suppress(AssertionError):
            self.daemon.end()
        self.keeper.__exit__(None, None, None)
        self.web.end()


def bytes_read(web: Nginx) -> int:
    """From the store. A source is asked whether it changed by a request for one byte, after a minute."""
    lines = [line.split('"') for line in web.log_path.read_text().splitlines()]
    sizes = [int(parts[2].split()[1]) for parts in lines if parts[1].startswith("GET")]
    return sum(size for size in sizes if size > 1)


def checksums(path: pathlib.Path) -> dict[str, int]:
    """CRC-32 of each tensor of a safetensors file."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    return {
        name: zlib.crc32(content[begin + entry["data_offsets"][0] : begin + entry["data_offsets"][1]])
        for name, entry in header.items()
    }


def parser(description: str | None, clients: int) -> argparse.ArgumentParser:
    """What both take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--clients", type=int, default=clients)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    return parser


Node = typing.TypeVar("Node", bound=KeptNode)


def problems_of(make: typing.Callable[[pathlib.Path], Node], run: typing.Callable[[Node], list[str]]) -> list[str]:
    """What was wrong with a node of its own, which ends."""
    with tempfile.TemporaryDirectory(prefix="weightd-") as name:
        node = make(pathlib.Path(name))
        try:
            return run(node)
        finally:
            node.end()


def exit_code(problems: list[str]) -> int:
    """Says what was wrong."""
    for problem in problems[:20]:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0
