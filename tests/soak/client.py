"""A client of the soak: attaches, reads, keeps and lets go at random, and tells of each step in one JSON line.

Arguments: socket folder, number of the client. Commands on standard input, one JSON line each:
{"seed": N, "seconds": S, "models": [[name, index], …]} -> lines of steps, then {"step": "rested"}, holding nothing
"""

import json
import pathlib
import random
import sys
import time

import numpy
import weightd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from models import words  # noqa: E402

MOST_HELD = 3
# Of a tensor, what one look compares, in 8-byte words.
LOOK = 1 << 16


def tell(**step: object) -> None:
    """One line for the soak to read."""
    print(json.dumps(step), flush=True)


class Held:
    """An attached model, and which bytes it must have."""

    def __init__(self, name: str, index: int, model: weightd.Model) -> None:
        self.name = name
        self.model = model
        self.seed = int(model.metadata["seed"])
        self.right_model = self.seed >> 16 == index
        # Tensors lie back to back in the file, in the order of their numbers.
        self._sizes = {tensor: info.nbytes // 8 for tensor, info in model.tensors.items()}

    def wrong_words(self, chance: random.Random) -> int:
        """Words of one tensor, or of a part of it, that are not the pattern's."""
        tensor = chance.choice(sorted(self._sizes))
        number, size = int(tensor.split(".")[1]), self._sizes[tensor]
        begin = chance.randrange(max(1, size - LOOK))
        count = min(LOOK, size - begin)
        seen = numpy.frombuffer(self.model.raw(tensor), dtype=numpy.uint64)[begin : begin + count]
        return int((seen != words(self.seed, number * size + begin, count)).sum())


class Client:
    """What one process holds."""

    def __init__(self, socket_dir: str, chance: random.Random, models: list[tuple[str, int]]) -> None:
        self._socket_dir = socket_dir
        self._chance = chance
        self._models = models
        self._held: list[Held] = []
        # Memory of models that were closed: it has to stay as it was.
        self._kept: list[tuple[str, memoryview, bytes]] = []

    def step(self) -> None:
        """Something a client may do."""
        choices = [self._attach] if len(self._held) < MOST_HELD else []
        if self._held:
            choices += [self._look, self._look, self._look, self._write, self._release, self._release_and_keep]
        if self._kept:
            choices.append(self._look_at_kept)
        self._chance.choice(choices)()

    def rest(self) -> None:
        """Lets go of everything."""
        while self._held:
            self._release()
        self._kept.clear()

    def _attach(self) -> None:
        name, index = self._chance.choice(self._models)
        tell(step="asks", model=name)
        try:
            model = weightd.attach(name, socket_dir=self._socket_dir, timeout=60, framework="np")
        except weightd.Error as error:
            tell(step="refused", model=name, reason=error.reason, message=str(error))
            return
        held = Held(name, index, model)
        self._held.append(held)
        tell(step="attached", model=name, seed=held.seed, right=held.right_model)

    def _look(self) -> None:
        held = self._chance.choice(self._held)
        tell(step="looked", model=held.name, seed=held.seed, wrong=held.wrong_words(self._chance))

    def _write(self) -> None:
        """Into a page of our own: nobody else may see it. The model is of no use for looks afterwards."""
        held = self._held.pop(self._chance.randrange(len(self._held)))
        held.model[min(held.model.tensors)].reshape(-1)[:16] = 0
        held.model.close()
        tell(step="released", model=held.name)

    def _release(self) -> None:
        held = self._held.pop(self._chance.randrange(len(self._held)))
        held.model.close()
        tell(step="released", model=held.name)

    def _release_and_keep(self) -> None:
        held = self._held.pop(self._chance.randrange(len(self._held)))
        raw = memoryview(held.model.raw(min(held.model.tensors)))
        self._kept = [*self._kept[-1:], (held.name, raw, bytes(raw[:4096]))]
        held.model.close()
        tell(step="released", model=held.name)

    def _look_at_kept(self) -> None:
        name, raw, before = self._chance.choice(self._kept)
        tell(step="looked", model=name, seed=-1, wrong=int(bytes(raw[:4096]) != before))


def main() -> None:
    socket_dir, number = sys.argv[1], int(sys.argv[2])
    for line in sys.stdin:
        command = json.loads(line)
        models = [(name, index) for name, index in command["models"]]
        client = Client(socket_dir, random.Random(command["seed"] * 1000 + number), models)
        end = time.monotonic() + command["seconds"]
        while time.monotonic() < end:
            client.step()
        client.rest()
        tell(step="rested")


if __name__ == "__main__":
    main()
