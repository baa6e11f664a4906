"""A client of upgrade.py: attaches so many times a second, reads, lets go, until its standard input ends; and holds one
model all the while. Then it says what it saw.

Arguments: socket folder, attaches a second, seed, seconds that one attempt may take, a JSON file
{model: {tensor: CRC-32}}.
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


class Client:
    """What one process has seen."""

    def __init__(self, socket_dir: str, seed: int, patience: float, models: dict[str, dict[str, int]]) -> None:
        self._socket_dir = socket_dir
        self._chance = random.Random(seed)
        self._patience = patience
        self._models = models
        self._held_name = self._chance.choice(sorted(models))
        self._held = self._try(self._held_name)
        self.attaches = self.retries = self.wrong = 0
        self.waits: list[float] = []
        self.errors: list[str] = []

    def step(self) -> None:
        """One attach; if that fails one more; and one look at what it got and at what it holds."""
        name = self._chance.choice(sorted(self._models))
        begin = time.monotonic()
        try:
            try:
                model = self._try(name)
            except weightd.Error:
                self.retries += 1
                model = self._try(name)
        except weightd.Error as failure:
            self.errors.append(f"{name}: {failure}")
            return
        self.waits.append(time.monotonic() - begin)
        self.attaches += 1
        self._look(name, model)
        model.close()
        self._look(self._held_name, self._held)

    def _try(self, name: str) -> weightd.Model:
        return weightd.attach(name, socket_dir=self._socket_dir, timeout=self._patience, framework="np")

    def _look(self, name: str, model: weightd.Model) -> None:
        tensor = self._chance.choice(sorted(self._models[name]))
        self.wrong += zlib.crc32(model.raw(tensor)) != self._models[name][tensor]


def main() -> None:
    socket_dir, rate, seed, patience, expected = sys.argv[1:]
    logging.disable(logging.WARNING)  # that it waits for the next daemon
    client = Client(socket_dir, int(seed), float(patience), json.loads(pathlib.Path(expected).read_text()))
    print("attached", flush=True)
    interval, begin = 1 / float(rate), time.monotonic()
    due = begin
    while not select.select([sys.stdin], [], [], max(due - time.monotonic(), 0))[0]:
        # Whoever had to wait makes up for it.
        due += interval
        client.step()
    seconds = time.monotonic() - begin
    seen = {key: getattr(client, key) for key in ("attaches", "retries", "wrong", "waits", "errors")}
    print(json.dumps({**seen, "seconds": seconds}))


if __name__ == "__main__":
    main()
