"""Small files of a daemon that lies: no name leads out of a folder, no byte is read that it didn't send."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import weightd
from weightd.v1 import handles_pb2

from fake_daemon import SEALS, FakeDaemon, Served, memfd, model

Start = Callable[[dict[str, Served]], FakeDaemon]


def served(*names: str, nbytes: int = 2, seals: int = SEALS, **changes: str) -> Served:
    """A model with files of these names, all of them the bytes `{}`."""
    one = model({"a": ("U8", [1], b"1")})
    for name in names:
        one.index.small_files.add(name=name, nbytes=nbytes, **changes)

    def add(handles: handles_pb2.Handles, descriptors: list[int]) -> None:
        handles.handles.add(kind=handles_pb2.Handle.SMALL_FILES, nbytes=2)
        descriptors.append(memfd(b"{}", seals))

    one.change_handles = add
    return one


@pytest.mark.parametrize(
    "names",
    [
        *[("",), ("/etc/x",), ("..",), ("../x",), ("a/../../x",), ("a/./x",), ("a//x",), ("a/",), ("a\0b",)],
        *[("a", "a"), ("a", "a/b")],
    ],
)
def test_hostile_names_are_refused(fake: Start, names: tuple[str, ...]) -> None:
    daemon = fake({"m": served(*names)})
    with pytest.raises(weightd.InternalError, match="small files"):
        weightd.attach("m", socket_dir=daemon.directory)
    daemon.wait_for_claimed(0)


def test_bytes_that_were_not_sent_are_refused(fake: Start) -> None:
    daemon = fake({"long": served("a", nbytes=3), "open": served("a", seals=0)})
    for name in ("long", "open"):
        with pytest.raises(weightd.InternalError):
            weightd.attach(name, socket_dir=daemon.directory)


def test_what_is_left_out_says_why(fake: Start) -> None:
    daemon = fake({"m": served("config.json", nbytes=0, left_out="it is too large")})
    with weightd.attach("m", socket_dir=daemon.directory) as m:
        assert "config.json" not in m.files
        with pytest.raises(weightd.ModelFileNotFoundError, match="it is too large") as raised:
            m.files["config.json"]
        assert raised.value.reason == "FILE_NOT_FOUND"


def test_a_folder_that_can_not_be_written_leaves_nothing(
    fake: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    daemon = fake({"m": served("x" * 300)})
    with weightd.attach("m", socket_dir=daemon.directory) as m:
        with pytest.raises(weightd.NoRoomError, match="File name too long"):
            m.directory()
        assert [path for path in tmp_path.glob("weightd-*") if path not in before] == []
    assert os.listdir(daemon.directory)
