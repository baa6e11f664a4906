"""A client of restarts.py: attaches, reads and lets go at random until its standard input ends; then says what it saw.

Arguments: socket folder, seed, a JSON file {model: {tensor: CRC-32}}.
"""

import json
import logging
import pathlib
import random
import select
import sys
import time
import zlib

import weightd

MOST_HELD = 3
# A restart takes less; more is an error.
PATIENCE = 30.0


class Client:
    """What one process holds, and has seen."""

    def __init__(self, socket_dir: str, seed: int, models: dict[str, dict[str, int]]) -> None:
        self._socket_dir = socket_dir
        self._chance = random.Random(seed)
        self._models = models
        self._held: list[tuple[str, weightd.Model]] = []
        self.seen: dict[str, object] = {"attaches": 0, "looks": 0, "wrong": 0, "longest": 0.0, "errors": []}

    def step(self) -> None:
        """Attaches, looks at something it holds, or lets go of it."""
        what = self._chance.random()
        if not self._held or (len(self._held) < MOST_HELD and what < 0.4):
            self._attach()
        elif what < 0.8:
            self._look()
        else:
            self._held.pop(self._chance.randrange(len(self._held)))[1].close()

    def rest(self) -> None:
        """Lets go of everything."""
        while self._held:
            self._held.pop()[1].close()

    def _attach(self) -> None:
        name = self._chance.choice(sorted(self._models))
        begin = time.monotonic()
        try:
            model = weightd.attach(name, socket_dir=self._socket_dir, timeout=PATIENCE, framework="np")
        except weightd.Error as failure:
            self.seen["errors"] = [*self.seen["errors"], f"{name}: {failure}"]  # type: ignore[misc]
            return
        self.seen["longest"] = max(self.seen["longest"], time.monotonic() - begin)  # type: ignore[call-overload]
        self._count("attaches")
        self._held.append((name, model))

    def _look(self) -> None:
        name, model = self._chance.choice(self._held)
        tensor = self._chance.choice(sorted(self._models[name]))
        self._count("looks")
        if zlib.crc32(model.raw(tensor)) != self._models[name][tensor]:
            self._count("wrong")

    def _count(self, what: str) -> None:
        self.seen[what] += 1  # type: ignore[operator]


def main() -> None:
    socket_dir, seed, expected = sys.argv[1:]
    logging.disable(logging.WARNING)  # that it waits for the next daemon
    client = Client(socket_dir, int(seed), json.loads(pathlib.Path(expected).read_text()))
    pause = random.Random(int(seed))
    while not select.select([sys.stdin], [], [], pause.uniform(0, 0.05))[0]:
        client.step()
    client.rest()
    print(json.dumps(client.seen))


if __name__ == "__main__":
    main()
