"""Kills the daemon, its keeper or both again and again under clients that attach and read, and looks at what it costs.

.venv/bin/python tests/soak/restarts.py [--kills 500] [--victim daemon|keeper|both] [--clients 16] [--seed N]
                                      [--ready 2]

The daemon, or the keeper alone: no client sees an error or a wrong byte, nothing is read from the store again, the
daemon is ready in time, and nothing grows. Both: memory that nobody maps is lost, and is read again.
"""

import argparse
import contextlib
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import typing
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from keepers import Keeper  # noqa: E402
from models import even_model  # noqa: E402
from processes import Daemon, Nginx, wait_until  # noqa: E402

MIB = 1 << 20
MODELS = 4
CONFIG = "host:\n  budget: 1GiB\n"


class Samples(typing.NamedTuple):
    """What must not grow while clients come and go."""

    daemon_memory: int
    keeper_descriptors: int
    keeper_memory: int

    def grown(self, first: "Samples") -> list[str]:
        """What has, beyond noise: 4 MiB in the daemon; 4 descriptors (of connections) and 1 MiB in the keeper."""
        return [
            f"{name}: {before} -> {after}"
            for name, before, after, most in zip(self._fields, first, self, (4 * MIB, 4, MIB), strict=True)
            if after - before > most
        ]


class Node:
    """A daemon with a keeper, and clients."""

    def __init__(self, folder: pathlib.Path, clients: int, seed: int) -> None:
        self._chance = random.Random(seed)
        files = folder / "files"
        files.mkdir()
        self.web = Nginx(folder / "nginx", files)
        self._expected = {}
        for number in range(MODELS):
            path = even_model(files / f"{number}.safetensors", 8 * MIB, 4, seed=number)
            self._expected[self.web.url(path.name)] = checksums(path)
        (folder / "expected.json").write_text(json.dumps(self._expected))
        self._keeper_folder = folder / "keeper"
        self.keeper = Keeper(self._keeper_folder).__enter__()
        self.daemon = Daemon(folder, self.keeper.config + CONFIG).start()
        for url in self._expected:
            self.daemon.ctl("preload", "--pin", url)
        # Without clients, whose connections come and go.
        self.descriptors = self.daemon.descriptors()
        self._clients = [
            subprocess.Popen(
                [
                    sys.executable,
                    str(pathlib.Path(__file__).with_name("restart_client.py")),
                    str(self.daemon.socket_dir),
                    str(seed * 1000 + number),
                    str(folder / "expected.json"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(clients)
        ]
        wait_until(lambda: self.leases() > 0, "the clients attach", 60)

    def leases(self) -> int:
        return int(self.daemon.status().get("leases", 0))

    def kill(self, victim: str) -> float:
        """At a random moment; how long the daemon was away."""
        time.sleep(self._chance.uniform(0, 0.3))
        begin = time.monotonic()
        if victim != "daemon":
            assert self.keeper.process is not None
            self.keeper.process.kill()
            self.keeper.process.wait()
            self.keeper = Keeper(self._keeper_folder).__enter__()
        if victim != "keeper":
            self.daemon.kill()
            self.daemon.start()
        return time.monotonic() - begin

    def samples(self) -> Samples:
        assert self.keeper.process is not None
        descriptors = len(list(pathlib.Path(f"/proc/{self.keeper.process.pid}/fd").iterdir()))
        return Samples(self.daemon.memory()["RssAnon"], descriptors, self.keeper.memory())

    def end_clients(self) -> list[dict[str, typing.Any]]:
        """What each has seen."""
        for client in self._clients:
            assert client.stdin is not None
            client.stdin.close()
        said = []
        for client in self._clients:
            assert client.stdout is not None
            said.append(json.loads(client.stdout.read()))
            assert client.wait(60) == 0
        return said

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


def run(node: Node, kills: int, victim: str, ready: float) -> list[str]:
    """What was wrong."""
    host, read, first = node.daemon.status()["host"], bytes_read(node.web), None
    away = []
    for number in range(kills):
        away.append(node.kill(victim))
        if number == min(20, kills // 2):
            first = node.samples()
    assert first is not None
    last = node.samples()
    again = bytes_read(node.web) - read
    seen = node.end_clients()
    wait_until(lambda: node.leases() == 0, "all leases end", 60)
    after, descriptors = node.daemon.status()["host"], node.daemon.descriptors()
    totals = {what: sum(client[what] for client in seen) for what in ("attaches", "looks", "wrong")}
    longest = max(client["longest"] for client in seen)
    print(f"{kills} kills of {victim}: {totals}, longest attach {longest:.2f} s, away at most {max(away):.2f} s "
          f"(median {sorted(away)[len(away) // 2]:.2f}), read again {again} bytes; {first} -> {last}; "
          f"the daemon's descriptors {node.descriptors} -> {descriptors}")  # fmt: skip
    problems = [error for client in seen for error in client["errors"]] + last.grown(first)
    if totals["wrong"]:
        problems.append(f"{totals['wrong']} wrong looks")
    # After both, models were loaded at once: connections to the store are left.
    if victim != "both":
        if descriptors > node.descriptors + 4:
            problems.append(f"descriptors of the daemon: {node.descriptors} -> {descriptors}")
        if max(away) > ready:
            problems.append(f"away for {max(away):.2f} s")
        if again:
            problems.append(f"{again} bytes were read again")
        if after != host:
            problems.append(f"accounts differ: {host} before, {after} after")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--victim", choices=("daemon", "keeper", "both"), default="daemon")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--ready", type=float, default=2.0, help="seconds that the daemon may be away")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="weightd-") as name:
        node = Node(pathlib.Path(name), options.clients, options.seed)
        try:
            problems = run(node, options.kills, options.victim, options.ready)
        finally:
            node.end()
    for problem in problems[:20]:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
