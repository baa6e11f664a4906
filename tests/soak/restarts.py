"""Kills the daemon, its keeper or both again and again under clients that attach and read, and looks at what it costs.

.venv/bin/python tests/soak/restarts.py [--kills 500] [--victim daemon|keeper|both] [--clients 16] [--seed N]
                                      [--ready 2]

The daemon, or the keeper alone: no client sees an error or a wrong byte, nothing is read from the store again, the
daemon is ready in time, and nothing grows. Both: memory that nobody maps is lost, and is read again.
"""

import pathlib
import random
import sys
import time
import typing

from kept_node import MIB, KeptNode, bytes_read, exit_code, parser, problems_of

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from keepers import Keeper  # noqa: E402
from processes import wait_until  # noqa: E402

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


class Node(KeptNode):
    """Of this build."""

    def __init__(self, folder: pathlib.Path, clients: int, seed: int) -> None:
        super().__init__(folder, CONFIG, tensors=4)
        self._chance = random.Random(seed)
        self.daemon.start()
        self.preload()
        # Without clients, whose connections come and go.
        self.descriptors = self.daemon.descriptors()
        for number in range(clients):
            self.start_client("restart_client.py", seed * 1000 + number)
        wait_until(lambda: self.leases() > 0, "the clients attach", 60)

    def kill(self, victim: str) -> float:
        """At a random moment; how long the daemon was away."""
        time.sleep(self._chance.uniform(0, 0.3))
        begin = time.monotonic()
        if victim != "daemon":
            assert self.keeper.process is not None
            self.keeper.process.kill()
            self.keeper.process.wait()
            self.keeper = Keeper(self.keeper.folder).__enter__()
        if victim != "keeper":
            self.daemon.kill()
            self.daemon.start()
        return time.monotonic() - begin

    def samples(self) -> Samples:
        assert self.keeper.process is not None
        descriptors = len(list(pathlib.Path(f"/proc/{self.keeper.process.pid}/fd").iterdir()))
        return Samples(self.daemon.memory()["RssAnon"], descriptors, self.keeper.memory())


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
    options = parser(__doc__, clients=16)
    options.add_argument("--kills", type=int, default=500)
    options.add_argument("--victim", choices=("daemon", "keeper", "both"), default="daemon")
    options.add_argument("--ready", type=float, default=2.0, help="seconds that the daemon may be away")
    given = options.parse_args()
    print(f"seed {given.seed}")
    return exit_code(
        problems_of(
            lambda folder: Node(folder, given.clients, given.seed),
            lambda node: run(node, given.kills, given.victim, given.ready),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
