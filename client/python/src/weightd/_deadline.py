"""One deadline for everything an attach waits for."""

from __future__ import annotations

import time

from weightd.errors import Error, error

# The daemon answers on the handle channel at once, whatever it loads: if it doesn't, it hangs.
ANSWER_SECONDS = 60.0


class Deadline:
    """A point in time, or never. `timeout` is in seconds from now; None is never."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        """Seconds left, more than 0; None if there is no end. Raises DeadlineError if none are left."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def answer_seconds(self) -> float:
        """Seconds to wait for an answer that takes no work."""
        left = self.remaining()
        return ANSWER_SECONDS if left is None else min(left, ANSWER_SECONDS)

    def passed(self) -> Error:
        """The exception that says so."""
        limit = ANSWER_SECONDS if self._timeout is None else self._timeout
        return error(
            "DEADLINE",
            f"the daemon did not finish within {limit:g} s",
            hint="give a longer timeout, or load the model ahead (weightctl preload)",
        )
