"""Runs embed.py in two processes at the same time: two_processes.py URI FOLDER DAEMON_PID COMMAND...

Prints what they print, and what they and the daemon share while both use the model, and runs the command then.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from memory import segment_share


class Process:
    """One of them."""

    def __init__(self, number: int, uri: str, folder: str) -> None:
        self._name = f"[process {number}]"
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("embed.py"), uri, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def print_until(self, last: str) -> None:
        """Passes its lines on, up to the one that begins so."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() not in ("ready", "touched"):
                print(self._name, line, end="", flush=True)
            if line.startswith(last):
                return
        sys.exit(f"{self._name} failed with {self._process.wait()}")

    def go_on(self) -> None:
        """Lets it take its next step."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Waits for its end, which must be a good one."""
        if self._process.wait(60) != 0:
            sys.exit(f"{self._name} ended with {self._process.returncode}")

    def kill(self) -> None:
        """Whatever it is doing."""
        self._process.kill()
        self._process.wait()


def report(daemon: int, processes: list[Process]) -> None:
    """The shares add up to one copy, however many processes map it."""
    shares = [segment_share(process.pid) for process in processes]
    of_daemon = segment_share(daemon)
    copies = sum(share.pss for share in shares) + of_daemon.pss
    mapped = max(share.rss for share in shares)
    parts = " + ".join(f"{share.pss / 2**20:.1f}" for share in [*shares, of_daemon])
    print(f"shares of both and of the daemon: {parts} = {copies / 2**20:.1f} MiB; one copy is {mapped / 2**20:.1f} MiB")
    if copies > 1.01 * max(mapped, of_daemon.rss):
        sys.exit("the weights are in memory more than once")


def main() -> None:
    """What the module says."""
    uri, folder, daemon = sys.argv[1], sys.argv[2], int(sys.argv[3])
    processes: list[Process] = []
    try:
        processes += [Process(number, uri, folder) for number in (1, 2)]
        for process in processes:
            process.print_until("ready")
        for step in "touched", "maps":
            for process in processes:
                process.go_on()
                process.print_until(step)
        report(daemon, processes)
        subprocess.run(sys.argv[4:], check=True)
        for process in processes:
            process.go_on()
            process.end()
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":
    main()
