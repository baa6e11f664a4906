"""What the daemon wrote to its log."""

import json
import typing

from processes import Daemon, wait_until

Line = dict[str, typing.Any]


def lines_of(daemon: Daemon, event: str, **fields: object) -> list[Line]:
    """The lines of one event so far, with these fields."""
    lines = []
    for text in daemon.log().split("\n"):
        if not text.startswith("{") or not text.endswith("}"):
            continue
        line = json.loads(text)
        if line["event"] == event and all(line.get(key) == value for key, value in fields.items()):
            lines.append(line)
    return lines


def line_of(daemon: Daemon, event: str, **fields: object) -> Line:
    """The first such line, once it is there."""
    found: list[Line] = wait_until(lambda: lines_of(daemon, event, **fields), f"{event} {fields} in the log")
    return found[0]
