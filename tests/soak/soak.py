"""Weightd under everything at once for a long time, beside an oracle that knows what must be true.

Clients attach, read, write, keep and let go at random and are killed in the middle of it; operators preload, evict, pin
and reload; models change at their source. Every look at a tensor is held against the bytes of its version. Between
rounds all let go, and what the daemon then has open and in memory, and what it counted, is held against the oracle.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from models import even_model  # noqa: E402
from oracle import Metrics, Oracle, Sample, grows  # noqa: E402
from processes import PATIENCE, Daemon, Nginx, wait_until  # noqa: E402

MIB = 1 << 20
SIZES = [1 * MIB, 2 * MIB, 4 * MIB, 4 * MIB, 8 * MIB, 8 * MIB, 16 * MIB, 24 * MIB]
# Of what all models take together: evictions are the rule.
BUDGET = 40 * MIB
CLIENTS = 6
# In seconds since 1970.
FIRST_VERSION_AT = 1_700_000_000
LEAST_ROUNDS = 8
# Of a round's problems.
MOST_TOLD = 20


class Shelf:
    """The models at their source: number i is replaced by ever newer versions."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.versions = [0] * len(SIZES)
        for index in range(len(SIZES)):
            self.replace(index)

    def replace(self, index: int) -> None:
        """A new version takes the old one's place, whole."""
        self.versions[index] += 1
        fresh = even_model(self.folder / ".fresh", SIZES[index], 4, seed=index << 16 | self.versions[index])
        # nginx tells versions of one size apart by the second in which they were written.
        written = FIRST_VERSION_AT + self.versions[index]
        os.utime(fresh, (written, written))
        fresh.rename(self.folder / f"m{index}.safetensors")


class Client:
    """A client process, and the thread that tells the oracle what it says."""

    def __init__(self, socket_dir: pathlib.Path, number: int, oracle: Oracle) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).with_name("client.py")), str(socket_dir), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.rested = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(oracle,))
        self._thread.start()

    def run(self, seed: int, seconds: float, models: list[tuple[str, int]]) -> None:
        """Lets it loose."""
        assert self._process.stdin is not None
        self.rested.clear()
        command = {"seed": seed, "seconds": seconds, "models": models}
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _listen(self, oracle: Oracle) -> None:
        assert self._process.stdout is not None
        waiting = False
        for line in self._process.stdout:
            step = json.loads(line)
            if step["step"] == "rested":
                self.rested.set()
            else:
                oracle.see(step)
                waiting = step["step"] == "asks"
        if waiting:
            oracle.see({"step": "died_asking"})

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()


class Soak:
    """The daemon, its source, its clients and its operators."""

    def __init__(self, folder: pathlib.Path, seed: int) -> None:
        self._chance = random.Random(seed)
        self._folder = folder
        (folder / "files").mkdir()
        self._shelf = Shelf(folder / "files")
        self._web = Nginx(folder / "nginx", folder / "files")
        self._config = folder / "weightd.yaml"
        self._daemon = Daemon(folder, self._config_text(self._some_models()))
        self._daemon.start()
        self.oracle = Oracle(self._shelf.versions)
        self._clients: list[Client] = []
        self._next_number = 0

    def _some_models(self) -> list[int]:
        return [i for i in range(len(SIZES)) if self._chance.random() < 0.5]

    def _config_text(self, listed: list[int]) -> str:
        """With these models on the list, half of them to be preloaded."""
        settings: dict[str, object] = {
            "host": {"budget": BUDGET},
            "cache": {"revalidate": "always", "unclaimed_lease": "2s"},
            "log": {"level": "warning"},
            "models": [
                {"name": f"alias{i}", "uri": self._web.url(f"m{i}.safetensors"), "preload": i % 2 == 0} for i in listed
            ],
        }
        return json.dumps(settings)

    def _list_models(self, listed: list[int]) -> None:
        fresh = self._folder / ".weightd.yaml"
        fresh.write_text(self._config_text(listed))
        fresh.rename(self._config)
        self._ctl("reload")

    def _names(self) -> list[tuple[str, int]]:
        return [(self._web.url(f"m{i}.safetensors"), i) for i in range(len(SIZES))]

    def _start_clients(self) -> None:
        while len(self._clients) < CLIENTS:
            self._next_number += 1
            self._clients.append(Client(self._daemon.socket_dir, self._next_number, self.oracle))

    def round(self, number: int, seconds: float) -> Sample:
        """All at once for a while, then a rest and a look."""
        self._start_clients()
        for client in self._clients:
            client.run(number, seconds, self._names())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._disturb(end)
        for client in self._clients:
            assert client.rested.wait(4 * PATIENCE), "a client hangs"
        return self._look()

    def _disturb(self, end: float) -> None:
        """What operators, stores and bad luck do."""
        name, index = self._chance.choice(self._names())
        what = self._chance.choice(
            [self._preload, self._evict, self._evict, self._pin, self._replace, self._kill, self._reload]
        )
        what(name, index, end)

    def _ctl(self, *arguments: str) -> None:
        """Whatever the answer is: the model may be in use, absent, or larger than the room that is left."""
        done = self._daemon.ctl(*arguments, check=False)
        assert done.returncode in (0, 66, 75, 77), f"{arguments}: {done.returncode}: {done.stderr}"
        self.oracle.count_operator(arguments[0], done.returncode)

    def _preload(self, name: str, _index: int, _end: float) -> None:
        self._ctl("preload", name)

    def _evict(self, name: str, _index: int, _end: float) -> None:
        self._ctl("evict", name, *self._chance.choice([[], ["--force"]]))

    def _pin(self, name: str, _index: int, _end: float) -> None:
        self._ctl("pin", name)
        self._ctl("unpin", name)

    def _replace(self, _name: str, index: int, _end: float) -> None:
        self._shelf.replace(index)

    def _kill(self, _name: str, _index: int, end: float) -> None:
        """One client; another takes its place."""
        victim = self._clients.pop(self._chance.randrange(len(self._clients)))
        victim.kill()
        self._start_clients()
        if (left := end - time.monotonic()) > 0:
            self._clients[-1].run(self._next_number, left, self._names())
        else:
            self._clients[-1].rested.set()

    def _reload(self, _name: str, _index: int, _end: float) -> None:
        self._list_models(self._some_models())

    def _look(self) -> Sample:
        """Nobody holds anything: what does the daemon have?"""
        self._list_models([])

        def empty() -> bool:
            for model in self._daemon.ctl_json("ls")["models"]:
                self._ctl("evict", model["model"], "--force")
            host = self._daemon.status()["host"]
            return not any(int(host.get(state, 0)) for state in ("resident", "loading", "draining"))

        wait_until(lambda: not self._daemon.ctl_json("leases")["leases"], "all leases end")
        wait_until(empty, "nothing is held, nothing drains")
        wait_until(lambda: self._daemon.status().get("sessions", 0) <= len(self._clients), "sessions of the dead end")
        self.oracle.check(Metrics(self._daemon.ctl("metrics").stdout))
        memory = self._daemon.memory()
        return Sample(self.oracle.steps, self._daemon.descriptors(), memory["RssAnon"], memory["RssShmem"])

    def end(self) -> None:
        """Stops everything; a crash fails."""
        for client in self._clients:
            client.kill()
        self._daemon.end()
        self._web.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--round-seconds", type=float, default=8)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    arguments = parser.parse_args()
    # The daemon and its clients end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(pathlib.Path(folder), arguments.seed)
        samples: list[Sample] = []
        seen = 0
        try:
            end = time.monotonic() + 60 * arguments.minutes
            while time.monotonic() < end or len(samples) < LEAST_ROUNDS:
                samples.append(soak.round(len(samples), arguments.round_seconds))
                print(f"round {len(samples)}: {soak.oracle.summary()}; {samples[-1]}", flush=True)
                for problem in soak.oracle.problems(seen)[:MOST_TOLD]:
                    print(f"WRONG: {problem}", flush=True)
                seen = len(soak.oracle.problems())
        finally:
            soak.end()
    # In the first half the queue of log lines, pools and arenas come to the size that they keep.
    growth = grows(samples[len(samples) // 2 :])
    for problem in growth:
        print(f"WRONG: {problem}")
    problems = [*soak.oracle.problems(), *growth]
    verdict = f"{len(problems)} problems" if problems else "all well"
    print(f"{len(samples)} rounds, {soak.oracle.summary()}: {verdict}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
