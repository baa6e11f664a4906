"""What /proc says of a process's mappings of weightd's segments (proc(5): maps, smaps)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_SEGMENT = "/memfd:weightd"


class Share(NamedTuple):
    """Bytes of segments in a process.

    Attributes:
        rss: Mapped and touched.
        pss: The same, each page divided by the number of processes that map it.
    """

    rss: int
    pss: int


def address_ranges(process: int | str) -> list[tuple[int, int]]:
    """Where the segments are mapped: first address and the one behind the last."""
    ranges = []
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        if _SEGMENT in line:
            begin, end = line.split()[0].split("-")
            ranges.append((int(begin, 16), int(end, 16)))
    return ranges


def segment_share(process: int | str) -> Share:
    """Over all mappings of segments."""
    counts = {"Rss:": 0, "Pss:": 0}
    ours = False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        key, *rest = line.split()
        if not key.endswith(":"):
            ours = _SEGMENT in line
        elif ours and key in counts:
            counts[key] += int(rest[0]) * 1024
    return Share(counts["Rss:"], counts["Pss:"])
