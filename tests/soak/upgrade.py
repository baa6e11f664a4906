"""Has daemons of two builds take turns under clients that attach 200 times a second, and looks at what it costs.

.venv/bin/python tests/soak/upgrade.py --previous FOLDER|COMMIT [--this FOLDER] [--turns 40] [--rate 200]
                                     [--clients 8] [--seconds 2] [--patience 2] [--seed N]

A folder is what Bazel makes of a tree (bazel-bin), with the tree's Python client, if that is to be tried, named by
--previous-client. A commit is checked out and built beside this tree first, which takes minutes. Each build's daemon
follows the other's, after SIGTERM and after SIGKILL, with a keeper of this build that stays, then with one of the
previous. Half of the clients are the previous build's. No attach fails, but for one retry of at most so many seconds;
no byte is wrong; none is read from the store again.
"""

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

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from keepers import Keeper  # noqa: E402
from models import even_model  # noqa: E402
from processes import BUILD, ROOT, Daemon, Nginx, wait_until  # noqa: E402
from restarts import bytes_read, checksums  # noqa: E402

MIB = 1 << 20
MODELS = 4
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


class Node:
    """A daemon with a keeper, and clients of both builds."""

    def __init__(self, folder: pathlib.Path, builds: list[Build], keeper: Build, options: argparse.Namespace) -> None:
        files = folder / "files"
        files.mkdir(parents=True)
        self._builds = builds
        self.web = Nginx(folder / "nginx", files)
        expected = {}
        for number in range(MODELS):
            path = even_model(files / f"{number}.safetensors", 8 * MIB, 64, seed=number)
            expected[self.web.url(path.name)] = checksums(path)
        (folder / "expected.json").write_text(json.dumps(expected))
        self.keeper = Keeper(folder / "keeper", keeper.program("daemon/keeper/weightd-keeper")).__enter__()
        self.daemon = Daemon(folder, f"{self.keeper.config}cache: {{revalidate: never}}\n")
        self.start(builds[0])
        for url in expected:
            self.daemon.ctl("preload", "--pin", url)
        wait_until(lambda: len(self.keeper.names()) == 3 * MODELS, "the models are kept")
        self._clients = [
            self._client(folder, builds[number % 2], options.seed * 1000 + number, options)
            for number in range(options.clients)
        ]
        for _, client in self._clients:
            assert client.stdout is not None
            assert client.stdout.readline() == "attached\n"

    def _client(
        self, folder: pathlib.Path, build: Build, seed: int, options: argparse.Namespace
    ) -> tuple[Build, "subprocess.Popen[str]"]:
        script = pathlib.Path(__file__).with_name("upgrade_client.py")
        rate = options.rate / options.clients
        arguments = (self.daemon.socket_dir, rate, seed, options.patience, folder / "expected.json")
        client = subprocess.Popen(
            [sys.executable, script, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(build.client)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return build, client

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

    def end_clients(self) -> list[tuple[Build, dict[str, typing.Any]]]:
        """What each has seen."""
        for _, client in self._clients:
            assert client.stdin is not None
            client.stdin.close()
        seen = []
        for build, client in self._clients:
            assert client.stdout is not None
            seen.append((build, json.loads(client.stdout.read())))
            assert client.wait(60) == 0
        return seen

    def end(self) -> None:
        for _, client in self._clients:
            client.kill()
        with contextlib.suppress(AssertionError):
            self.daemon.end()
        self.keeper.__exit__(None, None, None)
        self.web.end()


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
        its = [client for of, client in seen if of == build]
        if not its:
            continue
        totals = {key: sum(client[key] for client in its) for key in ("attaches", "retries", "wrong")}
        waits = sorted(wait for client in its for wait in client["waits"])
        rate = sum(client["attaches"] / client["seconds"] for client in its)
        errors = [error for client in its for error in client["errors"]]
        print(f"  clients of {build.name}: {totals}, failures {len(errors)}, {rate:.0f} attaches a second, "
              f"median {1000 * waits[len(waits) // 2]:.1f} ms, longest {waits[-1]:.2f} s")  # fmt: skip
        problems += errors
        if totals["wrong"]:
            problems.append(f"{totals['wrong']} wrong looks")
    print(f"  read again: {again} bytes")
    if again:
        problems.append(f"{again} bytes were read again")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--previous", required=True, help="a folder of binaries, or a commit")
    parser.add_argument("--previous-client", type=pathlib.Path, default=ROOT / "client/python/src")
    parser.add_argument("--this", type=pathlib.Path, default=BUILD)
    parser.add_argument("--turns", type=int, default=40, help="with each keeper")
    parser.add_argument("--rate", type=float, default=200, help="attaches a second, of all clients")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2, help="between turns")
    parser.add_argument("--patience", type=float, default=2, help="seconds that one attempt to attach may take")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    this = Build("this", options.this, ROOT / "client/python/src")
    folder = pathlib.Path(options.previous)
    known = (folder / "daemon/weightd").exists()
    previous = Build("previous", folder, options.previous_client) if known else checked_out(options.previous)
    problems = []
    for keeper in (this, previous):
        print(f"keeper of {keeper.name}")
        with tempfile.TemporaryDirectory(prefix="weightd-") as name:
            node = Node(pathlib.Path(name), [previous, this], keeper, options)
            try:
                problems += run(node, [previous, this], options)
            finally:
                node.end()
    for problem in problems[:20]:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
