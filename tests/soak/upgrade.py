"""Has daemons of two builds take turns under clients that attach 200 times a second, and looks at what it costs.

.venv/bin/python tests/soak/upgrade.py --previous FOLDER|COMMIT [--this FOLDER] [--turns 40] [--rate 200]
                                     [--clients 8] [--seconds 2] [--patience 2] [--least 0.9] [--seed N]

A folder is what Bazel makes of a tree (bazel-bin), with the tree's Python client, if that is to be tried, named by
--previous-client. A commit is checked out and built beside this tree first, which takes minutes. Each build's daemon
follows the other's, after SIGTERM and after SIGKILL, with a keeper of this build that stays, then with one of the
previous. Half of the clients are the previous build's. No attach fails, but for one retry of at most so many seconds;
no byte is wrong; none is read from the store again; and the clients attach as often as they were asked to, or nearly
so: a test of less shows less.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time
import typing

from kept_node import MODELS, KeptNode, Seen, bytes_read, exit_code, parser, problems_of

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from processes import BUILD, ROOT, wait_until  # noqa: E402

TARGETS = ("//daemon:weightd", "//daemon/keeper:weightd-keeper", "//client/cli:weightctl")


class Build(typing.NamedTuple):
    """Programs and Python client of one version."""

    name: str
    programs: pathlib.Path
    client: pathlib.Path

    def program(self, label: str) -> str:
        return str(self.programs / label)


def checked_out(commit: str) -> Build:
    """A commit's, in a work tree of its own, which stays."""
    tree = ROOT.with_name(f"{ROOT.name}-previous")
    if not (tree / ".git").exists():
        subprocess.run(["git", "worktree", "add", "--detach", tree, commit], cwd=ROOT, check=True)
    subprocess.run(["git", "checkout", "--detach", commit], cwd=tree, check=True)
    subprocess.run(["bazel", "build", "--config=opt", *TARGETS], cwd=tree, check=True)
    return Build("previous", (tree / "bazel-bin").resolve(), tree / "client/python/src")


class Node(KeptNode):
    """Its daemons and clients are of both builds."""

    def __init__(self, folder: pathlib.Path, builds: list[Build], keeper: Build, options: argparse.Namespace) -> None:
        config = "cache: {revalidate: never}\n"
        super().__init__(folder, config, tensors=64, keeper=keeper.program("daemon/keeper/weightd-keeper"))
        self._builds = builds
        self.start(builds[0])
        self.preload()
        wait_until(lambda: len(self.keeper.names()) == 3 * MODELS, "the models are kept")
        self.builds_of_clients = [builds[number % 2] for number in range(options.clients)]
        clients = [
            self.start_client(
                "upgrade_client.py",
                options.rate / options.clients,
                options.seed * 1000 + number,
                options.patience,
                package=build.client,
            )
            for number, build in enumerate(self.builds_of_clients)
        ]
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == "attached\n"

    def start(self, build: Build) -> None:
        self.daemon.program = build.program("daemon/weightd")
        self.daemon.start()

    def turn(self, build: Build, kill: bool) -> float:
        """The next daemon is of that build; how long there was none."""
        begin = time.monotonic()
        if kill:
            self.daemon.kill()
        else:
            assert self.daemon.stop() == 0
        self.start(build)
        away = time.monotonic() - begin
        for other in self._builds:
            weightctl = [other.program("client/cli/weightctl"), "--socket-dir", str(self.daemon.socket_dir)]
            said = subprocess.run([*weightctl, "ls", "--output", "json"], capture_output=True, check=True).stdout
            listed = json.loads(said)["models"]
            assert [model.get("readopted") for model in listed] == [True] * MODELS, listed
        return away


def judged(seen: list[Seen], rate: float, least: float) -> tuple[str, list[str]]:
    """Of clients that were each to attach so often a second, and reach at least that part of it: a line, and what was
    wrong."""
    totals = {key: sum(client[key] for client in seen) for key in ("attaches", "retries", "wrong")}
    waits = sorted(wait for client in seen for wait in client["waits"])
    problems = [error for client in seen for error in client["errors"]]
    asked, reached = rate * len(seen), sum(client["attaches"] / client["seconds"] for client in seen)
    line = f"{totals}, failures {len(problems)}, {reached:.0f} attaches a second of {asked:.0f}"
    if waits:
        line += f", median {1000 * waits[len(waits) // 2]:.1f} ms, longest {waits[-1]:.2f} s"
    if reached < least * asked or not waits:
        problems.append(f"{reached:.0f} attaches a second, not {asked:.0f}")
    if totals["wrong"]:
        problems.append(f"{totals['wrong']} wrong looks")
    return line, problems


def run(node: Node, builds: list[Build], options: argparse.Namespace) -> list[str]:
    """What was wrong."""
    read = bytes_read(node.web)
    away: dict[str, list[float]] = {}
    for number in range(options.turns):
        time.sleep(options.seconds)  # of load, which is what is measured
        build, kill = builds[(number + 1) % 2], number // 2 % 2 == 1
        what = f"{'SIGKILL' if kill else 'SIGTERM'}, then {build.name}"
        away.setdefault(what, []).append(node.turn(build, kill))
    time.sleep(options.seconds)
    again = bytes_read(node.web) - read
    seen = node.end_clients()
    wait_until(lambda: int(node.daemon.status().get("leases", 0)) == 0, "all leases end", 60)
    for what, seconds in away.items():
        print(f"  {what}: {len(seconds)} turns, no daemon for {max(seconds):.2f} s at most")
    problems = []
    for build in dict.fromkeys(builds):
        its = [client for of, client in zip(node.builds_of_clients, seen, strict=True) if of == build]
        if its:
            line, wrong = judged(its, options.rate / options.clients, options.least)
            print(f"  clients of {build.name}: {line}")
            problems += wrong
    print(f"  read again: {again} bytes")
    if again:
        problems.append(f"{again} bytes were read again")
    return problems


def main() -> int:
    options = parser(__doc__, clients=8)
    options.add_argument("--previous", required=True, help="a folder of binaries, or a commit")
    options.add_argument("--previous-client", type=pathlib.Path, default=ROOT / "client/python/src")
    options.add_argument("--this", type=pathlib.Path, default=BUILD)
    options.add_argument("--turns", type=int, default=40, help="with each keeper")
    options.add_argument("--rate", type=float, default=200, help="attaches a second, of all clients")
    options.add_argument("--seconds", type=float, default=2, help="between turns")
    options.add_argument("--patience", type=float, default=2, help="seconds that one attempt to attach may take")
    options.add_argument("--least", type=float, default=0.9, help="part of the rate that is to be reached")
    given = options.parse_args()
    print(f"seed {given.seed}")
    this = Build("this", given.this, ROOT / "client/python/src")
    folder = pathlib.Path(given.previous)
    known = (folder / "daemon/weightd").exists()
    previous = Build("previous", folder, given.previous_client) if known else checked_out(given.previous)
    builds = [previous, this]
    problems = []
    for keeper in (this, previous):
        print(f"keeper of {keeper.name}")
        problems += problems_of(
            lambda folder, keeper=keeper: Node(folder, builds, keeper, given),  # type: ignore[misc]
            lambda node: run(node, builds, given),
        )
    return exit_code(problems)


if __name__ == "__main__":
    sys.exit(main())
