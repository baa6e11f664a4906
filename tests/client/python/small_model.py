"""The smallest model that shows something, as a fake daemon has it."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable

from fake_daemon import FakeDaemon, Served, model

Start = Callable[[dict[str, Served]], FakeDaemon]
Python = Callable[..., "subprocess.CompletedProcess[str]"]

WEIGHTS = struct.pack("<6f", *range(6))


def small(**changes: object) -> Served:
    """Two tensors of 2 x 3 numbers."""
    served = model({"a": ("F32", [2, 3], WEIGHTS), "b": ("F32", [2, 3], WEIGHTS)}, format="pt")
    for name, value in changes.items():
        setattr(served, name, value)
    return served
