"""Where files are written: whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote, urlsplit

from weightd import _weightctl
from weightd.errors import error

SAFETENSORS, TENSORIZER = ".safetensors", ".tensors"


def suffix(target: str | os.PathLike[str]) -> str:
    """SAFETENSORS or TENSORIZER, by the target's name. Raises InvalidRequestError for any other."""
    name = _name(target)
    for known in (SAFETENSORS, TENSORIZER):
        if name.endswith(known) and name != known:
            return known
    hint = f"let the name end with {SAFETENSORS} or {TENSORIZER}, which says what to write"
    raise error("INVALID_ARGUMENT", f"{name!r} is no name of a weight file", model=os.fspath(target), hint=hint)


@contextmanager
def destination(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A path of the target's name, where nothing is yet: what the caller writes there becomes the target at the end.

    The target is a path, a file:// URI or an s3:// URI; the caller writes a file or makes a folder. A local one is
    renamed into place from a hidden folder beside it, and replaces a file that was there, but no folder with something
    in it. For a store it is written below the folder for temporary files (TMPDIR), which must have room for it, and
    then pushed by weightctl.

    If the body raises, nothing of what was written stays, and the target is as it was. A killed process leaves its
    hidden folder behind, never a part of the target.

    Raises:
        Error: A target of another kind, no weightctl, or what weightctl says.
        OSError: The target can't be written.
    """
    text = os.fspath(target)
    if text.startswith("s3://"):
        with _pushed(text) as path:
            yield path
    else:
        with _renamed(_local(text)) as path:
            yield path


@contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """A new file, whose bytes are on the disk when the body has ended without raising."""
    with path.open("xb") as file:
        yield cast(BinaryIO, file)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    if target.is_dir() and any(target.iterdir()):
        raise FileExistsError(errno.EEXIST, "a folder with something in it is there", str(target))
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", dir=target.parent))
    try:
        written = staging / target.name
        yield written
        if target.is_dir() and not written.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        written.replace(target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _pushed(uri: str) -> Iterator[Path]:
    binary = _weightctl.find()
    if binary is None:
        hint = "let WEIGHTCTL name weightctl, or put it on the PATH"
        raise error("UNSUPPORTED", "writing to a store needs weightctl, which was not found", model=uri, hint=hint)
    if not _name(uri):
        hint = "give s3://bucket/folder/name"
        raise error("INVALID_URI", "a store's URI without a name", model=uri, hint=hint)
    with tempfile.TemporaryDirectory(prefix="weightd-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / _name(uri)
        yield path
        _weightctl.push(binary, path, uri)


def _local(text: str) -> Path:
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        hint = "give a path, or a file:// or s3:// URI"
        raise error("INVALID_URI", f"nothing can be written to {text}", model=text, hint=hint)
    return Path(unquote(parts.path))


def _name(target: str | os.PathLike[str]) -> str:
    return os.fspath(target).rstrip("/").rpartition("/")[2]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
