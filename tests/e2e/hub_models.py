"""Models of a stand-in hub, for tests: what org/m has, and how it is attached to."""

import hashlib
import pathlib
import sys
import typing

import pytest
import weightd
from processes import Daemon

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "servers"))

from hub import Hub, Request  # noqa: E402, F401

Daemons = typing.Callable[..., Daemon]
MODEL = "hf://org/m@main/"


def contents(*paths: pathlib.Path) -> dict[str, bytes]:
    """What to push."""
    return {path.name: path.read_bytes() for path in paths}


def attach(daemon: Daemon, uri: str) -> weightd.Model:
    """Waits for it, too."""
    return weightd.attach(uri, socket_dir=str(daemon.socket_dir), timeout=60)


def refusal(daemon: Daemon, uri: str) -> weightd.Error:
    """Why it can't be attached to."""
    with pytest.raises(weightd.Error) as caught:
        attach(daemon, uri)
    return caught.value


def cached(folder: pathlib.Path, commit: str, files: dict[str, bytes]) -> None:
    """What huggingface_hub leaves of org/m@main."""
    root = folder / "models--org--m"
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs/main").write_text(commit)
    (root / "snapshots" / commit).mkdir(parents=True)
    for name, data in files.items():
        git = hashlib.sha1(b"blob %d\0" % len(data) + data)
        etag = (git if name.endswith(".json") else hashlib.sha256(data)).hexdigest()
        (root / "blobs" / etag).write_bytes(data)
        (root / "snapshots" / commit / name).symlink_to(f"../../blobs/{etag}")
