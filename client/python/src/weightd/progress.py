"""How far a load is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from weightd.v1 import weights_pb2


class Progress(NamedTuple):
    """A moment of a load.

    Attributes:
        phase: QUEUED, RESOLVING, RESERVING, TRANSFERRING, SEALING, COPYING (to a GPU) or DONE.
        bytes_done: Bytes of weights that have arrived.
        bytes_total: Bytes that there will be; 0 until it is known.
    """

    phase: str
    bytes_done: int
    bytes_total: int


class Reporter:
    """Turns the daemon's messages into calls of `callback` or, without one, into a bar if stderr is a terminal."""

    def __init__(self, model: str, callback: Callable[[Progress], object] | None) -> None:
        self._model = model
        self._callback = callback
        self._bar: Any = None
        self._quiet = callback is None and not (sys.stderr is not None and sys.stderr.isatty())

    def report(self, message: weights_pb2.LoadProgress) -> None:
        """What to do with each message of the stream."""
        if self._quiet:
            return
        try:
            phase = weights_pb2.LoadPhase.Name(message.phase)
        except ValueError:  # from a newer daemon
            phase = f"LOAD_PHASE_{message.phase}"
        progress = Progress(phase, message.bytes_done, message.bytes_total)
        if self._callback is not None:
            self._callback(progress)
        elif progress.bytes_total:
            self._draw(progress)

    def close(self) -> None:
        """Ends the bar's line."""
        if self._bar is not None:
            self._bar.close()

    def _draw(self, progress: Progress) -> None:
        if self._bar is None:
            try:
                from tqdm import tqdm
            except ImportError:
                self._quiet = True
                return
            name = self._model.rstrip("/").rsplit("/", 1)[-1]
            self._bar = tqdm(total=progress.bytes_total, desc=name, unit="B", unit_scale=True, unit_divisor=1024)
        self._bar.total = progress.bytes_total
        self._bar.update(progress.bytes_done - self._bar.n)
