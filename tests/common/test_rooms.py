"""Holds the tables of rooms' READMEs beside the folders: what they name is there, and every source file is named."""

import re
import typing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAD = re.compile(r"\| (?:part|file)(?: of `(\w+)/`)? \| ")
SOURCES = (".cc", ".h", ".py")


def tables(page: str) -> typing.Iterator[tuple[str, set[str]]]:
    """The folder below the room that a table is of, and the names in its first column."""
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        head, _, *rows = block.splitlines()
        if match := HEAD.match(head):
            yield match[1] or "", {name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


def named_in(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)(?:\.\w+)?`", text))


def rooms() -> list[Path]:
    pages = [page for top in ("common", "daemon", "client") for page in (ROOT / top).rglob("README.md")]
    # Its page names them in sentences.
    return [page.parent for page in pages if page.parent.name == "common" or list(tables(page.read_text()))]


ROOMS = pytest.mark.parametrize("room", rooms(), ids=lambda room: str(room.relative_to(ROOT)))


@ROOMS
def test_what_a_table_names_is_there(room: Path) -> None:
    for folder, names in tables((room / "README.md").read_text()):
        files = {file.name for file in (room / folder).iterdir()}
        stems = {name.partition(".")[0] for name in files}
        assert [name for name in names if name not in (files if "." in name else stems)] == []


@ROOMS
def test_every_file_is_named(room: Path) -> None:
    page = (room / "README.md").read_text()
    for folder in {"", *(folder for folder, _ in tables(page))}:
        stems = {file.stem for file in (room / folder).iterdir() if file.suffix in SOURCES}
        assert stems - named_in(page) == set()


def test_rooms_are_found() -> None:
    assert {"common", "daemon", "cache", "service", "device", "watch"} <= {room.name for room in rooms()}
