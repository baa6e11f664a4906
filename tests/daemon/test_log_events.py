"""Holds the log's table in daemon/README.md beside the calls that write it: events, levels and fields."""

import re
import typing
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "daemon").rglob("*.cc"), *(ROOT / "common").rglob("*.cc")])

NAME = r"\"([a-z_]+\.[a-z_]+)\""
WRITTEN = re.compile(r"\bLog(?:Always)?\(")
SPELT_OUT = re.compile(rf"\bLog(?:\(\s*LogLevel::k(\w+)|Always\()(?:,)?\s*{NAME}([^;]*);")
# The default of a switch that names every kind.
NEVER_WRITTEN = {"event.unknown"}


class Event(typing.NamedTuple):
    """One that the sources name; what is passed on under a variable has no fields here, and perhaps no level."""

    file: str
    name: str
    level: str | None
    fields: frozenset[str] = frozenset()


def events_of(file: Path) -> typing.Iterator[Event]:
    text = file.read_text()
    calls = SPELT_OUT.findall(text)
    for level, name, rest in calls:
        yield Event(file.name, name, level.lower() or "always", frozenset(re.findall(r'\{"([a-z_]+)",', rest)))
    if file.name != "logging.cc" and len(calls) != len(WRITTEN.findall(text)):
        # It names events in one place and writes them in another.
        for level, name in re.findall(rf"(?:LogLevel::k(\w+),\s*)?{NAME}", text):
            yield Event(file.name, name, level.lower() or None)


def written() -> list[Event]:
    return [event for file in SOURCES for event in events_of(file) if event.name not in NEVER_WRITTEN]


def table() -> dict[str, tuple[str, str]]:
    """Levels and fields, by event."""
    page = (ROOT / "daemon/README.md").read_text()
    section = page.partition("\n## The log\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {name: (level, fields) for names, level, fields in rows for name in re.findall(r"`([^`]+)`", names)}


def test_the_table_has_every_event_and_no_other() -> None:
    assert {event.name for event in written()} == table().keys()


def test_the_table_has_their_levels() -> None:
    rows = table()
    wrong = [event for event in written() if event.level not in (None, *rows[event.name][0].split(", "))]
    assert not wrong


def test_the_table_has_their_fields() -> None:
    rows = table()
    fields = [(event.name, field) for event in written() for field in event.fields]
    missing = [(name, field) for name, field in fields if f"`{field}`" not in rows[name][1]]
    assert fields and not missing


def test_the_sources_were_understood() -> None:
    files = {event.file for event in written()}
    assert {"event_lines.cc", "audit_log.cc", "config_reloader.cc", "logging.cc"} <= files
    assert len({event.name for event in written()}) > 30
    assert any(event.fields == {"from", "to"} for event in written())
